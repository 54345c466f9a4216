"""Terms that compare the similarities among images with those among texts."""

from jaxtyping import Float
from torch import Tensor

from xgap_analysis.training.objectives.batch import BatchFeatures
from xgap_analysis.training.objectives.term import register_objective


def in_modal_consistency(images: Float[Tensor, "n d"], texts: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Two images should be as similar as their two captions.

    Formula: `1/n sum over j, k of (images_j . images_k - texts_j . texts_k)^2`.

    Args:
        images, texts: unit rows, pairs by index.

    Source: Goel et al., 2022 (CyCLIP), section 2.2, in-modal cyclic consistency.
    """
    return (images @ images.T - texts @ texts.T).square().sum() / len(images)


def cross_modal_consistency(images: Float[Tensor, "n d"], texts: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """An image should be as similar to another's caption as the other image to its own.

    Formula: `1/n sum over j, k of (images_j . texts_k - images_k . texts_j)^2`.

    Args:
        images, texts: unit rows, pairs by index.

    Source: Goel et al., 2022 (CyCLIP), section 2.2, cross-modal cyclic consistency.
    """
    across = images @ texts.T
    return (across - across.T).square().sum() / len(images)


@register_objective("in-modal")
def _in_modal(batch: BatchFeatures) -> Tensor:
    """Two images as similar as their captions (CyCLIP, in-modal).

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> batch = xg.BatchFeatures(unit[None], unit[:, None], torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> round(float(xg.objective("in-modal").loss(batch)), 3)  # images and texts have the same similarities
        0.0
    """
    return batch.mean_over_pairs(in_modal_consistency)


@register_objective("cross-modal")
def _cross_modal(batch: BatchFeatures) -> Tensor:
    """An image as similar to another's caption as the other image to its own (CyCLIP, cross-modal).

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> batch = xg.BatchFeatures(unit[None], unit[:, None], torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> round(float(xg.objective("cross-modal").loss(batch)), 3)  # similarities are symmetric
        0.0
    """
    return batch.mean_over_pairs(cross_modal_consistency)
