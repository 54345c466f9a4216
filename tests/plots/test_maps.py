"""Two sides on a plane: places, moves and numbers are what other code says they are."""

import math

import numpy as np
import pytest
import torch

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.progress import Cancelled, watched
from xgap_analysis.corrections import Calibration, correction
from xgap_analysis.datasets import Relevance
from xgap_analysis.metrics import modality_gap, retrieval, zero_shot
from xgap_analysis.plots import maps


def side(space: str, seed: int, n: int = 20, d: int = 6) -> Features:
    vectors = torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + (1.0 if space == "image" else -1.0)
    return Features(vectors, [f"{space[0]}{k}" for k in range(n)], space, space)


@pytest.fixture
def sides() -> tuple[Features, Features]:
    return side("image", 0), side("text", 1, 24)


def test_pca_is_the_singular_value_decomposition(sides: tuple[Features, Features]) -> None:
    plane = maps.plane_map(*sides)
    both = torch.cat([x.vectors for x in sides]).double()
    centred = both - both.mean(0)
    _, values, right = torch.linalg.svd(centred, full_matrices=False)
    expected = (centred @ right[:2].T).numpy()
    found = np.concatenate(plane.places)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-5)  # an axis may point either way
    assert plane.share == pytest.approx(float(values[:2].square().sum() / values.square().sum()), abs=1e-5)
    np.testing.assert_allclose(plane.place(sides[0]), plane.places[0], atol=1e-5)


def test_the_plane_of_the_gap_has_the_gap_as_its_x_axis(sides: tuple[Features, Features]) -> None:
    plane = maps.plane_map(*sides, method="gap")
    images, texts = (x.vectors.double().numpy() for x in sides)
    gap = images.mean(0) - texts.mean(0)
    middle = (images.mean(0) + texts.mean(0)) / 2
    np.testing.assert_allclose(plane.places[0][:, 0], (images - middle) @ gap / np.linalg.norm(gap), atol=1e-6)
    assert plane.places[0][:, 0].mean() == pytest.approx(np.linalg.norm(gap) / 2, abs=1e-6)
    assert plane.places[1][:, 0].mean() == pytest.approx(-np.linalg.norm(gap) / 2, abs=1e-6)
    both = np.concatenate([images, texts])
    centred = both - both.mean(0)
    onto = np.eye(len(gap)) - np.outer(gap, gap) / (gap @ gap)
    _, values, right = np.linalg.svd(centred @ onto, full_matrices=False)
    up = np.concatenate(plane.places)[:, 1]
    np.testing.assert_allclose(np.abs(up), np.abs((both - middle) @ onto @ right[0]), atol=1e-5)
    shown = values[0] ** 2 + ((centred @ gap) ** 2).sum() / (gap @ gap)
    assert plane.share == pytest.approx(shown / (centred**2).sum(), abs=1e-6)
    np.testing.assert_allclose(plane.place(sides[1]), plane.places[1], atol=1e-6)
    with pytest.raises(XgapError, match="the same mean"):
        maps.plane_map(sides[0], sides[0], method="gap")
    with pytest.raises(XgapError, match="between two modalities, not 3"):
        maps.plane_map(*sides, sides[0], method="gap")


def test_a_map_is_fitted_once_for_the_same_vectors(sides: tuple[Features, Features]) -> None:
    again = tuple(Features(x.vectors.clone(), x.ids, x.space, x.origin) for x in sides)
    assert maps.plane_map(*sides) is maps.plane_map(*again)
    assert maps.plane_map(*sides) is not maps.plane_map(sides[0], side("text", 2, 24))


@pytest.mark.slow
def test_umap_places_both_modalities_and_can_be_ended(sides: tuple[Features, Features]) -> None:
    plane = maps.plane_map(*sides, method="umap")
    assert plane.places[0].shape == (20, 2)
    assert plane.places[1].shape == (24, 2)
    assert math.isnan(plane.share)
    moved = plane.place(maps.move_modalities(0.2, *sides)[0])
    assert moved.shape == (20, 2)
    assert np.isfinite(moved).all()

    def never(what: str, done: int, total: int) -> None:
        raise Cancelled

    with watched(never), pytest.raises(Cancelled):
        plane.place(sides[0])


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3, 5, 15])
@pytest.mark.filterwarnings("ignore")
def test_umap_of_a_few_items(n: int) -> None:
    sides = side("image", 0, n), side("text", 1, 1)
    plane = maps.plane_map(*sides, method="umap")
    assert (plane.places[0].shape, plane.places[1].shape) == ((n, 2), (1, 2))
    assert np.isfinite(plane.place(sides[0])).all()


