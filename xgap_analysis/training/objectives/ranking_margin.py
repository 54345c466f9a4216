"""A margin between each pair and the pairs that do not belong together: all of them, or the hardest."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from xgap_analysis.core.errors import unknown_name
from xgap_analysis.training.objectives.batch import BatchFeatures
from xgap_analysis.training.objectives.term import register_objective

NEGATIVES = ("all", "hardest")


def ranking_margin(
    images: Float[Tensor, "n d"],
    texts: Float[Tensor, "n d"],
    margin: float = 0.2,
    *,
    negatives: str = "all",
    summed: bool = False,
    labels: Int[Tensor, " n"] | None = None,
) -> Float[Tensor, ""]:
    """Hinge over the negatives of a batch, in both directions.

    Formula, with s the cosines and `h_ij = max(0, margin + s_ij - s_ii)`, `g_ij = max(0, margin + s_ji - s_ii)`:

    | negatives | mean (the default) | summed, as published |
    |---|---|---|
    | `all` | `1/n^2 sum over i != j of h_ij + g_ij` | `sum over i != j of h_ij + g_ij` |
    | `hardest` | `1/n sum over i of max_j h_ij + max_j g_ij` | `sum over i of max_j h_ij + max_j g_ij` |

    It is 0 where each pair is nearer than all others by the margin. Where all rows are alike, the mean over all is
    `2 margin (n - 1) / n`, and over the hardest `2 margin`. A sum grows with the batch, which matters beside other
    terms and for the learning rate of plain gradient descent.

    Args:
        images, texts: unit rows, pairs by index.
        margin: between the cosines of pairs and of others.
        negatives: `"all"` others of the batch, or the `"hardest"` of each row.
        summed: the sum over the batch in place of the mean.
        labels: items of one label are no negatives of each other, such as two captions of one image (which the code of
            VSE++ takes for negatives); None takes each row for itself.

    Raises:
        XgapError: another word for `negatives`.

    Source: Merkx and Frank, Learning semantic sentence representations from visually grounded language without lexical
    knowledge, Natural Language Engineering 2019 (all, mean); Faghri et al., VSE++, BMVC 2018 (both, summed).
    """
    if negatives not in NEGATIVES:
        raise unknown_name("negatives", negatives, NEGATIVES)
    scores = images @ texts.T
    own = scores.diagonal()
    same = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    if labels is not None:
        same = labels[:, None] == labels[None]
    ways = [
        (margin + scores - own[:, None]).clamp(min=0).masked_fill(same, 0),
        (margin + scores.T - own[:, None]).clamp(min=0).masked_fill(same, 0),
    ]
    if negatives == "hardest":
        ways = [way.amax(dim=1) for way in ways]  # [n]
    cost = ways[0] + ways[1]
    return cost.sum() if summed else cost.mean()


@register_objective("ranking-margin")
def _ranking_margin(
    batch: BatchFeatures, *, margin: float = 0.2, negatives: str = "all", summed: bool = False
) -> Tensor:
    """Each pair nearer than all others of the batch, or than the hardest, by a margin (VSE++, grounded encoder).

    Items of one label are no negatives of each other (`sampler="shared"`).

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> batch = xg.BatchFeatures(unit[None], unit[:, None], torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> round(float(xg.objective("ranking-margin").loss(batch)), 3)  # nearer than others by more than 0.2
        0.0
    """

    def loss(images: Tensor, texts: Tensor) -> Tensor:
        return ranking_margin(images, texts, margin, negatives=negatives, summed=summed, labels=batch.labels)

    return batch.mean_over_pairs(loss)
