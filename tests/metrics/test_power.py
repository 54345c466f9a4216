"""An interval over seeds covers, and an effect is detected, as often as they say; dependence within groups is known."""

import math

import numpy as np
import pytest
from scipy import stats

from xgap_analysis import XgapError
from xgap_analysis.metrics import dependence, detectable_difference, detectable_effect, paired_test, seed_interval
from xgap_analysis.metrics.resampling import sign_flip_p


def test_it_is_students_interval() -> None:
    values = [0.3, 0.5, 0.1, 0.2]
    mean, low, high = seed_interval(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (mean, low, high) == pytest.approx((0.275, expected.low, expected.high))
    assert seed_interval(values, 0.5)[1] > low


@pytest.mark.parametrize("n", [3, 5, 10])
def test_an_effect_of_that_size_is_found_with_that_power(n: int) -> None:
    # Of data whose spread is known to be 1: the formula's own premise.
    unit = np.array([*np.linspace(-1, 1, n)])
    unit = unit / unit.std(ddof=1)
    effect = detectable_effect(list(unit), power=0.8)
    draws = np.random.default_rng(0).normal(effect, 1, (3000, n))
    found = np.mean([low > 0 for _, low, _ in map(seed_interval, draws)])
    assert found == pytest.approx(0.8, abs=0.03)
    assert detectable_effect(list(10 * unit)) == pytest.approx(10 * effect)
    assert detectable_effect(list(unit), power=0.95) > effect


def test_one_seed_says_nothing_of_its_spread() -> None:
    mean, low, high = seed_interval([0.4])
    assert mean == 0.4
    assert math.isnan(low)
    assert math.isnan(high)
    assert math.isnan(detectable_effect([0.4]))


def test_nothing_is_no_sample() -> None:
    with pytest.raises(XgapError, match="needs a value"):
        seed_interval([])
    with pytest.raises(XgapError, match="level and power in"):
        detectable_effect([1.0, 2.0], power=1.0)


def ragged(seed: int, n_groups: int, icc: float, largest: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Values of variance 1 with this intra-class correlation, and their groups, of 1 to `largest` values."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), rng.integers(1, largest + 1, n_groups))
    values = math.sqrt(icc) * rng.normal(size=n_groups)[groups] + math.sqrt(1 - icc) * rng.normal(size=len(groups))
    order = rng.permutation(len(groups))
    return values[order], groups[order]


@pytest.mark.parametrize("seed", range(5))
def test_the_icc_is_that_of_a_one_way_analysis_of_variance(seed: int) -> None:
    values, groups = ragged(seed, 12, 0.4)
    parts = [values[groups == g] for g in np.unique(groups)]
    f = stats.f_oneway(*parts).statistic  # B / W
    n, k = len(values), len(parts)
    size = (n - sum(len(part) ** 2 for part in parts) / n) / (k - 1)
    found = dependence(values, groups)
    assert found.icc == pytest.approx((f - 1) / (f + size - 1))
    assert found.design_effect == pytest.approx(1 + (sum(len(part) ** 2 for part in parts) / n - 1) * found.icc)


def test_dependence_has_known_ends() -> None:
    groups = np.repeat(np.arange(40), 10)
    alike = dependence(np.random.default_rng(0).normal(size=40)[groups], groups)
    assert (alike.icc, alike.design_effect) == pytest.approx((1, 10))
    apart = dependence(np.random.default_rng(0).normal(size=400), groups)
    assert abs(apart.icc) < 0.05
    assert dependence(np.random.default_rng(0).normal(size=5)).design_effect == 1  # each its own group
    assert math.isnan(dependence([1.0, 2.0]).icc)
    assert dependence([0.5] * 4, [1, 1, 2, 2]).design_effect == 1  # equal values: nothing is known of their spread
    assert math.isnan(dependence([1.0, 2.0], ["a", "a"]).design_effect)
    assert dependence([1.0, math.nan, 1.0, 3.0, 3.0], [1, 1, 1, 2, 2]).icc == 1


def test_the_design_effect_is_what_the_variance_of_a_mean_grows_by() -> None:
    groups = np.repeat(np.arange(20), 10)
    rng = np.random.default_rng(0)
    means, effects = [], []
    for _ in range(3000):
        values = math.sqrt(0.2) * rng.normal(size=20)[groups] + math.sqrt(0.8) * rng.normal(size=200)
        means.append(values.mean())
        effects.append(dependence(values, groups).design_effect)
    assert np.mean(effects) == pytest.approx(2.8, abs=0.1)  # 1 + (10 - 1) * 0.2
    assert 200 * np.var(means) == pytest.approx(2.8, abs=0.25)


def test_the_detectable_difference_of_groups_is_that_of_their_means_where_sizes_are_equal() -> None:
    values = np.random.default_rng(0).normal(size=(15, 4))
    groups = np.repeat(np.arange(15), 4)
    assert detectable_difference(values.ravel(), groups) == pytest.approx(detectable_effect(values.mean(axis=1)))
    assert detectable_difference(values[0]) == pytest.approx(detectable_effect(values[0]))
    assert math.isnan(detectable_difference([1.0, 2.0], ["a", "a"]))
    assert math.isnan(detectable_difference([0.0] * 6, [1, 1, 2, 2, 3, 3]))


def test_a_difference_of_that_size_is_found_with_that_power_by_sign_flips_and_less_often_by_the_paired_test() -> None:
    known = []  # the smallest effect by the formula, over draws of ragged groups
    by_flips, by_both = 0, 0
    for seed in range(300):
        values, groups = ragged(seed, 30, 0.5, largest=4)
        known.append(detectable_difference(values, groups))
    effect = float(np.mean(known))
    for seed in range(300, 600):
        values, groups = ragged(seed, 30, 0.5, largest=4)
        test = paired_test(np.zeros(len(values)), values + effect, groups=groups, resamples=400, seed=seed)
        totals = np.bincount(groups, weights=values + effect)[None]
        flips = sign_flip_p(totals, 400, np.random.default_rng(seed))[0]
        by_both += test.p_value < 0.05 and test.difference > 0
        by_flips += flips < 0.05 and test.difference > 0
    assert by_flips / 300 == pytest.approx(0.8, abs=0.07)
    assert 0.65 < by_both / 300 <= by_flips / 300
