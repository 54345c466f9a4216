"""GRAIN: its losses and scores equal their formulas, and its regions learn where descriptions lie."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.scoring.learned.fit import fit_scorer
from xgap_analysis.scoring.learned.pairs import paired
from xgap_analysis.scoring.score import score
from xgap_analysis.scoring.scorer import Scorer
from xgap_analysis.scoring.systems.grain import box_costs, corners, generalised_overlap, matched, region_loss

from .conftest import (
    RAGGED,
    Matrix,
    at_random_weights,
    decoded,
    linear,
    module_of,
    sets_of,
    some,
    turned_round,
    unit,
    weights_of,
)

SMALL = {"regions": 5, "layers": 2, "heads": 2, "epochs": 0}


def boxes_for(texts: TokenFeatures, seed: int = 0) -> dict[str, list[list[float]]]:
    draw = np.random.default_rng(seed)
    made = {}
    for item, count in zip(texts.ids, texts.lengths.tolist(), strict=True):
        low = draw.uniform(0, 0.5, (count, 2))
        made[item] = np.concatenate([low, low + draw.uniform(0.1, 0.5, (count, 2))], axis=1).tolist()
    return made


def fitted_to(texts: TokenFeatures, images: TokenFeatures, **options: Any) -> Scorer:
    return at_random_weights(fit_scorer("grain", texts, images, boxes=boxes_for(texts), **{**SMALL, **options}))


def read_by(made: Scorer, tokens: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    module = module_of(made)
    w = weights_of(module)
    read = decoded(weights_of(module.reader), tokens, heads=2)  # type: ignore[arg-type]
    vectors = unit(linear(read, w, "out"))
    box = linear(np.maximum(linear(read[:-1], w, "box.0"), 0), w, "box.2")
    return vectors[:-1], vectors[-1], 1 / (1 + np.exp(-box))


@settings(max_examples=6)
@given(q=RAGGED, g=RAGGED, seed=st.integers(0, 99))
def test_scores_equal_their_formulas(q: list[int], g: list[int], seed: int) -> None:
    texts, images = some(q, seed, "text"), some(g, seed + 1)
    made = fitted_to(texts, images)
    expected = [[np.mean(d @ read_by(made, v)[1]) for v in sets_of(images)] for d in sets_of(texts)]
    np.testing.assert_allclose(score(texts, images, made), expected, atol=5e-6)
    made = fitted_to(texts, images, read="regions")
    expected = [[(d @ read_by(made, v)[0].T).max(1).mean() for v in sets_of(images)] for d in sets_of(texts)]
    np.testing.assert_allclose(score(texts, images, made), expected, atol=5e-6)


def test_overlap_of_boxes_has_its_known_values() -> None:
    a = torch.tensor([0.0, 0.0, 0.5, 0.5])
    others = torch.tensor([[0, 0, 0.5, 0.5], [0.25, 0, 0.75, 0.5], [0.5, 0.5, 1, 1], [0, 0, 1, 1]])
    found = generalised_overlap(a, others).tolist()
    assert found == pytest.approx([1, 1 / 3, -0.5, 0.25])
    assert generalised_overlap(others, a).tolist() == pytest.approx(found)


def test_the_loss_of_a_batch_equals_its_formula() -> None:
    texts, images = some([2, 1, 3], 0, "text"), some([4, 2, 3], 1)
    made, boxes = fitted_to(texts, images), boxes_for(texts)
    of = paired(texts, images)
    rows = torch.arange(3)
    module: Any = module_of(made)
    found = region_loss(module, of.block(texts, rows), of.block(images, rows), boxes, weight=1.5)
    scale = float(np.exp(min(float(module.scale.log), np.log(100))))
    sets, flat = [read_by(made, v) for v in sets_of(images)], np.concatenate(sets_of(texts))
    logits = scale * np.array([unit(d.mean(0)) for d in sets_of(texts)]) @ np.array([image for _, image, _ in sets]).T

    def entropy(x: Matrix, true: Any) -> float:
        top = x.max(-1, keepdims=True)
        logs = x - top - np.log(np.exp(x - top).sum(-1, keepdims=True))
        return float(-np.mean([row[t] for row, t in zip(logs, true, strict=True)]))

    clip = (entropy(logits, range(3)) + entropy(logits.T, range(3))) / 2
    described, off, start = [], [], 0
    for item, (regions, _, box) in zip(texts.ids, sets, strict=True):
        given = np.array(boxes[item])
        best = None  # by trying all choices of regions
        for choice in _choices(5, len(given)):
            cost = sum(_cost(box[r], b)[0] for r, b in zip(choice, given, strict=True))
            best = (cost, choice) if best is None or cost < best[0] else best
        assert best is not None
        for k, r in enumerate(best[1]):
            described.append(entropy(scale * (flat @ regions[r])[None], [start + k]))
            off.append(_cost(box[r], given[k])[1])
        start += len(given)
    assert found.item() == pytest.approx(clip + 1.5 * np.mean(off) + np.mean(described), rel=1e-4)


def _choices(n: int, k: int) -> Any:
    from itertools import permutations

    return permutations(range(n), k)


def _cost(found: Matrix, given: Matrix) -> tuple[float, float]:
    """The cost of a match, and its loss."""
    a = np.concatenate([found[:2] - found[2:] / 2, found[:2] + found[2:] / 2])
    distance = np.abs(found - np.concatenate([(given[:2] + given[2:]) / 2, given[2:] - given[:2]])).sum()

    def area(x: Matrix) -> float:
        return float(max(0, x[2] - x[0]) * max(0, x[3] - x[1]))

    inner = area(np.concatenate([np.maximum(a, given)[:2], np.minimum(a, given)[2:]]))
    outer = area(np.concatenate([np.minimum(a, given)[:2], np.maximum(a, given)[2:]]))
    union = area(a) + area(given) - inner
    overlap = inner / union - (outer - union) / outer
    return 5 * distance - 2 * overlap, distance + 1 - overlap


def test_a_set_of_boxes_is_matched_to_itself() -> None:
    given = torch.tensor([[0, 0, 0.4, 0.4], [0.5, 0.5, 1, 1], [0, 0.6, 0.3, 0.9]])
    found = torch.cat([(given[:, :2] + given[:, 2:]) / 2, given[:, 2:] - given[:, :2]], dim=1)
    rows, columns = matched(box_costs(found, given))
    assert rows.tolist() == columns.tolist() == [0, 1, 2]
    rows, columns = matched(box_costs(found[[2, 0]], given))
    assert dict(zip(rows.tolist(), columns.tolist(), strict=True)) == {0: 2, 1: 0}


def test_one_description_is_the_cosine_with_the_image_and_order_and_padding_change_nothing() -> None:
    one, texts, images = some([1, 1], 0, "text"), some([3, 1, 2], 1, "text"), some([4, 2, 5], 2)
    made = fitted_to(one, images)
    vectors = np.array([read_by(made, v)[1] for v in sets_of(images)])
    np.testing.assert_allclose(score(one, images, made), one.vectors.numpy() @ vectors.T, atol=5e-6)
    found = score(texts, images, made)
    assert torch.allclose(score(turned_round(texts), turned_round(images), made), found, atol=1e-5)
    assert torch.allclose(score(texts, images.select(["2", "0"]), made), found[:, [2, 0]], atol=1e-5)


def test_regions_learn_where_descriptions_lie_and_tell_apart_what_the_mean_of_patches_confuses() -> None:
    """Images of two things in two halves. Patches carry the thing and the place; the mean patch of two images with the
    same things exchanged is the same, and so is the mean of their descriptions, so only regions read places."""
    generator = torch.Generator().manual_seed(0)
    d, things = 24, torch.eye(8)
    ids, patches, descriptions, boxes = [], [], [], {}
    for i in range(8):
        for j in range(8):
            if i != j:
                rows = torch.zeros(4, d)
                rows[:2, :8], rows[2:, :8] = things[i], things[j]
                rows[:2, 8], rows[2:, 9] = 0.7, 0.7
                patches.append(rows + 0.05 * torch.randn(4, d, generator=generator))
                said = torch.zeros(2, d)
                said[0, :8], said[1, :8] = things[i], things[j]
                descriptions.append(said)
                ids.append(f"{i}{j}")
                boxes[ids[-1]] = [[0, 0, 0.5, 1], [0.5, 0, 1, 1]]
    images = TokenFeatures.from_sets(patches, ids, "image", "image")
    texts = TokenFeatures.from_sets(descriptions, ids, "text", "text")
    options = {"regions": 2, "layers": 1, "heads": 4, "epochs": 30, "learning_rate": 3e-3, "read": "regions"}
    made = fit_scorer("grain", texts, images, boxes=boxes, **options)
    losses = made.function.losses  # type: ignore[attr-defined]
    assert losses[-1] < 0.6 * losses[0]
    regions, _, found = module_of(made)(paired(texts, images).block(images, torch.arange(len(ids))))
    left = found[..., 0].argmin(dim=1)
    assert (found.gather(1, left[:, None, None].expand(-1, 1, 4))[:, 0, 0] < 0.35).float().mean() > 0.9
    own = regions[torch.arange(len(ids)), left]
    assert (own[:, :8].argmax(1) == torch.tensor([int(i[0]) for i in ids])).float().mean() > 0.8
    assert not torch.allclose(score(texts, images, made), score(texts, images, "late_interaction"), atol=0.05)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"boxes": None, "epochs": 1}, "grain is fitted to boxes: give boxes"),
        ({"boxes": {}}, "text '0' has 2 descriptions and 0 boxes"),
        ({"boxes": {"0": [[0, 0, 1, 1]] * 2}, "regions": 1}, "text '0' has 2 boxes, and there are 1 regions"),
        ({"boxes": {"0": [[0, 0, 1, 1], [0.5, 0, 0.2, 1]]}}, r"a box of text '0' is \(0.5, 0, 0.2, 1\)"),
        ({"boxes": {"0": [[0, 0, 1, 1]] * 2}, "read": "all"}, "read is image or regions"),
    ],
)
def test_a_mistake_is_one_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(XgapError, match=sentence):
        fit_scorer("grain", some([2], 0, "text"), some([3], 1), **{**SMALL, **options})


def test_on_scenes_of_a_small_model_regions_move_to_the_boxes_of_unseen_scenes() -> None:
    data, model = xg.load_dataset("emoji-scenes"), xg.load_model("tiny")
    made: dict[str, tuple[TokenFeatures, TokenFeatures, dict[str, list[list[float]]]]] = {}
    for split, n in (("train", 120), ("test", 40)):
        own = data.split(split)
        images = own.images.select(list(own.images.ids)[:n])
        captions = xg.tokens(model, own.texts.select([f"{i}/list" for i in images.ids]), "captions", progress=False)
        boxes: dict[str, list[list[float]]] = {}
        regions = images.parts_of("regions")
        for owner, box in zip(regions.owners, regions.columns["box"], strict=True):
            boxes.setdefault(f"{owner}/list", []).append([x / 128 for x in box])
        made[split] = captions, xg.tokens(model, images, progress=False), boxes
    texts, patches, boxes = made["train"]
    pairs = {f"{i}/list": i for i in patches.ids}
    options: dict[str, Any] = {"pairs": pairs, "boxes": boxes, "layers": 1, "learning_rate": 1e-3}
    unseen, unseen_patches, given = made["test"]
    block = paired(unseen, unseen_patches, {f"{i}/list": i for i in unseen_patches.ids})

    def overlap(fitted: Scorer) -> float:
        _, _, found = module_of(fitted)(block.block(unseen_patches, torch.arange(len(unseen_patches))))
        values = []
        for row, item in enumerate(unseen_patches.ids):
            own = torch.tensor(given[f"{item}/list"])
            r, c = matched(box_costs(found[row], own))
            values.append(float(generalised_overlap(corners(found[row, r]), own[c]).mean()))
        return float(np.mean(values))

    before, after = (overlap(fit_scorer("grain", texts, patches, epochs=n, **options)) for n in (0, 15))
    assert before < 0.1
    assert after > 0.3
