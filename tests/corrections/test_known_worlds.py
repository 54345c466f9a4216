"""Worlds with a planted illness: each correction must cure its own, the controls must not; and a world without any."""

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from xgap_analysis.core.features import Features
from xgap_analysis.corrections import Calibration, correction
from xgap_analysis.datasets import Relevance
from xgap_analysis.metrics import hubness, modality_gap, paired_test, retrieval
from xgap_analysis.models import Model

D, CLASSES, EACH = 32, 12, 8
LABELS = {f"{i}": str(i % CLASSES) for i in range(CLASSES * EACH)}
RELEVANCE = Relevance.from_labels(LABELS, LABELS)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def content(seed: int) -> Tensor:
    """Items of twelve classes in the first sixteen dimensions; the centres are those of every draw."""
    centres = draw(1000, CLASSES, D // 2)
    rows = torch.arange(CLASSES * EACH) % CLASSES
    return torch.cat([centres[rows] + 0.8 * draw(seed, len(rows), D // 2), torch.zeros(len(rows), D // 2)], dim=1)


def side(vectors: Tensor, space: str) -> Features:
    return Features(vectors, list(LABELS), space, space)


def precision(query: Features, gallery: Features, by: str = "none", fitted: Calibration | None = None) -> pd.Series:
    assert fitted is not None
    sides = correction(by).fit(fitted).apply(query, gallery)
    return retrieval(sides.query, sides.gallery, RELEVANCE, normalise=sides.normalise)["ap"]


def change(query: Features, gallery: Features, by: str, fitted: Calibration) -> tuple[float, float]:
    """Mean difference of average precision that a correction makes, and its p-value."""
    before, after = (precision(query, gallery, name, fitted) for name in ("none", by))
    test = paired_test(before, after, groups=[LABELS[i] for i in before.index])
    return test.difference, test.p_value


def world(seed: int, gap: float = 0.0, noise: float = 0.0) -> tuple[Features, Features]:
    """Images and texts of the same content; a gap between the sides, and noise of the images alone, in eight
    directions that no text uses.
    """
    offset = gap * torch.nn.functional.normalize(draw(1001, D), dim=0)
    own = torch.cat([torch.zeros(D - 8, 8), torch.eye(8)])
    images = content(seed) + offset + noise * draw(seed + 1, len(LABELS), 8) @ own.T
    return side(images, "image"), side(content(seed + 2) - offset, "text")


def fitted_on(seed: int, **illness: float) -> Calibration:
    images, texts = world(seed, **illness)
    return Calibration({"image": images, "text": texts}, "train")


def test_a_planted_gap_is_closed_by_shifts_and_not_by_a_subspace_of_no_meaning() -> None:
    images, texts = world(0, gap=4.0)
    fitted = fitted_on(50, gap=4.0)
    before = float(modality_gap(images, texts))
    left = {}
    for name in ("center", "gap-shift", "random-subspace"):
        made = correction(name).fit(fitted)
        left[name] = float(modality_gap(made(images), made(texts))) / before
    assert before > 1
    assert left["center"] < 0.25
    assert left["gap-shift"] < 0.25
    assert left["random-subspace"] > 0.75


def test_noise_of_one_modality_is_cured_by_the_directions_of_the_other() -> None:
    images, _ = world(0, noise=4.0)
    fitted = fitted_on(50, noise=4.0)
    gain, p = change(images, images, "pca-text(words=captions, rank=11)", fitted)
    assert gain > 0.2
    assert p < 0.01
    for control in ("pca-image(rank=11)", "random-subspace(rank=11)", "center"):
        assert change(images, images, control, fitted)[0] < gain / 4


def test_whitening_cures_a_side_whose_noise_is_loud_in_few_directions() -> None:
    images, _ = world(0, noise=4.0)
    fitted = fitted_on(50, noise=4.0)
    assert change(images, images, "whiten(shrinkage=0.01)", fitted)[0] > 0.1


def test_isoclip_cures_noise_that_the_leading_directions_of_the_projectors_carry() -> None:
    # Both projections pass eight directions at ten times the strength of the others; images are noisy there.
    strength = torch.cat([torch.ones(D - 8), torch.full((8,), 10.0)])
    tower: Any = SimpleNamespace(projection=torch.diag(strength), prepare=torch.stack, encode=torch.flatten)
    toy = Model("toy", {"image": tower, "text": tower})
    images, texts = (Features(x.vectors * strength, x.ids, x.space, x.origin) for x in world(0, noise=0.4))
    fitted = Calibration({"image": images, "text": texts}, "train", toy)
    gain, p = change(images, images, "isoclip(k_top=8, k_bottom=0)", fitted)
    assert gain > 0.2
    assert p < 0.01
    assert change(images, images, "isoclip(k_top=0, k_bottom=8)", fitted)[0] < 0
    assert change(images, images, "random-subspace(rank=24)", fitted)[0] < gain / 2


def with_hubs(seed: int) -> tuple[Features, Features]:
    """Images ask texts; one text in eight has moved to where all images are on average: a hub."""
    images, texts = world(seed)
    common = 1.5 * torch.nn.functional.normalize(draw(1002, D), dim=0)
    asked = images.vectors + common
    searched = texts.vectors.clone()
    searched[::8] = 0.5 * searched[::8] + common
    return side(asked, "image"), side(searched, "text")


@pytest.mark.parametrize("name", ["inverted-softmax", "dynamic-inverted-softmax", "dual-inverted-softmax"])
def test_planted_hubs_are_cured_by_the_inverted_softmax(name: str) -> None:
    images, texts = with_hubs(0)
    bank, other = with_hubs(50)
    fitted = Calibration(
        {"image": bank, "text": Features(other.vectors, [f"b{i}" for i in other.ids], "text", "text")}, "train"
    )
    assert float(hubness(images, texts)["skewness"].iloc[0]) > 1
    gain, p = change(images, texts, name, fitted)
    assert gain > 0.03
    assert p < 0.05  # the level of a verdict: the gains are skewed, most queries have no hub above their text
    assert change(images, texts, "random-subspace", fitted)[0] < gain / 2


@pytest.mark.parametrize(
    "name", ["center", "whiten", "random-subspace", "pca-text(words=captions)", "inverted-softmax"]
)
def test_where_nothing_can_be_cured_a_cure_is_found_no_more_often_than_the_level_allows(name: str) -> None:
    draws, items, found = 200, 40, 0
    labels = {str(i): str(i % 10) for i in range(items)}
    relevance = Relevance.from_labels(labels, labels)
    for seed in range(draws):
        # Labels have nothing to do with the vectors, so any difference is chance.
        images = Features(draw(3 * seed, items, 8) + 0.5, list(labels), "image", "image")
        sides = (draw(3 * seed + 1, items, 8) + 0.5, draw(3 * seed + 2, items, 8) - 0.5)
        features = {
            s: Features(x, [f"c{i}" for i in range(items)], s, s) for x, s in zip(sides, ("image", "text"), strict=True)
        }
        fitted = Calibration(features, "train")
        met = correction(name).fit(fitted).apply(images, images)
        before = retrieval(images, images, relevance)["ap"]
        after = retrieval(met.query, met.gallery, relevance, normalise=met.normalise)["ap"]
        # As studies test: queries of one label find each other, so labels are flipped whole.
        groups = [labels[i] for i in before.index]
        found += paired_test(before, after, groups=groups, resamples=400, seed=seed).p_value < 0.05
    assert found <= 0.05 * draws + 3 * (0.05 * 0.95 * draws) ** 0.5
