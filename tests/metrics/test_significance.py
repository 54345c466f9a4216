"""Significance: exact small cases, calibration over many seeded draws, and laws."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xgap_analysis.core.errors import XgapError
from xgap_analysis.metrics import (
    bootstrap_interval,
    calibrated,
    holm,
    paired_test,
    ratio_interval,
    resampling,
    seed_spread,
)
from xgap_analysis.metrics.resampling import sign_flip_p
from xgap_analysis.metrics.significance import bootstrap_intervals, paired_tests
from xgap_analysis.metrics.studentised import studentised_p


def clustered(rng, groups, size, shared, effect=0.0):
    """Values whose groups share a part: `[groups * size]` and their labels."""
    of = np.repeat(np.arange(groups), size)
    return effect + shared * rng.normal(size=groups)[of] + rng.normal(size=len(of)), [f"g{i}" for i in of]


def test_interval_is_near_the_normal_one():
    values = np.random.default_rng(0).random(2000)
    for level, z in ((0.95, 1.959964), (0.8, 1.281552)):
        found = bootstrap_interval(values, level=level, resamples=20_000)
        half = z * values.std() / math.sqrt(2000)
        assert found.mean == pytest.approx(values.mean())
        assert found.low == pytest.approx(values.mean() - half, abs=half / 15)
        assert found.high == pytest.approx(values.mean() + half, abs=half / 15)
        assert (found.level, found.n, found.n_groups) == (level, 2000, 2000)


def test_interval_equals_all_resamples_of_a_small_set():
    values = [0.0, 0.1, 0.7, 1.0]
    every = [np.mean(draw) for draw in itertools.product(values, repeat=4)]
    found = bootstrap_interval(values, resamples=100_000, level=0.8)
    assert [found.low, found.high] == pytest.approx(np.quantile(every, [0.1, 0.9]), abs=0.03)


def test_interval_covers_at_its_level():
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(400):
        found = bootstrap_interval(rng.exponential(size=60), level=0.9, resamples=400, seed=seed)
        covered += found.low <= 1 <= found.high
    assert 0.84 <= covered / 400 <= 0.94  # 0.9 less the percentile bootstrap's known few points; deviation 0.015


def test_groups_cover_where_single_queries_do_not():
    rng = np.random.default_rng(2)
    covered = {"groups": 0, "plain": 0}
    for seed in range(200):
        values, of = clustered(rng, 40, 10, shared=1.5)
        for name, groups in (("groups", of), ("plain", None)):
            found = bootstrap_interval(values, groups=groups, resamples=400, seed=seed)
            covered[name] += found.low <= 0 <= found.high
    assert covered["groups"] / 200 > 0.88
    assert covered["plain"] / 200 < 0.65


def test_grouped_interval_is_of_totals_over_counts():
    values, of = [0.0, 0.0, 0.0, 1.0], ["a", "a", "a", "b"]
    found = bootstrap_interval(values, groups=of, resamples=2000, level=0.9)
    assert (found.mean, found.n, found.n_groups) == (0.25, 4, 2)
    assert (found.low, found.high) == (0, 1)  # a and a: 0 of 6; b and b: 2 of 2; a quarter of the draws each


def test_nan_is_left_out():
    values = np.array([0.2, math.nan, 0.4, 0.9, math.nan])
    found = bootstrap_interval(values, groups=["a", "b", "a", "c", "c"])
    kept = bootstrap_interval([0.2, 0.4, 0.9], groups=["a", "a", "c"])
    assert found == kept
    assert found.n_groups == 2
    a, b = np.array([1, math.nan, 3, 4.0]), np.array([1, 2, math.nan, 5.0])
    assert paired_test(a, b).n == 2
    assert paired_test(a, b).difference == 0.5


def test_sign_flip_equals_all_patterns_of_a_small_set():
    rng = np.random.default_rng(3)
    a = rng.normal(size=9)
    b = a + rng.normal(0.5, 1, size=9)
    d = b - a
    means = [abs(np.dot(signs, d)) / 9 for signs in itertools.product([-1, 1], repeat=9)]
    exact = np.mean([m >= abs(d.mean()) - 1e-12 for m in means])
    assert sign_flip_p(d[None], 50_000, np.random.default_rng(0))[0] == pytest.approx(exact, abs=0.01)
    assert paired_test(a, b).difference == pytest.approx(d.mean())
    of = [0, 0, 0, 1, 1, 2, 3, 3, 4]
    sums = [sum(x for x, g in zip(d, of, strict=True) if g == k) for k in range(5)]
    flips = [abs(np.dot(signs, sums)) for signs in itertools.product([-1, 1], repeat=5)]
    exact = np.mean([m >= abs(sum(sums)) - 1e-12 for m in flips])
    assert sign_flip_p(np.array(sums)[None], 50_000, np.random.default_rng(0))[0] == pytest.approx(exact, abs=0.01)


def test_a_null_is_rejected_at_its_level():
    rng = np.random.default_rng(4)
    p = [paired_test(*rng.random((2, 50)), resamples=300, seed=s).p_value for s in range(600)]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.027)  # three deviations of 600 draws
    assert np.mean(p) == pytest.approx(0.5, abs=0.05)


def test_groups_keep_the_level_where_single_queries_do_not():
    rng = np.random.default_rng(5)
    found = {"groups": [], "plain": []}
    for seed in range(200):
        d, of = clustered(rng, 30, 8, shared=1.5)
        for name, groups in (("groups", of), ("plain", None)):
            found[name].append(paired_test(np.zeros(240), d, groups=groups, resamples=300, seed=seed).p_value <= 0.05)
    assert np.mean(found["groups"]) < 0.1
    assert np.mean(found["plain"]) > 0.25


def test_identical_inputs_differ_by_nothing():
    a = np.random.default_rng(6).random(200)
    found = paired_test(a, a)
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_a_constant_gain_is_found():
    a = np.random.default_rng(7).random(200)
    found = paired_test(a, a + 0.01, resamples=999)
    assert found.p_value == 1 / 1000
    assert found.low == pytest.approx(0.01) == found.high


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_laws(seed, grouped):
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, 30))
    groups = rng.integers(0, 8, size=30) if grouped else None
    options = {"groups": groups, "resamples": 200, "seed": seed}
    found, back = paired_test(a, b, **options), paired_test(b, a, **options)
    assert found == paired_test(a, b, **options)
    assert found.difference == pytest.approx(-back.difference)
    assert (found.p_value, found.low) == (back.p_value, pytest.approx(-back.high))
    assert 0 < found.p_value <= 1
    assert found.low <= found.high
    moved = paired_test(a + 3, b + 3, **options)
    assert (moved.difference, moved.p_value) == (pytest.approx(found.difference), found.p_value)
    assert bootstrap_interval(a, seed=seed) == bootstrap_interval(torch.from_numpy(a), seed=seed)


def test_chunks_change_no_law(monkeypatch):
    from xgap_analysis.metrics import resampling

    values = np.random.default_rng(8).random(100)
    whole = bootstrap_interval(values, resamples=5000)
    monkeypatch.setattr(resampling, "CELLS", 1000)
    parts = bootstrap_interval(values, resamples=5000)
    assert parts.mean == whole.mean
    assert [parts.low, parts.high] == pytest.approx([whole.low, whole.high], abs=0.01)


def test_series_are_aligned_by_their_index():
    rng = np.random.default_rng(9)
    ids = [f"q{i}" for i in range(20)]
    a, b = (pd.Series(rng.random(20), ids) for _ in range(2))
    groups = pd.Series([f"g{i % 6}" for i in range(20)], ids)
    expected = paired_test(a.to_numpy(), b.to_numpy(), groups=groups.tolist())
    order = rng.permutation(ids)
    assert paired_test(a, b[order], groups=groups[order[::-1]]) == expected
    with pytest.raises(XgapError, match="same queries"):
        paired_test(a, b.rename({"q3": "other"}))
    with pytest.raises(XgapError, match="same queries"):
        paired_test(a, b.iloc[:19])
    with pytest.raises(XgapError, match="twice"):
        paired_test(a, b.rename({"q3": "q4"}))


def test_holm():
    p = [0.01, 0.04, 0.03, 0.005, math.nan, 0.6]
    known = [x for x in p if not math.isnan(x)]
    expected = []
    for x in p:  # the definition: the largest over all p-values that are no larger
        steps = [min(1, sum(y >= z for y in known) * z) for z in known if z <= x]
        expected.append(max(steps) if steps else math.nan)
    np.testing.assert_allclose(holm(p), expected)
    np.testing.assert_allclose(holm([0.2, 0.01]), [0.2, 0.02])
    assert holm([]).tolist() == []
    with pytest.raises(XgapError, match="lie in"):
        holm([0.5, 1.2])


def test_holm_keeps_the_chance_of_any_false_finding():
    p = np.random.default_rng(10).random((4000, 12))
    assert np.mean([(holm(row) <= 0.05).any() for row in p]) == pytest.approx(0.05, abs=0.012)
    assert np.mean((p <= 0.05).any(axis=1)) > 0.4


def test_seed_spread():
    values = np.random.default_rng(11).random((4, 30))
    values[:, 3] = math.nan
    means = [np.mean([v for v in row if not math.isnan(v)]) for row in values.tolist()]
    found = seed_spread(values)
    middle = sum(means) / 4
    assert found.mean == pytest.approx(middle)
    assert found.std == pytest.approx(math.sqrt(sum((m - middle) ** 2 for m in means) / 3))
    assert found.seeds == 4
    assert math.isnan(seed_spread(values[:1]).std)


def test_users_mistakes():
    with pytest.raises(XgapError, match="no values"):
        bootstrap_interval([math.nan, math.nan])
    with pytest.raises(XgapError, match="no values"):
        bootstrap_interval([])
    with pytest.raises(XgapError, match="3 groups were given for 2 values"):
        bootstrap_interval([1.0, 2.0], groups=["a", "b", "c"])
    with pytest.raises(XgapError, match="has no group"):
        bootstrap_interval([1.0, 2.0], groups=["a", None])
    with pytest.raises(XgapError, match="level"):
        bootstrap_interval([1.0, 2.0], level=95.0)
    with pytest.raises(XgapError, match="a has 2 values and b 3"):
        paired_test([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(XgapError, match="vector"):
        bootstrap_interval(np.zeros((2, 2)))
    with pytest.raises(XgapError, match="matrix"):
        seed_spread([[1.0, 2.0], [1.0]])
    with pytest.raises(XgapError, match="a seed has no values"):
        seed_spread([[1.0, 2.0], [math.nan, math.nan]])


def test_a_ratio_to_values_of_both_signs_is_that_of_their_means_and_has_no_ends_where_their_mean_may_be_0() -> None:
    rng = np.random.default_rng(0)
    whole = rng.normal(0.5, 1, 200)
    part = 0.3 * whole + rng.normal(0, 0.1, 200)
    found = ratio_interval(part, whole, signed=True)
    assert found.mean == pytest.approx(part.mean() / whole.mean())
    assert found.low < 0.3 < found.high < 0.4
    drawn = np.random.default_rng(0).integers(200, size=(2000, 200))
    low, high = np.quantile(part[drawn].sum(1) / whole[drawn].sum(1), [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.01)
    around_zero = ratio_interval(part, whole - whole.mean(), signed=True)
    assert math.isnan(around_zero.low)
    assert math.isnan(around_zero.high)
    assert math.isnan(ratio_interval([1.0, 2.0], [0.0, 0.0], signed=True).mean)
    nothing = ratio_interval([1.0, 2.0, 3.0], [1.0, -1.0, 0.0], signed=True)  # a sum of 0, of which there is no ratio
    assert all(math.isnan(value) for value in (nothing.mean, nothing.low, nothing.high))
    with pytest.raises(XgapError, match="must not be negative"):
        ratio_interval(part, whole)


def test_groups_may_be_tuples():
    rng = np.random.default_rng(10)
    values, pairs = rng.normal(size=30), [(f"c{k % 4}", k % 3) for k in range(30)]
    words = [" ".join(map(str, pair)) for pair in pairs]
    assert bootstrap_interval(values, groups=pairs) == bootstrap_interval(values, groups=words)
    assert bootstrap_interval(values, groups=pairs).n_groups == 12
    assert paired_test(values, -values, groups=pairs) == paired_test(values, -values, groups=words)
    x = rng.normal(size=(30, 3))
    by = [calibrated(x, x[::-1], groups=of, permutations=20) for of in (pairs, words)]
    assert by[0] == by[1]
    for wrong in ([["a", "b"]] * 30, np.zeros((30, 2))):
        with pytest.raises(XgapError, match="groups are labels, words, numbers or tuples"):
            bootstrap_interval(values, groups=wrong)


def looped(values, groups, resamples, seed):
    """Intervals by gathering the groups of each draw, one measure at a time, as the stream of draws was first read."""
    codes = np.unique(pd.factorize(groups)[0][~np.isnan(values)], return_inverse=True)[1]
    kept = values[~np.isnan(values)]
    total, count = np.bincount(codes, weights=kept), np.bincount(codes)
    rng = np.random.default_rng(seed)
    means = []
    for size in resampling.chunks(resamples, len(total)):
        drawn = rng.integers(len(total), size=(size, len(total)), dtype=np.int32)
        means.append(total[drawn].sum(axis=1) / count[drawn].sum(axis=1))
    return *np.quantile(np.concatenate(means), [0.025, 0.975]), rng, total


@pytest.mark.parametrize("cells", [100, resampling.CELLS])
def test_columns_share_draws_and_each_has_the_numbers_that_it_had_alone(cells, monkeypatch):
    monkeypatch.setattr(resampling, "CELLS", cells)
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 9, 60)
    table = pd.DataFrame(rng.uniform(size=(60, 4)), columns=list("abcd"))
    table.loc[rng.integers(0, 60, 20), "c"] = np.nan
    table.loc[groups == 3, "d"] = np.nan  # a group less
    other = table + rng.normal(0.05, 0.2, table.shape)
    found = bootstrap_intervals(table, groups=groups, resamples=300, seed=7)
    tests = paired_tests(table, other.drop(columns="b"), groups=groups, resamples=300, seed=7)
    assert list(found) == list("abcd")
    assert list(tests) == list("acd")
    for name in table:
        low, high, *_ = looped(table[name].to_numpy(), groups, 300, 7)
        assert (found[name].low, found[name].high) == pytest.approx((low, high), rel=1e-12)
    for name, test in tests.items():
        low, high, stream, total = looped((other - table)[name].to_numpy(), groups, 300, 7)
        assert (test.low, test.high) == pytest.approx((low, high), rel=1e-12)
        extreme = sum(
            int((np.abs(total.sum() - 2 * (flips @ total)) >= abs(total.sum()) - 1e-12).sum())
            for flips in (
                stream.integers(0, 2, size=(size, len(total)), dtype=np.int8).astype(float)
                for size in resampling.chunks(300, len(total))
            )
        )
        d = (other - table)[name].dropna()
        codes = pd.factorize(groups)[0][d.index]  # in the order in which groups come
        codes = np.unique(codes, return_inverse=True)[1]
        other_p = studentised_p(np.bincount(codes, weights=d), np.bincount(codes), 300, 7)
        assert test.p_value == pytest.approx(max((1 + extreme) / 301, other_p))
        alone = paired_test(table[name], other[name], groups=groups, resamples=300, seed=7)
        assert test == alone
        assert found[name] == bootstrap_interval(table[name], groups=groups, resamples=300, seed=7)
