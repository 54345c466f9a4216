"""The registry of corrections, their options, and the two shifts against numpy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.corrections import CORRECTIONS, Calibration, FeatureMap, correction, register_correction


def features(n: int, d: int, space: str, seed: int, origin: str | None = None) -> Features:
    vectors = torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + 0.5
    return Features(vectors, [f"{space}-{seed}-{i}" for i in range(n)], space, origin or space, {"model": "none"})


def calibration(d: int = 6, seed: int = 0) -> Calibration:
    return Calibration({"image": features(20, d, "image", seed), "text": features(15, d, "text", seed + 1)}, "train")


def opposite(calibration: Calibration) -> FeatureMap:
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
    center = correction("center").fit(Calibration({"image": images, "text": texts}, "train"))

    def gap(x: Features, y: Features) -> float:
        return float((x.vectors.mean(0) - y.vectors.mean(0)).norm())

    assert gap(images, texts) > 1.5
    assert gap(center(images), center(texts)) < 0.3


def test_center_refuses_a_side_or_a_dimension_it_was_not_fitted_on() -> None:
    center = correction("center").fit(calibration(6))
    with pytest.raises(
        XgapError, match="there are no calibration features of space 'audio'; the calibration set has: image, text"
    ):
        center(features(3, 6, "audio", 0))
    with pytest.raises(XgapError, match=r"7 dimensions.* 6"):
        center(features(3, 7, "image", 0))


def test_a_corrected_vector_is_distinguished_from_the_native_one() -> None:
    # Work kept in the store may be found by provenance.
    native = Features(torch.eye(3, 6), list("abc"), "image", "image", {"model": "tiny", "digest": "0" * 64})
    made = correction("center").fit(calibration())(native)
    assert made.provenance == {"model": "tiny", "correction": "center", "fitted_on": "train"}


def test_none_gives_the_same_features_back() -> None:
    given_features = features(3, 6, "image", 0)
    assert correction("none").fit(calibration())(given_features) is given_features


def test_a_registered_correction_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CORRECTIONS, "_entries", dict(CORRECTIONS))
    assert register_correction("mine", transductive=True)(opposite) is opposite
    made = correction("mine").fit(calibration())(features(3, 6, "image", 0))
    assert torch.equal(made.vectors, -features(3, 6, "image", 0).vectors)
    assert correction("mine").transductive
    assert not correction("center").transductive


def test_a_name_is_given_once() -> None:
    before = correction("center")
    with pytest.raises(XgapError, match="there is a correction named 'center' already"):
        register_correction("center")(opposite)
    assert correction("center") == before


def test_the_same_code_may_register_its_correction_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CORRECTIONS, "_entries", dict(CORRECTIONS))
    given_features = features(3, 6, "image", 0)

    def vectors() -> torch.Tensor:
        return correction("mine").fit(calibration())(given_features).vectors

    def cell(sign: int) -> None:  # of a notebook, changed and run again
        @register_correction("mine")
        def mine(calibration: Calibration) -> FeatureMap:
            return lambda f: replace(f, vectors=sign * f.vectors)

    cell(1)
    assert torch.equal(vectors(), given_features.vectors)
    with pytest.warns(UserWarning, match="the correction 'mine' is replaced by its new definition"):
        cell(-1)
    assert torch.equal(vectors(), -given_features.vectors)
    with pytest.raises(XgapError, match=r"already, from .*test_protocol.*mine; register yours under another name"):
        register_correction("mine")(opposite)


def test_any_cell_of_a_notebook_may_replace_what_another_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CORRECTIONS, "_entries", dict(CORRECTIONS))

    def first(calibration: Calibration) -> FeatureMap:
        return lambda f: f

    def second(calibration: Calibration) -> FeatureMap:
        return lambda f: f

    first.__module__ = second.__module__ = "__main__"
    register_correction("mine")(first)
    with pytest.warns(UserWarning, match="replaced"):
        register_correction("mine")(second)
    assert correction("mine").maker is second
    with pytest.raises(XgapError, match="'center' already"):  # the package's own are not replaced
        register_correction("center")(second)


def test_an_unknown_correction_offers_the_nearest_names() -> None:
    with pytest.raises(XgapError, match=r"unknown correction 'centre'; nearest names: .*center"):
        correction("centre")


@settings(max_examples=20)
@given(st.integers(2, 12), st.integers(0, 1000), st.floats(-1, 2))
def test_gap_shift_moves_the_modalities_along_the_vector_between_their_means(d: int, seed: int, by: float) -> None:
    fitted = calibration(d, seed)
    made = correction("gap-shift", lambda_=by).fit(fitted)
    gap = np.subtract(*(side.vectors.numpy().astype(np.float64).mean(0) for side in (fitted.images, fitted.texts)))
    for space, sign in (("image", -1), ("text", 1)):
        given_features = features(5, d, space, seed + 2)
        moved = given_features.vectors.numpy().astype(np.float64) + sign * by * gap
        np.testing.assert_allclose(
            made(given_features).vectors.numpy(), moved / np.linalg.norm(moved, axis=1, keepdims=True), atol=1e-6
        )


def test_options_are_read_from_a_name_as_from_keywords() -> None:
    made = correction("pca-text(rank=64, words=classes, centred=False)")
    assert made.options == {"rank": 64, "words": "classes", "centred": False}
    assert str(made) == "pca-text(rank=64, words=classes, centred=False)"
    assert made == correction("pca-text", rank=64, words="classes", centred=False) == correction(str(made))
    assert correction("isoclip(k_top=2)", k_bottom=1).options == {"k_top": 2, "k_bottom": 1}
    assert correction(correction("center")) == correction("center")
    assert str(correction("center()")) == "center"


@pytest.mark.parametrize("wrong", ["pca-text(rank=64", "pca-text(64)", "pca-text(rank=)", "pca-text(**x)"])
def test_options_that_cannot_be_read_are_refused(wrong: str) -> None:
    with pytest.raises(XgapError, match=r"is not written like|takes options by name"):
        correction(wrong)


def test_an_option_that_a_correction_has_not_offers_the_nearest() -> None:
    with pytest.raises(XgapError, match=r"option of pca-text.*rank"):
        correction("pca-text", ranks=3)
    with pytest.raises(XgapError, match="option of center"):
        correction("center(rank=3)")


def test_an_installed_package_brings_its_corrections_by_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CORRECTIONS, "_entries", dict(CORRECTIONS))
    monkeypatch.setattr(CORRECTIONS, "_loaded", False)

    class Entry:
        def load(self) -> None:
            register_correction("theirs")(opposite)

    found = {"xgap_analysis.corrections": [Entry()]}
    monkeypatch.setattr("xgap_analysis.core.registry.entry_points", lambda group: found[group])
    given_features = features(3, 6, "image", 0)
    assert torch.equal(correction("theirs").fit(calibration())(given_features).vectors, -given_features.vectors)


def test_a_correction_of_similarities_has_no_map_of_features() -> None:
    fitted = correction("inverted-softmax").fit(calibration())
    assert not fitted.changes_features
    with pytest.raises(XgapError, match="changes scores: use its apply"):
        fitted(features(3, 6, "image", 0))


def test_two_sides_meet_each_corrected_on_its_own() -> None:
    fitted = correction("center").fit(calibration())
    query, gallery = features(3, 6, "image", 7), features(4, 6, "text", 8)
    sides = fitted.apply(query, gallery)
    assert torch.equal(sides.query.vectors, fitted(query).vectors)
    assert torch.equal(sides.gallery.vectors, fitted(gallery).vectors)
    assert sides.normalise is None
    assert sides.gallery.provenance["correction"] == "center"


@pytest.mark.parametrize("name", ["realign", "shared-noise"])
def test_spaces_of_different_dimensions_are_one_sentence(name: str) -> None:
    random = np.random.default_rng(0)
    images = Features(random.normal(size=(20, 4)), range(20), space="image", origin="image")
    texts = Features(random.normal(size=(20, 6)), range(20), space="text", origin="text")
    with pytest.raises(XgapError, match="of one dimension"):
        correction(name).fit(Calibration({"image": images, "text": texts}, split="train"))
