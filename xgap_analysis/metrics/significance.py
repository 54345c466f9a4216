"""Significance: intervals and tests over queries, resampled with numpy and determined by their seed.

A metric's values are one a query. Queries of one concept are not independent; give their concept as `groups`, and
whole groups are drawn and flipped.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.random import Generator
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.seeds import generator
from xgap_analysis.metrics.groups import Groups, group_codes
from xgap_analysis.metrics.resampling import chunks, sign_flip_p
from xgap_analysis.metrics.studentised import effective_groups, studentised_p

Values: TypeAlias = Sequence[float] | np.ndarray | Tensor | pd.Series
Columns: TypeAlias = Mapping[str, Values] | pd.DataFrame


@dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap interval `[low, high]` at this level, of n values in `n_groups` independent groups.

    Example:
        >>> import xgap_analysis as xg
        >>> interval = xg.bootstrap_interval([0.2, 0.2, 0.2])
        >>> round(interval.mean, 3), interval.n_groups
        (0.2, 3)
    """

    mean: float
    low: float
    high: float
    level: float
    n: int
    n_groups: int


@dataclass(frozen=True)
class PairedTest:
    """Mean of `b - a` with its bootstrap interval, and the two-sided p-value of "there is no difference".

    `n` values lie in `n_groups` independent groups, which weigh as much as `effective_groups` groups of equal size;
    with fewer than `metrics.verdicts.ENOUGH_GROUPS` of these the interval is too narrow and carries no conclusion.

    Example:
        >>> import xgap_analysis as xg
        >>> test = xg.paired_test([0.2, 0.4, 0.6], [0.3, 0.5, 0.7])  # the second minus the first
        >>> round(test.difference, 3), test.n, test.n_groups
        (0.1, 3, 3)
    """

    difference: float
    low: float
    high: float
    p_value: float
    n: int
    n_groups: int
    effective_groups: float


