"""Correlations with people's scores, against scipy and plain loops; intervals and tests over linked pairs."""

import dataclasses
import doctest
import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.datasets.pair_scores import PairScores
from xgap_analysis.metrics import pair_scores as module
from xgap_analysis.metrics.pair_scores import METHODS, correlation, correlation_test, pair_scores

ORACLES = {"spearman": stats.spearmanr, "pearson": stats.pearsonr}
IDS = tuple("abcdefgh")


def columns(n_columns: int, most: int = 25) -> st.SearchStrategy[np.ndarray]:
    """Columns of small whole numbers, with many ties, none of them constant."""
    shape = st.tuples(st.just(n_columns), st.integers(3, most))
    made = arrays(np.float64, shape, elements=st.integers(-4, 4).map(float))
    return made.filter(lambda x: bool((x != x[:, :1]).any(axis=1).all()))


def features(seed: int = 0, ids: tuple[str, ...] = IDS) -> xg.Features:
    return xg.Features(np.random.default_rng(seed).normal(size=(len(ids), 5)), ids, "text", "text")


def some_pairs(n: int = 30, seed: int = 0) -> PairScores:
    rng = np.random.default_rng(seed)
    first, second = (tuple(rng.choice(IDS, n)) for _ in range(2))
    return PairScores(first, second, rng.integers(0, 6, n), xg.Texts(IDS, IDS))


# ------------------------------------------------------------------------------------------------ scores of pairs


@pytest.mark.parametrize("block", [None, 1, 3])
def test_the_score_of_a_pair_is_that_of_its_first_item_with_its_second(block: int | None) -> None:
    query, gallery, pairs = features(1), features(2, IDS[::-1]), some_pairs()
    x, y = (dict(zip(f.ids, f.vectors.double().numpy(), strict=True)) for f in (query, gallery))
    table = pair_scores(query, gallery, pairs, block=block)
    expected = [np.float32(x[a] @ y[b]) for a, b in zip(pairs.first, pairs.second, strict=True)]
    assert table["score"].tolist() == pytest.approx(expected, abs=1e-7)
    assert (table["first"].tolist(), table["second"].tolist()) == (list(pairs.first), list(pairs.second))
    assert (table["people"].tolist(), table["group"].tolist()) == (pairs.scores.tolist(), pairs.groups.tolist())
    assert table.index.name == "pair"


