"""Pair scores: how well scores of pairs of items agree with those that people gave the same pairs."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.stats import rankdata
from torch import Tensor

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.seeds import generator
from xgap_analysis.core.tokens import AnyFeatures, ScoredLike, scored_pair
from xgap_analysis.metrics.groups import Groups, group_codes
from xgap_analysis.metrics.resampling import CELLS
from xgap_analysis.metrics.significance import PairedTest
from xgap_analysis.metrics.studentised import effective_groups
from xgap_analysis.scoring.blocks import ScoreNormaliser, score_blocks
from xgap_analysis.scoring.cosine import COSINE
from xgap_analysis.scoring.scorer import ScoreFunction, Scorer

METHODS = ("spearman", "pearson")
ROUNDING = 1e-12  # of a variance of standard scores
FEWEST = 3  # pairs: the correlation of two is 1 or -1 whatever they are

PairValues: TypeAlias = Sequence[int | float] | np.ndarray | Tensor | pd.Series  # [n], or an array [s, n] of s seeds
Vector: TypeAlias = Float[np.ndarray, " n"]
Rows: TypeAlias = Float[np.ndarray, "s n"]


@runtime_checkable
class ScoredPairs(Protocol):
    """Pairs of items with people's scores, such as `datasets.pair_scores.PairScores`."""

    @property
    def first(self) -> Sequence[str]:
        """The id of each pair's first item."""

    @property
    def second(self) -> Sequence[str]:
        """The id of each pair's second item."""

    @property
    def scores(self) -> np.ndarray:
        """People's score of each pair."""

    @property
    def groups(self) -> np.ndarray:
        """A number for each pair, the same for pairs that share items."""


@dataclass(frozen=True)
class Correlation:
    """A correlation with its bootstrap interval `[low, high]` at this level, of n pairs in `n_groups` groups."""

    value: float
    low: float
    high: float
    level: float
    n: int
    n_groups: int


def pair_scores(
    query: ScoredLike,
    gallery: ScoredLike,
    pairs: ScoredPairs,
    *,
    scorer: str | Scorer | ScoreFunction = COSINE,
    normalise: ScoreNormaliser | None = None,
    block: int | None = None,
) -> pd.DataFrame:
    """The score of each pair, beside the one that people gave it; one row per pair.

    The first item of a pair is the query, and the second the gallery item; a view that represents them differently
    (`OVI-T`) depends on that order.

    Args:
        query: `[n, d]`, with a row for the first item of each pair: Features, TokenFeatures, or an array, whose ids are
            its positions.
        gallery: `[m, d]`, with a row for the second.
        pairs: which items, and people's scores.
        scorer: how a pair is scored: a name (`"cosine"`), with options or without, or a function of one block.
        normalise: changes a block of scores `[b, m]` (a hubness correction, say). One that changes the rows of some
            queries only leaves pairs on two scales, and a correlation over pairs then says nothing.
        block: queries scored at a time; no number depends on it.

    Returns:
        Columns `first` and `second` (ids), `score`, `people` (people's score) and `group` (see `PairScores.groups`).

    Raises:
        XgapError: an item of a pair without a vector, different dimensions, or what the scorer refuses.

    Example:
        >>> import numpy as np, xgap_analysis as xg
        >>> from xgap_analysis.datasets.pair_scores import PairScores
        >>> x = xg.Features(np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), ["a", "b", "c"], "text", "text")
        >>> texts = xg.Texts(("a", "b", "c"), ("a cat", "the cat", "a car"))
        >>> pairs = PairScores(("a", "a"), ("b", "c"), [4.8, 0.5], texts)
        >>> pair_scores(x, x, pairs)["score"].round(3).tolist()
        [0.6, 0.0]
    """
    query, gallery = scored_pair(query, gallery)
    query = query.select(dict.fromkeys(pairs.first))
    if normalise is None:
        gallery = gallery.select(dict.fromkeys(pairs.second))
    row, column = _places(query, pairs.first), _places(gallery, pairs.second)
    scores = np.empty(len(row))
    for start, stop, part in score_blocks(query, gallery, scorer, block=block):
        here = np.flatnonzero((row >= start) & (row < stop))
        changed = part if normalise is None else normalise(part)
        scores[here] = changed.cpu().numpy()[row[here] - start, column[here]]
    found = {"first": pairs.first, "second": pairs.second, "score": scores, "people": pairs.scores}
    return pd.DataFrame({**found, "group": pairs.groups}).rename_axis("pair")


