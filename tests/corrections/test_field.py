"""ReAlign, the orthogonal shift and shared noise: each against numpy, and its known answers."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.corrections import Calibration, correction
from xgap_analysis.metrics import modality_gap, retrieval

Array = NDArray[np.float64]


def unit(x: Array) -> Array:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def features(rows: Array, space: str, name: str = "") -> xg.Features:
    return xg.Features(rows, [f"{name or space}-{i}" for i in range(len(rows))], space, space)


def rows(x: xg.Features) -> Array:
    return x.vectors.numpy().astype(np.float64)


def calibration(images: Array, texts: Array) -> Calibration:
    return Calibration({"image": features(images, "image"), "text": features(texts, "text")}, "train")


def on_a_sphere(seed: int, n: int, d: int = 32, width: float = 1.0, towards: int = 0) -> Array:
    """Gaussian vectors around a direction, of unit length."""
    middle = np.eye(d)[towards] * 4
    return unit(np.random.default_rng(seed).normal(size=(n, d)) * width + middle)


# ReAlign


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_realign_is_its_formula(steps: int) -> None:
    images, texts, new = on_a_sphere(0, 41), on_a_sphere(1, 57, width=0.6, towards=1), on_a_sphere(2, 7, towards=1)
    a, b, x = (rows(features(part, "text")) for part in (images, texts, new))
    scale = 1.0
    if steps > 1:
        scale = np.sqrt(((a - a.mean(0)) ** 2).sum(1).mean() / ((b - b.mean(0)) ** 2).sum(1).mean())
    first = unit(scale * (x - b.mean(0)) + a.mean(0))
    of_texts = unit(scale * (b - b.mean(0)) + a.mean(0))
    expected = first if steps < 3 else unit(first - of_texts.mean(0) + a.mean(0))
    made = correction("realign", steps=steps).fit(calibration(images, texts))(features(new, "text"))
    np.testing.assert_allclose(rows(made), expected, atol=1e-6)


def test_each_step_of_realign_brings_two_gaussians_on_a_sphere_nearer_and_not_to_zero() -> None:
    images, texts = on_a_sphere(0, 4000), on_a_sphere(1, 4000, width=0.7, towards=1)
    fitted = [correction("realign", steps=n).fit(calibration(images, texts)) for n in (1, 2, 3)]
    x, y = features(images, "image"), features(texts, "text")
    gaps = [modality_gap(x, y), *(modality_gap(x, by(y)) for by in fitted)]
    assert gaps[0] > 0.3
    assert gaps[1] < 0.1 * gaps[0]
    assert gaps[3] < min(gaps[1], gaps[2])
    assert 0 < gaps[3] < 0.01
    assert fitted[2](x) is x  # the other modality stays


def test_realign_of_two_modalities_of_one_distribution_changes_little() -> None:
    images, texts = on_a_sphere(0, 5000), on_a_sphere(1, 5000)
    made = correction("realign").fit(calibration(images, texts))(features(texts, "text"))
    assert (made.vectors * features(texts, "text").vectors).sum(1).min() > 0.99


def test_realign_moves_onto_any_space_and_refuses_what_it_cannot_do() -> None:
    given = calibration(on_a_sphere(0, 9), on_a_sphere(1, 9))
    texts = features(on_a_sphere(3, 4), "text")
    assert correction("realign", onto="text").fit(given)(texts) is texts
    with pytest.raises(XgapError, match="no calibration features of space 'audio'"):
        correction("realign", onto="audio").fit(given)
    with pytest.raises(XgapError, match="steps 1, 2 and 3, not 4"):
        correction("realign", steps=4).fit(given)
    with pytest.raises(XgapError, match="are all the same"):
        correction("realign").fit(calibration(on_a_sphere(0, 9), np.ones((9, 32))))
    with pytest.raises(XgapError, match="dimensions"):
        correction("realign").fit(given)(features(np.eye(4), "text"))


# The orthogonal shift


def flat(seed: int, n: int, d: int = 24, rank: int = 9) -> Array:
    """Vectors that span `rank` of d dimensions."""
    basis = np.linalg.qr(np.random.default_rng(77).normal(size=(d, d)))[0][:, :rank]
    return np.random.default_rng(seed).normal(0.4, 1, (n, rank)) @ basis.T


@pytest.mark.parametrize("lambda_", [0.3, 1.0, -2.0])
def test_no_ranking_changes_however_far_the_orthogonal_shift_goes(lambda_: float) -> None:
    images, texts = np.random.default_rng(0).normal(0.5, 1, (60, 24)), flat(1, 50)
    query, gallery = features(images, "image", "q"), features(flat(2, 30), "text", "g")
    pair = correction("orthogonal-shift", lambda_=lambda_).fit(calibration(images, texts)).apply(query, gallery)
    a, b = rows(features(images, "image")), rows(features(texts, "text"))
    gap = a.mean(0) - b.mean(0)
    projector = np.linalg.pinv(b, rcond=1e-5) @ b
    off = gap - projector @ gap
    np.testing.assert_allclose(rows(pair.query), unit(rows(query) - lambda_ * off), atol=1e-6)
    assert pair.gallery is gallery
    assert f"{np.linalg.norm(off) / np.linalg.norm(gap):.3f} of the gap's length" in pair.note
    before, after = rows(query) @ rows(gallery).T, rows(pair.query) @ rows(gallery).T
    assert (before.argmax(1) == after.argmax(1)).all()
    ratio = after / before
    np.testing.assert_allclose(ratio, ratio[:, :1].repeat(30, 1), rtol=1e-3)  # one factor a query


def test_closing_the_orthogonal_gap_makes_it_zero_where_all_of_it_is_orthogonal() -> None:
    rng = np.random.default_rng(0)
    texts = rng.normal(size=(200, 24)) * (np.arange(24) < 20)
    images = unit(texts - texts.mean(0) + 0.001 * rng.normal(size=texts.shape)) + 3 * np.eye(24)[21]
    given = calibration(images, texts - texts.mean(0))
    pair = correction("orthogonal-shift").fit(given).apply(given.images, given.texts)
    assert modality_gap(given.images, given.texts) > 0.9
    assert modality_gap(pair.query, pair.gallery) < 0.1


def test_a_span_of_part_of_the_energy_has_the_leading_directions() -> None:
    from xgap_analysis.corrections.orthogonal import span_of

    x = np.random.default_rng(0).normal(size=(40, 8)) * 2.0 ** -np.arange(8)
    values = np.linalg.svd(x)[1]
    share = np.cumsum(values**2) / (values**2).sum()
    for energy in (0.5, 0.9, 0.99):
        basis = span_of(torch.from_numpy(x), energy)
        assert basis.shape[1] == int((share < energy).sum()) + 1
    assert span_of(torch.from_numpy(x)).shape[1] == 8
    assert span_of(torch.from_numpy(flat(0, 50))).shape[1] == 9


def test_what_the_orthogonal_shift_cannot_do_is_said() -> None:
    given = calibration(on_a_sphere(0, 60, 8), on_a_sphere(1, 60, 8))
    with pytest.raises(XgapError, match="span all 8 dimensions, so that no part of the gap is orthogonal"):
        correction("orthogonal-shift").fit(given).apply(given.images, given.texts)
    with pytest.raises(XgapError, match=r"in \(0, 1\], not 0"):
        correction("orthogonal-shift", energy=0.0).fit(given)
    same = correction("orthogonal-shift").fit(given).apply(given.images, given.images)
    assert same.query is given.images
    assert "one space, 'image': there is no gap" in same.note
    part = correction("orthogonal-shift", energy=0.8).fit(given).apply(given.images, given.texts)
    assert "directions" in part.note


# Shared noise


def noisy(seed: int, n: int, quiet: int, d: int = 16) -> Array:
    """Loud in all directions of a rotation but the last `quiet`."""
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(d, d)))[0]
    scale = np.where(np.arange(d) < d - quiet, 1.0, 0.02)
    return np.random.default_rng(seed).normal(size=(n, d)) * scale @ turn.T


def test_shared_noise_finds_the_planted_directions_and_its_control_others() -> None:
    given = calibration(noisy(0, 400, 4), noisy(1, 400, 4))
    planted = np.linalg.qr(np.random.default_rng(5).normal(size=(16, 16)))[0][:, -4:]
    x = features(noisy(2, 9, 4) + 0.5, "image")
    made = rows(correction("shared-noise", share=0.25).fit(given)(x))
    np.testing.assert_allclose(made, unit(rows(x) - rows(x) @ planted @ planted.T), atol=0.02)
    control = rows(correction("shared-noise-random", share=0.25).fit(given)(x))
    assert np.linalg.matrix_rank(control, tol=1e-4) == 9
    assert np.abs(control - made).max() > 0.1
    assert correction("shared-noise-random").control
    # As many directions are gone: 12 of 16 are left.
    many = features(noisy(3, 60, 4) + 0.5, "image")
    for name in ("shared-noise", "shared-noise-random"):
        assert np.linalg.matrix_rank(rows(correction(name).fit(given)(many)), tol=1e-4) == 12


def test_where_halves_do_not_agree_nothing_is_removed() -> None:
    given = calibration(np.random.default_rng(0).normal(size=(60, 16)), np.random.default_rng(1).normal(size=(60, 16)))
    x = features(noisy(2, 9, 4), "image")
    made = correction("shared-noise", share=0.1, agree=0.999).fit(given)(x)
    np.testing.assert_allclose(rows(made), rows(x), atol=1e-6)


def test_directions_that_nothing_spans_are_not_counted_as_noise() -> None:
    given = calibration(flat(0, 400), flat(1, 400))  # 9 of 24 dimensions
    x = features(flat(2, 60), "image")
    made = correction("shared-noise", share=0.25, agree=0.01).fit(given)(x)
    assert np.linalg.matrix_rank(rows(made), tol=1e-4) == 9 - 2


@pytest.mark.parametrize(("options", "said"), [({"share": 0.6}, "share lies in"), ({"agree": 0.0}, "agree in")])
def test_shares_out_of_range_are_refused(options: dict[str, float], said: str) -> None:
    with pytest.raises(XgapError, match=said):
        correction("shared-noise", **options).fit(calibration(flat(0, 40), flat(1, 40)))


def test_two_halves_need_items() -> None:
    with pytest.raises(XgapError, match="space 'text' has 3 items"):
        correction("shared-noise").fit(calibration(flat(0, 40), flat(1, 3)))


def test_pruning_noise_that_both_modalities_share_helps_retrieval_and_the_control_does_not() -> None:
    """Concepts in 12 directions; a modality's own offset lies in the quiet ones, where nothing varies much."""
    rng = np.random.default_rng(0)
    kinds = np.repeat(rng.normal(size=(40, 16)) * (np.arange(16) < 12), 5, axis=0)
    offset = np.where(np.arange(16) < 12, 0, 3.0)
    x = kinds + 0.3 * rng.normal(size=kinds.shape) * np.where(np.arange(16) < 12, 1, 0.1)
    y = (
        kinds
        + 0.3 * rng.normal(size=kinds.shape) * np.where(np.arange(16) < 12, 1, 0.1)
        + offset * rng.uniform(0.8, 1.2, (200, 1))
    )
    given = calibration(x, y)
    labels = {f"{space}-{i}": f"{i // 5}" for space in ("image", "text") for i in range(200)}
    relevance = xg.Relevance.from_labels(labels, labels)
    values = {}
    for name in ("none", "shared-noise", "shared-noise-random"):
        fitted = correction(name).fit(given)
        values[name] = retrieval(fitted(given.images), fitted(given.texts), relevance)["ap"].mean()
    assert values["shared-noise"] >= values["none"] - 1e-6
    assert values["shared-noise-random"] < values["shared-noise"]
