"""After the ranking: how many of the first items are kept, by a relevancy that is calibrated on other queries."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.precision import exact
from xgap_analysis.core.relevance import RelevanceLike
from xgap_analysis.core.tokens import ScoredLike, scored_pair
from xgap_analysis.metrics.graded import graded_blocks
from xgap_analysis.scoring.blocks import ScoreNormaliser, first_of
from xgap_analysis.scoring.cosine import COSINE
from xgap_analysis.scoring.scorer import ScoreFunction, Scorer

SAMPLE = 2_000_000  # pairs that a relevancy is fitted on, at most


@dataclass(frozen=True)
class Relevancy:
    """The chance that a pair is relevant, from its score: `1 / (1 + exp(-(slope s + intercept)))`.

    Args:
        slope, intercept: fitted by `relevancy`.
        rate: the share of relevant pairs that it was fitted on.
    """

    slope: float
    intercept: float
    rate: float

    def __call__(self, scores: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The chances of scores; minus infinity has none."""
        return torch.sigmoid(self.slope * exact(scores) + self.intercept).float()

    def score_at(self, chance: float) -> float:
        """The score that has a chance in (0, 1): the threshold for `cut`."""
        if not 0 < chance < 1:
            raise XgapError(f"a chance lies between 0 and 1, and is neither, not {chance}")
        return (math.log(chance / (1 - chance)) - self.intercept) / self.slope


def relevancy(
    query: ScoredLike,
    gallery: ScoredLike,
    relevance: RelevanceLike,
    *,
    exclude_self: bool = True,
    block: int | None = None,
    scorer: str | Scorer | ScoreFunction = COSINE,
    seed: int = 0,
) -> Relevancy:
    """A calibrated relevancy of one comparison: logistic regression of relevance on the score of a pair.

    Scores of images with images and of images with texts have other ranges, so that one threshold cannot serve both:
    fit one for each comparison, on a split that is not evaluated, and cut by `score_at(0.5)`, say.

    It stands for the learned relevancy score of Re-ranking the Context, a fine-tuned language model with vision.

    Args:
        query, gallery, relevance, exclude_self, block, scorer: as in `retrieval`.
        seed: of the sample of pairs, where there are more than two million.

    Raises:
        XgapError: as `retrieval`, pairs of one kind alone, or relevant pairs that do not score above the others.

    Source: Platt, Probabilistic outputs for support vector machines, 1999.
    """
    from sklearn.linear_model import LogisticRegression

    query, gallery = scored_pair(query, gallery)
    share = min(1.0, SAMPLE / max(1, len(query) * len(gallery)))
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for scores, grades, ignored in graded_blocks(
        query, gallery, relevance, exclude_self=exclude_self, block=block, scorer=scorer
    ):
        kept = ~ignored
        if share < 1:
            kept &= (torch.rand(scores.shape, generator=generator) < share).to(kept.device)
        parts.append((scores[kept].cpu().numpy(), (grades[kept] > 0).cpu().numpy()))
    score, relevant = (np.concatenate(column) for column in zip(*parts, strict=True))
    if relevant.all() or not relevant.any():
        raise XgapError(f"a relevancy is fitted on relevant pairs and others, and all {len(relevant)} are of one kind")
    score = score.astype(np.float64)
    mean, spread = score.mean(), score.std() or 1.0  # of standard scores, whose narrow range does not end the descent
    fitted = LogisticRegression(C=np.inf, max_iter=1000, tol=1e-10).fit((score[:, None] - mean) / spread, relevant)
    slope = float(fitted.coef_[0, 0]) / spread
    intercept = float(fitted.intercept_[0]) - slope * mean
    if not slope > 0:
        raise XgapError("relevant pairs do not score above the others here, so that no threshold parts them")
    return Relevancy(slope, intercept, float(relevant.mean()))