def correlation(
    scores: PairValues,
    people: PairValues,
    *,
    method: str = "spearman",
    groups: Groups | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Correlation:
    """How well scores agree with people's, over pairs: Spearman's or Pearson's correlation, with its interval.

    How to read it: in [-1, 1]; 1 where scores order the pairs as people do (Spearman), or are a linear function of
    theirs (Pearson). Spearman is what the tables of STS report; a monotone change of the scores leaves it as it is.

    Formula: Pearson is the covariance over the product of the standard deviations; Spearman is that of the ranks, equal
    values with the mean of theirs. Interval: percentile bootstrap; as many groups as there are, drawn with replacement,
    and ranked anew. Pairs that share a sentence are not independent: give `groups` (`PairScores.groups`), which links
    pairs by shared items over any number of steps.

    Args:
        scores: `[n]`, or `[s, n]` of s seeds, whose correlations are averaged.
        people: `[n]`, of the same pairs in the same order. Pairs where either is NaN are left out.
        method: `"spearman"` or `"pearson"`.
        groups: n labels; pairs of one label are drawn together. None: each pair for itself.
        level, resamples, seed: as in `bootstrap_interval`.

    Raises:
        XgapError: lengths that differ, fewer than three pairs, scores that are all equal (no correlation is defined),
            or an unknown method.

    Source: Agirre et al., SemEval-2012 task 6, section 5 (Pearson); Reimers et al., Task-oriented intrinsic evaluation
    of semantic textual similarity, COLING 2016 (Spearman); Davison and Hinkley, 1997, section 3.8 (groups).

    Example:
        >>> correlation([0.2, 0.5, 0.4, 0.9], [0, 3, 2, 5]).value
        1.0
    """
    (own,), y, codes = _checked([scores], people, groups, method, level, resamples)
    draws = np.concatenate([_drawn(own, y, weights, method) for weights in _weights(codes, resamples, seed)])
    return Correlation(_value(own, y, method), *_limits(draws, level), level, len(y), int(codes.max()) + 1)


def correlation_test(
    a: PairValues,
    b: PairValues,
    people: PairValues,
    *,
    method: str = "spearman",
    groups: Groups | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    flips: int = 10_000,
    seed: int = 0,
) -> PairedTest:
    """Whether scores b agree better with people's than scores a of the same pairs: paired interval and exchange test.

    Formula: the difference is `r(b, people) - r(a, people)`; its interval is the percentile bootstrap, with the same
    draws for both (see `correlation`). Were a and b exchangeable, up to their scales, each pair could as well have its
    two scores the other way round: they are ranked (Spearman) or standardised (Pearson), exchanged in random groups of
    pairs, and `p = (1 + number of exchanges whose |difference| is at least the one found) / (1 + flips)`, two-sided.

    Args:
        a, b: `[n]` each, or `[s, n]` of s seeds (of one seed, where a or b does not depend on it).
        people, method, groups, level, resamples, seed: as in `correlation`.
        flips: random exchanges.

    Raises:
        XgapError: as `correlation`, or different numbers of seeds above one.

    Source: Deutsch, Dror, Roth, A statistical analysis of summarization evaluation metrics using resampling methods,
    TACL 2021 (the exchange of standardised scores).

    Example:
        >>> people = [0, 1, 2, 3, 4, 5]
        >>> test = correlation_test([3, 1, 5, 0, 4, 2], [1, 2, 3, 4, 5, 6], people)
        >>> round(test.difference, 3), test.n
        (1.029, 6)
    """
    (first, second), y, codes = _checked([a, b], people, groups, method, level, resamples)
    if flips < 1:
        raise XgapError(f"flips must be at least 1, not {flips}")
    if len(first) != len(second) and 1 not in (len(first), len(second)):
        raise XgapError(f"a is of {len(first)} seeds and b of {len(second)}; give as many, or one")
    draws = [
        _drawn(second, y, weights, method) - _drawn(first, y, weights, method)
        for weights in _weights(codes, resamples, seed)
    ]
    n_groups = int(codes.max()) + 1
    p_value = _exchange_test(first, second, y, codes, method, flips, generator(seed))
    difference = _value(second, y, method) - _value(first, y, method)
    low, high = _limits(np.concatenate(draws), level)
    effective = effective_groups(np.bincount(codes))
    return PairedTest(difference, low, high, p_value, len(y), n_groups, effective)


def _places(features: AnyFeatures, ids: Sequence[str]) -> Int[np.ndarray, " n"]:
    place = {item: k for k, item in enumerate(features.ids)}
    return np.array([place[item] for item in ids], dtype=np.int64)


def _checked(
    given: Sequence[PairValues], people: PairValues, groups: Groups | None, method: str, level: float, resamples: int
) -> tuple[list[Rows], Vector, Int[np.ndarray, " n"]]:
    """Scores as `[s, n]` each, people's scores, and a number from 0 for each pair's group; without pairs of NaN."""
    if method not in METHODS:
        raise unknown_name("correlation", method, METHODS)
    if not 0 < level < 1 or resamples < 1:
        raise XgapError(f"level lies between 0 and 1, and resamples are at least 1, not {level} and {resamples}")
    y = np.atleast_1d(_array(people))
    rows = [np.atleast_2d(_array(scores)) for scores in given]
    labels = np.arange(y.shape[-1]) if groups is None else group_codes(groups)
    lengths = [*(x.shape[-1] for x in rows), y.shape[-1], len(labels)]
    if y.ndim != 1 or any(x.ndim != 2 for x in rows) or len(set(lengths)) != 1:
        raise XgapError(f"scores, people's scores and groups are of {lengths} pairs; they must be of the same")
    kept = np.isfinite(np.vstack([*rows, y[None]])).all(axis=0)
    if kept.sum() < FEWEST:
        raise XgapError(f"a correlation needs {FEWEST} pairs with both scores at least, not {int(kept.sum())}")
    rows, y = [x[:, kept] for x in rows], y[kept]
    for what, values in [("scores", x) for x in np.vstack(rows)] + [("people's scores", y)]:
        if (values == values[0]).all():
            raise XgapError(f"all {what} are {values[0]:g}, so that no correlation is defined")
    if (labels[kept] < 0).any():
        raise XgapError("a pair has no group (NaN or None)")
    codes, _ = pd.factorize(labels[kept])
    return rows, y, codes


def _array(values: PairValues) -> np.ndarray:
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=np.float64)


