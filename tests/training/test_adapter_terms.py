"""Terms that adapters are trained with, each against numpy and its known answers."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import xgap_analysis as xg
from xgap_analysis.training.objectives import (
    BatchFeatures,
    Sizes,
    clip_loss,
    objective,
    overuse,
    own_words,
    ranking_margin,
    self_distil,
    sparse_contrast,
)


def rows(n: int, d: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_the_margin_is_its_formula_and_is_known_for_pairs_and_for_equal_rows() -> None:
    for n, margin in ((2, 0.2), (5, 0.3)):
        x, y = rows(n, 6, 1), rows(n, 6, 2)
        scores = x.double().numpy() @ y.double().numpy().T
        cost = sum(
            max(0.0, margin + scores[i, j] - scores[i, i]) + max(0.0, margin + scores[j, i] - scores[i, i])
            for i in range(n)
            for j in range(n)
            if i != j
        )
        assert float(ranking_margin(x, y, margin)) == pytest.approx(cost / n**2, abs=1e-6)
        alike = torch.ones(n, 6) / 6**0.5
        assert float(ranking_margin(alike, alike, margin)) == pytest.approx(2 * margin * (n - 1) / n, abs=1e-6)
    assert float(ranking_margin(torch.eye(4), torch.eye(4))) == 0
    assert float(ranking_margin(torch.ones(2, 1), torch.ones(2, 1))) == pytest.approx(0.2)


@pytest.mark.parametrize("negatives", ["all", "hardest"])
@pytest.mark.parametrize("labels", [None, [0, 1, 0, 2, 3, 1]])
def test_a_margin_to_all_and_to_the_hardest_is_its_formula_and_leaves_items_of_one_label_out(
    negatives: str, labels: list[int] | None
) -> None:
    x, y, n, margin = rows(6, 4, 1), rows(6, 4, 2), 6, 0.4
    scores = x.double().numpy() @ y.double().numpy().T
    of = labels or list(range(n))
    total = 0.0
    for i in range(n):
        others = [j for j in range(n) if of[j] != of[i]]
        for row in (scores, scores.T):
            costs = [max(0.0, margin + row[i, j] - row[i, i]) for j in others]
            total += max(costs) if negatives == "hardest" else sum(costs)
    how = {"negatives": negatives, "labels": None if labels is None else torch.tensor(labels)}
    assert float(ranking_margin(x, y, margin, summed=True, **how)) == pytest.approx(total, abs=1e-5)
    share = n if negatives == "hardest" else n**2
    assert float(ranking_margin(x, y, margin, **how)) == pytest.approx(total / share, abs=1e-6)


def test_the_hardest_of_equal_rows_costs_twice_the_margin() -> None:
    alike = torch.ones(5, 4) / 2
    assert float(ranking_margin(alike, alike, 0.3, negatives="hardest")) == pytest.approx(0.6)
    with pytest.raises(xg.XgapError, match="unknown negatives 'hard'"):
        ranking_margin(alike, alike, negatives="hard")


def test_the_recipe_takes_either_form() -> None:
    assert [str(term) for term, _ in xg.recipe("vse").terms] == [
        "ranking-margin(margin=0.2, negatives=hardest, summed=True)"
    ]
    every = BatchFeatures(
        torch.ones(1, 3, 1), torch.ones(3, 1, 1), torch.tensor(1.0), torch.tensor(0.0), torch.arange(3)
    )
    ((term, _),) = xg.recipe("vse(negatives=all, margin=0.1)").terms
    assert float(term(every)) == pytest.approx(2 * 0.1 * 6)
    shared = dataclasses.replace(every, labels=torch.tensor([0, 0, 1]))
    assert float(term(shared)) == pytest.approx(2 * 0.1 * 4)


def test_overuse_counts_concentration() -> None:
    codes = rows(7, 9, 3).abs()
    mean = codes.double().numpy().mean(0)
    assert float(overuse(codes)) == pytest.approx((mean**3).sum() / mean.sum(), abs=1e-7)
    for c in (0.3, 2.0):
        assert float(overuse(torch.tensor([[c, 0, 0], [c, 0, 0]]))) == pytest.approx(c**2)
        assert float(overuse(torch.full((2, 5), c))) == pytest.approx(c**2)
    assert float(overuse(torch.zeros(2, 3))) == 0
    assert float(overuse(torch.tensor([[1.0, 0, 0, 0]]))) == pytest.approx(1)
    assert float(overuse(torch.full((1, 4), 0.25))) == pytest.approx(1 / 16)


def test_sparse_contrast_of_all_words_is_the_contrast_and_of_fewer_its_formula() -> None:
    x, y = rows(5, 8, 1).abs(), rows(5, 8, 2).abs()
    assert float(sparse_contrast(x, y, 8)) == pytest.approx(float(clip_loss(x, y, 1.0)), abs=1e-6)

    def cut(codes: Tensor) -> np.ndarray:
        made = codes.double().numpy().copy()
        made[made < np.sort(made, axis=1)[:, -3:-2]] = 0
        return made

    def contrast(a: np.ndarray, b: np.ndarray) -> float:
        logits = np.exp(a @ b.T)
        return -float(np.log(logits.diagonal() ** 2 / logits.sum(1) / logits.sum(0)).mean()) / 2

    a, b = x.double().numpy(), y.double().numpy()
    assert float(sparse_contrast(x, y, 3)) == pytest.approx((contrast(cut(x), b) + contrast(a, cut(y))) / 2, abs=1e-6)


def test_own_words_are_alike_and_all_others_are_none() -> None:
    special, words = [0, 3, 9], 10  # padding, start and end, wherever they stand in the vocabulary
    captions = [[3, 5, 5, 8, 9, 0], [3, 1, 9, 0, 0, 0], [3, 9, 0, 0, 0, 0]]
    ids, empty = torch.tensor(captions), torch.tensor(captions[2])
    kept = [word for word in range(words) if word not in special]
    expected = np.array([[float(word in caption) for word in kept] for caption in captions])
    expected /= np.maximum(np.linalg.norm(expected, axis=1, keepdims=True), 1)
    np.testing.assert_allclose(own_words(ids, empty, 7).numpy(), expected, atol=1e-6)

    images = rows(6, 7, 4).reshape(2, 3, 7).abs()
    batch = batch_of(images, rows(6, 7, 5).reshape(3, 2, 7))
    batch = dataclasses.replace(batch, ids=torch.stack([ids, ids.roll(1, 0)], dim=1), empty=empty)

    def contrast(a: np.ndarray, b: np.ndarray) -> float:
        logits = np.exp(a @ b.T)
        return -float(np.log(logits.diagonal() ** 2 / logits.sum(1) / logits.sum(0)).mean()) / 2

    x = images.double().numpy()
    known = (contrast(x[0], expected) + contrast(x[1], np.roll(expected, 1, axis=0))) / 2
    assert float(objective("own-words")(batch, None)) == pytest.approx(known, abs=1e-6)


def test_vdr_trains_its_images_with_all_three_parts(start: Path, data: xg.Dataset, tmp_path: Path) -> None:
    own = dataclasses.replace(xg.recipe("vdr(top=20)"), steps=2, batch=4, warmup=1, learning_rate=1e-3)
    made = xg.train(start, data, tmp_path, own, progress=False, device="cpu", note_every=1)
    row = made.curve.iloc[0]
    assert row["loss"] == pytest.approx((2 * row["vdr(top=20)"] + row["own-words"]) / 3, abs=1e-5)
    before, after = (xg.load_model(made.folder / "last", device="cpu"), xg.adapted(xg.load_model(start), "vdr"))
    words = [model.towers["image"]._own.modules["image"].words for model in (before, after)]
    assert not torch.equal(*words)


def test_words_are_predicted_by_an_adapter_that_reads_images(start: Path, data: xg.Dataset, tmp_path: Path) -> None:
    for adapter in (None, "head", "vdr"):
        own = xg.Recipe({"next-words": 1.0}, steps=1, batch=4, adapter=adapter)
        with pytest.raises(xg.XgapError, match="train the adapter vladva or mm-embed with it"):
            xg.train(start, data, tmp_path / str(adapter), own, progress=False, device="cpu")


def test_self_distillation_is_its_formula() -> None:
    generator = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(4, 3, 5, generator=generator), torch.randn(2, 3, 5, generator=generator)
    centre = torch.randn(5, generator=generator)
    s, t = student.double().numpy() / 0.1, (teacher - centre).double().numpy() / 0.04
    costs = []
    for i in range(2):
        for j in range(4):
            if i != j:
                target = np.exp(t[i] - t[i].max(-1, keepdims=True))
                target /= target.sum(-1, keepdims=True)
                log_p = s[j] - np.log(np.exp(s[j]).sum(-1, keepdims=True))
                costs.append(-(target * log_p).sum(-1).mean())
    assert float(self_distil(student, teacher, centre)) == pytest.approx(np.mean(costs), rel=1e-5)
    zero = torch.zeros(2, 3, 7)
    assert float(self_distil(zero, zero, torch.zeros(7))) == pytest.approx(math.log(7))
    # a teacher at its centre says all alike
    even = self_distil(student, centre.expand(2, 3, 5), centre)
    expected = np.mean(
        [-(s[j] - np.log(np.exp(s[j]).sum(-1, keepdims=True))).mean(-1).mean() for j in (1, 2, 3, 0, 2, 3)]
    )
    assert float(even) == pytest.approx(expected, rel=1e-5)


def batch_of(images: Tensor, texts: Tensor, teacher: BatchFeatures | None = None) -> BatchFeatures:
    return BatchFeatures(images, texts, torch.tensor(1.0), torch.tensor(0.0), torch.arange(len(texts)), teacher)


def test_the_teacher_follows_by_its_momentum_and_gets_no_gradient() -> None:
    views = torch.stack([rows(4, 6, seed) for seed in (1, 2, 3)])
    frozen = batch_of(views.flip(0), torch.zeros(4, 0, 6))
    batch = batch_of(views.clone().requires_grad_(), torch.zeros(4, 0, 6), frozen)
    for momentum in (1.0, 0.5):
        term = objective("self-distillation", views=3, out=8, hidden=16, momentum=momentum, centre_momentum=0.9)
        own = term.made(Sizes(6, 4))
        assert own is not None
        with torch.no_grad():
            for parameter in own.student.parameters():
                parameter.add_(0.1)
        before = [p.clone() for p in own.teacher.parameters()]
        logits = own(frozen.images[:2], teacher=True).detach()
        term(batch, own).backward()
        assert all(p.grad is None for p in own.teacher.parameters())
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in own.student.parameters())
        torch.testing.assert_close(own.centre, 0.1 * logits.flatten(0, 1).mean(0), atol=1e-6, rtol=1e-5)
        pairs = zip(before, own.teacher.parameters(), own.student.parameters(), strict=True)
        assert all(torch.allclose(now, momentum * was + (1 - momentum) * own_s) for was, now, own_s in pairs)


def test_they_have_names_and_are_trained_with() -> None:
    for name in ("vdr(top=5)", "overuse", "ranking-margin(margin=0.3)", "self-distillation(out=8)"):
        assert str(objective(name)) == name
        assert xg.Recipe(objective={"clip": 1.0, name: 0.1}).terms
    x = torch.stack([rows(4, 6, 1).abs()])
    batch = batch_of(x, rows(4, 6, 2).abs()[:, None])
    assert float(objective("vdr(top=6)")(batch, None)) == pytest.approx(float(clip_loss(x[0], batch.texts[:, 0], 1.0)))
    mean = (overuse(x[0]) + overuse(batch.texts[:, 0])) / 2
    assert float(objective("overuse")(batch, None)) == pytest.approx(float(mean))


def test_self_distillation_beside_captions_in_twelve_languages(start: Path, tmp_path: Path) -> None:
    data = xg.load_dataset("emoji:parallel").split("train")
    objective = {"clip": 1.0, "self-distillation(out=16, hidden=16)": 0.1}
    recipe = xg.Recipe(steps=4, batch=6, objective=objective, warmup=1, learning_rate=1e-3)
    made = xg.train(start, data, tmp_path, recipe, progress=False, device="cpu", note_every=1)
    term = made.curve["self-distillation(out=16, hidden=16)"]
    assert term.notna().all()
    assert term.iloc[0] == pytest.approx(math.log(16), rel=0.2)
    state = torch.load(tmp_path / "state.pt", weights_only=True)["parts"]["term self-distillation(out=16, hidden=16)"]
    assert state["centre"].abs().max() > 0