def cut(
    query: ScoredLike,
    gallery: ScoredLike,
    relevance: RelevanceLike,
    *,
    k: int = 10,
    threshold: float | None = None,
    candidates: int | None = None,
    first: str | Scorer | ScoreFunction | None = None,
    exclude_self: bool = True,
    block: int | None = None,
    normalise: ScoreNormaliser | None = None,
    scorer: str | Scorer | ScoreFunction = COSINE,
) -> pd.DataFrame:
    """How good the set is that is kept: up to k items, those of a score of at least the threshold; one row per query.

    Formula: `kept = the first k of {i in candidates: s_i >= threshold}` by descending score.

    | column | formula | range, good end |
    |---|---|---|
    | `n_kept` | items kept | 0 .. k |
    | `empty` | 1 where none is; its mean is the share of queries that get nothing | 0 or 1 |
    | `set_precision` | share of the kept items that are relevant; NaN of an empty set | [0, 1], 1 |
    | `set_recall` | share of the relevant items that are kept; NaN where there are none | [0, 1], 1 |
    | `set_f1` | 2 kept relevant / (kept + relevant); NaN where both are 0 | [0, 1], 1 |

    Read them together: a high threshold has a high precision, and many empty sets. Without a threshold these are the
    measures of the first k.

    Args:
        query, gallery, relevance, exclude_self, block, normalise, scorer: as in `retrieval`.
        k: items kept at most.
        threshold: of the score (of what `normalise` makes of it); None keeps k. `relevancy` finds one.
        candidates: how many of the first by another scorer are scored at all; None for every item.
        first: that scorer; by default cosine.

    Returns:
        n rows, indexed by query id ("query"); `attrs["empty"]` is the share of empty sets.

    Raises:
        XgapError: as `retrieval`, a number below 1, or `first` without `candidates`.

    Source: Mortaheb et al., Re-ranking the context for multimodal retrieval augmented generation, 2025 (up to k by a
    relevancy score).
    """
    for name, number in (("k", k), ("candidates", candidates)):
        if number is not None and number < 1:
            raise XgapError(f"{name} of a cut is 1 or more, not {number}")
    if first is not None and candidates is None:
        raise XgapError("first chooses the candidates of a cut: say how many, candidates=100 for one")
    query, gallery = scored_pair(query, gallery)
    how: dict[str, Any] = {"exclude_self": exclude_self, "block": block}
    chosen = graded_blocks(query, gallery, relevance, scorer=first or COSINE, **how) if candidates else None
    columns: list[dict[str, Tensor]] = []
    for scores, grades, ignored in graded_blocks(query, gallery, relevance, scorer=scorer, **how):
        ranked = scores.masked_fill(ignored, -math.inf)
        ranked = ranked if normalise is None else normalise(ranked).masked_fill(ignored, -math.inf)
        if chosen is not None:
            before = next(chosen)[0].masked_fill(ignored, -math.inf)
            ranked = ranked.masked_fill(~_first(before, int(candidates or 0)), -math.inf)
        columns.append(_measured(_kept(ranked, k, threshold), (grades > 0) & ~ignored))
    frame = pd.DataFrame({name: torch.cat([part[name] for part in columns]).cpu().numpy() for name in columns[0]})
    frame.index = pd.Index(query.ids, name="query")
    frame.attrs["empty"] = float(frame["empty"].mean())
    return frame


def _first(scores: Float[Tensor, "b m"], k: int) -> Bool[Tensor, "b m"]:
    order = first_of(scores, k).to(scores.device)
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, order, value=True)


def _kept(scores: Float[Tensor, "b m"], k: int, threshold: float | None) -> Bool[Tensor, "b m"]:
    above = ~scores.isneginf() if threshold is None else scores >= threshold
    return _first(scores, k) & above & ~scores.isneginf()


def _measured(kept: Bool[Tensor, "b m"], relevant: Bool[Tensor, "b m"]) -> dict[str, Tensor]:
    n, r, both = (exact(of.sum(dim=1)) for of in (kept, relevant, kept & relevant))
    return {
        "n_kept": n,
        "empty": exact(n == 0),
        "set_precision": both / n,  # 0 / 0 is NaN, as it should be
        "set_recall": both / r,
        "set_f1": 2 * both / (n + r),
    }


def thresholds(
    query: ScoredLike,
    gallery: ScoredLike,
    relevance: RelevanceLike,
    values: Sequence[float],
    **how: Any,
) -> pd.DataFrame:
    """The means of `cut` at several thresholds: one row for each, to choose one on a calibration split.

    Args:
        query, gallery, relevance: as in `cut`.
        values: thresholds.
        how: whatever else `cut` takes.

    Raises:
        XgapError: as `cut`.
    """
    rows = [cut(query, gallery, relevance, threshold=value, **how).mean() for value in values]
    return pd.DataFrame(rows, index=pd.Index(list(values), name="threshold"))
