"""Training an adapter: what moves and what stays to the bit, and the folder that it leaves."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import xgap_analysis as xg
from xgap_analysis.models import ADAPTERS
from xgap_analysis.models.trainable import load_trainable
from xgap_analysis.training.pairs import Pairs, augmentation
from xgap_analysis.training.step import TrainStep

HEAD = xg.Recipe(steps=4, batch=6, warmup=1, learning_rate=1e-2, adapter="head(width=4)")
BASE, ADDED = "open_clip_model.safetensors", "adapter.safetensors"


def run(start: Path, data: xg.Dataset, out: Path, recipe: xg.Recipe = HEAD, **more: Any) -> Path:
    return xg.train(start, data, out, recipe, progress=False, device="cpu", **more).last


def same(a: Path, b: Path) -> bool:
    one, other = load_file(a), load_file(b)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def shift() -> None:
    """An adapter of two numbers, which also trains the temperature of its base."""

    class Shift(nn.Module):
        def __init__(self, dim: int) -> None:
            super().__init__()
            self.by = nn.Parameter(torch.zeros(dim))

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return features + self.by

    @xg.register_adapter("shift", trained=["logit_scale"])
    def of_images(dims: Mapping[str, int]) -> Mapping[str, nn.Module]:
        """A shift of each image."""
        return {"image": Shift(dims["image"])}


def test_only_the_head_moves_and_the_folder_is_the_adapted_model(start: Path, data: xg.Dataset, tmp_path: Path) -> None:
    made = xg.train(start, data, tmp_path, HEAD, checkpoints=(0,), eval_data=data, progress=False, device="cpu")
    assert same(start / BASE, made.last / BASE)  # the temperature included
    first, last = load_file(made.folder / "step-0" / ADDED), load_file(made.last / ADDED)
    assert first.keys() == last.keys()
    assert not [name for name in first if torch.equal(first[name], last[name])]
    base, at_first, trained = (xg.load_model(path, device="cpu") for path in (start, made.folder / "step-0", made.last))
    for items in (data.images, data.texts):
        native, before, after = (xg.encode(m, items, store=None, progress=False) for m in (base, at_first, trained))
        torch.testing.assert_close(before.vectors, native.vectors, atol=1e-6, rtol=0)
        assert (after.vectors - native.vectors).abs().max() > 1e-3
    assert len({m.fingerprint for m in (base, at_first, trained)}) == 3
    assert trained.name == str(made.last)
    images = xg.encode(trained, data.images, store=None, progress=False)
    texts = xg.encode(trained, data.texts, store=None, progress=False)
    evaluated = xg.retrieval(images, texts, data.relevance())["ap"].mean()
    assert made.curve["image_to_text"].iloc[-1] == pytest.approx(evaluated, abs=1e-6)  # evaluated with its head


def test_it_learns(start: Path, data: xg.Dataset, tmp_path: Path) -> None:
    more = {"steps": 60, "batch": 12, "learning_rate": 3e-2, "augmentation": "none", "adapter": "head(width=16)"}
    made = xg.train(start, data, tmp_path, dataclasses.replace(HEAD, **more), progress=False, device="cpu")
    assert made.curve["loss"].iloc[-1] < 0.9 * made.curve["loss"].iloc[0]


def test_a_killed_run_goes_on_to_the_same_head_and_the_same_parameters_of_a_term(
    start: Path, data: xg.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = dataclasses.replace(HEAD, steps=5, objective={"clip": 1.0, "arc-margin(margin=0.3)": 0.5})
    run(start, data, tmp_path / "whole", recipe, save_every=2)
    seen, real = [], TrainStep.gradients

    def dies(self: TrainStep, batch: Any, step: int, scaler: Any = None) -> dict[str, float]:
        seen.append(step)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return real(self, batch, step, scaler)

    monkeypatch.setattr(TrainStep, "gradients", dies)
    with pytest.raises(KeyboardInterrupt):
        run(start, data, tmp_path / "killed", recipe, save_every=2)
    run(start, data, tmp_path / "killed", recipe, save_every=2)
    assert seen == [0, 1, 2, 3, 2, 3, 4]
    assert same(tmp_path / "whole" / "last" / ADDED, tmp_path / "killed" / "last" / ADDED)
    states = [torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("whole", "killed")]
    centres = [state["parts"]["term arc-margin(margin=0.3)"]["centres"] for state in states]
    assert torch.equal(*centres)


def test_a_batch_in_parts_gives_the_gradient_of_the_whole(start: Path, data: xg.Dataset) -> None:
    grads = []
    for size in (None, 4):
        objective = {"clip": 1.0, "arc-margin": 0.5, "image-image": 0.5}
        recipe = xg.Recipe(steps=2, batch=10, micro_batch=size, objective=objective, adapter="head(width=4)")
        model = load_trainable(start, device="cpu", adapter=recipe.adapter)
        assert model.attached is not None
        with torch.no_grad():  # away from zero, so that each weight has a gradient
            for parameter in model.attached.modules.parameters():
                parameter.add_(0.1)
        pairs = Pairs(data, recipe, model.tokenize, augmentation(model.module, model.preprocess, "crop"))
        learner = TrainStep(model.module, recipe, len(pairs.labels), model.attached)
        learner.gradients(pairs[0], 0)
        grads.append({name: p.grad for name, p in learner.parameters()})
    assert {name.partition(".")[0] for name in grads[0]} == {"adapter", "arc-margin"}
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, atol=1e-6, rtol=1e-4)


def test_one_tower_alone(start: Path, data: xg.Dataset, tmp_path: Path) -> None:
    last = run(start, data, tmp_path, dataclasses.replace(HEAD, towers="text"), checkpoints=(0,))
    before, after = load_file(tmp_path / "step-0" / ADDED), load_file(last / ADDED)
    moved = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"text"}


def test_trained_on_images_alone_it_is_an_image_model_that_loads(start: Path, data: xg.Dataset, tmp_path: Path) -> None:
    recipe = dataclasses.replace(HEAD, objective={"image-image": 1.0}, towers="image")
    last = run(start, data, tmp_path, recipe)
    trained = xg.load_model(last, device="cpu")
    assert list(trained.towers) == ["image"]
    native = xg.encode(xg.load_model(start, device="cpu"), data.images, store=None, progress=False)
    made = xg.encode(trained, data.images, store=None, progress=False)
    assert (made.vectors - native.vectors).abs().max() > 1e-3
    on = load_trainable(last, device="cpu")
    assert on.attached is not None
    assert set(on.attached.modules) == {"image", "text"}


def test_what_an_adapter_trains_of_its_base_moves_and_nothing_else(
    start: Path, data: xg.Dataset, tmp_path: Path, shift: None
) -> None:
    last = run(start, data, tmp_path, dataclasses.replace(HEAD, adapter="shift"))
    before, after = load_file(start / BASE), load_file(last / BASE)
    assert [name for name in before if not torch.equal(before[name], after[name])] == ["logit_scale"]
    assert load_file(last / ADDED)["image.by"].abs().max() > 0


def test_a_trained_adapter_is_trained_on(start: Path, data: xg.Dataset, tmp_path: Path) -> None:
    last = run(start, data, tmp_path / "first")
    for adapter in (None, "head(width=4)", "head(width=4, towers=all)"):
        on = run(last, data, tmp_path / f"on-{adapter}", dataclasses.replace(HEAD, adapter=adapter), checkpoints=(0,))
        assert same(last / ADDED, on.parent / "step-0" / ADDED)
        assert not same(last / ADDED, on / ADDED)
        assert same(start / BASE, on / BASE)
    with pytest.raises(xg.XgapError, match=r"has adapter head\(width=4, towers=all\), not head\(width=5, towers=all\)"):
        run(last, data, tmp_path / "other", dataclasses.replace(HEAD, adapter="head(width=5)"))
    with pytest.raises(xg.XgapError, match="another run"):  # the base has other weights to start from
        run(start, data, tmp_path / "on-None", dataclasses.replace(HEAD, adapter=None))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"adapter": "haed"}, "unknown adapter 'haed'; nearest names: head"),
        ({"adapter": "head(width=0)"}, "the width of a head is 1 or more"),
        ({"adapter": "head(towers=image)", "towers": "text"}, r"has nothing to train with towers='text'"),
        ({"adapter": xg.Adapter("mine", lambda dims: {})}, "adapter mine has no name, by which the trained model"),
    ],
)
def test_mistakes_are_one_sentence(
    start: Path, data: xg.Dataset, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(xg.XgapError, match=message):
        run(start, data, tmp_path, dataclasses.replace(HEAD, **change))


def test_a_part_of_the_base_that_is_not_there_is_named(
    start: Path, data: xg.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift: None
) -> None:
    monkeypatch.setitem(ADAPTERS._entries, "shift", dataclasses.replace(ADAPTERS["shift"], trained=("visual.ln_last",)))
    with pytest.raises(xg.XgapError, match=r"adapter shift trains 'visual\.ln_last' of its base, which has no such"):
        run(start, data, tmp_path, dataclasses.replace(HEAD, adapter="shift"))


@pytest.mark.parametrize("name", ["maple(depth=1)", "vdr", "grounded(units=4)"])
def test_an_adapter_that_reads_captions_is_not_trained_on_images_alone(
    start: Path, data: xg.Dataset, tmp_path: Path, name: str
) -> None:
    """The folder would hold an image model, which it could not be put into again."""
    recipe = dataclasses.replace(HEAD, objective={"image-image": 1.0}, towers="image", adapter=name)
    with pytest.raises(xg.XgapError, match=r"leave a model without a text tower, which adapter .* does not fit"):
        run(start, data, tmp_path, recipe)


INSIDE = {  # name to the objective that it is trained with
    "long-clip(keep=6, factor=2)": {"clip": 1.0},
    "maple(depth=2)": {"clip": 1.0},
    "clip-moe(experts=2, k=1)": {"clip": 1.0},
    "clip-moe(experts=2, k=2, train=gates)": {"clip": 1.0},
    "ptunifier(pool=9, image_tokens=3, text_tokens=2)": {"clip": 1.0},
    "vdr": {"vdr(top=50)": 1.0},
    "lexvla": {"clip": 1.0, "overuse": 10.0},
    "grounded(units=4, length=30)": {"ranking-margin": 1.0},
    "matching(dim=8, hidden=6)": {"ranking-margin": 1.0},
    "llm2clip(language={})": {"clip": 1.0},
    "rs-capret(language={}, dim=12)": {"clip": 1.0},
    "vladva(language={}, rank=2, length=40)": {"clip": 2.0, "next-words(k=2)": 1.0},
    "mm-embed(language={}, rank=2, length=30)": {"clip": 1.0},
}
KEPT = {"clip-moe(experts=2, k=2, train=gates)": "experts."}  # parameters of an adapter that are not trained


@pytest.mark.parametrize("name", INSIDE)
def test_an_adapter_inside_a_tower_trains_what_it_says_and_is_loaded_again(
    start: Path, data: xg.Dataset, tmp_path: Path, language: Path, name: str
) -> None:
    objective, name = INSIDE[name], name.format(language)
    recipe = dataclasses.replace(HEAD, steps=2, batch=4, adapter=name, objective=objective, learning_rate=1e-2)
    made = xg.train(start, data, tmp_path, recipe, checkpoints=(0,), eval_data=data, progress=False, device="cpu")
    trained = xg.adapter(name).trained
    before, after = load_file(start / BASE), load_file(made.last / BASE)
    assert before.keys() == after.keys()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert all(key.startswith(trained) for key in moved)
    assert bool(moved) == bool(trained)
    first, last = load_file(tmp_path / "step-0" / ADDED), load_file(made.last / ADDED)
    stayed = {key for key in first if torch.equal(first[key], last[key])}
    kept = KEPT.get(name)
    assert all(
        (kept and kept in key) or key.endswith(("language", "texts.ctx")) or not first[key].any() for key in stayed
    )
    model = xg.load_model(made.last, device="cpu")
    images = xg.encode(model, data.images, store=None, progress=False)
    texts = xg.encode(model, data.texts, store=None, progress=False)
    evaluated = xg.retrieval(images, texts, data.relevance())["ap"].mean()
    assert made.curve["image_to_text"].iloc[-1] == pytest.approx(evaluated, abs=1e-6)
    start_as = [modality for modality in ("image", "text") if xg.adapter(name).starts_as_base_of(modality)]
    base, begun = xg.load_model(start, device="cpu"), xg.load_model(tmp_path / "step-0", device="cpu")
    for modality in start_as:
        items = data.images if modality == "image" else ["a cat"]
        plain, now = (xg.encode(m, items, store=None, progress=False) for m in (base, begun))
        torch.testing.assert_close(now.vectors, plain.vectors, atol=1e-6, rtol=0)
    assert made.curve["loss"].notna().all()
