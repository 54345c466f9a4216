"""Recovery: similarities within a modality from those with the other modality alone.

The misalignment hypothesis says that a loss of image-text similarities leaves image-image similarities free. With one
text they are; with as many texts as dimensions they are determined, and these functions compute them.
"""

import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from xgap_analysis.core.arrays import matrix
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import FeaturesLike, as_features
from xgap_analysis.core.precision import exact

TOLERANCE = 1e-6  # of the largest singular value: what is below is rounding of float32
BEYOND = 0.01  # of the scores' norm, outside of as many dimensions as were named: more is no rounding, of float16 even


def recovered(scores: ArrayLike | Tensor, anchors: FeaturesLike) -> Float[Tensor, "n n"]:
    """Similarities of n items with each other, from their scores with texts whose features are known.

    How to read it: where the texts span the space, it equals `x @ x.T` up to rounding, so that the scores leave no
    freedom. Where they do not, what lies outside their span cannot be known, which is an error.

    Formula: `X' = A^+ S'`, S the scores `[n, m]` and A the texts `[m, d]`; the result is `X X'`.

    Args:
        scores: `[n, m]`, cosines of the items with the texts.
        anchors: `[m, d]`, the texts; m at least d.

    Returns:
        `[n, n]`, in double precision.

    Raises:
        XgapError: scores of another number of texts, or texts that do not span the space.

    Source: Herzog and Wang, Reevaluating the intra-modal misalignment hypothesis in CLIP, CVPR 2026, section 3.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> images, texts = (xg.as_features(np.random.default_rng(i).normal(size=(9, 3))).vectors for i in (0, 1))
        >>> found = xg.metrics.recovered(images @ texts.T, texts)
        >>> bool((found - images @ images.T).abs().max() < 1e-5)
        True
    """
    known = exact(as_features(anchors).vectors.cpu())
    given = exact(matrix(scores).cpu())
    if given.shape[1] != len(known):
        raise XgapError(f"scores are with {given.shape[1]} texts, and {len(known)} texts are given")
    values = torch.linalg.svdvals(known)
    spanned = int((values > values[0] * TOLERANCE).sum())
    if spanned < known.shape[1]:
        what = f"the texts span {spanned} of {known.shape[1]} dimensions, and the rest of the items cannot be known"
        raise XgapError(f"{what}; give more texts")
    items = torch.linalg.lstsq(known, given.T).solution.T
    return items @ items.T


def recovered_without_anchors(scores: ArrayLike | Tensor, dim: int) -> Float[Tensor, "n n"]:
    """Similarities of n items with each other, from their scores with texts alone, as unit vectors.

    Formula: with the singular vectors U `[n, d]` of the scores, the result is `U Q U'`, Q symmetric. Each item has
    length 1, `u_i' Q u_i = 1`, which are n linear equations in the `d (d + 1) / 2` unknowns of Q.

    Args:
        scores: `[n, m]`, cosines of the items with m texts, m at least d.
        dim: d, the dimensions of the space.

    Returns:
        `[n, n]`, in double precision.

    Raises:
        XgapError: fewer items than unknowns, scores of a lower or a higher rank than d, or items that leave Q
            undetermined.

    Source: Herzog and Wang, CVPR 2026, appendix A.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> images, texts = (xg.as_features(np.random.default_rng(i).normal(size=(42, 3))).vectors for i in (0, 1))
        >>> found = xg.metrics.recovered_without_anchors(images @ texts.T, 3)
        >>> bool((found - images @ images.T).abs().max() < 1e-4)
        True
    """
    given = exact(matrix(scores).cpu())
    unknown = dim * (dim + 1) // 2
    if dim < 1 or len(given) < unknown:
        what = f"lengths of {len(given)} items are fewer equations than the {unknown} unknowns of {dim} dimensions"
        raise XgapError(f"{what}; give more items, or the texts (metrics.recovered)")
    left, values, _ = torch.linalg.svd(given, full_matrices=False)
    rank = int((values > values[0] * TOLERANCE).sum())
    if rank < dim:
        raise XgapError(f"the scores have rank {rank}, which is below the {dim} dimensions; give more texts")
    if float(values[dim:].norm() / values.norm()) > BEYOND:
        raise XgapError(f"the scores need more than {dim} dimensions, as images and texts of the model have; give dim")
    basis = left[:, :dim]
    rows, columns = torch.triu_indices(dim, dim)
    twice = exact(torch.where(rows == columns, 1.0, 2.0))
    equations = basis[:, rows] * basis[:, columns] * twice
    lengths = torch.ones(len(given), 1, dtype=torch.float64)
    found = torch.linalg.lstsq(equations, lengths, rcond=TOLERANCE, driver="gelsd")
    if int(found.rank) < unknown:
        raise XgapError("these items leave their similarities undetermined (too many of them are alike); give others")
    q = torch.zeros(dim, dim, dtype=torch.float64)
    q[rows, columns] = found.solution[:, 0]
    q = q + q.T - q.diag().diag()
    return basis @ q @ basis.T
