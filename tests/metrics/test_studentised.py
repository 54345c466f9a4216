"""The studentised bootstrap over groups: every draw of small sets, its laws, and how it bears skewed differences."""

import itertools
import math

import numpy as np
import pytest

from xgap_analysis.metrics import paired_test
from xgap_analysis.metrics.resampling import sign_flip_p
from xgap_analysis.metrics.studentised import effective_groups, studentised_p


def statistic(groups: list[list[float]], about: float) -> float:
    """The mean of all values less `about`, over its plain standard error, from the values themselves."""
    values = [x for group in groups for x in group]
    mean = sum(values) / len(values)
    error = math.sqrt(sum((sum(group) - len(group) * mean) ** 2 for group in groups)) / len(values)
    if math.isclose(mean, about, rel_tol=1e-12):
        return 0.0
    return (mean - about) / error if error > 1e-9 else math.copysign(math.inf, mean - about)


def observed(groups: list[list[float]]) -> float:
    """The statistic of the data, whose residuals are divided by what groups of that size have left of them."""
    n, k = sum(map(len, groups)), len(groups)
    mean = sum(map(sum, groups)) / n
    square = 0.0
    for group in groups:
        share = len(group) / n
        square += (sum(group) - len(group) * mean) ** 2 / (1 - share) ** min(4.0, k * share)
    return mean / (math.sqrt(square) / n)


def by_every_draw(groups: list[list[float]]) -> float:
    """The p-value from all k^k draws of k groups."""
    mean = sum(map(sum, groups)) / sum(map(len, groups))
    drawn = [statistic(list(chosen), mean) for chosen in itertools.product(groups, repeat=len(groups))]
    own = observed(groups)
    shares = [np.mean([t >= own for t in drawn]), np.mean([t <= own for t in drawn])]
    return float(min(1, max(2 * min(shares), np.mean([abs(t) >= abs(own) for t in drawn]))))


@pytest.mark.parametrize("seed", range(6))
def test_it_equals_every_draw_of_a_small_ragged_set(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5, size=int(rng.integers(3, 6)))
    groups = [list(rng.exponential(size=size) - rng.choice([0.2, 0.6, 1.5])) for size in sizes]
    total = np.array([sum(group) for group in groups])
    found = studentised_p(total, sizes, 40_000, seed=seed)
    assert found == pytest.approx(by_every_draw(groups), abs=0.01)


def test_the_p_value_of_a_difference_is_the_larger_of_the_two() -> None:
    rng = np.random.default_rng(1)
    larger = set()
    for seed in range(12):
        of = np.repeat(np.arange(12), rng.integers(1, 6, size=12))
        d = rng.exponential(size=12)[of] + rng.normal(size=len(of)) - 1.4
        total, count = np.bincount(of, weights=d), np.bincount(of)
        both = sign_flip_p(total[None], 20_000, rng)[0], studentised_p(total, count, 20_000, seed=seed)
        assert paired_test(np.zeros(len(d)), d, groups=of, resamples=20_000, seed=seed).p_value == pytest.approx(
            max(both), abs=0.012
        )
        larger.add(both[0] > both[1])
    assert larger == {True, False}  # either may be


def test_its_least_value_is_that_of_the_sign_flips() -> None:
    total, count = np.full(30, 2.0), np.full(30, 2)
    assert studentised_p(total, count, 999, seed=0) == 1 / 1000
    assert studentised_p(total + np.linspace(-0.01, 0.01, 30), count, 999, seed=0) == 1 / 1000


def test_one_group_and_no_difference_say_nothing() -> None:
    assert studentised_p(np.array([3.0]), np.array([5]), 100, seed=0) == 1
    assert studentised_p(np.zeros(9), np.ones(9, int), 100, seed=0) == 1
    assert studentised_p(np.array([1.0, -1.0]), np.ones(2, int), 100, seed=0) == 1


@pytest.mark.parametrize("seed", range(5))
def test_sign_and_scale_and_the_order_of_groups_change_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    total, count = rng.normal(0.5, 1, size=20), rng.integers(1, 9, size=20)
    found = studentised_p(total, count, 2000, seed=0)
    assert studentised_p(-total, count, 2000, seed=0) == found
    assert studentised_p(1000 * total, count, 2000, seed=0) == found
    assert studentised_p(total[::-1].copy(), count[::-1].copy(), 2000, seed=0) == pytest.approx(found, abs=0.05)


def test_skewed_losses_are_believed_less_than_by_sign_flips() -> None:
    """Many small losses and few gains, mean below zero: the rare gains that were not drawn are what is missing."""
    d = np.array([-0.2] * 16 + [-0.3] * 12 + [1.5, 2.2])
    flips, own = (
        sign_flip_p(d[None], 20_000, np.random.default_rng(0))[0],
        studentised_p(d, np.ones(30, int), 20_000, seed=0),
    )
    assert own > flips


def test_effective_groups() -> None:
    rng = np.random.default_rng(0)
    assert effective_groups(np.full(17, 6)) == pytest.approx(17)
    assert effective_groups(np.array([4])) == 1
    sizes = rng.integers(1, 40, size=50)
    share = sizes / sizes.sum()
    assert effective_groups(sizes) == pytest.approx(1 / (share**2).sum())
    test = paired_test(np.zeros(6), rng.normal(size=6), groups=["a", "a", "a", "b", "b", "c"])
    assert test.effective_groups == pytest.approx(36 / 14)
