"""Uniformity of what a pair has in common: the directions between an image and its caption (ModGap)."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from xgap_analysis.training.objectives.batch import BatchFeatures
from xgap_analysis.training.objectives.term import register_objective
from xgap_analysis.training.objectives.uniformity import uniformity_loss


def centroid_uniformity_loss(
    images: Float[Tensor, "n d"], texts: Float[Tensor, "n d"], t: float = 2.0
) -> Float[Tensor, ""]:
    """How unevenly the centroids of pairs cover the sphere: `uniformity_loss` of `u((image + text) / 2)`, in [-4 t, 0].

    With `alignment_loss` beside it, pairs are drawn together and kept apart from other pairs, so that the gap closes
    without a collapse. (The authors change both weights along the way; here they are constant.)

    Args:
        images, texts: unit rows, 2 pairs at least, by index.
        t: sharpness of the kernel.

    Source: Grassucci et al., Closing the modality gap aligns group-wise semantics (ModGap), ICLR 2026.

    Example:
        >>> import torch
        >>> centroid_uniformity_loss(torch.eye(2), torch.eye(2)).item()  # a squared distance of 2
        -4.0
    """
    return uniformity_loss(normalize(images + texts, dim=1), t)


@register_objective("centroid-uniformity")
def _centroid_uniformity(batch: BatchFeatures, *, t: float = 2.0) -> Tensor:
    """How unevenly the centroids of an image and its caption cover the sphere (ModGap).

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> batch = xg.BatchFeatures(unit[None], unit[:, None], torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> round(float(xg.objective("centroid-uniformity").loss(batch)), 3)  # a squared distance of 2
        -4.0
    """
    return batch.mean_over_pairs(lambda images, texts: centroid_uniformity_loss(images, texts, t))
