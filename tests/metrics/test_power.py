"""An interval over seeds covers as often as it says, and the detectable effect is detected as often as it says."""

import math

import numpy as np
import pytest
from scipy import stats

from xgap_analysis import XgapError
from xgap_analysis.metrics import detectable_effect, seed_interval


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
    with pytest.raises(XgapError, match="power in"):
        detectable_effect([1.0, 2.0], power=1.0)