@pytest.mark.parametrize("lambda_", [-0.5, 0.3, 0.5, 1.0])
def test_sides_move_as_the_correction_moves_them(sides: tuple[Features, Features], lambda_: float) -> None:
    classes = side("text", 3, 4)
    images, texts, named = maps.move_modalities(lambda_, *sides, classes)
    g = sides[0].vectors.double().mean(0) - sides[1].vectors.double().mean(0)
    for before, after, sign in ((sides[0], images, -1), (sides[1], texts, 1), (classes, named, 1)):
        expected = torch.nn.functional.normalize(before.vectors.double() + sign * lambda_ * g, dim=1).float()
        torch.testing.assert_close(after.vectors, expected, atol=1e-6, rtol=0)
    shift = correction("gap-shift", lambda_=lambda_).fit(Calibration({f.space: f for f in sides}, "here"))
    torch.testing.assert_close(shift(sides[0]).vectors, images.vectors)


def test_lambda_0_changes_no_bit(sides: tuple[Features, Features]) -> None:
    images, texts = maps.move_modalities(0.0, *sides)
    assert images is sides[0]
    assert texts is sides[1]


def test_the_numbers_are_those_of_the_metrics(sides: tuple[Features, Features]) -> None:
    images, texts = sides
    label = {item: str(int(item[1:]) % 4) for x in sides for item in x.ids}
    relevance = Relevance.from_labels(label, label)
    classes = Features(side("text", 3, 4).vectors, list("0123"), "text", "text")
    numbers = maps.gap_numbers(images, texts, relevance, classes, label)
    assert numbers == pytest.approx(
        {
            "modality_gap": modality_gap(images, texts),
            "zero_shot_top1": zero_shot(images, classes, label)["correct_at_1"].mean(),
            "ap_image_to_text": retrieval(images, texts, relevance)["ap"].mean(),
            "ap_text_to_image": retrieval(texts, images, relevance)["ap"].mean(),
        }
    )
    assert list(maps.gap_numbers(images, texts)) == ["modality_gap"]
    some = images.ids[:5], texts.ids[3:9]
    asked = maps.gap_numbers(images, texts, relevance, classes, label, (images.select(images.ids[:4]), texts), some)
    assert asked["modality_gap"] == pytest.approx(modality_gap(images.select(images.ids[:4]), texts))
    query = texts.select(some[1])
    assert asked["ap_text_to_image"] == pytest.approx(retrieval(query, images, relevance)["ap"].mean())
    right = zero_shot(images.select(some[0]), classes, label)["correct_at_1"].mean()
    assert asked["zero_shot_top1"] == pytest.approx(right)
    nothing = Relevance.from_labels(dict.fromkeys(images.ids, "a") | dict.fromkeys(texts.ids, "b"), label)
    assert list(maps.gap_numbers(images, texts, nothing)) == ["modality_gap"]


def test_partners_are_what_is_relevant_and_cosines_are_products(sides: tuple[Features, Features]) -> None:
    images, texts = sides
    label = {item: str(int(item[1:]) % 4) for x in sides for item in x.ids}
    found = maps.partners("i3", texts, Relevance.from_labels(label, label))
    assert found == [k for k in range(24) if k % 4 == 3]
    assert maps.partners("stranger", texts, Relevance.from_labels(label, label)) == []
    graded = Relevance.from_qrels({"i3": {"t7": 2, "t1": 0}})
    assert maps.partners("i3", texts, graded) == [7]
    both = torch.cat([images.vectors, texts.vectors]).numpy()
    np.testing.assert_allclose(maps.cosines(images.select(["i3"]), images, texts), both @ both[3], atol=1e-6)


def test_mistakes_are_reported(sides: tuple[Features, Features]) -> None:
    with pytest.raises(XgapError, match="unknown map 'tsne'"):
        maps.plane_map(*sides, method="tsne")
    with pytest.raises(XgapError, match="6 and 5 dimensions"):
        maps.plane_map(sides[0], side("text", 1, d=5))
    with pytest.raises(XgapError, match="at least three vectors"):
        maps.plane_map(side("image", 0, 1), side("text", 0, 1))
