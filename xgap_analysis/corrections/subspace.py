"""Corrections that keep a subspace, or stretch it: principal directions of texts, the controls of that, whitening."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.calibration import Calibration
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.precision import exact
from xgap_analysis.corrections.anchors import anchor_texts
from xgap_analysis.corrections.protocol import FeatureMap, check_dimensions, register_correction


@register_correction("pca-text", claims={"I-I": 1})
def pca_text(
    calibration: Calibration,
    rank: int | None = None,
    words: str = "classes",
    template: str = "a photo of {}",
    centred: bool = True,
    normalised: bool = True,
    restored: bool = False,
) -> FeatureMap:
    """Keep the part of a vector that lies in the leading principal directions of class-name texts.

    Formula: x' = Q Q^T x, Q `[d, rank]` the leading eigenvectors of the texts' covariance (or of their second moments,
    not centred); the vectors themselves are not centred. At full rank nothing changes.

    Texts span no more directions than there are texts (one fewer where they are centred). What lies beyond has no
    order, so no more than they span are kept, and a warning says how many.

    The paper describes prompts and a PCA. Its demonstration uses `template="{}", centred=False`, and its experiments
    `template="{}", normalised=False`, both with `words="imagenet-torch"`.

    Args:
        calibration: whose class names or captions are used.
        rank: directions kept; half of the dimensions by default, as in the paper; at most what the texts span.
        words, template: which texts; see `anchor_texts`.
        centred: subtract the texts' mean before the directions are found.
        normalised: scale the texts to unit length first.
        restored: add what the projection takes from the mean of the calibration features of x's space, `(I - Q Q^T) m`,
            the same for all vectors: cosines have their former range again, as in the paper's figures.

    Raises:
        XgapError: as `anchor_texts`, or a rank out of range.

    Source: Herzog and Wang, Reevaluating the Intra-Modal Misalignment Hypothesis in CLIP, CVPR 2026, PCA on text.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(1, 1, (20, 4)), range(20), space="image", origin="image")
        >>> texts = xg.Features(random.normal(-1, 1, (20, 4)), range(20), space="text", origin="text")
        >>> calibration = xg.Calibration({"image": images, "text": texts}, split="train")
        >>> kept = xg.correction("pca-text(rank=2, words=captions)").fit(calibration)(images)
        >>> kept.dim, int(np.linalg.matrix_rank(kept.vectors.numpy(), tol=1e-4))
        (4, 2)
    """
    texts = anchor_texts(calibration, words, template)
    if not normalised and words == "captions":
        raise XgapError("the length of calibration captions is not known any more; normalised=False needs class names")
    if normalised:
        texts = texts / texts.norm(dim=1, keepdim=True)
    basis = _leading("pca-text", texts, rank, centred)
    means = {of.space: exact(of.vectors).mean(dim=0) for of in calibration.features.values()} if restored else {}
    return _keeping(basis, means)


@register_correction("pca-image", control=True)
def pca_image(calibration: Calibration, rank: int | None = None, centred: bool = True) -> FeatureMap:
    """The control of `pca-text` with the principal directions of the calibration images instead; same rank.

    As there, no more directions are kept than the images span.

    Raises:
        XgapError: a rank out of range.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(1, 1, (20, 4)), range(20), space="image", origin="image")
        >>> texts = xg.Features(random.normal(-1, 1, (20, 4)), range(20), space="text", origin="text")
        >>> calibration = xg.Calibration({"image": images, "text": texts}, split="train")
        >>> kept = xg.correction("pca-image(rank=2)").fit(calibration)(images)
        >>> kept.dim, int(np.linalg.matrix_rank(kept.vectors.numpy(), tol=1e-4))
        (4, 2)
    """
    return _keeping(_leading("pca-image", exact(calibration.images.vectors), rank, centred))


@register_correction("random-subspace", model_alone=True, control=True)
def random_subspace(calibration: Calibration, rank: int | None = None, seed: int = 0) -> FeatureMap:
    """The control of `pca-text` with random directions (uniform over all subspaces of this rank).

    Raises:
        XgapError: a rank out of range.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(1, 1, (20, 4)), range(20), space="image", origin="image")
        >>> texts = xg.Features(random.normal(-1, 1, (20, 4)), range(20), space="text", origin="text")
        >>> calibration = xg.Calibration({"image": images, "text": texts}, split="train")
        >>> kept = xg.correction("random-subspace(rank=2)").fit(calibration)(images)
        >>> kept.dim, int(np.linalg.matrix_rank(kept.vectors.numpy(), tol=1e-4))
        (4, 2)
    """
    d = calibration.dim
    normal = torch.randn(d, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return _keeping(torch.linalg.qr(normal).Q[:, : _checked(rank, d)])


@register_correction("whiten")
def whiten(calibration: Calibration, shrinkage: float = 0.1) -> FeatureMap:
    """Centre each modality and give it the same variance in every direction, then scale to unit length.

    Formula: x' = C^(-1/2) (x - m), m and C the mean and covariance of the calibration vectors of x's space, C shrunk
    towards a multiple of the identity: (1 - s) C + s trace(C) / d I. The symmetric root rotates least.

    Args:
        calibration: its images and texts give the mean and covariance of each modality.
        shrinkage: s in (0, 1]; with 1 only the mean is taken away.

    Raises:
        XgapError: a shrinkage out of range.

    Source: Kessy, Lewin, Strimmer, Optimal whitening and decorrelation, The American Statistician 2018 (ZCA).

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(1, 1, (20, 4)), range(20), space="image", origin="image")
        >>> texts = xg.Features(random.normal(-1, 1, (20, 4)), range(20), space="text", origin="text")
        >>> calibration = xg.Calibration({"image": images, "text": texts}, split="train")
        >>> whitened = xg.correction("whiten").fit(calibration)(images)
        >>> round(xg.metrics.cone(images), 2)  # images fill a cone
        0.57
        >>> abs(xg.metrics.cone(whitened)) < 0.1  # and now the whole sphere
        True
    """
    if not 0 < shrinkage <= 1:
        raise XgapError(f"the shrinkage of whitening lies in (0, 1], not {shrinkage}")
    maps = {}
    for of in calibration.features.values():
        vectors = exact(of.vectors)
        mean = vectors.mean(dim=0)
        covariance = (vectors - mean).T @ (vectors - mean) / len(vectors)
        values, directions = torch.linalg.eigh(covariance)
        shrunk = (1 - shrinkage) * values.clamp(min=0) + shrinkage * values.clamp(min=0).mean()
        maps[of.space] = mean, directions * shrunk.rsqrt() @ directions.T

    def apply(features: Features) -> Features:
        calibration.of(features.space)
        mean, root = (part.to(features.vectors.device) for part in maps[features.space])
        check_dimensions(features, len(mean))
        return replace(features, vectors=(exact(features.vectors) - mean) @ root)

    return apply


def _leading(name: str, vectors: Float[Tensor, "n d"], rank: int | None, centred: bool) -> Float[Tensor, "d rank"]:
    """The leading principal directions, up to `rank` and to the number that the vectors span."""
    if centred:
        vectors = vectors - vectors.mean(dim=0)
    values, directions = torch.linalg.eigh(vectors.T @ vectors)
    wanted = _checked(rank, len(values))
    # A repeated text may differ in the last bit of single precision; that difference is not a direction.
    noise = max(vectors.shape) * torch.finfo(torch.float32).eps
    spanned = int((values > values[-1] * noise**2).sum()) if float(values[-1]) > noise**2 else 0
    if not spanned:
        what = f"{name}: the {len(vectors)} vectors it is fitted on are all the same"
        raise XgapError(f"{what}, and span no direction; fit it on more classes, or give centred=False")
    if spanned < wanted:
        what = f"{name}: {len(vectors)} vectors span {spanned} directions, so {spanned} are kept and not {wanted}"
        warnings.warn(f"{what}; compare with controls of rank={spanned}", stacklevel=2)
    return directions.flip(dims=(1,))[:, : min(wanted, spanned)]


def _checked(rank: int | None, d: int) -> int:
    rank = d // 2 if rank is None else rank
    if not 1 <= rank <= d:
        raise XgapError(f"the rank of a subspace lies between 1 and the {d} dimensions, not {rank}")
    return rank


def _keeping(
    basis: Float[Tensor, "d rank"], means: Mapping[str, Tensor] | None = None
) -> Callable[[Features], Features]:
    """The projection on a basis; with the means of spaces, plus what it takes from the mean."""

    def apply(features: Features) -> Features:
        check_dimensions(features, len(basis))
        kept = basis.to(features.vectors.device)
        vectors = exact(features.vectors) @ kept @ kept.T
        if means:
            mean = means.get(features.space)
            if mean is None:
                raise XgapError(f"no calibration features lie in the space {features.space!r}; give restored=False")
            mean = mean.to(vectors.device)
            vectors = vectors + mean - mean @ kept @ kept.T
        return replace(features, vectors=vectors)

    return apply
