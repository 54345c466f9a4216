"""A margin between each pair and all pairs that do not belong together."""

import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.training.objectives.batch import BatchFeatures
from xgap_analysis.training.objectives.term import register_objective


def ranking_margin(images: Float[Tensor, "n d"], texts: Float[Tensor, "n d"], margin: float = 0.2) -> Float[Tensor, ""]:
    """Hinge over all negatives of a batch, in both directions.

    Formula: `1/n^2 sum over i != j of max(0, margin + s_ij - s_ii) + max(0, margin + s_ji - s_ii)`, s the cosines. It
    is 0 where each pair is nearer than all others by the margin, and `2 margin (n - 1) / n` where all are alike.

    Args:
        images, texts: unit rows, pairs by index.
        margin: between the cosines of pairs and of others.

    Source: Merkx and Frank, Learning semantic sentence representations from visually grounded language without lexical
    knowledge, Natural Language Engineering 2019.
    """
    scores = images @ texts.T
    own = scores.diagonal()
    others = 1 - torch.eye(len(scores), device=scores.device)
    cost = (margin + scores - own[:, None]).clamp(min=0) + (margin + scores - own[None, :]).clamp(min=0)
    return (cost * others).mean()


@register_objective("ranking-margin")
def _ranking_margin(batch: BatchFeatures, *, margin: float = 0.2) -> Tensor:
    """Each pair nearer than all others of the batch by a margin (grounded sentence encoder, matching).

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> batch = xg.BatchFeatures(unit[None], unit[:, None], torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> round(float(xg.objective("ranking-margin").loss(batch)), 3)  # nearer than others by more than 0.2
        0.0
    """
    return batch.mean_over_pairs(lambda images, texts: ranking_margin(images, texts, margin))
