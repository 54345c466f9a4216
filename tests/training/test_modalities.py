"""Modalities that are pre-trained alone or mixed, left out of a step, and fused to a query of a third."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.trainable import load_trainable
from xgap_analysis.training import Further, fit_two_views
from xgap_analysis.training.dropout import dropout_of
from xgap_analysis.training.objectives import clip_loss, fused_query_loss, simclr_loss
from xgap_analysis.training.pairs import Pairs, augmentation
from xgap_analysis.training.step import TrainStep

SHORT = xg.Recipe(steps=2, batch=6, warmup=1, learning_rate=1e-2, augmentation="none")
Batch = Callable[..., xg.BatchFeatures]


def nt_xent(rows: np.ndarray, partner: list[int], temperature: float) -> float:
    similar = np.exp(rows @ rows.T / temperature)
    np.fill_diagonal(similar, 0)
    return float(np.mean([-np.log(similar[i, j] / similar[i].sum()) for i, j in enumerate(partner)]))


@pytest.mark.parametrize("temperature", [0.2, 0.5])
def test_mixed_views_have_the_rows_of_both_modalities_in_one_softmax(full_batch: Batch, temperature: float) -> None:
    batch = full_batch(seed=3)
    n = len(batch.labels)
    rows = torch.cat([batch.images[0], batch.images[1], batch.texts[:, 0], batch.texts[:, 1]]).numpy()
    partner = [(i + n) % (2 * n) for i in range(2 * n)]
    partner += [2 * n + p for p in partner]
    made = float(xg.objective("mixed-views", temperature=temperature)(batch))
    assert made == pytest.approx(nt_xent(rows, partner, temperature))
    apart = [xg.objective(f"{name}(temperature={temperature})")(batch) for name in ("image-image", "text-text")]
    assert made > float(torch.stack(apart).mean())  # the other modality adds negatives


def noisy(rows: Tensor) -> Tensor:
    return rows + 0.1 * torch.randn(rows.shape)


def test_towers_learn_to_recognise_their_own_items_alone_and_mixed() -> None:
    inputs = {name: torch.randn(48, 6, generator=torch.Generator().manual_seed(k)) for k, name in enumerate("ab")}

    def fitted(names: str, **how: Any) -> tuple[dict[str, nn.Module], tuple[float, ...]]:
        torch.manual_seed(0)
        towers = {name: nn.Linear(6, 8) for name in "ab"}
        chosen = {name: towers[name] for name in names}
        given = {"epochs": 8, "batch": 16, "learning_rate": 1e-2, **how}
        return towers, fit_two_views(chosen, {n: inputs[n] for n in names}, dict.fromkeys(names, noisy), **given)

    alone, losses = fitted("a")
    assert losses[-1] < losses[0]
    assert all(p.requires_grad for p in alone["a"].parameters())  # it goes on to be aligned
    again, twice = fitted("a")
    assert losses == twice
    assert torch.equal(alone["a"].weight, again["a"].weight)
    mixed, both = fitted("ab")
    assert both[-1] < both[0]
    assert both[0] > losses[0]
    assert not torch.equal(mixed["b"].weight, alone["b"].weight)
    # No rate: the loss of the first epoch is NT-Xent of two views that follow from the seed.
    towers, (first,) = fitted("ab", epochs=1, batch=48, learning_rate=1e-12)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        rows = torch.randperm(48, generator=torch.Generator().manual_seed(0))
        views = [{n: noisy(inputs[n][rows]) for n in "ab"} for _ in range(2)]
    made = [torch.cat([nn.functional.normalize(towers[n](v[n]), dim=1) for n in "ab"]) for v in views]
    assert first == pytest.approx(float(simclr_loss(made[0], made[1], 0.5).detach()), rel=1e-4)


def test_fitted_towers_are_left_in_the_modes_that_they_had_also_after_an_error() -> None:
    tower = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8).eval().requires_grad_(False))
    rows = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))
    given = {"type": tower}, {"type": rows}  # a name that a module has of its own
    modes = [part.training for part in tower.modules()]
    fit_two_views(*given, {"type": noisy}, epochs=1, batch=8)
    assert [part.training for part in tower.modules()] == modes
    tower.eval()
    with pytest.raises(XgapError, match="the loss of the fit is nan"):
        fit_two_views(*given, {"type": lambda x: x * torch.nan}, epochs=1, batch=8)
    assert not any(part.training for part in tower.modules())
    assert [p.requires_grad for p in tower.parameters()] == [True, True, False, False]


def test_two_views_that_cannot_be_drawn_are_refused() -> None:
    tower, rows = nn.Linear(2, 2), torch.zeros(4, 2)
    with pytest.raises(XgapError, match="each modality has a tower, inputs and a function"):
        fit_two_views({"a": tower}, {"b": rows}, {"a": noisy})
    with pytest.raises(XgapError, match="4 of a, 2 of b; call it once for each"):
        fit_two_views({"a": tower, "b": tower}, {"a": rows, "b": rows[:2]}, {"a": noisy, "b": noisy})
    with pytest.raises(XgapError, match="a temperature is above 0"):
        fit_two_views({"a": tower}, {"a": rows}, {"a": noisy}, temperature=0.0)
    with pytest.raises(XgapError, match="nothing to train"):
        fit_two_views({"a": nn.Linear(2, 2).requires_grad_(False)}, {"a": rows}, {"a": noisy})


def test_a_fused_query_follows_its_formula_and_is_one_modality_at_either_end(full_batch: Batch) -> None:
    batch = full_batch(seed=1)
    x, t, g = batch.images[0], batch.texts[:, 0], batch.extra["audio"]
    query = 0.7 * x.numpy() + 0.3 * t.numpy()
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    logits = 5 * query @ g.numpy().T
    each = [-np.mean(np.diag(z) - np.log(np.exp(z).sum(1))) for z in (logits, logits.T)]
    assert float(fused_query_loss(x, t, g, 5.0, 0.3)) == pytest.approx(np.mean(each))
    for weight, one in ((0.0, x), (1.0, t)):
        torch.testing.assert_close(fused_query_loss(x, t, g, 5.0, weight), clip_loss(one, g, 5.0))
    torch.testing.assert_close(fused_query_loss(x, torch.zeros_like(t), g, 5.0), clip_loss(x, g, 5.0))
    with pytest.raises(XgapError, match="the share of the text, lies in"):
        fused_query_loss(x, t, g, 5.0, 1.5)


def heard(data: xg.Dataset) -> tuple[xg.Dataset, dict[str, Further]]:
    ids = [f"{label}/sound" for label in range(12)]
    labels = {**data.labels_of(), **{item: item.split("/")[0] for item in ids}}
    rows = torch.randn(12, 16, generator=torch.Generator().manual_seed(0))
    return dataclasses.replace(data, labels={"colour": labels}), {"audio": Further(ids, rows)}


def gradients(start: Path, data: xg.Dataset, dropout: str, weight: float = 0.5, **change: Any) -> dict[str, Tensor]:
    own, further = heard(data)
    change = {"objective": {f"fused-query(weight={weight})": 1.0}, **change}
    recipe = dataclasses.replace(SHORT, dropout=dropout, **change)
    model = load_trainable(start, device="cpu")
    pairs = Pairs(own, recipe, model.tokenize, augmentation(model.module, model.preprocess, "none"), further)
    learner = TrainStep(model.module, recipe, len(pairs.labels), None, pairs.towers)
    learner.gradients(pairs[0], 0)
    return {name: p.grad.clone() for name, p in learner.parameters() if p.grad is not None}


def test_texts_that_are_always_left_out_get_no_gradient_and_the_rest_trains_as_without_them(
    start: Path, data: xg.Dataset
) -> None:
    dropped, alone = gradients(start, data, "text(p=1.0)"), gradients(start, data, "none", weight=0.0)
    texts = {name for name in dropped if not name.startswith("visual.") and name != "logit_scale"}
    assert texts
    assert not any(bool(dropped[name].any()) for name in texts)
    for name in dropped.keys() - texts:
        torch.testing.assert_close(dropped[name], alone[name], atol=1e-6, rtol=1e-4)
    ordinary, kept = gradients(start, data, "none"), gradients(start, data, "text(p=0.0)")
    assert all(torch.equal(ordinary[name], kept[name]) for name in ordinary)
    assert any(bool(ordinary[name].any()) for name in texts)
    images = gradients(start, data, "image(p=1.0)")
    assert not any(bool(images[name].any()) for name in images if name.startswith("visual."))
    assert all(bool(grad.isfinite().all()) for made in (dropped, images) for grad in made.values())


def test_a_batch_in_parts_leaves_out_the_same_items(start: Path, data: xg.Dataset) -> None:
    whole, parts = (gradients(start, data, "text(p=0.5)", batch=10, micro_batch=size) for size in (None, 4))
    for name, grad in whole.items():
        torch.testing.assert_close(parts[name], grad, atol=1e-6, rtol=1e-4)
    assert any(not torch.equal(whole[name], grad) for name, grad in gradients(start, data, "none", batch=10).items())


def test_dropout_leaves_out_its_share() -> None:
    kept = dropout_of("text(p=0.3)").kept(4000, torch.Generator().manual_seed(0))
    assert 0.66 < float(kept.float().mean()) < 0.74


@pytest.mark.parametrize("name", ["viml", "viml(p=1.0, weight=0.2)", "ucasr", "ucasr(mixed=True)"])
def test_recipes_of_further_modalities_train(name: str, start: Path, data: xg.Dataset, tmp_path: Path) -> None:
    own, further = heard(data)
    recipe = dataclasses.replace(xg.recipe(name), steps=1, batch=6, warmup=1)
    given = {"further": further, "progress": False, "device": "cpu"}
    made = xg.train(start, own, tmp_path, recipe, **given)
    assert np.isfinite(made.curve["loss"]).all()
    assert ("dropout" in recipe.plain()) is name.startswith("viml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dropout": "text"}, 'dropout is "none" or a modality with its probability'),
        ({"dropout": "text(p=2)"}, "dropout is"),
        ({"dropout": "text(q=0.5)"}, "dropout is"),
        ({"dropout": "text(p=0.5)"}, "leaves 'text' out, and objective 'clip' needs it: it goes with fused-query"),
        (
            {"dropout": "audio(p=0.5)", "objective": {"fused-query": 1.0}},  # whose gallery has nothing in its place
            "leaves 'audio' out, and objective 'fused-query' needs it",
        ),
    ],
)
def test_a_dropout_that_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(XgapError, match=message):
        dataclasses.replace(SHORT, **change)


def test_a_modality_that_training_does_not_have_cannot_be_left_out(start: Path, data: xg.Dataset) -> None:
    @xg.register_objective("of-clips", needs=xg.Needs(extra=1, dropped=("video",)))
    def of_clips(batch: xg.BatchFeatures) -> Tensor:
        return batch.images.sum()

    with pytest.raises(
        XgapError, match="leaves out 'video', which this training does not have; there is image, text, audio"
    ):
        gradients(start, data, "video(p=0.5)", objective={"of-clips": 1.0})
