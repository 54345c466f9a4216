"""The registry of corrections, and centring against numpy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xgap_analysis.corrections import CORRECTIONS, Calibration, Correct, correction, register
from xgap_analysis.errors import XgapError
from xgap_analysis.features import Features


def features(n: int, d: int, space: str, seed: int, origin: str | None = None) -> Features:
    vectors = torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + 0.5
    return Features(vectors, [f"{space}-{seed}-{i}" for i in range(n)], space, origin or space, {"model": "none"})


def calibration(d: int = 6, seed: int = 0) -> Calibration:
    return Calibration(features(20, d, "image", seed), features(15, d, "text", seed + 1), "train")


def opposite(calibration: Calibration) -> Correct:
    return lambda given: replace(given, vectors=-given.vectors)


@settings(max_examples=20)
@given(st.integers(2, 12), st.integers(0, 1000), st.sampled_from(["image", "text"]))
def test_center_subtracts_the_calibration_mean_of_the_side_and_scales(d: int, seed: int, space: str) -> None:
    fitted = calibration(d, seed)
    given_features = features(5, d, space, seed + 2)
    made = correction("center").fit(fitted)(given_features)
    mean = {"image": fitted.images, "text": fitted.texts}[space].vectors.numpy().astype(np.float64).mean(0)
    moved = given_features.vectors.numpy().astype(np.float64) - mean
    expected = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    np.testing.assert_allclose(made.vectors.numpy(), expected, atol=1e-6)
    assert (made.ids, made.space, made.origin) == (given_features.ids, space, space)


def test_center_moves_an_inverted_image_by_the_mean_of_the_text_side() -> None:
    fitted = calibration()
    center = correction("center").fit(fitted)
    oti = features(4, 6, "text", 9, origin="image")
    text = Features(oti.vectors, oti.ids, "text", "text")
    assert torch.equal(center(oti).vectors, center(text).vectors)
    assert center(oti).origin == "image"


def test_center_closes_the_gap_of_what_it_was_fitted_on() -> None:
    vectors = torch.randn(200, 8, generator=torch.Generator().manual_seed(3))
    images = Features(vectors[:100] + 2, [f"i{i}" for i in range(100)], "image", "image")
    texts = Features(vectors[100:] - 2, [f"t{i}" for i in range(100)], "text", "text")
    center = correction("center").fit(Calibration(images, texts, "train"))

    def gap(x: Features, y: Features) -> float:
        return float((x.vectors.mean(0) - y.vectors.mean(0)).norm())

    assert gap(images, texts) > 1.5
    assert gap(center(images), center(texts)) < 0.3


def test_center_refuses_a_side_or_a_dimension_it_was_not_fitted_on() -> None:
    center = correction("center").fit(calibration(6))
    with pytest.raises(XgapError, match="no mean for space 'audio'; fitted on: image, text"):
        center(features(3, 6, "audio", 0))
    with pytest.raises(XgapError, match=r"7 dimensions.* 6"):
        center(features(3, 7, "image", 0))


def test_a_corrected_vector_is_told_apart_from_the_native_one() -> None:
    # Work kept in the store may be found by provenance.
    native = Features(torch.eye(3, 6), list("abc"), "image", "image", {"model": "tiny", "digest": "0" * 64})
    made = correction("center").fit(calibration())(native)
    assert made.provenance == {"model": "tiny", "correction": "center", "fitted_on": "train"}


def test_none_gives_the_same_features_back() -> None:
    given_features = features(3, 6, "image", 0)
    assert correction("none").fit(calibration())(given_features) is given_features


def test_a_registered_correction_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xgap_analysis.corrections.CORRECTIONS", dict(CORRECTIONS))
    assert register("mine", transductive=True)(opposite) is opposite
    made = correction("mine").fit(calibration())(features(3, 6, "image", 0))
    assert torch.equal(made.vectors, -features(3, 6, "image", 0).vectors)
    assert correction("mine").transductive
    assert not correction("center").transductive


def test_a_name_is_given_once() -> None:
    before = correction("center")
    with pytest.raises(XgapError, match="there is a correction named 'center' already"):
        register("center")(opposite)
    assert correction("center") is before


def test_an_unknown_correction_offers_the_nearest_names() -> None:
    with pytest.raises(XgapError, match=r"unknown correction 'centre'; nearest names: .*center"):
        correction("centre")
