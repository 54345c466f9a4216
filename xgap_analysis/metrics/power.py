"""What seeds and groups of queries can show: how dependent queries are, and the smallest effect that would be seen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, stats
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.metrics.groups import Groups
from xgap_analysis.metrics.significance import Values, as_values, grouped_sums


@dataclass(frozen=True)
class Dependence:
    """How alike values of one group are (`icc`), and what that costs (`design_effect`).

    Example:
        >>> dependence([0.1, 0.1, 0.9, 0.9], groups=["cat", "cat", "dog", "dog"])
        Dependence(icc=1.0, design_effect=2.0)
    """

    icc: float
    design_effect: float


@dataclass(frozen=True)
class SeedSpread:
    """Mean over seeds of a metric's mean, and the standard deviation between seeds (NaN for a single seed).

    Example:
        >>> import xgap_analysis as xg
        >>> xg.metrics.seed_spread([[0.5, 0.5], [0.7, 0.7]]).seeds
        2
    """

    mean: float
    std: float
    seeds: int


def dependence(values: Values, groups: Groups | None = None) -> Dependence:
    """The intra-class correlation of values in groups, and the design effect that follows from it.

    How to read it: an ICC of 1 says that all queries of a group have one value, 0 that they are as different as queries
    of different groups; a little below 0 is chance. A design effect of 4 says that n queries carry as much about the
    mean as n / 4 independent ones: a test that treats them as independent takes its standard error for half of what it
    is.

    Formula: one-way analysis of variance over k groups of m_g values, n in all: with the mean squares B between and W
    within groups and `m0 = (n - sum m_g^2 / n) / (k - 1)`, `icc = (B - W) / (B + (m0 - 1) W)`; the design effect is
    `1 + (sum m_g^2 / n - 1) icc`, at least 0. Groups of one value each have no ICC (NaN) and a design effect of 1; one
    group alone has neither (NaN); values that are all equal have an ICC of NaN and a design effect of 1.

    Args:
        values: `[n]`, one a query; NaN is left out.
        groups: n labels. None: each value is its own group.

    Raises:
        XgapError: no values, or groups that do not fit.

    Source: Donner, A review of inference procedures for the intraclass correlation coefficient, International
    Statistical Review 1986; Kish, Survey sampling, 1965, section 8.2 (the design effect).

    Example:
        >>> found = dependence([0.1, 0.1, 0.9, 0.9, 0.5, 0.5], groups=[1, 1, 2, 2, 3, 3])
        >>> found.icc, found.design_effect
        (1.0, 2.0)
    """
    total, count, squares = grouped_sums(values, groups)
    n, k = int(count.sum()), len(count)
    if k < 2:
        return Dependence(math.nan, math.nan)
    means, mean = total / count, total.sum() / n
    rounding = 1e-12 * float(squares.sum()) / n
    between = float((count * (means - mean) ** 2).sum()) / (k - 1)
    within = float((squares - count * means**2).sum()) / (n - k) if n > k else math.nan
    within = 0.0 if within <= rounding else within
    size = float((n - (count**2).sum() / n) / (k - 1))
    spread = between + (size - 1) * within
    if math.isnan(within) or spread <= rounding:
        return Dependence(math.nan, 1.0)
    icc = (between - within) / spread
    return Dependence(icc, max(0.0, 1 + float((count**2).sum() / n - 1) * icc))


def detectable_difference(
    differences: Values, groups: Groups | None = None, power: float = 0.8, level: float = 0.95
) -> float:
    """The smallest true mean difference that a test over these groups would have seen with this power.

    How to read it: an inconclusive row whose `detectable` is 0.01 could not have shown a difference of 0.005, and one
    of 0.03 would most likely have been seen. It is of one test; Holm's adjustment over a family needs more. It is that
    of sign flips (and of Student's test); `paired_test`, which allows for skewed values, finds it somewhat less often,
    in 73 % of draws of 30 unequal groups in the tests.

    Formula: as `detectable_effect`, with the standard error of a mean over groups,
    `sqrt(k / (k - 1) sum_g (t_g - m_g d)^2) / n` for totals t_g and sizes m_g of k groups and the mean d, and k - 1
    degrees of freedom. With one value a group it is `detectable_effect`. NaN for one group, and where all differences
    are equal, so that nothing is known of their spread.

    Args:
        differences: `[n]`, paired differences, one a query; NaN is left out.
        groups: n labels. None: each value is its own group.
        power, level: in (0, 1).

    Raises:
        XgapError: no values, groups that do not fit, or a share out of range.

    Source: Cohen, Statistical power analysis for the behavioral sciences, 1988, section 2; Cochran, Sampling
    techniques, 1977, section 9A.

    Example:
        >>> round(detectable_difference([0.1, 0.1, -0.1, -0.1, 0.0, 0.0], groups=[1, 1, 2, 2, 3, 3]), 3)
        0.326
        >>> round(detectable_difference([0.1, 0.1, -0.1, -0.1, 0.0, 0.0]), 3)  # taken for six independent queries
        0.128
    """
    _check(power, level)
    total, count, _ = grouped_sums(differences, groups)
    n, k = float(count.sum()), len(count)
    if k < 2:
        return math.nan
    off = total - count * total.sum() / n
    error = math.sqrt(k / (k - 1) * float((off**2).sum())) / n
    return math.nan if error <= 1e-12 * float(np.abs(total).sum()) / n else _reach(k - 1, power, level) * error


def seed_interval(values: Values, level: float = 0.95) -> tuple[float, float, float]:
    """Mean and Student's t interval of one number a training seed: `mean -+ t(level, n - 1) s / sqrt(n)`.

    With the handful of seeds that training allows a bootstrap would be too narrow; this is right for normal values of
    any number, and wide for few. NaN at both ends for a single seed.

    Args:
        values: one a seed.
        level: in (0, 1).

    Returns:
        mean, low, high.

    Raises:
        XgapError: no value, or a level out of range.

    Source: Student, The probable error of a mean, Biometrika 1908.

    Example:
        >>> import xgap_analysis as xg
        >>> [round(value, 4) for value in xg.metrics.seed_interval([0.010, 0.012, 0.014])]  # mean, low, high
        [0.012, 0.007, 0.017]
    """
    if not len(values) or not 0 < level < 1:
        raise XgapError("an interval over seeds needs a value at least, and a level in (0, 1)")
    mean = float(np.mean(np.asarray(values, dtype=float)))
    if len(values) == 1:
        return mean, math.nan, math.nan
    reach = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * _standard_error(values)
    return mean, mean - reach, mean + reach


def detectable_effect(values: Values, power: float = 0.8, level: float = 0.95) -> float:
    """The smallest true mean that `seed_interval` of `n` values with this spread detects with this power.

    Formula: the effect at which a noncentral t of n - 1 degrees of freedom, with noncentrality
    `effect sqrt(n) / s`, lies beyond the interval's quantile, in its own direction, with probability `power`.

    How to read it: an effect of the published size that is well above it and was not seen is evidence against it here;
    one below it could not have been seen. NaN for a single value.

    Args:
        values: one a seed.
        power: in (0, 1).
        level: of the interval.

    Raises:
        XgapError: no value, or a share out of range.

    Source: Cohen, Statistical power analysis for the behavioral sciences, 1988, section 2.

    Example:
        >>> import xgap_analysis as xg
        >>> round(xg.metrics.detectable_effect([0.010, 0.012, 0.014]), 4)
        0.0065
    """
    _check(power, level)
    if not len(values):
        raise XgapError("a detectable effect needs a value at least")
    if len(values) == 1:
        return math.nan
    return _reach(len(values) - 1, power, level) * _standard_error(values)


@lru_cache(maxsize=4096)
def _reach(df: int, power: float, level: float) -> float:
    """The noncentrality, in standard errors, at which Student's test rejects with this power in its own direction."""
    edge = stats.t.ppf((1 + level) / 2, df)

    def missing(shift: float) -> float:
        return float(stats.nct.sf(edge, df, shift)) - power

    far = 1.0
    while missing(far) < 0:
        far *= 1.5
    return float(optimize.brentq(missing, 0, far))


def _check(power: float, level: float) -> None:
    if not 0 < level < 1 or not 0 < power < 1:
        raise XgapError(f"a detectable effect needs level and power in (0, 1), not {level} and {power}")


def _standard_error(values: Values) -> float:
    return float(np.std(np.asarray(values, dtype=float), ddof=1)) / math.sqrt(len(values))


def seed_spread(values_by_seed: Sequence[Values] | np.ndarray | Tensor) -> SeedSpread:
    """How much a metric of inverted features moves with the seed of the inversion.

    Formula: the mean over queries for each seed, then mean and standard deviation (over seeds - 1) of those.

    Args:
        values_by_seed: `[seeds, n]`, the same queries for each seed; NaN is left out.

    Raises:
        XgapError: not a matrix, or a seed without values.

    Example:
        >>> import xgap_analysis as xg
        >>> spread = xg.metrics.seed_spread([[0.5, 0.7], [0.6, 0.8]])  # two seeds of two queries
        >>> round(spread.mean, 3), round(spread.std, 3)  # means 0.6 and 0.7
        (0.65, 0.071)
    """
    rows = [as_values(row) for row in values_by_seed]
    if not rows or len({len(row) for row in rows}) != 1:
        raise XgapError("values_by_seed must be a matrix [seeds, n]")
    if any(np.isnan(row).all() for row in rows):
        raise XgapError("a seed has no values")
    means = np.array([np.nanmean(row) for row in rows])
    return SeedSpread(float(means.mean()), float(means.std(ddof=1)) if len(means) > 1 else math.nan, len(means))