def test_any_scorer_and_a_change_of_scores_that_sees_the_whole_gallery() -> None:
    def distance(q: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        return -torch.cdist(q, g)

    x, pairs = features(), some_pairs()
    cosine, far = pair_scores(x, x, pairs)["score"], pair_scores(x, x, pairs, scorer=distance)["score"]
    assert np.sqrt(2 - 2 * cosine.clip(upper=1)).tolist() == pytest.approx((-far).tolist(), abs=1e-3)
    widths: set[int] = set()

    def changed(block: torch.Tensor) -> torch.Tensor:
        widths.add(block.shape[1])
        return 2 * block + 1

    few = PairScores(("a", "b"), ("c", "d"), [1, 2], xg.Texts(IDS, IDS))
    found = pair_scores(x, x, few, normalise=changed)["score"]
    assert found.tolist() == pytest.approx((2 * pair_scores(x, x, few)["score"] + 1).tolist())
    assert widths == {len(IDS)}


def test_arrays_and_sets_of_vectors_are_scored_too() -> None:
    x = np.random.default_rng(0).normal(size=(4, 5))
    pairs = PairScores([0, 0, 3], [1, 3, 2], [1, 2, 3], xg.Texts(tuple("0123"), tuple("abcd")))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    expected = [unit[a] @ unit[b] for a, b in ((0, 1), (0, 3), (3, 2))]
    assert pair_scores(x, x, pairs)["score"].tolist() == pytest.approx(expected, abs=1e-6)
    tokens = TokenFeatures(x, [0, 1, 2, 4], tuple("abc"), "text", "text")
    few = PairScores("ab", "cc", [1, 2], xg.Texts(tuple("abc"), tuple("abc")))
    found = pair_scores(tokens, tokens, few, scorer="late_interaction")["score"]
    assert found.tolist() == pytest.approx([max(unit[a] @ unit[b] for b in (2, 3)) for a in (0, 1)], abs=1e-6)


def test_an_item_without_a_vector_is_reported() -> None:
    with pytest.raises(XgapError, match="ids have no vector here"):
        pair_scores(features(), features(ids=IDS[:3]), some_pairs())
    with pytest.raises(XgapError, match="5 dimensions and the gallery 2"):
        pair_scores(features(), xg.Features(torch.eye(8)[:, :2] + 1, IDS, "text", "text"), some_pairs())


# ---------------------------------------------------------------------------------------------------- correlation


@given(columns(2))
def test_the_value_is_scipys_ties_and_all(x: np.ndarray) -> None:
    for method, oracle in ORACLES.items():
        found = correlation(x[0], x[1], method=method, resamples=1)
        assert found.value == pytest.approx(oracle(x[0], x[1])[0], abs=1e-12)
        assert (found.n, found.n_groups) == (x.shape[1], x.shape[1])


@given(columns(2), st.integers(1, 4))
def test_laws(x: np.ndarray, n_groups: int) -> None:
    scores, people = x
    groups = np.arange(len(people)) % n_groups
    how: dict[str, Any] = {"groups": groups, "resamples": 20}
    spearman = correlation(scores, people, **how)
    assert correlation(np.exp(3 * scores), people, **how) == spearman  # a monotone change, interval included
    pearson = correlation(scores, people, method="pearson", **how)
    moved = correlation(5 - 2 * scores, people, method="pearson", **how)
    assert moved.value == pytest.approx(-pearson.value, abs=1e-9)
    assert [moved.low, moved.high] == pytest.approx([-pearson.high, -pearson.low], abs=1e-9, nan_ok=True)
    assert -1 <= spearman.value <= 1
    assert correlation(people, people, **how).value == pytest.approx(1)
    assert correlation(people, scores, **how).value == pytest.approx(spearman.value)


@pytest.mark.parametrize("method", METHODS)
def test_the_interval_is_that_of_the_drawn_pairs_ranked_anew(method: str) -> None:
    """Resamples as the function draws them, each taken apart into a plain sample for scipy."""
    rng = np.random.default_rng(3)
    scores, people = rng.integers(0, 5, (2, 24)).astype(float)
    codes = np.arange(24) // 3
    (weights,) = module._weights(codes, 60, seed=7)
    assert (weights.reshape(60, 8, 3).min(2) == weights.reshape(60, 8, 3).max(2)).all()  # whole groups
    assert (weights.sum(1) == 24).all()
    samples = [np.repeat(np.arange(24), drawn.astype(int)) for drawn in weights]
    expected = [ORACLES[method](scores[of], people[of])[0] for of in samples]
    found = correlation(scores, people, method=method, groups=codes, resamples=60, seed=7)
    assert [found.low, found.high] == pytest.approx(np.quantile(expected, [0.025, 0.975]).tolist())
    assert found.n_groups == 8


def test_the_interval_holds_the_true_correlation_about_as_often_as_it_says_where_pairs_are_linked() -> None:
    """Pairs of five share an effect; grouped, 95 % intervals miss 0 seldom, and taken for independent, often."""
    rng = np.random.default_rng(5)
    missed = {True: 0, False: 0}
    for _ in range(120):
        scores, people = np.repeat(rng.normal(size=(2, 40)), 5, axis=1) + 0.3 * rng.normal(size=(2, 200))
        for grouped in missed:
            groups = np.arange(200) // 5 if grouped else None
            found = correlation(scores, people, groups=groups, resamples=200)
            missed[grouped] += not found.low <= 0 <= found.high
    assert missed[True] <= 0.15 * 120 < 0.3 * 120 <= missed[False]


def test_seeds_are_averaged_and_missing_scores_left_out() -> None:
    rng = np.random.default_rng(1)
    people, two = rng.normal(size=30), rng.normal(size=(2, 30))
    both = correlation(two, people, resamples=10).value
    assert both == pytest.approx(np.mean([stats.spearmanr(x, people)[0] for x in two]))
    holes = np.where(np.arange(30) % 7 == 0, math.nan, two[0])
    kept = np.isfinite(holes)
    found = correlation(torch.tensor(holes), pd.Series(people), groups=[f"g{k // 2}" for k in range(30)], resamples=10)
    assert found.value == pytest.approx(stats.spearmanr(two[0][kept], people[kept])[0])
    assert (found.n, found.n_groups) == (kept.sum(), len({k // 2 for k in range(30) if kept[k]}))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scores": [1, 2]}, r"of \[2, 4, 4\] pairs"),
        ({"groups": [1, 2, 3]}, r"of \[4, 4, 3\] pairs"),
        ({"groups": [1, 2, 3, None]}, "a pair has no group"),
        ({"scores": [1, 2, math.nan, math.nan]}, "needs 3 pairs with both scores at least, not 2"),
        ({"scores": [2, 2, 2, 2]}, "all scores are 2, so that no correlation is defined"),
        ({"people": [5, 5, 5, 5]}, "all people's scores are 5"),
        ({"method": "kendal"}, "unknown correlation 'kendal'"),
        ({"level": 1.0}, "level lies between 0 and 1"),
        ({"resamples": 0}, "resamples are at least 1"),
        ({"scores": np.ones((1, 1, 4))}, "must be of the same"),
    ],
)
def test_mistakes_are_reported(given: dict[str, Any], message: str) -> None:
    with pytest.raises(XgapError, match=message):
        correlation(**{"scores": [1, 2, 3, 5], "people": [1, 2, 3, 4], **given})


# --------------------------------------------------------------------------------------- difference of correlations


@given(columns(3, most=12))
def test_the_difference_is_that_of_scipys_correlations_and_changes_sign_with_the_order(x: np.ndarray) -> None:
    a, b, people = x
    for method, oracle in ORACLES.items():
        how: dict[str, Any] = {"method": method, "resamples": 20, "flips": 50}
        test = correlation_test(a, b, people, **how)
        assert test.difference == pytest.approx(oracle(b, people)[0] - oracle(a, people)[0], abs=1e-12)
        turned = correlation_test(b, a, people, **how)
        assert turned.difference == pytest.approx(-test.difference, abs=1e-12)
        assert [turned.low, turned.high] == pytest.approx([-test.high, -test.low], abs=1e-9, nan_ok=True)
        assert 1 / 51 <= test.p_value <= 1


def test_scores_that_an_exchange_makes_constant_correlate_with_nothing() -> None:
    test = correlation_test([0.0, 1.0, 0.0], [0.0, -1.0, -1.0], [0.0, 0.0, 1.0], resamples=20, flips=50)
    assert test.difference == pytest.approx(0)
    assert 1 / 51 <= test.p_value <= 1


@given(columns(2))
def test_scores_that_differ_in_scale_alone_do_not_differ(x: np.ndarray) -> None:
    scores, people = x
    for method, other in (("spearman", np.exp(scores)), ("pearson", 3 * scores - 7)):
        test = correlation_test(scores, other, people, method=method, resamples=20, flips=50)
        assert (test.difference, test.p_value) == (pytest.approx(0, abs=1e-9), 1)
        assert [test.low, test.high] == pytest.approx([0, 0], abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("method", METHODS)
def test_the_p_value_is_the_share_of_all_exchanges_of_groups_that_are_as_far_apart(method: str) -> None:
    rng = np.random.default_rng(11)
    people = rng.integers(0, 6, 27).astype(float)
    a, b = people + 3 * rng.normal(size=27), 10 * (people + rng.normal(size=27))
    codes = np.arange(27) // 3
    as_scores = stats.rankdata if method == "spearman" else np.asarray
    one, two, theirs = (stats.zscore(as_scores(x)) for x in (a, b, people))
    found = []
    for drawn in itertools.product((False, True), repeat=9):
        there = np.array(drawn)[codes]
        mixed = np.where(there, one, two), np.where(there, two, one)
        found.append(np.subtract(*(np.corrcoef(m, theirs)[0, 1] for m in mixed)))
    exact = (np.abs(found) >= abs(found[0]) - 1e-12).mean()
    assert 0.005 < exact < 0.5  # a test of something
    test = correlation_test(a, b, people, method=method, groups=codes, flips=40_000, resamples=10)
    assert test.p_value == pytest.approx(exact, abs=0.01)
    assert (test.n, test.n_groups) == (27, 9)


def test_a_better_score_is_seen_and_its_interval_is_that_of_common_draws() -> None:
    rng = np.random.default_rng(2)
    people = rng.normal(size=200)
    a, b = people + 2 * rng.normal(size=200), people + 0.5 * rng.normal(size=200)
    test = correlation_test(a, b, people, resamples=200, flips=500)
    assert 0 < test.low < test.difference < test.high
    assert test.p_value == 1 / 501
    draws = np.concatenate(list(module._weights(np.arange(200), 200, seed=0)))
    differences = module._drawn(b[None], people, draws, "spearman") - module._drawn(a[None], people, draws, "spearman")
    assert [test.low, test.high] == pytest.approx(np.quantile(differences, [0.025, 0.975]).tolist())


def test_a_view_of_several_seeds_against_one_of_none() -> None:
    rng = np.random.default_rng(4)
    people, a, b = rng.normal(size=40), rng.normal(size=40), rng.normal(size=(3, 40))
    test = correlation_test(a, b, people, resamples=10, flips=100)
    alone = [stats.spearmanr(x, people)[0] - stats.spearmanr(a, people)[0] for x in b]
    assert test.difference == pytest.approx(np.mean(alone))
    repeated = correlation_test(np.stack([a] * 3), b, people, resamples=10, flips=100)
    assert dataclasses.astuple(repeated) == pytest.approx(dataclasses.astuple(test))
    with pytest.raises(XgapError, match="a is of 2 seeds and b of 3; give as many, or one"):
        correlation_test(b[:2], b, people)
    with pytest.raises(XgapError, match="flips must be at least 1"):
        correlation_test(a, b, people, flips=0)


@given(columns(3))
def test_a_pair_without_one_of_the_scores_is_left_out_of_both(x: np.ndarray) -> None:
    a, b, people = x
    assume(len(people) > 3 and all(len(set(v[1:])) > 1 for v in x))
    how: dict[str, Any] = {"resamples": 20, "flips": 50}
    holed = np.concatenate([[math.nan], a[1:]])
    assert correlation_test(holed, b, people, **how) == correlation_test(a[1:], b[1:], people[1:], **how)


def test_the_examples_run() -> None:
    assert doctest.testmod(module).failed == 0