def bootstrap_interval(
    values: Values, *, groups: Groups | None = None, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of the mean over queries.

    Formula: draw as many groups as there are, with replacement; the mean is the total of the drawn values over their
    number; low and high are the (1 - level) / 2 and (1 + level) / 2 quantiles of `resamples` such means. With few
    groups the interval is too narrow: data/statistics/type_one.csv, and `verdict`.

    Args:
        values: `[n]`; NaN (a query without relevant items) is left out.
        groups: n labels; values of one label are drawn together. None: each value for itself.
        level: in (0, 1).
        resamples: number of bootstrap means.
        seed: of the draws.

    Raises:
        XgapError: no values, groups that do not fit, or a level out of range.

    Source: Efron and Tibshirani, An introduction to the bootstrap, 1993, section 13.3; groups, Davison and Hinkley,
    Bootstrap methods and their application, 1997, section 3.8.

    Example:
        >>> import xgap_analysis as xg
        >>> xg.bootstrap_interval([0.5] * 20)
        Interval(mean=0.5, low=0.5, high=0.5, level=0.95, n=20, n_groups=20)
        >>> interval = xg.bootstrap_interval([0.0, 1.0] * 20, groups=[i // 4 for i in range(40)])
        >>> interval.n, interval.n_groups, interval.low <= interval.mean <= interval.high
        (40, 10, True)
    """
    return bootstrap_intervals({"": values}, groups=groups, level=level, resamples=resamples, seed=seed)[""]


def bootstrap_intervals(
    columns: Columns, *, groups: Groups | None = None, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> dict[str, Interval]:
    """The `bootstrap_interval` of each column of a table, from one set of draws.

    What is drawn depends on the seed and the number of groups alone, so that columns of as many groups share it: many
    columns take hardly longer than one, and each has the numbers that it would have alone.

    Args:
        columns: values `[n]` by name, or a data frame, of the same queries.
        groups, level, resamples, seed: as in `bootstrap_interval`.

    Raises:
        XgapError: as `bootstrap_interval`, for any column.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"ap": [0.5, 0.5, 0.5], "hit_at_1": [1.0, 1.0, 1.0]})
        >>> {name: interval.low for name, interval in bootstrap_intervals(table).items()}
        {'ap': 0.5, 'hit_at_1': 1.0}
    """
    _check(level, resamples)
    sums = {}
    for name in columns:
        array = as_values(columns[name])
        sums[name] = _sums(array, _codes(groups, columns[name]), ~np.isnan(array))
    found = {}
    for names, totals, counts in _of_one_width(sums):
        ends = _intervals(totals, counts, level, resamples, generator(seed))
        for name, (low, high) in zip(names, ends, strict=True):
            total, count = sums[name]
            mean = float(total.sum() / count.sum())
            found[name] = Interval(mean, float(low), float(high), level, int(count.sum()), len(total))
    return {name: found[name] for name in columns}


def ratio_interval(
    part: Values,
    whole: Values,
    *,
    groups: Groups | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    signed: bool = False,
) -> Interval:
    """Percentile bootstrap interval of a ratio of two means over the same queries or items.

    Formula: `sum part / sum whole`, of all values and of groups drawn with replacement, as in `bootstrap_interval`.

    Args:
        part, whole: `[n]`; whole is not negative, and where it is 0, so is the part. A value that is NaN in either is
            left out.
        groups, level, resamples, seed: as in `bootstrap_interval`.
        signed: single values of `whole` may be negative, as cosines are. Where the interval of its own mean includes 0,
            the ratio can be anything, and its ends are NaN.

    Returns:
        The interval; all NaN where `whole` adds up to 0, so that there is no ratio.

    Raises:
        XgapError: no values, values or groups that do not fit, a whole below 0, a part of a whole of 0, or a level
            out of range.

    Example:
        >>> ratio_interval([1.0, 1.0], [2.0, 4.0]).mean.__round__(3)
        0.333
    """
    _check(level, resamples)
    first, second = as_values(part), as_values(whole)
    if len(first) != len(second):
        raise XgapError(f"part has {len(first)} values and whole {len(second)}; they must be of the same items")
    keep, codes = ~np.isnan(first + second), _codes(groups, part)
    if not signed and ((second[keep] < 0).any() or (first[keep][second[keep] == 0] != 0).any()):
        raise XgapError("whole must not be negative, and a part of a whole of 0 must be 0")
    total, count = _sums(first, codes, keep)
    base, _ = _sums(second, codes, keep)
    if not signed and not base.all():  # a draw of nothing but groups of size 0 would have no ratio
        total, base = total[base != 0], base[base != 0]
    mean = float(total.sum() / base.sum()) if base.sum() else math.nan
    known = bool(base.any())
    if known and signed:
        low, high = _intervals(base[None], np.ones((1, len(base))), level, resamples, generator(seed))[0]
        known = not low <= 0 <= high
    low, high = (math.nan, math.nan)
    if known:
        low, high = _intervals(total[None], base[None], level, resamples, generator(seed))[0].tolist()
    return Interval(mean, low, high, level, int(count.sum()), len(count))


def paired_test(
    a: Values,
    b: Values,
    *,
    groups: Groups | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> PairedTest:
    """Whether b is better than a on the same queries: paired interval, and the larger p-value of two tests.

    Formula: with `d = b - a`, the interval is the percentile bootstrap of mean(d). The p-value, two-sided and in
    (0, 1], is the larger of two. Were a and b exchangeable, each d could as well have the other sign: `(1 + number of
    random sign patterns whose |mean| is at least |mean(d)|) / (1 + resamples)`. That is exact for differences whose
    distribution is symmetric; for skewed ones (many small losses, few large gains) stands the studentised bootstrap
    (`metrics.studentised.studentised_p`), which alone is false too often with few groups or many zeros.

    Args:
        a, b: `[n]`, the same queries in the same order; two Series are aligned by their index, which must hold the
            same queries. Queries where either is NaN are left out.
        groups: n labels in the order of a (a Series is aligned like b); values of one label are drawn and flipped
            together.
        resamples: of the interval and the sign flips, and twice as many of the studentised bootstrap.
        seed, level: as in `bootstrap_interval`.

    Raises:
        XgapError: values or groups that do not fit, or no query left.

    Source: Smucker, Allan, Carterette, A comparison of statistical significance tests for information retrieval, CIKM
    2007; p with the 1 added, Phipson and Smyth, 2010; for skewed differences, `studentised_p`.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> before = np.random.default_rng(0).uniform(size=50)
        >>> test = xg.paired_test(before, before + 0.1)
        >>> round(test.difference, 3), round(test.low, 3), test.p_value < 0.001
        (0.1, 0.1, True)
        >>> xg.paired_test(before, before).p_value
        1.0
    """
    return paired_tests({"": a}, {"": b}, groups=groups, resamples=resamples, seed=seed, level=level)[""]


def paired_tests(
    a: Columns,
    b: Columns,
    *,
    groups: Groups | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, PairedTest]:
    """The `paired_test` of each column that two tables have, from one set of draws; see `bootstrap_intervals`.

    Args:
        a, b: values `[n]` by name, or data frames, of the same queries.
        groups, resamples, seed, level: as in `paired_test`.

    Raises:
        XgapError: as `paired_test`, for any column.

    Example:
        >>> before, after = {"ap": [0.2, 0.4, 0.6]}, {"ap": [0.3, 0.5, 0.7], "hit_at_1": [1.0, 0.0, 1.0]}
        >>> {name: round(test.difference, 3) for name, test in paired_tests(before, after).items()}
        {'ap': 0.1}
    """
    _check(level, resamples)
    sums = {name: _difference(a[name], b[name], groups) for name in a if name in b}
    found = {}
    for names, totals, counts in _of_one_width(sums):
        rng = generator(seed)
        ends = _intervals(totals, counts, level, resamples, rng)
        flips = sign_flip_p(totals, resamples, rng)
        for name, (low, high), by_flips in zip(names, ends, flips.tolist(), strict=True):
            total, count = sums[name]
            n, p = int(count.sum()), max(by_flips, studentised_p(total, count, resamples, seed))
            mean, effective = float(total.sum() / n), effective_groups(count)
            found[name] = PairedTest(mean, float(low), float(high), p, n, len(total), effective)
    return {name: found[name] for name in sums}


def holm(p_values: Values) -> np.ndarray:
    """P-values adjusted for many comparisons, which keep the chance of any false finding at the level.

    Formula: for the i-th smallest of m, `max over j <= i of min(1, (m - j + 1) p_j)`. Adjusted values below 0.05 are
    findings at the level 0.05 over the whole table. NaN stays NaN and does not count.

    Args:
        p_values: `[m]`, each in [0, 1].

    Returns:
        `[m]`, in the same order.

    Raises:
        XgapError: a value out of range.

    Source: Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 1979.

    Example:
        >>> import xgap_analysis as xg
        >>> xg.metrics.holm([0.01, 0.04, 0.03]).round(3).tolist()
        [0.03, 0.06, 0.06]
    """
    p = as_values(p_values)
    known = np.flatnonzero(~np.isnan(p))
    if ((p[known] < 0) | (p[known] > 1)).any():
        raise XgapError("p-values must lie in [0, 1]")
    order = known[np.argsort(p[known], kind="stable")]
    adjusted = np.full(len(p), math.nan)
    adjusted[order] = np.maximum.accumulate(np.minimum(1, np.arange(len(order), 0, -1) * p[order]))
    return adjusted


def as_values(values: Values) -> np.ndarray:
    """A vector of values in double precision.

    Raises:
        XgapError: something else than a vector.
    """
    array = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=np.float64)
    if array.ndim != 1:
        raise XgapError(f"values must be a vector [n], not of shape {array.shape}")
    return array


def _aligned(other: pd.Series, to: pd.Series, name: str) -> pd.Series:
    if not (to.index.is_unique and other.index.is_unique):
        raise XgapError("a query stands twice in an index; queries must be distinct")
    if len(other) != len(to) or not other.index.isin(to.index).all():
        raise XgapError(f"{name} is not of the same queries as a; their indexes must hold the same ids")
    return other.reindex(to.index)


def _codes(groups: Groups | None, values: Values) -> np.ndarray:
    """A number from 0 for each value's group."""
    if groups is None:
        return np.arange(len(values))
    if isinstance(groups, pd.Series) and isinstance(values, pd.Series):
        groups = _aligned(groups, values, "groups")
    if len(groups) != len(values):
        raise XgapError(f"{len(groups)} groups were given for {len(values)} values")
    codes = group_codes(groups)
    if (codes < 0).any():
        raise XgapError("a value has no group (NaN or None)")
    return codes


def _sums(values: np.ndarray, codes: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Total and number of the kept values of each group that has any."""
    if not keep.any():
        raise XgapError("there are no values to average (none given, or all NaN)")
    _, codes = np.unique(codes[keep], return_inverse=True)
    return np.bincount(codes, weights=values[keep]), np.bincount(codes)


def grouped_sums(values: Values, groups: Groups | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Total, number and total of squares of each group's values that are not NaN, `[g]` each; None: one value a group.

    Raises:
        XgapError: no values, or groups that do not fit.
    """
    array, codes = as_values(values), _codes(groups, values)
    keep = ~np.isnan(array)
    total, count = _sums(array, codes, keep)
    return total, count, _sums(array**2, codes, keep)[0]


def _difference(a: Values, b: Values, groups: Groups | None) -> tuple[np.ndarray, np.ndarray]:
    """Total and number of `b - a` in each group."""
    if isinstance(a, pd.Series) and isinstance(b, pd.Series):
        b = _aligned(b, a, "b")
    first, second = as_values(a), as_values(b)
    if len(first) != len(second):
        raise XgapError(f"a has {len(first)} values and b {len(second)}; they must be of the same queries")
    d = second - first
    return _sums(d, _codes(groups, a), ~np.isnan(d))


def _of_one_width(
    sums: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> Iterator[tuple[list[str], np.ndarray, np.ndarray]]:
    """Names, totals `[k, g]` and numbers `[k, g]` of the columns that have as many groups."""
    for width in dict.fromkeys(len(total) for total, _ in sums.values()):
        names = [name for name, (total, _) in sums.items() if len(total) == width]
        yield names, np.stack([sums[name][0] for name in names]), np.stack([sums[name][1] for name in names])


def _intervals(totals: np.ndarray, counts: np.ndarray, level: float, resamples: int, rng: Generator) -> np.ndarray:
    """Low and high `[k, 2]` of the ratios of totals to counts, `[k, g]`, of groups drawn; each to the bit as alone."""
    means, width = [], totals.shape[1]
    for size in chunks(resamples, width):
        drawn = rng.integers(width, size=(size, width), dtype=np.int32) + np.arange(size)[:, None] * width
        times = np.bincount(drawn.ravel(), minlength=size * width).reshape(size, width).astype(np.float64)
        means.append(np.stack([(times @ a) / (times @ b) for a, b in zip(totals, counts, strict=True)], axis=1))
    return np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2], axis=0).T


def _check(level: float, resamples: int) -> None:
    if not 0 < level < 1:
        raise XgapError(f"level must lie between 0 and 1, not {level}")
    if resamples < 1:
        raise XgapError(f"resamples must be at least 1, not {resamples}")