def _value(rows: Rows, y: Vector, method: str) -> float:
    return float(_drawn(rows, y, np.ones((1, len(y))), method)[0])


def _weights(codes: Int[np.ndarray, " n"], resamples: int, seed: int) -> Iterator[Float[np.ndarray, "r n"]]:
    """How often each pair is drawn, in each of r resamples at a time: as often as its group."""
    rng, n_groups = generator(seed), int(codes.max()) + 1
    step = max(1, CELLS // len(codes))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        yield rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=size)[:, codes].astype(np.float64)


def _drawn(rows: Rows, y: Vector, weights: Float[np.ndarray, "r n"], method: str) -> Float[np.ndarray, " r"]:
    """The correlation in each resample, averaged over seeds; NaN where all that is drawn is equal."""
    theirs = _deviations(y, weights, method)
    total = np.zeros(len(weights))
    for x in rows:
        own = _deviations(x, weights, method)
        with np.errstate(invalid="ignore"):
            total += (weights * own * theirs).sum(axis=1) / np.sqrt(
                (weights * own**2).sum(axis=1) * (weights * theirs**2).sum(axis=1)
            )
    return np.clip(total / len(rows), -1, 1)


def _deviations(x: Vector, weights: Float[np.ndarray, "r n"], method: str) -> Float[np.ndarray, "r n"]:
    """Values, or their ranks, less the mean of what is drawn: exact zeros where that is all equal."""
    values = _midranks(x, weights) if method == "spearman" else np.broadcast_to(x, weights.shape)
    nearest = np.where(weights > 0, values, np.inf).min(axis=1, keepdims=True)
    values = values - nearest
    return values - (weights * values).sum(axis=1, keepdims=True) / weights.sum(axis=1, keepdims=True)


def _midranks(x: Vector, weights: Float[np.ndarray, "r n"]) -> Float[np.ndarray, "r n"]:
    """The rank of each value among what is drawn, equal values with the mean of their ranks.

    A value that is drawn twice takes two ranks, so that its rank is half a step below the number of drawn values up to
    it: `(below + 1 + below + tied) / 2`. Values are sorted once for all resamples.
    """
    _, code = np.unique(x, return_inverse=True)
    order = np.argsort(code, kind="stable")
    tied = np.add.reduceat(weights[:, order], np.flatnonzero(np.diff(code[order], prepend=-1)), axis=1)
    return (tied.cumsum(axis=1) - (tied - 1) / 2)[:, code]


def _limits(draws: Float[np.ndarray, " r"], level: float) -> tuple[float, float]:
    """The quantiles of the resamples in which the correlation is defined."""
    defined = draws[~np.isnan(draws)]
    if not len(defined):
        return math.nan, math.nan
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _exchange_test(
    a: Float[np.ndarray, "s n"],
    b: Float[np.ndarray, "t n"],
    y: Vector,
    codes: Int[np.ndarray, " n"],
    method: str,
    flips: int,
    rng: np.random.Generator,
) -> float:
    """The share of random exchanges of a and b, group by group, that part them at least as far.

    All that a correlation needs of an exchanged score is its mean, its mean square and its mean product with people's
    scores, and these are sums over groups.
    """
    seeds = max(len(a), len(b))
    theirs = _standard(y, method)
    moments = np.zeros((seeds, 2, 3, int(codes.max()) + 1))  # of a and b, of each group
    for k, j in np.ndindex(seeds, 2):
        rows = (a, b)[j]
        x = _standard(rows[min(k, len(rows) - 1)], method)
        moments[k, j] = [np.bincount(codes, weights=w) for w in (x, x * x, x * theirs)]
    exchanged = np.zeros(flips)
    for start in range(0, flips, step := max(1, CELLS // moments.shape[-1])):
        drawn = rng.integers(0, 2, size=(min(step, flips - start), moments.shape[-1])).astype(np.float64)
        exchanged[start : start + step] = _differences(moments, drawn, len(y))
    observed = _differences(moments, np.zeros((1, moments.shape[-1])), len(y))[0]
    extreme = int((np.abs(exchanged) >= abs(observed) - 1e-12).sum())  # a sum in another order is the same sum
    return (1 + extreme) / (1 + flips)


def _differences(
    moments: Float[np.ndarray, "s 2 3 g"], drawn: Float[np.ndarray, "r g"], n: int
) -> Float[np.ndarray, " r"]:
    """The difference of the correlations of b and a in each exchange, averaged over seeds."""
    found = np.zeros(len(drawn))
    for a, b in moments:
        for sign, own, other in ((1, b, a), (-1, a, b)):
            mean, square, product = (own.sum(axis=1)[:, None] + (other - own) @ drawn.T) / n
            variance = square - mean**2
            varies = variance > ROUNDING  # scores that an exchange has made constant correlate with nothing
            found[varies] += sign * product[varies] / np.sqrt(variance[varies])
    return found / len(moments)


def _standard(x: Vector, method: str) -> Vector:
    values = rankdata(x) if method == "spearman" else x
    return (values - values.mean()) / values.std()
