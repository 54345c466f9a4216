"""A vector described by its similarities to anchor texts, and compared by that description."""

from dataclasses import replace

import torch
from torch import Tensor

from xgap_analysis.core.calibration import Calibration
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.precision import exact
from xgap_analysis.corrections.anchors import anchor_texts
from xgap_analysis.corrections.protocol import FeatureMap, QueryGallery, ScoreCorrection, register_correction
from xgap_analysis.scoring.cosine import cosine
from xgap_analysis.scoring.scorer import Scorer


@register_correction("text-signature")
def text_signature(
    calibration: Calibration,
    words: str = "classes",
    template: str = "a photo of {}",
    compare: str = "cosine",
    beta: float = 20.0,
) -> FeatureMap | ScoreCorrection:
    """Compare the profiles of similarities to anchor texts instead of the vectors.

    Formula: the signature of x is its similarities to the anchors, z = A x. With `compare="cosine"` two signatures are
    compared by their cosine (CODER). With `"kl"` they become p = softmax(beta z) and a pair's similarity is
    -KL(p(query) || p(gallery)) (TIP-X), of which, row by row, an increasing function is ranked.

    Args:
        calibration: whose class names or captions are the anchors.
        words, template: which texts; see `anchor_texts`.
        compare: `"cosine"` or `"kl"`.
        beta: inverse temperature of the softmax, for `"kl"`.

    Raises:
        XgapError: as `anchor_texts`, an unknown comparison, or a beta that is not positive.

    Source: Yi et al., CODER, CVPR 2024; Udandarao et al., SuS-X (TIP-X), ICCV 2023, section 3.2.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(1, 1, (20, 4)), range(20), space="image", origin="image")
        >>> texts = xg.Features(random.normal(-1, 1, (20, 4)), range(20), space="text", origin="text")
        >>> calibration = xg.Calibration({"image": images, "text": texts}, split="train")
        >>> fitted = xg.correction("text-signature(words=captions)").fit(calibration)
        >>> fitted(images).dim  # one similarity for each of the 20 texts
        20
    """
    anchors = anchor_texts(calibration, words, template)
    anchors = anchors / anchors.norm(dim=1, keepdim=True)

    def profile(features: Features) -> Tensor:
        if features.dim != anchors.shape[1]:
            raise XgapError(f"the features have {features.dim} dimensions, the anchor texts {anchors.shape[1]}")
        return exact(features.vectors) @ anchors.T.to(features.vectors.device)

    if compare == "cosine":
        return lambda features: replace(features, vectors=profile(features))
    if compare != "kl":
        raise XgapError(f'signatures are compared by "cosine" or "kl", not {compare!r}')
    if not beta > 0:
        raise XgapError(f"beta, the inverse temperature of a signature, is positive, not {beta}")

    def apply(query: Features, gallery: Features, scorer: Scorer) -> QueryGallery:
        if scorer.function is not cosine:
            raise XgapError(f"text-signature(compare=kl) is a scorer of its own and cannot be combined with {scorer}")
        # -KL = sum p log q - sum p log p: of one query, only the first term differs from item to item. It is the
        # cosine of p and log q times their lengths, and p's length is a positive factor of the whole row.
        log_q = torch.log_softmax(beta * profile(gallery), dim=1)
        lengths = log_q.norm(dim=1)
        softened = replace(query, vectors=torch.softmax(beta * profile(query), dim=1))

        def normalise(scores: Tensor) -> Tensor:
            return (exact(scores) * lengths).float()

        return QueryGallery(softened, replace(gallery, vectors=log_q), normalise)

    return ScoreCorrection(apply)
