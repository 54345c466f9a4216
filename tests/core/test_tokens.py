"""TokenFeatures: sets of unit vectors, validated once; one token per item is Features."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.tokens import TokenFeatures, as_tokens

LENGTHS = st.lists(st.integers(1, 5), min_size=1, max_size=6)
WORDS = st.text(min_size=0, max_size=5)


def some(lengths: list[int], d: int = 4, seed: int = 0, **more: object) -> TokenFeatures:
    generator = torch.Generator().manual_seed(seed)
    sets = [torch.randn(n, d, generator=generator) for n in lengths]
    return TokenFeatures.from_sets(sets, [f"i{i}" for i in range(len(sets))], "image", "image", **more)


@given(LENGTHS, st.integers(0, 99))
def test_sets_become_unit_rows_in_their_order_and_keep_their_norms(lengths: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    sets = [generator.normal(size=(n, 3)) + 0.01 for n in lengths]
    made = TokenFeatures.from_sets(sets, map(str, range(len(sets))), "text", "image", {"model": "m"}, "set")
    assert (len(made), made.dim, made.vectors.dtype) == (len(sets), 3, torch.float32)
    assert (made.space, made.origin, made.items, made.provenance) == ("text", "image", "set", {"model": "m"})
    assert made.lengths.tolist() == lengths
    for item, one in zip(made.ids, sets, strict=True):
        expected = one / np.linalg.norm(one, axis=1, keepdims=True)
        np.testing.assert_allclose(made.tokens_of(item).numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(made.norms.numpy(), np.linalg.norm(np.concatenate(sets), axis=1), rtol=1e-6)


@given(LENGTHS, st.data())
def test_a_selection_has_the_tokens_of_its_items_in_its_order(lengths: list[int], data: st.DataObject) -> None:
    weights = [torch.rand(n) for n in lengths]
    made = some(lengths, weights=weights)
    ids = data.draw(st.permutations(made.ids)) if len(made) > 1 else list(made.ids)
    ids = ids[: data.draw(st.integers(1, len(ids)))]
    chosen = made.select(ids)
    assert chosen.ids == tuple(ids)
    for item in ids:
        assert torch.equal(chosen.tokens_of(item), made.tokens_of(item))
        row = made.ids.index(item)
        assert torch.equal(chosen.select([item]).weights, weights[row])
    assert chosen.lengths.tolist() == [lengths[made.ids.index(item)] for item in ids]


@given(LENGTHS)
def test_a_block_is_padded_to_its_longest_item_and_the_mask_marks_tokens(lengths: list[int]) -> None:
    made = some(lengths)
    for start, stop in ((0, None), (0, 1), (len(lengths) - 1, len(lengths))):
        vectors, mask = made.padded(start, stop)
        own = lengths[start:stop]
        assert vectors.shape == (len(own), max(own), 4)
        assert mask.sum(dim=1).tolist() == own
        assert vectors[~mask].eq(0).all()
        assert torch.equal(vectors[mask], torch.cat([made.tokens_of(i) for i in made.ids[start:stop]]))


@given(st.lists(WORDS, min_size=1, max_size=5, unique=True))
def test_one_token_per_item_is_features_whatever_the_ids(ids: list[str]) -> None:
    features = Features(torch.randn(len(ids), 3), ids, "text", "image", {"a": 1})
    tokens = as_tokens(features)
    assert tokens.lengths.tolist() == [1] * len(ids)
    back = tokens.features()
    assert torch.equal(back.vectors, features.vectors)
    assert (back.ids, back.space, back.origin, back.provenance) == (features.ids, "text", "image", {"a": 1})
    assert torch.allclose(tokens.pooled().vectors, features.vectors, atol=1e-7)
    assert torch.equal(tokens.select(ids[::-1]).features().vectors, features.vectors.flip(0))
    assert as_tokens(tokens) is tokens


def test_pooled_is_the_direction_of_the_mean_or_of_the_weighted_mean() -> None:
    made = TokenFeatures(torch.eye(3), [0, 2, 3], ["a", "b"], "image", "image", weights=[3.0, 4.0, 1.0])
    np.testing.assert_allclose(made.pooled().vectors.numpy(), [[0.5**0.5, 0.5**0.5, 0], [0, 0, 1]], atol=1e-7)
    assert made.pooled().provenance == {"pooled": "mean"}
    np.testing.assert_allclose(made.pooled(weighted=True).vectors.numpy(), [[0.6, 0.8, 0], [0, 0, 1]], atol=1e-7)


def test_an_empty_collection_has_no_item_and_a_single_one_is_one() -> None:
    none = TokenFeatures(torch.zeros(0, 4), [0], [], "image", "image")
    assert (len(none), none.dim, len(none.select([]))) == (0, 4, 0)
    assert len(some([3])) == 1
    assert len(some([3]).select([])) == 0


def test_labels_are_replaced_without_a_copy_and_nothing_else_is() -> None:
    made = some([1, 2])
    other = made.labelled(space="text", items="x")
    assert other.vectors is made.vectors
    assert (other.space, other.origin, other.items, made.items) == ("text", "image", "x", "")
    assert not made.has_items_of(other)
    assert made.has_items_of(made.labelled(space="text"))
    with pytest.raises(XgapError, match=r"only space.*not vectors"):
        made.labelled(vectors=torch.eye(2))


def test_a_round_trip_keeps_every_bit_and_half_precision_becomes_float32() -> None:
    made = some([2, 3, 1], d=64)
    again = TokenFeatures(made.vectors, made.offsets, made.ids, "image", "image", norms=made.norms)
    assert torch.equal(made.vectors, again.vectors)
    assert torch.equal(made.norms, again.norms)
    assert TokenFeatures(torch.eye(3).half(), [0, 1, 3], "ab", "text", "text").vectors.dtype == torch.float32


def make(**changes: object) -> TokenFeatures:
    right = {"vectors": torch.eye(3), "offsets": [0, 2, 3], "ids": ["a", "b"], "space": "image", "origin": "image"}
    return TokenFeatures(**{**right, **changes})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"offsets": [0, 3, 3]}, "item 'b' has no tokens"),
        ({"offsets": [0, 0, 3]}, "item 'a' has no tokens"),
        ({"offsets": [0, 3]}, "2 items need 3 offsets, not 2"),
        ({"offsets": [0, 2, 4]}, "rise from 0 to the number of tokens, 3"),
        ({"offsets": [1, 2, 3]}, "rise from 0"),
        ({"offsets": [0.0, 2.0, 3.0]}, "whole numbers"),
        ({"vectors": torch.zeros(3)}, r"matrix \[N, d\]"),
        ({"vectors": torch.zeros(3, 2, 2)}, r"matrix \[N, d\]"),
        ({"vectors": torch.tensor([[1.0, 0], [0, 1], [0, 0]])}, "item 'b' has a token, number 0, that is zero"),
        ({"vectors": torch.tensor([[1.0, 0], [0, np.nan], [0, 1]])}, "item 'a' has a token, number 1, that is NaN"),
        ({"ids": ["a", "a"]}, "'a' stands for more than one item"),
        ({"weights": [1.0, 2.0]}, r"weights must be one number per token, \[3\], not \(2,\)"),
        ({"weights": [1.0, np.inf, 2.0]}, "item 'a' has a token, number 1, whose weights are NaN"),
        ({"norms": [1.0, 1.0, 0.0]}, "item 'b' has a token, number 0, whose norm is zero"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(XgapError, match=sentence):
        make(**changes)


def test_sets_that_do_not_fit_each_other_are_refused_by_name() -> None:
    with pytest.raises(XgapError, match="item 'b' have 3 dimensions, and those of 'a' 2"):
        TokenFeatures.from_sets([torch.eye(2), torch.eye(3)], "ab", "image", "image")
    with pytest.raises(XgapError, match="item 'b' has no tokens"):
        TokenFeatures.from_sets([torch.eye(2), torch.zeros(0, 2)], "ab", "image", "image")
    with pytest.raises(XgapError, match="item 'a' must be a matrix"):
        TokenFeatures.from_sets([torch.ones(2)], "a", "image", "image")
    with pytest.raises(XgapError, match="2 ids were given for 1 sets"):
        TokenFeatures.from_sets([torch.eye(2)], "ab", "image", "image")
    with pytest.raises(XgapError, match="width is unknown"):
        TokenFeatures.from_sets([], "", "image", "image")
    with pytest.raises(XgapError, match="one weight per token"):
        TokenFeatures.from_sets([torch.eye(2)], "a", "image", "image", weights=[torch.ones(3)])


def test_items_that_are_not_there_and_vectors_that_cannot_be_made_are_refused() -> None:
    made = some([2, 1])
    with pytest.raises(XgapError, match="the first is 'z'"):
        made.select(["i0", "z"])
    with pytest.raises(XgapError, match="selected twice"):
        made.select(["i0", "i0"])
    with pytest.raises(XgapError, match="item 'i0' has 2 tokens; use pooled"):
        made.features()
    with pytest.raises(XgapError, match="no weights"):
        made.pooled(weighted=True)
    v = torch.randn(1, 7)
    opposite = TokenFeatures(torch.cat([v, v, -v]), [0, 1, 3], ["a", "b"], "image", "image")
    with pytest.raises(XgapError, match="item 'b' cancel out"):
        opposite.pooled()
