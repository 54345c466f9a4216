"""Scores of pairs of items, and the term that copies those of a slower scorer."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.scoring.scorer import scorer as as_scorer
from xgap_analysis.training.objectives.batch import BatchFeatures
from xgap_analysis.training.objectives.term import Needs, Sizes, register_objective


class PairHead(nn.Module):
    """A score of two vectors a and b from `[a, b, a * b, |a - b|]`: linear, ReLU, linear."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4 * dim, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Scores `[...]` of `a, b [..., d]`."""
        made: Tensor = self.layers(torch.cat([a, b, a * b, (a - b).abs()], dim=-1))
        return made[..., 0]


class ScaledProduct(nn.Module):
    """The inner product, times a factor, plus an offset: the scores of a teacher lie on a scale of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.factor, self.offset = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(()))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Scores `[...]` of `a, b [..., d]`."""
        return self.factor * (a * b).sum(dim=-1) + self.offset


def pair(
    first: Float[Tensor, "n d"], second: Float[Tensor, "m d"], head: nn.Module | None = None
) -> Float[Tensor, "n m"]:
    """The score of each item with each other: their inner product, or what a head makes of the two.

    Args:
        first, second: unit rows.
        head: a module from `(a, b)`, each `[n, m, d]`, to scores `[n, m]`.
    """
    if head is None:
        return first @ second.T
    scores: Tensor = head(*torch.broadcast_tensors(first[:, None], second[None]))
    return scores


def pair_scores_loss(student: Float[Tensor, "n m"], teacher: Float[Tensor, "n m"]) -> Float[Tensor, ""]:
    """The mean squared difference of scores from those of a teacher, which are constants.

    Source: Barkan et al., 2020 (Scalable attentive sentence-pair modeling via distilled sentence embedding, DSE),
    section 3, and its published code.
    """
    return (student - teacher.detach()).square().mean()


def teacher_scores(batch: BatchFeatures, name: str | None) -> Tensor:
    """Scores `[n, n]` of images with first captions: those that are given, or a scorer's of the teacher's features.

    Raises:
        XgapError: a scorer of whole galleries.
    """
    if name is None:
        given: Tensor = batch.needed("pair_scores")
        return given.to(batch.scale)
    scorer, teacher = as_scorer(name), batch.needed("teacher")
    if scorer.takes == "features":
        raise XgapError(f"scorer {name!r} reads a whole gallery, and a batch is none; take one of vectors or tokens")
    if scorer.takes == "tokens":
        return scorer(teacher.needed("image_tokens"), teacher.needed("text_tokens")).to(batch.scale)
    return scorer(teacher.images[0], teacher.texts[:, 0]).to(batch.scale)


def _needs(*, scorer: str | None = "late_interaction") -> Needs:
    tokens = scorer is not None and as_scorer(scorer).takes == "tokens"
    return Needs(teacher=scorer is not None, image_tokens=tokens, text_tokens=tokens, pair_scores=scorer is None)


def _head(sizes: Sizes, *, width: int = 512) -> nn.Module:
    if width < 0:
        raise XgapError(f"width of pair-scores is 0 (a scaled inner product) or more, not {width}")
    return PairHead(sizes.dim, width) if width else ScaledProduct()


@register_objective("pair-scores", needs=_needs, parameters=_head)
def _pair_scores(batch: BatchFeatures, own: nn.Module, *, scorer: str | None = "late_interaction") -> Tensor:
    """Distillation of given scores of pairs, or of those of a slower scorer before training (DSE).

    Example:
        >>> import xgap_analysis as xg
        >>> xg.objective("pair-scores").needed.image_tokens  # the scorer is late_interaction, which reads tokens
        True
        >>> xg.objective("pair-scores(scorer=None)").needed.pair_scores  # or the scores are given to train
        True
    """
    teacher = teacher_scores(batch, scorer)
    return torch.stack([pair_scores_loss(pair(i, t, own), teacher) for i, t in batch.pairs()]).mean()
