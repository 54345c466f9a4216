"""What is quadratic in the number of items, estimated from pairs drawn at random, with an interval.

The exact functions (`pooled_misalignment`, `uniformity`) go through all pairs in bounded memory, and nothing here
stands in for them unasked, whatever the number of items. Above about 100,000 items the time of all pairs counts (10^12
cosines of a million items), and a sample of 100,000 pairs gives at least the second decimal in seconds.

How the interval is made: pairs are drawn independently, with replacement, in equal batches; the estimate is the mean
over the batches, and the interval that of `bootstrap_interval` over them. It says how far the value over all pairs of
these items may be, and nothing about other items.
"""

import math
from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features, FeaturesLike, as_features
from xgap_analysis.core.precision import exact
from xgap_analysis.core.relevance import BoundRelevance, RelevanceLike, as_relevance
from xgap_analysis.core.seeds import generator
from xgap_analysis.metrics.half_wins import ascending, half_wins_of
from xgap_analysis.metrics.significance import Interval, bootstrap_interval
from xgap_analysis.metrics.spread import distinct

BATCHES = 100
ROWS = 2**14  # pairs whose vectors are in double precision at a time
TRIES = 200  # rounds of draws before a kind of pair counts as too rare
Draw = Callable[[int], tuple[np.ndarray, np.ndarray]]


def sampled_misalignment(
    query: FeaturesLike,
    gallery: FeaturesLike,
    relevance: RelevanceLike,
    *,
    pairs: int = 100_000,
    seed: int = 0,
    exclude_self: bool = True,
    level: float = 0.95,
) -> Interval:
    """Estimate of `pooled_misalignment` (by cosine) from as many same-class as different-class pairs, with an interval.

    Formula: in each of 100 batches, `P(s(same pair) < s(different pair)) + P(equal) / 2` over the batch's pairs; the
    mean of these, which is right on average, and its bootstrap interval over batches. In [0, 1], as the exact value.

    Args:
        query, gallery: `[n, d]` and `[m, d]`, one vector an item; galleries on disk are read row by row.
        relevance, exclude_self: as in `misalignment`.
        pairs: of each kind, at least 1,000; more give a narrower interval, by the square root.
        seed: of the draws.
        level: of the interval, in (0, 1).

    Raises:
        XgapError: too few pairs, or one kind of pair that there is none of, or that is too rare to be drawn.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(400, 8))
        >>> x[:200, 0] += 3
        >>> found = sampled_misalignment(x, x, [0] * 200 + [1] * 200, pairs=20_000)
        >>> exact = 0.3177  # of pooled_misalignment
        >>> found.low < found.mean < found.high, abs(found.mean - exact) < 0.02
        (True, True)
    """
    number = _number(pairs)
    first = as_features(query)
    second = first if gallery is query else as_features(gallery)
    if first.dim != second.dim:
        raise XgapError(f"the query has {first.dim} dimensions and the gallery {second.dim}; they must be the same")
    bound = as_relevance(relevance, first, second).bind(first.ids, second.ids)
    apart = exclude_self and first.has_items_of(second)
    rng = generator(seed)
    scores = [
        _cosines(first, second, *_drawn(draw, bound, apart, wanted, number)).split(number // BATCHES)
        for wanted, draw in ((True, _same(bound, rng)), (False, _any(len(first), len(second), rng)))
    ]
    values = [
        half_wins_of(ascending(same), ascending(other)) / (2 * len(same) * len(other))
        for same, other in zip(*scores, strict=True)
    ]
    return bootstrap_interval(values, level=level, seed=seed)


def sampled_uniformity(x: FeaturesLike, *, pairs: int = 100_000, seed: int = 0, level: float = 0.95) -> Interval:
    """Estimate of `uniformity` from pairs of distinct vectors, with an interval.

    Formula: `log E exp(-2 ||u - v||^2)` over the pairs of all batches; low and high are the logarithms of the ends of
    the interval. In [-8, 0], as the exact value.

    Args:
        x: `[n, d]`.
        pairs, seed, level: as in `sampled_misalignment`.

    Raises:
        XgapError: too few pairs, or fewer than two distinct vectors.

    Example:
        >>> import numpy as np
        >>> found = sampled_uniformity(np.random.default_rng(0).normal(size=(500, 16)))
        >>> found.low < found.mean < found.high < -3
        True
    """
    number = _number(pairs)
    x = distinct(x)
    if len(x) < 2:
        raise XgapError("there are no two distinct vectors to draw a pair from")
    rng = generator(seed)
    a = rng.integers(len(x), size=number)
    b = (a + rng.integers(1, len(x), size=number)) % len(x)  # another one
    values = (-4 * (1 - exact(_cosines(x, x, a, b)))).exp().view(BATCHES, -1).mean(dim=1)
    found = bootstrap_interval(values, level=level, seed=seed)
    mean, low, high = (math.log(value) for value in (found.mean, found.low, found.high))
    return Interval(mean, low, high, level, number, BATCHES)


def _number(pairs: Any) -> int:
    """So many pairs, in equal batches."""
    if not isinstance(pairs, Integral) or pairs < 10 * BATCHES:
        raise XgapError(f"a sample is of at least {10 * BATCHES} pairs, a whole number, not {pairs!r}")
    return int(pairs) // BATCHES * BATCHES


def _same(bound: BoundRelevance, rng: np.random.Generator) -> Draw:
    """Draws relevant pairs, each as probable as any other."""
    until = bound.n_relevant.numpy().cumsum()
    if not len(until) or not until[-1]:
        raise XgapError("no query has an item of its class in the gallery")

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        at = rng.integers(until[-1], size=n)
        row = np.searchsorted(until, at, side="right")
        nth = at - np.concatenate([[0], until])[row]
        return row, bound.relevant_at(torch.from_numpy(row), torch.from_numpy(nth)).numpy()

    return draw


def _any(n_queries: int, n_items: int, rng: np.random.Generator) -> Draw:
    return lambda n: (rng.integers(n_queries, size=n), rng.integers(n_items, size=n))


def _drawn(draw: Draw, bound: BoundRelevance, apart: bool, wanted: bool, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of n pairs that are relevant, or that are not; what is left out is drawn again."""
    rows, columns, found = [], [], 0
    for _ in range(TRIES):
        row, column = draw(n)
        same, out = (kind.numpy() for kind in bound.kinds(torch.from_numpy(row), torch.from_numpy(column), apart))
        kept = (same == wanted) & ~out
        rows.append(row[kept])
        columns.append(column[kept])
        found += int(kept.sum())
        if found >= n:
            return np.concatenate(rows)[:n], np.concatenate(columns)[:n]
        if not found:
            break
    kind = "same" if wanted else "different"
    raise XgapError(f"pairs of {kind} classes are too rare to be drawn ({found} were found); compute all pairs")


def _cosines(query: Features, gallery: Features, row: np.ndarray, column: np.ndarray) -> Tensor:
    parts = []
    for first in range(0, len(row), ROWS):
        left, right = (
            of.rows(torch.from_numpy(index[first : first + ROWS])) for of, index in ((query, row), (gallery, column))
        )
        parts.append((exact(left) * exact(right.to(left.device))).sum(dim=1).float().cpu())
    return torch.cat(parts)
