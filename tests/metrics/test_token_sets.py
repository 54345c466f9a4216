"""Spread of tokens and the share of one token equal a loop over items in numpy, and give known answers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.metrics import one_token_share, ratio_interval, token_spread

RAGGED = st.lists(st.integers(1, 5), min_size=2, max_size=6)
FEW = {"resamples": 50}


def some(lengths: list[int], seed: int, d: int = 6) -> TokenFeatures:
    draw = np.random.default_rng(seed)
    return TokenFeatures.from_sets([draw.normal(size=(n, d)) for n in lengths], map(str, range(len(lengths))), "i", "i")


@settings(max_examples=15, deadline=None)
@given(lengths=RAGGED, seed=st.integers(0, 99))
def test_spread_equals_a_loop_over_items(lengths: list[int], seed: int) -> None:
    tokens = some(lengths, seed)
    sets = [tokens.tokens_of(i).double().numpy() for i in tokens.ids]
    centre = np.mean([own.mean(0) for own in sets], axis=0)
    within = [np.mean([np.sum((v - own.mean(0)) ** 2) for v in own]) for own in sets]
    between = [np.sum((own.mean(0) - centre) ** 2) for own in sets]
    found = token_spread(tokens, **FEW)
    expected = [np.mean([np.linalg.norm(own.mean(0)) for own in sets]), np.mean(within), np.mean(between)]
    expected.append(np.sum(within) / (np.sum(within) + np.sum(between)))
    np.testing.assert_allclose(found.value, expected, atol=1e-6)
    assert (found.low <= found.value + 1e-12).all()
    assert (found.value <= found.high + 1e-12).all()
    assert set(found.n) == {len(lengths)}


def test_known_answers_of_spread() -> None:
    one = token_spread(some([1, 1, 1], 0), **FEW).value
    assert one["agreement"] == pytest.approx(1)
    assert one["share_within"] == pytest.approx(0, abs=1e-6)
    same = TokenFeatures.from_sets([np.eye(3)] * 4, "abcd", "image", "image")
    found = token_spread(same, **FEW)
    assert found.value["between"] == pytest.approx(0, abs=1e-12)
    assert found.value["share_within"] == pytest.approx(1)
    vectors = np.random.default_rng(0).normal(size=(4, 6))
    assert token_spread(vectors, **FEW).equals(token_spread(some([1] * 4, 0), **FEW)), "an array is sets of one vector"
    points = TokenFeatures.from_sets([np.eye(3)[:1]] * 2, "ab", "image", "image")
    assert np.isnan(token_spread(points, **FEW).value["share_within"]), "nothing is spread"


def test_groups_are_drawn_together() -> None:
    tokens = some([2, 2, 3, 3, 4, 4], 1)
    alone, together = (token_spread(tokens, groups=of) for of in (None, list("aaabbb")))
    np.testing.assert_allclose(together.value, alone.value)
    assert not np.allclose(together.low, alone.low)


@settings(max_examples=15, deadline=None)
@given(shapes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), min_size=1, max_size=5))
def test_the_share_of_a_token_equals_a_loop(shapes: list[tuple[int, int]]) -> None:
    draw = np.random.default_rng(len(shapes))
    pairs = [draw.normal(size=shape) for shape in shapes]
    found = one_token_share([torch.tensor(c) if i % 2 else c for i, c in enumerate(pairs)], **FEW)
    for name, axis in (("query", 1), ("gallery", 0)):
        sums = [[abs(v) for v in c.sum(axis)] for c in pairs]
        assert found.value[name] == pytest.approx(np.mean([max(s) / sum(s) for s in sums]))
        assert found.even[name] == pytest.approx(np.mean([1 / len(s) for s in sums]))


def test_known_answers_of_shares() -> None:
    found = one_token_share([np.ones((2, 4)) / 8], **FEW)
    assert found.value.tolist() == [0.5, 0.25] == found.even.tolist()
    one = np.zeros((2, 4))
    one[1, 2] = 0.7
    assert one_token_share([one], **FEW).value.tolist() == [1, 1]
    assert one_token_share([torch.tensor(one).bfloat16()], **FEW).value.tolist() == [1, 1]
    with_none = one_token_share([one, np.zeros((1, 1))], **FEW)
    assert with_none.n.tolist() == [1, 1], "a pair without a score has no share"


def test_a_ratio_is_of_sums() -> None:
    part, whole = np.arange(5.0), np.full(5, 4.0)
    assert ratio_interval(part, whole, **FEW).mean == pytest.approx(0.5)
    assert ratio_interval([1.0, np.nan], [2.0, 5.0], **FEW).n == 1


def test_mistakes_are_one_sentence() -> None:
    with pytest.raises(XgapError, match=r"contributions of pair 1 are of shape \(3,\); give a matrix"):
        one_token_share([np.ones((1, 1)), np.ones(3)])
    with pytest.raises(XgapError, match="there are no values to average"):
        one_token_share([np.zeros((2, 2))])
    with pytest.raises(XgapError, match="part has 1 values and whole 2"):
        ratio_interval([1.0], [1.0, 2.0])
    for part, whole in ((1.0, -1.0), (1.0, 0.0)):
        with pytest.raises(XgapError, match="whole must not be negative, and a part of a whole of 0 must be 0"):
            ratio_interval([part, 1.0], [whole, 2.0])
    with pytest.raises(XgapError, match="needs an item at least"):
        token_spread(TokenFeatures(torch.ones(0, 3), [0], [], "image", "image"))
