"""Features: unit rows, distinct ids, and one clear sentence for what does not fit."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.features import Features
from xgap_analysis.datasets import Relevance
from xgap_analysis.metrics import retrieval

IDS = ("a", "b", "c")


def some(n: int = 3, d: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@given(
    hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6),
        elements=st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-6),
    )
)
def test_rows_are_scaled_to_unit_length_and_keep_their_direction(matrix: np.ndarray) -> None:
    matrix = matrix[np.abs(matrix).sum(1) > 0]
    made = Features(vectors=matrix, ids=map(str, range(len(matrix))), space="image", origin="image")
    assert made.vectors.dtype == torch.float32
    expected = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    np.testing.assert_allclose(made.vectors.numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(made.vectors.double().numpy(), axis=1), 1, atol=1e-6)


@given(st.integers(0, 10_000), st.integers(1, 600))
def test_a_round_trip_keeps_every_bit(seed: int, d: int) -> None:
    once = Features(some(4, d, seed) * 10, list("abcd"), "image", "image")
    twice = Features(once.vectors.double(), once.ids, once.space, once.origin)
    assert torch.equal(once.vectors, twice.vectors)
    assert torch.equal(once.select(reversed(once.ids)).vectors, once.vectors.flip(0))


def test_half_precision_and_whole_numbers_become_unit_float32() -> None:
    for vectors in (some().half(), some().bfloat16(), torch.tensor([[3, 4], [0, 2], [1, 0]])):
        made = Features(vectors, IDS, "image", "image")
        assert made.vectors.dtype == torch.float32
        assert (made.vectors.double().norm(dim=1) - 1).abs().max() < 1e-6
    assert made.vectors[0].tolist() == pytest.approx([0.6, 0.8])


def test_they_are_float32_whatever_the_users_default_is() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        made = Features(torch.tensor([[3, 4], [0.6, 0.8]], dtype=torch.float32), ["a", "b"], "image", "image")
        frame = retrieval(made, made, Relevance.from_labels([0, 0], [0, 0]))
    finally:
        torch.set_default_dtype(torch.float32)
    assert made.vectors.dtype == torch.float32
    assert frame["ap"].tolist() == [1, 1]


def test_vectors_do_not_follow_gradients_and_the_given_array_is_left_alone() -> None:
    given_vectors = some().requires_grad_()
    before = given_vectors.detach().clone()
    made = Features(given_vectors, IDS, "image", "image")
    assert not made.vectors.requires_grad
    assert torch.equal(given_vectors.detach(), before)


def test_ids_dimension_length_and_provenance() -> None:
    about = {"model": "tiny"}
    made = Features(some(3, 5), np.array(["7", "b", "9"]), space="text", origin="image", provenance=about)
    assert made.ids == ("7", "b", "9")
    assert (len(made), made.dim, made.space, made.origin) == (3, 5, "text", "image")
    about["model"] = "changed"
    assert made.provenance == {"model": "tiny"}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_no_number_names_its_item(bad: float) -> None:
    vectors = some()
    vectors[1, 2] = bad
    with pytest.raises(XgapError, match=r"item 'b' holds a NaN or infinite value \(1 such\)"):
        Features(vectors, IDS, "image", "image")


def test_a_zero_row_names_its_item() -> None:
    vectors = some()
    vectors[1:] = 0
    with pytest.raises(XgapError, match=r"item 'b' is zero and has no direction \(2 such\)"):
        Features(vectors, IDS, "image", "image")


def test_an_id_given_twice_is_named() -> None:
    with pytest.raises(XgapError, match="id 'a' stands for more than one vector"):
        Features(some(), ["a", "b", "a"], "image", "image")


def test_ids_and_vectors_that_do_not_fit() -> None:
    with pytest.raises(XgapError, match="2 ids were given for 3 vectors"):
        Features(some(), ["a", "b"], "image", "image")
    with pytest.raises(XgapError, match=r"must be a matrix \[n, d\], not of shape \(4,\)"):
        Features(some()[0], ["a"], "image", "image")


def test_select_takes_rows_by_id_in_the_given_order_and_keeps_the_rest() -> None:
    made = Features(some(), IDS, "text", "image", {"model": "tiny"})
    chosen = made.select(i for i in ("c", "a"))
    assert chosen.ids == ("c", "a")
    assert torch.equal(chosen.vectors, made.vectors[[2, 0]])
    assert (chosen.space, chosen.origin, chosen.provenance["model"]) == ("text", "image", "tiny")
    assert len(made.select([])) == 0
    assert made.select([]).dim == 4


def test_select_of_ids_that_are_not_there_names_the_first() -> None:
    made = Features(some(), IDS, "image", "image")
    with pytest.raises(XgapError, match="2 ids have no vector here, the first is 'x'"):
        made.select(["a", "x", "y"])


def test_an_id_is_one_item_where_ids_are_names_and_in_one_set_where_they_are_numbers() -> None:
    def numbered(items: str, origin: str = "image") -> Features:
        return Features(some(), "012", "image", origin, items=items)

    assert numbered("x").has_items_of(numbered("x"))
    assert not numbered("x").has_items_of(numbered("y"))
    assert not numbered("x").has_items_of(numbered("x", "text"))
    assert numbered("").has_items_of(numbered(""))
    assert not numbered("x").has_items_of(numbered(""))
    assert numbered("x").numbered
    assert not numbered("").numbered
    assert not Features(some(), IDS, "image", "image", items="x").numbered
    assert numbered("x").select("20").items == numbered("x").to("cpu").items == "x"


def test_to_another_device_keeps_bits_and_ids() -> None:
    made = Features(some(), IDS, "image", "image")
    moved = made.to("cpu")
    assert torch.equal(moved.vectors, made.vectors)
    assert moved.ids == made.ids


def test_an_unknown_name_offers_the_nearest_or_else_some_that_are_known() -> None:
    assert str(unknown_name("model", "tinny", ["tiny", "large"])) == "unknown model 'tinny'; nearest names: tiny"
    assert "large, tiny" in str(unknown_name("model", "zzz", ["tiny", "large"]))
    assert isinstance(unknown_name("model", "x", []), ValueError)


def test_ids_are_the_words_and_numbers_that_they_spell() -> None:
    assert Features(some(), [b"a", 7, 8.0], "text", "text").ids == ("a", "7", "8")
    assert Features(some(), np.array(["a", "b", "c"], dtype="S1"), "text", "text").ids == IDS
    assert Features(some(), torch.arange(3), "text", "text").ids == ("0", "1", "2")
    for wrong in (None, float("nan"), [1], b"\xff"):
        with pytest.raises(XgapError, match=r"an id is a word or a number|not UTF-8 text"):
            Features(some(), ["a", "b", wrong], "text", "text")  # type: ignore[list-item]
