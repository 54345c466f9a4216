"""The rank of each query's first relevant item, and its reciprocal, with a stated rule for equal scores."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from xgap_analysis.core.errors import unknown_name
from xgap_analysis.core.relevance import RelevanceLike, as_relevance
from xgap_analysis.core.tokens import ScoredLike, scored_pair
from xgap_analysis.metrics.graded import graded_blocks
from xgap_analysis.metrics.ranks import relevant_ranks
from xgap_analysis.scoring.blocks import ScoreNormaliser
from xgap_analysis.scoring.cosine import COSINE
from xgap_analysis.scoring.scorer import ScoreFunction, Scorer

TIES = ("gallery", "reversed", "expected", "best", "worst")


@dataclass(frozen=True)
class _Tied:
    """For each query `[n]`: what scores above its best relevant item, and what scores as high as that does.

    `relevant` and `others` are as high (relevant is 0 where a query has no relevant item); `before` and `behind` are
    those of the others that stand in the gallery before the first, and behind the last, of the relevant ones.
    """

    above: np.ndarray
    relevant: np.ndarray
    others: np.ndarray
    before: np.ndarray
    behind: np.ndarray


def best_ranks(
    query: ScoredLike,
    gallery: ScoredLike,
    relevance: RelevanceLike,
    *,
    ties: str = "gallery",
    exclude_self: bool = True,
    block: int | None = None,
    normalise: ScoreNormaliser | None = None,
    scorer: str | Scorer | ScoreFunction = COSINE,
) -> pd.Series:
    """The rank of each query's first relevant item, from 0.

    Where other items score exactly as the best relevant one does, the rule counts:

    | ties | the rank is |
    |---|---|
    | `gallery` | by the gallery's order, as everywhere in this package |
    | `reversed` | by its reverse: of tied items the later stands first (a reversed `argsort`) |
    | `expected` | the mean over all orders of the tied items |
    | `best` | the number of items that score higher; where all scores are equal, every rank is 0 |
    | `worst` | the number of items that are not relevant and score no lower |

    Args:
        query, gallery, relevance, exclude_self, block, normalise, scorer: as of `retrieval`.
        ties: the rule.

    Returns:
        Ranks by query id, NaN where a query has no relevant item.

    Raises:
        XgapError: as `retrieval`, or an unknown rule.

    Example:
        >>> import torch
        >>> best_ranks(torch.eye(3)[[1]], torch.eye(3), (["b"], ["a", "b", "c"])).tolist()
        [0.0]
        >>> same = torch.ones(3, 2), -torch.ones(3, 2)  # three texts and three images: all cosines are equal
        >>> [best_ranks(*same, ([1, 2, 3], [1, 2, 3]), ties=rule).tolist() for rule in ("gallery", "expected", "best")]
        [[0.0, 1.0, 2.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
    """
    how: dict[str, Any] = {"exclude_self": exclude_self, "block": block, "normalise": normalise, "scorer": scorer}
    _check(ties)
    first, ranked = scored_pair(query, gallery)
    if ties == "gallery":
        ranks = _in_gallery_order(first, ranked, relevance, **how)
    else:
        tied = _tied(first, ranked, relevance, **how)
        extra = {
            "reversed": tied.behind,
            "expected": tied.others / (tied.relevant + 1),
            "best": np.zeros(len(tied.above)),
            "worst": tied.others,
        }[ties]
        ranks = np.where(tied.relevant > 0, tied.above + extra, math.nan)
    return pd.Series(ranks, pd.Index(first.ids, name="query"), name="rank", dtype=float)


def reciprocal_rank(
    query: ScoredLike,
    gallery: ScoredLike,
    relevance: RelevanceLike,
    *,
    ties: str = "expected",
    exclude_self: bool = True,
    block: int | None = None,
    normalise: ScoreNormaliser | None = None,
    scorer: str | Scorer | ScoreFunction = COSINE,
) -> pd.Series:
    """The reciprocal of the rank (from 1) of each query's first relevant item; its mean over queries is the MRR.

    Formula: `1 / rank`; with `ties="expected"`, its mean over all orders of the items that score exactly as the best
    relevant one does: with `a` items above, `r` relevant and `u` other items as high, `sum over k of P(k) / (a + k)`,
    where `P(k)` is the chance that the first of the r stands at place k of the `r + u`. So n equal scores and one
    relevant item give `(1 + 1/2 + ... + 1/n) / n`, the value of a random order; the best rank among ties, which some
    evaluations take (`ties="best"`), would give 1.

    How to read it: in (0, 1], 1 is best; NaN where a query has no relevant item.

    Args:
        query, gallery, relevance, exclude_self, block, normalise, scorer: as of `retrieval`.
        ties: as in `best_ranks`.

    Raises:
        XgapError: as `best_ranks`.

    Source: Voorhees, TREC-8, 1999; ties, McSherry and Najork, Computing information retrieval performance measures
    efficiently in the presence of tied scores, ECIR 2008.

    Example:
        >>> import torch
        >>> reciprocal_rank(torch.eye(2), torch.eye(2) + 0.1, ([1, 2], [1, 2])).tolist()
        [1.0, 1.0]
        >>> same = torch.ones(2, 3), -torch.ones(2, 3)  # a random order: half of 1, and half of 1/2
        >>> reciprocal_rank(*same, ([1, 2], [1, 2])).tolist()
        [0.75, 0.75]
    """
    how: dict[str, Any] = {"exclude_self": exclude_self, "block": block, "normalise": normalise, "scorer": scorer}
    if ties != "expected":
        return (1 / (best_ranks(query, gallery, relevance, ties=ties, **how) + 1)).rename("mrr")
    first, ranked = scored_pair(query, gallery)
    tied = _tied(first, ranked, relevance, **how)
    values = [_expected(*map(int, counts)) for counts in zip(tied.above, tied.relevant, tied.others, strict=True)]
    return pd.Series(values, pd.Index(first.ids, name="query"), name="mrr", dtype=float)


def _check(ties: str) -> None:
    if ties not in TIES:
        raise unknown_name("rule for ties", ties, TIES)


def _in_gallery_order(
    query: Any,
    gallery: Any,
    relevance: RelevanceLike,
    *,
    exclude_self: bool,
    block: int | None,
    normalise: ScoreNormaliser | None,
    scorer: str | Scorer | ScoreFunction,
) -> np.ndarray:
    bound = as_relevance(relevance, query, gallery).bind(query.ids, gallery.ids)
    apart = exclude_self and query.has_items_of(gallery)
    how: dict[str, Any] = {"exclude_self": apart, "block": block, "normalise": normalise, "scorer": scorer}
    found = []
    for ranks in relevant_ranks(query, gallery, bound, **how):
        first = torch.full((ranks.queries,), torch.inf, dtype=torch.float64)
        first.scatter_reduce_(0, ranks.row.cpu(), ranks.rank.cpu().double(), "amin")
        found.append(first.where(first.isfinite(), torch.nan))
    return torch.cat(found).numpy()


def _tied(query: Any, gallery: Any, relevance: RelevanceLike, **how: Any) -> _Tied:
    parts = [_counts(*block) for block in _ranked(query, gallery, relevance, **how)]
    return _Tied(*(torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True)))


def _ranked(
    query: Any, gallery: Any, relevance: RelevanceLike, *, normalise: ScoreNormaliser | None, **how: Any
) -> Iterator[tuple[Tensor, Tensor]]:
    """Scores `[b, m]`, minus infinity where an item is left out, and which items are relevant."""
    for scores, grades, ignored in graded_blocks(query, gallery, relevance, **how):
        ranked = scores.masked_fill(ignored, -math.inf)
        if normalise is not None:
            ranked = normalise(ranked).masked_fill(ignored, -math.inf)
        yield ranked, (grades > 0) & ~ignored


def _counts(scores: Tensor, relevant: Tensor) -> tuple[Tensor, ...]:
    best = scores.masked_fill(~relevant, -math.inf).amax(dim=1, keepdim=True)
    level = (scores == best) & scores.isfinite()
    own, others = level & relevant, level & ~relevant
    so_far = own.cumsum(dim=1)
    before, behind = others & (so_far == 0), others & (so_far == so_far[:, -1:])
    above = (scores > best) & scores.isfinite()
    return tuple(part.sum(dim=1) for part in (above, own, others, before, behind))


def _expected(above: int, relevant: int, others: int) -> float:
    """The mean of 1 / rank of the first of `relevant` items over all orders of them and of `others`."""
    if not relevant:
        return math.nan
    place = np.arange(1, others + 2)
    chance = np.ones(others + 1)  # of place 1, then how it changes from one place to the next
    chance[0] = relevant / (relevant + others)
    chance[1:] = (others - place[:-1] + 1) / (relevant + others - place[:-1])
    return float((chance.cumprod() / (above + place)).sum())
