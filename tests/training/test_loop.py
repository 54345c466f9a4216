"""Training: what a weight of zero changes, what a kill changes, what a batch in parts changes (nothing), and whether it
learns."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from xgap_analysis import Dataset, Relevance, XgapError, load_model
from xgap_analysis.models.trainable import load_trainable
from xgap_analysis.training import Recipe, train
from xgap_analysis.training.pairs import Pairs, augmentation
from xgap_analysis.training.step import TrainStep

SHORT = Recipe(steps=4, batch=6, warmup=1, learning_rate=1e-2)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "open_clip_model.safetensors")


def same(a: Path, b: Path) -> bool:
    one, other = weights(a), weights(b)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def run(start: Path, data: Dataset, out: Path, recipe: Recipe = SHORT, **more: Any) -> Path:
    return train(start, data, out, recipe, progress=False, device="cpu", **more).last


def test_it_learns_what_belongs_together(start: Path, data: Dataset, tmp_path: Path) -> None:
    recipe = Recipe(steps=60, batch=12, warmup=5, learning_rate=3e-3, augmentation="none")
    made = train(start, data, tmp_path / "run", recipe, eval_data=data, eval_every=20, progress=False, device="cpu")
    assert made.curve["loss"].iloc[-1] < 0.5 * made.curve["loss"].iloc[0]
    evaluated = made.curve.dropna(subset="image_to_text")
    assert list(evaluated["step"]) == [20, 40, 60]
    assert evaluated["image_to_text"].iloc[-1] > 0.8
    best = load_model(made.best)
    assert best.weights_digest
    assert (made.folder / "curve.parquet").is_file()


@pytest.mark.parametrize("term", ["image-image", "text-text", "in-modal", "arc-margin", "one-to-many", "siglip"])
def test_a_term_of_weight_zero_changes_nothing_to_the_bit(
    start: Path, data: Dataset, tmp_path: Path, term: str
) -> None:
    run(start, data, tmp_path / "without")
    run(start, data, tmp_path / "with", dataclasses.replace(SHORT, objective={"clip": 1.0, term: 0.0}))
    assert same(tmp_path / "without" / "last", tmp_path / "with" / "last")
    run(start, data, tmp_path / "counts", dataclasses.replace(SHORT, objective={"clip": 1.0, term: 0.5}))
    assert not same(tmp_path / "without" / "last", tmp_path / "counts" / "last")


def test_a_killed_run_goes_on_to_the_same_weights(
    start: Path, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = dataclasses.replace(SHORT, steps=7, objective={"clip": 1.0, "image-image": 0.5}, token_dropout=0.1)
    run(start, data, tmp_path / "whole", recipe, save_every=2)
    seen = []
    real = TrainStep.gradients

    def dies(self: TrainStep, batch: Any, step: int, scaler: Any = None) -> dict[str, float]:
        seen.append(step)
        if len(seen) == 6:
            raise KeyboardInterrupt
        return real(self, batch, step, scaler)

    monkeypatch.setattr(TrainStep, "gradients", dies)
    with pytest.raises(KeyboardInterrupt):
        run(start, data, tmp_path / "killed", recipe, save_every=2)
    run(start, data, tmp_path / "killed", recipe, save_every=2)
    assert seen == [0, 1, 2, 3, 4, 5, 4, 5, 6]  # from the last saved state
    assert same(tmp_path / "whole" / "last", tmp_path / "killed" / "last")
    run(start, data, tmp_path / "killed", recipe)  # finished: nothing is computed
    assert len(seen) == 9


def test_a_checkpoint_that_a_finished_run_did_not_keep_is_made_by_the_same_updates(
    start: Path, data: Dataset, tmp_path: Path
) -> None:
    run(start, data, tmp_path / "at once", checkpoints=(1, 4))
    run(start, data, tmp_path / "later")
    run(start, data, tmp_path / "later", checkpoints=(4,))  # where the run stands: nothing is trained again
    with pytest.warns(UserWarning, match="no checkpoint after 1 updates"):
        run(start, data, tmp_path / "later", checkpoints=(1, 4))
    for checkpoint in ("step-1", "step-4", "last"):
        assert same(tmp_path / "at once" / checkpoint, tmp_path / "later" / checkpoint)
    run(start, data, tmp_path / "later", checkpoints=(1, 4))  # all is there


def test_other_labels_of_the_same_items_are_another_run(start: Path, data: Dataset, tmp_path: Path) -> None:
    run(start, data, tmp_path)
    labels = data.labels_of()
    other = dataclasses.replace(data, labels={"colour": {i: labels[i][::-1] + "'" for i in labels}})
    with pytest.raises(XgapError, match="another run"):
        run(start, other, tmp_path)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named(start: Path, data: Dataset, tmp_path: Path, workers: int) -> None:
    def opener(item: str) -> Any:
        if item == "7/1":
            raise OSError("image file is truncated")
        return data.images.opener(item)

    damaged = dataclasses.replace(data, images=dataclasses.replace(data.images, opener=opener))
    recipe = dataclasses.replace(SHORT, batch=12)
    with pytest.raises(XgapError, match=r"image '7/1' of 'colours' \(train\) cannot be read.*repair it or take it out"):
        run(start, damaged, tmp_path, recipe, workers=workers)


def test_an_item_without_a_label_is_named(start: Path, data: Dataset, tmp_path: Path) -> None:
    for missing in ("3/0", "3/text-1"):
        labels = {i: label for i, label in data.labels_of().items() if i != missing}
        part = dataclasses.replace(data, labels={"colour": labels})
        with pytest.raises(XgapError, match=f"1 items of 'colours' .* have no label, the first is '{missing}'"):
            run(start, part, tmp_path)
    listed = dataclasses.replace(data, judgements={"people": Relevance.from_qrels({"0/0": {"0/text-0": 1}})})
    with pytest.raises(XgapError, match=r"given item by item .* training needs a label"):
        run(start, listed, tmp_path)


def test_the_number_of_loading_processes_changes_nothing(start: Path, data: Dataset, tmp_path: Path) -> None:
    recipe = dataclasses.replace(SHORT, augmentation="simclr")
    run(start, data, tmp_path / "here", recipe)
    run(start, data, tmp_path / "there", recipe, workers=2)
    assert same(tmp_path / "here" / "last", tmp_path / "there" / "last")


@pytest.mark.parametrize("objective", [{"clip": 1.0, "image-image": 1.0, "text-text": 0.5}, {"image-image": 1.0}])
def test_a_batch_in_parts_gives_the_gradient_of_the_whole(
    start: Path, data: Dataset, objective: dict[str, float]
) -> None:
    towers = "both" if "clip" in objective else "image"
    grads = []
    for size in (None, 4):
        recipe = Recipe(steps=2, batch=10, micro_batch=size, objective=objective, towers=towers)
        model = load_trainable(start, device="cpu")
        pairs = Pairs(data, recipe, model.tokenize, augmentation(model.module, model.preprocess, "crop"))
        learner = TrainStep(model.module, recipe, len(pairs.labels))
        learner.gradients(pairs[0], 0)
        grads.append({name: p.grad for name, p in learner.parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, atol=1e-6, rtol=1e-4)


def test_a_frozen_tower_stays_as_it_was(start: Path, data: Dataset, tmp_path: Path) -> None:
    before = weights(start)
    after = weights(run(start, data, tmp_path / "text", dataclasses.replace(SHORT, towers="text")))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert not {name for name in moved if name.startswith("visual.")}
    after = weights(run(start, data, tmp_path / "image", dataclasses.replace(SHORT, towers="image", temperature=0.1)))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.split(".")[0] for name in moved} == {"visual"}


def test_a_fixed_temperature_and_a_way_between_two(start: Path, data: Dataset, tmp_path: Path) -> None:
    fixed = train(
        start, data, tmp_path / "a", dataclasses.replace(SHORT, temperature=0.2), note_every=1, progress=False
    )
    assert fixed.curve["scale"].tolist() == pytest.approx([5.0] * 4)
    way = train(
        start, data, tmp_path / "b", dataclasses.replace(SHORT, temperature=(0.1, 1.0)), note_every=1, progress=False
    )
    assert way.curve["scale"].iloc[0] == pytest.approx(10)
    assert way.curve["scale"].iloc[-1] == pytest.approx(1)


def test_checkpoints_load_as_models_and_image_only_ones_say_so(start: Path, data: Dataset, tmp_path: Path) -> None:
    recipe = dataclasses.replace(SHORT, objective={"image-image": 1.0}, towers="image")
    made = train(start, data, tmp_path / "run", recipe, checkpoints=(0, 2), progress=False)
    assert same(start, made.folder / "step-0")
    assert not same(made.folder / "step-0", made.folder / "step-2")
    with pytest.raises(XgapError, match="no text tower"):
        load_model(made.last).text.encode(torch.zeros(1, 16, dtype=torch.long))


def test_sigmoid_training_brings_its_bias(start: Path, data: Dataset, tmp_path: Path) -> None:
    made = train(start, data, tmp_path / "run", dataclasses.replace(SHORT, objective={"siglip": 1.0}), progress=False)
    assert load_model(made.last).logit_bias == pytest.approx(-10, abs=1)
    assert load_model(made.last).logit_bias != -10


def test_fresh_weights_follow_from_the_seed(start: Path) -> None:
    one, same_seed, other = (
        load_trainable(start, scratch=True, seed=seed, device="cpu").module.state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[name], same_seed[name]) for name in one)
    assert not torch.equal(one["token_embedding.weight"], other["token_embedding.weight"])
    assert not torch.equal(one["token_embedding.weight"], weights(start)["token_embedding.weight"])


def test_no_batch_holds_two_items_of_one_label_and_an_epoch_shows_each(start: Path, data: Dataset) -> None:
    recipe = Recipe(steps=20, batch=5, caption_views=2)
    pairs = Pairs(data, recipe, lambda texts: torch.zeros(len(texts), 4), lambda image: torch.zeros(3, 8, 8))
    for step in range(20):
        drawn = pairs.drawn(step)
        assert len({item.label for item in drawn}) == 5
        for item in drawn:
            assert item.image.split("/")[0] == item.label
            assert sorted(item.captions) == [f"colour number {item.label} in words {k}" for k in range(2)]
    assert pairs.drawn(3) == pairs.drawn(3)
    assert pairs.drawn(3) != pairs.drawn(4)
    assert len({item.label for step in (0, 1) for item in pairs.drawn(step)}) == 10


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"objective": {"clap": 1.0}}, "nearest names: clip"),
        ({"objective": {"clip": -1.0}}, "0 or more"),
        ({"objective": {"clip": 0.0}}, "weight above 0"),
        ({"objective": {"image-image": 1.0}}, "looks at no caption"),
        ({"objective": {"text-text": 1.0}}, "looks at no image"),
        ({"temperature": "hot"}, "learned"),
        ({"temperature": 0.0}, "above 0"),
        ({"templates": ("a photo",)}, "where the caption goes"),
        ({"batch": 1}, "at least 2"),
        ({"steps": 0}, "at least 1"),
        ({"precision": "int8"}, "fp32"),
        ({"token_dropout": 1.0}, "below 1"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(XgapError, match=told):
        dataclasses.replace(SHORT, **change)


def test_mistakes_are_reported_in_a_sentence(start: Path, data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(XgapError, match="take a smaller batch"):
        run(start, data, tmp_path / "a", dataclasses.replace(SHORT, batch=13))
    run(start, data, tmp_path / "b")
    with pytest.raises(XgapError, match="another run"):
        run(start, data, tmp_path / "b", dataclasses.replace(SHORT, seed=1))
    with pytest.raises(XgapError, match="checkpoints are"):
        run(start, data, tmp_path / "c", checkpoints=(5,))
    with pytest.raises(XgapError, match="lower learning rate"):
        run(start, data, tmp_path / "d", dataclasses.replace(SHORT, learning_rate=1e30, clip_gradient=1e30))
    (tmp_path / "b" / "state.pt").write_bytes(b"not a state")
    with pytest.raises(XgapError, match="damaged"):
        run(start, data, tmp_path / "b")
