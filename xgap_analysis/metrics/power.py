"""What a few repetitions can show: an interval over training seeds, and the smallest effect they would have found."""

import math

import numpy as np
from scipy import optimize, stats

from xgap_analysis.core.errors import XgapError
from xgap_analysis.metrics.significance import Values


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
    if not len(values) or not 0 < level < 1 or not 0 < power < 1:
        raise XgapError("a detectable effect needs a value at least, and level and power in (0, 1)")
    if len(values) == 1:
        return math.nan
    df, edge = len(values) - 1, stats.t.ppf((1 + level) / 2, len(values) - 1)

    def missing(shift: float) -> float:
        return float(stats.nct.sf(edge, df, shift)) - power

    far = 1.0
    while missing(far) < 0:
        far *= 1.5
    return float(optimize.brentq(missing, 0, far)) * _standard_error(values)


def _standard_error(values: Values) -> float:
    return float(np.std(np.asarray(values, dtype=float), ddof=1)) / math.sqrt(len(values))
