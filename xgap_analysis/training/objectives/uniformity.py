"""Alignment of pairs and uniformity of each modality on the sphere."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.training.objectives.batch import BatchFeatures
from xgap_analysis.training.objectives.term import register_objective


def alignment_loss(first: Float[Tensor, "n d"], second: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Mean squared distance of pairs: `mean over i of ||first_i - second_i||^2`, in [0, 4].

    Args:
        first, second: unit rows, pairs by index.

    Source: Wang and Isola, 2020, section 4.1 (alpha = 2).
    """
    return (first - second).square().sum(dim=1).mean()


def uniformity_loss(vectors: Float[Tensor, "n d"], t: float = 2.0) -> Float[Tensor, ""]:
    """How unevenly a modality covers the sphere: `log mean over i < j of exp(-t ||v_i - v_j||^2)`, in [-4 t, 0].

    Args:
        vectors: unit rows, 2 at least.
        t: sharpness of the kernel.

    Source: Wang and Isola, 2020, section 4.1.
    """
    first, second = torch.triu_indices(len(vectors), len(vectors), offset=1, device=vectors.device)
    squares = 2 - 2 * (vectors @ vectors.T)[first, second]
    return (-t * squares).logsumexp(dim=0) - math.log(len(first))


@register_objective("alignment")
def _alignment(batch: BatchFeatures) -> Tensor:
    """Mean squared distance of an image and its caption.

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> batch = xg.BatchFeatures(unit[None], unit[:, None], torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> round(float(xg.objective("alignment").loss(batch)), 3)  # pairs coincide
        0.0
    """
    return batch.mean_over_pairs(alignment_loss)


@register_objective("uniformity")
def _uniformity(batch: BatchFeatures, *, t: float = 2.0) -> Tensor:
    """How unevenly images and captions cover the sphere, the mean of both.

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> batch = xg.BatchFeatures(unit[None], unit[:, None], torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> round(float(xg.objective("uniformity").loss(batch)), 3)
        -4.0
    """
    each = (*batch.images[:1], batch.texts[:, 0])
    return torch.stack([uniformity_loss(vectors, t) for vectors in each]).mean()
