"""A test of a mean over groups that allows for skewed differences and for groups of unequal size."""

import math

import numpy as np

from xgap_analysis.core.seeds import generator
from xgap_analysis.metrics.resampling import chunks

ROUNDING = 1e-9  # of a statistic; a sum in another order is the same sum
CACHED = 1 << 15  # cells of a chunk, which stay in a processor's cache: three times as fast


def effective_groups(count: np.ndarray) -> float:
    """How many groups of equal size vary as much in weight as these: `(sum m)^2 / sum m^2`, from 1 to their number.

    Args:
        count: `[g]`, the number of values in each group.

    Source: Kish, Survey sampling, 1965, section 11.7.

    Example:
        >>> effective_groups(np.array([5, 5, 5, 5])), effective_groups(np.array([997, 1, 1, 1])).__round__(3)
        (4.0, 1.006)
    """
    return float(count.sum() ** 2 / (count.astype(np.float64) ** 2).sum())


def studentised_p(total: np.ndarray, count: np.ndarray, resamples: int, seed: int) -> float:
    """The two-sided p-value of a mean of zero by a studentised bootstrap over groups.

    Formula, for totals t, sizes m and the mean `d = sum t / sum m`, with residuals `r_g = t_g - m_g d`: the statistic
    is `d / s`, with `s^2 = sum r_g^2 / (1 - h_g)^min(4, k h_g) / n^2` and `h_g = m_g / n`, for n values in k groups: a
    group that holds much of all values draws the mean towards itself, and its residual is too small. Groups are drawn
    `2 resamples + 1` times, and each draw has the statistic `(d* - d) / s*`, with `s*^2 = sum r*_g^2 / n*^2`. The
    p-value is the larger of the symmetric one (`|.|` at least as large) and twice the smaller of the two tails, each
    counted with the 1 added. Two tails allow for skewed differences, whose mean and spread go together: a test that is
    symmetric by construction takes the many small losses beside few large gains for an effect.

    Args:
        total, count: `[g]` each.
        resamples: so that the smallest p-value is `1 / (1 + resamples)`.
        seed: of the draws.

    Returns:
        In (0, 1]; 1 for one group, about which nothing is known.

    Source: Hall, The bootstrap and Edgeworth expansion, 1992, section 3.10 (equal tails and symmetric); Cribari-Neto,
    Asymptotic inference under heteroskedasticity of unknown form, Computational Statistics and Data Analysis 2004 (the
    exponent of 1 - h); Cameron, Gelbach, Miller, Bootstrap-based improvements for inference with clustered errors,
    Review of Economics and Statistics 2008 (drawing groups).

    Example:
        >>> studentised_p(np.array([1.0, 1.2, 0.9, 1.1, 1.0, 1.3]), np.ones(6, int), 999, seed=0) < 0.05
        True
    """
    k, n = len(total), float(count.sum())
    mean = float(total.sum()) / n
    if k < 2 or mean == 0:
        return 1.0
    share = count / n
    residual = total - count * mean
    spread = math.sqrt(float((residual**2 / (1 - share) ** np.minimum(4, k * share)).sum())) / n
    known = spread > ROUNDING * abs(mean)
    found = mean / spread if known else math.copysign(math.inf, mean)
    slack = ROUNDING * abs(found) if known else 0.0
    above = below = beyond = 0
    rng = generator(seed, 1)  # other draws than those of the interval
    for size in chunks(2 * resamples + 1, k, CACHED):
        drawn = _drawn(residual, count.astype(np.float64), mean, rng.integers(k, size=(size, k), dtype=np.int32))
        above += int((drawn >= found - slack).sum())
        below += int((drawn <= found + slack).sum())
        beyond += int((np.abs(drawn) >= abs(found) - slack).sum())
    draws = 2 * resamples + 2
    return min(1.0, max(2 * (1 + min(above, below)) / draws, (1 + beyond) / draws))


def _drawn(residual: np.ndarray, count: np.ndarray, mean: float, groups: np.ndarray) -> np.ndarray:
    """The statistic of each draw of groups `[s, g]`; infinite where all that is drawn has one mean, and another one."""
    r, m = residual.take(groups), count.take(groups)
    n = m.sum(axis=1)
    off = r.sum(axis=1) / n  # the drawn mean less the mean, so that the drawn residuals are r - m off
    squares, products, sizes = (np.einsum("sg,sg->s", x, y) for x, y in ((r, r), (r, m), (m, m)))
    error = np.sqrt(np.maximum(0, squares - 2 * off * products + off**2 * sizes)) / n
    none = np.abs(off) <= ROUNDING * abs(mean)
    error[error <= math.sqrt(ROUNDING) * np.abs(off)] = 0.0  # what is left of a difference of squares
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(none, 0.0, off / error)
