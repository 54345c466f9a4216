"""Fused queries of several modalities: against numpy, one modality alone, and one that is left out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError


def rows(seed: int, n: int, space: str, ids: list[str] | None = None) -> xg.Features:
    vectors = np.random.default_rng(seed).normal(size=(n, 5))
    return xg.Features(vectors, ids or [f"{space}{i}" for i in range(n)], space, space)


@given(st.integers(0, 20), st.tuples(*[st.floats(0.1, 3)] * 3))
def test_a_fused_query_is_the_weighted_sum_of_what_each_modality_says_of_it(
    seed: int, weights: tuple[float, ...]
) -> None:
    spaces = ("image", "text", "audio")
    image, text, audio = (rows(seed + k, 4, space) for k, space in enumerate(spaces))
    labels = {f"{space}{i}": str((i + turn) % 4) for turn, space in enumerate(spaces) for i in range(4)}
    made = xg.fuse_modalities(
        {"image": image, "text": text, "audio": audio},
        dict(zip(spaces, weights, strict=True)),
        labels=labels,
    )
    x, t, a = (np.asarray(of, np.float64) for of in (image, text, audio))
    order = {turn: [(i - turn) % 4 for i in range(4)] for turn in range(3)}
    expected = weights[0] * x + weights[1] * t[order[1]] + weights[2] * a[order[2]]
    np.testing.assert_allclose(np.asarray(made), expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)
    assert (made.ids, made.space, made.origin) == (image.ids, "image", "image")


def test_a_weight_of_one_is_that_modality_alone_to_the_bit() -> None:
    image, text = rows(0, 4, "image", list("abcd")), rows(1, 4, "text", list("dcba"))
    sets = {"image": image, "text": text}
    assert np.array_equal(np.asarray(xg.fuse_modalities(sets, {"image": 1, "text": 0})), np.asarray(image))
    assert np.array_equal(
        np.asarray(xg.fuse_modalities(sets, {"image": 0, "text": 1})), np.asarray(text.select("abcd"))
    )
    both, two = xg.fuse_modalities(sets, {"image": 0.3, "text": 0.7}), xg.fuse(image, text, 0.7)
    np.testing.assert_allclose(np.asarray(both), np.asarray(two), atol=1e-7)


def test_weights_belong_to_modalities_by_name_in_any_order() -> None:
    sets = {space: np.eye(3)[[k]] for k, space in enumerate(("image", "text", "audio"))}
    made = xg.fuse_modalities(sets, {"audio": 3.0, "image": 1.0, "text": 2.0})
    np.testing.assert_allclose(np.asarray(made), np.array([[1, 2, 3]]) / np.sqrt(14), atol=1e-6)


def test_an_item_that_lacks_a_modality_is_refused_or_keeps_what_it_has() -> None:
    sets = {"image": rows(0, 3, "image", list("abc")), "text": rows(1, 2, "text", list("ab"))}
    weights = {"image": 1.0, "text": 1.0}
    with pytest.raises(XgapError, match="item 'c' has no text; give labels that pair them"):
        xg.fuse_modalities(sets, weights)
    made = xg.fuse_modalities(sets, weights, without="drop")
    np.testing.assert_allclose(np.asarray(made)[2], np.asarray(sets["image"])[2], atol=1e-7)
    assert np.isfinite(np.asarray(made)).all()
    assert len(xg.fuse_modalities(sets, {"image": 1.0, "text": 0.0})) == 3  # a weight of 0 asks for no text
    with pytest.raises(XgapError, match="the vector of item 'c' is zero"):
        xg.fuse_modalities(sets, {"image": 0.0, "text": 1.0}, without="drop")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"image": 1.0}, "sets of image, text and weights of image"),
        ({"image": 1.0, "text": -1.0}, "weights of modalities are 0 or more"),
        ({"image": 0.0, "text": 0.0}, "one of them is above 0"),
    ],
)
def test_weights_that_make_no_query_are_refused(weights: dict[str, float], message: str) -> None:
    sets = {"image": rows(0, 3, "image", list("abc")), "text": rows(1, 3, "text", list("abc"))}
    with pytest.raises(XgapError, match=message):
        xg.fuse_modalities(sets, weights)
    with pytest.raises(XgapError, match="without is"):
        xg.fuse_modalities(sets, {"image": 1.0, "text": 1.0}, without="zero")
    wide = {"image": sets["image"], "text": np.eye(3)}
    with pytest.raises(XgapError, match="image has 5 dimensions and text 3"):
        xg.fuse_modalities(wide, {"image": 1.0, "text": 1.0})
