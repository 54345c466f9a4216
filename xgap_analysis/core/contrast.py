"""The contrast of pairs: cross entropy of scores whose diagonal is right, one way or both."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy


def one_way(scores: Float[Tensor, "b b"], scale: Tensor | float = 1.0) -> Tensor:
    """The cross entropy of each row of scaled scores, whose diagonal holds the pairs."""
    return cross_entropy(scale * scores, torch.arange(len(scores), device=scores.device))


def both_ways(scores: Float[Tensor, "b b"], scale: Tensor | float = 1.0) -> Tensor:
    """Symmetric InfoNCE: the mean of both cross entropies, of rows and of columns.

    Args:
        scores: row i and column i are a pair; minus infinity for what is no negative.
        scale: 1 / temperature, where the scores do not have it yet.

    Source: Radford et al., 2021 (CLIP), section 2.3.

    Example:
        >>> round(float(both_ways(torch.eye(3))), 3)  # log(1 + 2 / e)
        0.551
    """
    return (one_way(scores, scale) + one_way(scores.T, scale)) / 2
