"""The part of the gap that no ranking reads: what lies outside the span of the gallery's modality."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.calibration import Calibration
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.precision import exact
from xgap_analysis.corrections.banks import bank_of
from xgap_analysis.corrections.protocol import QueryGallery, ScoreCorrection, register_correction
from xgap_analysis.scoring.scorer import Scorer


@register_correction("orthogonal-shift")
def orthogonal_shift(calibration: Calibration, lambda_: float = 1.0, energy: float = 1.0) -> ScoreCorrection:
    """Move queries along the part of the gap that is orthogonal to everything in the gallery's modality.

    Formula: q' = q - lambda g_perp, `g_perp = (1 - P)(m_q - m_g)`, m the calibration means of the spaces of query and
    gallery, and P the projection onto the span of the calibration vectors of the gallery's space. A gallery item g in
    that span has `q' . g = q . g`, so that no ranking changes, whatever lambda. Scaling q' to unit length multiplies
    all scores of a query alike. What changes is how much noise a query bears: measure it by the metric `flips`.

    A note says how much of the gap is orthogonal, `||g_perp|| / ||m_q - m_g||`. Query and gallery of one space have no
    gap between them, and stay as they are.

    Args:
        calibration: its features give the means and the span.
        lambda_: 1 takes the orthogonal part away, 0 changes nothing.
        energy: share of the squared singular values that the span keeps, in (0, 1]; below 1 a gallery item lies partly
            outside, and rankings may change.

    Raises:
        XgapError: an empty space, a share out of range, or a gallery's modality that spans all dimensions, so that
            nothing is orthogonal to it.

    Source: Bug or feature?, CVPR 2026 (arXiv 2603.29080); which rank it takes is not published, hence `energy`.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> flat = random.normal(1, 1, (20, 4)) * [1, 1, 1, 0]  # texts lie in three of four dimensions
        >>> images = xg.Features(random.normal(1, 1, (20, 4)), range(20), space="image", origin="image")
        >>> texts = xg.Features(flat, range(20), space="text", origin="text")
        >>> calibration = xg.Calibration({"image": images, "text": texts}, split="train")
        >>> pair = xg.correction("orthogonal-shift").fit(calibration).apply(images, texts)
        >>> before, after = xg.score(images, texts), xg.score(pair.query, pair.gallery)
        >>> bool((before.argsort() == after.argsort()).all())
        True
    """
    if not 0 < energy <= 1:
        raise XgapError(f"energy is a share of the squared singular values, in (0, 1], not {energy}")

    def apply(query: Features, gallery: Features, scorer: Scorer) -> QueryGallery:
        if query.space == gallery.space:
            note = f"query and gallery lie in one space, {query.space!r}: there is no gap to shift by"
            return QueryGallery(query, gallery, scorer=scorer, note=note)
        own, other = (
            exact(bank_of(calibration, space, "orthogonal-shift", gallery).vectors)
            for space in (query.space, gallery.space)
        )
        gap = own.mean(dim=0) - other.mean(dim=0)
        basis = span_of(other, energy)
        if basis.shape[1] == len(gap):
            what = f"the features of space {gallery.space!r} span all {len(gap)} dimensions"
            raise XgapError(
                f"orthogonal-shift: {what}, so that no part of the gap is orthogonal; give energy=0.95, say"
            )
        off = gap - basis @ (basis.T @ gap)
        note = f"{float(off.norm() / gap.norm()):.3f} of the gap's length is orthogonal to {basis.shape[1]} directions"
        return QueryGallery(replace(query, vectors=exact(query.vectors) - lambda_ * off), gallery, None, scorer, note)

    return ScoreCorrection(apply)


def span_of(vectors: Float[Tensor, "n d"], energy: float = 1.0) -> Float[Tensor, "d r"]:
    """An orthonormal basis of the span of rows, or of the leading directions that hold a share of their energy.

    Directions below single precision, in which features are kept, are none. Means are not subtracted.
    """
    _, values, right = torch.linalg.svd(vectors, full_matrices=False)
    kept = values > values[0] * max(vectors.shape) * torch.finfo(torch.float32).eps
    if energy < 1:
        share = values.square().cumsum(dim=0) / values.square().sum()
        kept &= torch.arange(len(values), device=values.device) <= int((share < energy).sum())
    return right[kept].T
