"""Stages, policies of captions, recipes by name: the same run whether it is killed or not, and what stays frozen."""

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import xgap_analysis as xg
from xgap_analysis import cli
from xgap_analysis.training import RECIPES, Further, Recipe, recipe, register_recipe
from xgap_analysis.training.captions import Captions, captions_of, first_sentence, nearest
from xgap_analysis.training.pairs import Pairs
from xgap_analysis.training.step import TrainStep

SHORT = Recipe(steps=2, batch=6, warmup=1, learning_rate=1e-2, augmentation="none")
TWO = (
    {"objective": {"arc-margin": 1.0}, "towers": "image", "steps": 3},
    {"objective": {"clip": 1.0}, "towers": "text"},
)


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "open_clip_model.safetensors")


def moved(a: Path, b: Path) -> set[str]:
    """Names of the weights that differ, to the bit."""
    one, other = weights(a), weights(b)
    return {name for name in one if not torch.equal(one[name], other[name])}


def run(start: Path, data: xg.Dataset, out: Path, recipe: Recipe, **more: Any) -> xg.training.Trained:
    return xg.train(start, data, out, recipe, progress=False, device="cpu", note_every=1, **more)


def drawing(data: xg.Dataset, **change: Any) -> Pairs:
    """Batches without pixels and without a tokenizer."""
    settings = dataclasses.replace(SHORT, **{"steps": 40, **change})
    near = {item: (f"{i % 3}/text-0",) * (i % 3 > 0) for i, item in enumerate(data.images.ids)}
    captions = settings.captions.startswith("near")
    return Pairs(
        data,
        settings,
        lambda t: torch.zeros(len(t), 4),
        lambda p: torch.zeros(3, 8, 8),
        near=near if captions else None,
    )


def test_each_stage_trains_its_own_tower_and_leaves_the_other_to_the_bit(
    start: Path, data: xg.Dataset, tmp_path: Path
) -> None:
    made = run(start, data, tmp_path, dataclasses.replace(SHORT, stages=TWO), checkpoints=(3, 5))
    first, second = moved(start, tmp_path / "step-3"), moved(tmp_path / "step-3", made.last)
    assert first
    assert {name.split(".")[0] for name in first} == {"visual"}
    assert second
    assert not {name for name in second if name.startswith("visual.")}
    assert made.curve["stage"].tolist() == [0, 0, 0, 1, 1]
    assert made.curve["step"].tolist() == [1, 2, 3, 4, 5]
    assert made.curve["clip"].notna().tolist() == [False, False, False, True, True]


@pytest.mark.parametrize("dies_at", [2, 5])
def test_a_killed_run_goes_on_in_the_right_stage_to_the_same_weights(
    start: Path, data: xg.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    # The second stage reads a teacher, which is the model as the first one left it, and brings a bias.
    later = {"objective": {"clip": 1.0, "off-diagonal": 5.0, "siglip": 0.1, "identity": 1.0}, "steps": 3}
    two = dataclasses.replace(SHORT, stages=(TWO[0], later), token_dropout=0.1)
    whole = run(start, data, tmp_path / "whole", two, save_every=4)
    real, seen = TrainStep.gradients, []

    def dies(self: TrainStep, batch: Any, step: int, scaler: Any = None) -> dict[str, float]:
        seen.append(step)
        if len(seen) == dies_at + 1:
            raise KeyboardInterrupt
        return real(self, batch, step, scaler)

    monkeypatch.setattr(TrainStep, "gradients", dies)
    with pytest.raises(KeyboardInterrupt):
        run(start, data, tmp_path / "killed", two, save_every=4)
    again = run(start, data, tmp_path / "killed", two, save_every=4)
    assert seen == {2: [0, 1, 2, 0, 1, 2, 0, 1, 2], 5: [0, 1, 2, 0, 1, 2, 1, 2]}[dies_at][: len(seen)]
    assert moved(whole.last, again.last) == set()
    columns = [name for name in whole.curve if name != "seconds"]
    np.testing.assert_array_equal(whole.curve[columns].to_numpy(), again.curve[columns].to_numpy())
    assert run(start, data, tmp_path / "killed", two).curve.equals(again.curve)  # nothing is left to do


def test_mix_takes_alternatives_with_probability_p(data: xg.Dataset) -> None:
    def texts(p: float, seed: int = 0) -> list[str]:
        pairs = drawing(data, captions=f"mix(p={p})", seed=seed)
        return [text for step in range(40) for item in pairs.drawn(step) for text in item.texts]

    assert {text[-1] for text in texts(0)} == {"0"}  # the originals
    assert {text[-1] for text in texts(1)} == {"1"}  # the alternatives
    half = texts(0.5)
    assert 0.35 < np.mean([text[-1] == "1" for text in half]) < 0.65
    assert half == texts(0.5)
    assert half != texts(0.5, seed=1)


def test_mix_at_one_trains_as_on_the_alternatives_alone(start: Path, data: xg.Dataset, tmp_path: Path) -> None:
    second = tuple(caption[:-1] + "1" for caption in data.texts.captions)
    alone = dataclasses.replace(data, texts=dataclasses.replace(data.texts, captions=second))
    mixed = run(start, data, tmp_path / "mixed", dataclasses.replace(SHORT, captions="mix(p=1.0)"))
    other = run(start, alone, tmp_path / "alone", SHORT)
    assert moved(mixed.last, other.last) == set()


def test_all_gives_each_item_all_of_its_captions_and_says_which_are_its_own(data: xg.Dataset) -> None:
    fewer = dataclasses.replace(
        data, texts=data.texts.select([i for i in data.texts.ids if i not in ("3/text-1", "5/text-0")])
    )
    pairs = drawing(fewer, captions="all", batch=12)
    drawn, batch = pairs.drawn(0), pairs[0]
    assert batch.is_caption.shape == (12, 2)
    for item, own in zip(drawn, batch.is_caption, strict=True):
        assert own.tolist() == [True, item.label not in ("3", "5")]
        assert {text.split("/")[0] for text in item.texts} == {item.label}
        assert len(set(item.texts)) == int(own.sum())
    assert drawing(data)[0].is_caption is None


def test_first_sentence_gives_a_caption_and_its_first_sentence(data: xg.Dataset) -> None:
    longer = dataclasses.replace(
        data.texts, captions=tuple(f"{c}. It is bright! And more." for c in data.texts.captions)
    )
    pairs = drawing(dataclasses.replace(data, texts=longer), captions="first_sentence")
    for item in pairs.drawn(0):
        whole, first = item.captions
        assert whole.startswith(first)
        assert first.endswith(tuple("01"[k] + "." for k in range(2)))
        assert "bright" in whole
        assert "bright" not in first
    assert [first_sentence(t) for t in ("a bear", " A 3.5 m bear? Yes.", "熊。木。", "")] == [
        "a bear",
        "A 3.5 m bear?",
        "熊。",
        "",
    ]


def test_near_gives_images_the_captions_that_lie_near_in_the_first_model(start: Path, data: xg.Dataset) -> None:
    model = xg.load_model(start, device="cpu")
    doubled = dataclasses.replace(data.texts, captions=(data.texts.captions[0],) * 2 + tuple(data.texts.captions[2:]))
    own = dataclasses.replace(data, texts=doubled)
    images, texts = (xg.encode(model, items, store=None, progress=False) for items in (own.images, own.texts))
    cosine = images.vectors.double() @ texts.vectors.double().T
    threshold = float(cosine.median())
    found = nearest(model, own, Captions("near", {"top": 5, "threshold": threshold}))
    for i, item in enumerate(own.images.ids):
        ranked = [j for j in cosine[i].argsort(descending=True).tolist() if j != 1]  # spelled like the first
        expected = [own.texts.ids[j] for j in ranked if cosine[i, j] > threshold][:5]
        assert set(found[item]) == set(expected)
    counts = {len(ids) for ids in found.values()}
    assert len(counts) > 1
    batch = drawing(data, captions="near(top=4)", objective={"mc-arc-margin": 1.0}, towers="image")
    assert batch[0].is_caption.sum(1).tolist() == [
        (data.images.ids.index(item.image) % 3 > 0) * 1 for item in batch.drawn(0)
    ]


def test_mcip_trains_the_image_tower_alone_on_texts_of_no_label(start: Path, data: xg.Dataset, tmp_path: Path) -> None:
    bare = dataclasses.replace(
        data, labels={"colour": {i: label for i, label in data.labels_of().items() if "text" not in i}}
    )
    mcip = dataclasses.replace(recipe("mcip", top=3, threshold=-1.0), steps=2, batch=6, warmup=1, learning_rate=1e-2)
    made = run(start, bare, tmp_path, mcip)
    assert {name.split(".")[0] for name in moved(start, made.last)} == {"visual"}
    assert {"arc-margin(scale=30.0, margin=0.1)", "mc-arc-margin"} <= set(made.curve)


@pytest.mark.parametrize("name", ["one-to-k(k=2)", "mod-x", "dse", "irra", "veclip", "symile", "optimizing-clip"])
def test_a_recipe_by_name_trains(name: str, start: Path, data: xg.Dataset, tmp_path: Path) -> None:
    own = dataclasses.replace(recipe(name), steps=2, batch=6, warmup=1, augmentation="none")
    ids = [f"{label}/sound" for label in range(12)]
    labels = {**data.labels_of(), **{item: item.split("/")[0] for item in ids}}
    rows = torch.randn(12, 16, generator=torch.Generator().manual_seed(0))
    sound = Further(ids, rows, torch.nn.Linear(16, 16))
    before = sound.tower.weight.clone()
    heard = dataclasses.replace(data, labels={"colour": labels})
    made = run(start, heard, tmp_path, own, further={"audio": sound})
    assert np.isfinite(made.curve["loss"]).all()
    assert moved(start, made.last)
    assert torch.equal(sound.tower.weight, before)  # what is given stays as it is
    if name == "symile":
        assert not torch.equal(made.towers["audio"].weight, before)


def test_a_tower_that_one_stage_trains_is_kept_through_the_next(start: Path, data: xg.Dataset, tmp_path: Path) -> None:
    ids = [f"{label}/sound" for label in range(12)]
    labels = {**data.labels_of(), **{item: item.split("/")[0] for item in ids}}
    heard = dataclasses.replace(data, labels={"colour": labels})
    sound = Further(ids, torch.randn(12, 16, generator=torch.Generator().manual_seed(0)), torch.nn.Linear(16, 16))
    clip = {"objective": {"clip": 1.0}, "steps": 1}
    three = dataclasses.replace(SHORT, stages=(clip, {"objective": {"symile": 1.0}}, clip))
    first, again = (run(start, heard, tmp_path, three, further={"audio": sound}) for _ in range(2))
    assert not torch.equal(first.towers["audio"].weight, sound.tower.weight)
    assert torch.equal(first.towers["audio"].weight, again.towers["audio"].weight)


TERMS = ["mc-arc-margin", "off-diagonal", "sdm", "identity", "pair-scores", "symile", "pairwise-clip"]


def test_new_terms_of_weight_zero_change_nothing_to_the_bit(start: Path, data: xg.Dataset, tmp_path: Path) -> None:
    without = run(start, data, tmp_path / "without", SHORT)
    zero = dataclasses.replace(SHORT, objective={"clip": 1.0, **dict.fromkeys(TERMS, 0.0)})
    made = run(start, data, tmp_path / "with", zero)
    assert moved(without.last, made.last) == set()
    assert (tmp_path / "without" / "run.json").read_text() == (tmp_path / "with" / "run.json").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"captions": "two"}, "unknown policy of captions 'two'; .*one"),
        ({"captions": "mix(q=1)"}, "unknown option of mix 'q'; nearest names: p"),
        ({"captions": "mix(p=2)"}, "p of captions='mix.p=2.' is from 0 to 1, not 2"),
        ({"captions": "near(top=1.5)"}, "top of captions=.* is a number of captions"),
        ({"captions": "near"}, "objective 'clip' needs some for each: it goes with mc-arc-margin"),
        ({"stages": ({"tower": "image"},)}, "unknown option of a stage 'tower'; nearest names: towers"),
        ({"stages": ({"scratch": True},)}, "scratch is of a whole run: give it to the recipe"),
        ({"stages": ("clip",)}, "a stage is a change of the recipe"),
        ({"stages": ({"objective": {"clap": 1.0}},)}, "unknown objective 'clap'; nearest names: clip"),
        ({"stages": ({"objective": {"arc-margin": 1.0}},)}, 'train with towers="image"'),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(xg.XgapError, match=message) as caught:
        dataclasses.replace(SHORT, **change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"captions": None}, "captions of a recipe is a text, not None"),
        ({"steps": 2.5}, "steps of a recipe is a whole number, not 2.5"),
        ({"objective": "clip"}, "objective of a recipe is terms and their weights, .*, not 'clip'"),
        ({"learning_rate": "high"}, "learning_rate of a recipe is a number, not 'high'"),
        ({"temperature": [0.1, 0.2]}, 'temperature is "learned", a number or two as a tuple, not .0.1, 0.2.'),
        ({"temperature": (0.1,)}, 'temperature is "learned", a number or two as a tuple'),
    ],
)
def test_a_value_of_another_kind_is_refused(change: dict[str, Any], message: str) -> None:
    wrong = copy.copy(SHORT)  # without the check of annotations that the tests add, which would come first
    for name, value in change.items():
        object.__setattr__(wrong, name, value)
    with pytest.raises(xg.XgapError, match=message):
        wrong.__post_init__()


def test_recipes_have_names(start: Path, data: xg.Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert captions_of(recipe("mcip(threshold=0.3)").captions).options == {"top": 20, "threshold": 0.3}
    with pytest.raises(xg.XgapError, match="unknown recipe 'mod-y'; nearest names: mod-x"):
        recipe("mod-y")
    with pytest.raises(xg.XgapError, match="unknown option of mod-x 'wight'; nearest names: weight"):
        recipe("mod-x(wight=2)")
    with pytest.raises(xg.XgapError, match="alpha of dse is a number, not 'half'"):
        recipe("dse(alpha=half)")

    def mine(*, steps: int = 7) -> Any:
        return Recipe(steps=steps) if steps else None

    register_recipe("mine")(mine)
    assert recipe("mine(steps=3)").steps == 3
    with pytest.raises(xg.XgapError, match="must give a Recipe, not a NoneType"):
        recipe("mine(steps=0)")
    capsys.readouterr()
    assert cli.main(["train", "--list", "--json"]) == 0
    rows = {row["recipe"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows.keys() == set(RECIPES)
    assert rows["optimizing-clip"]["objective"] == "arc-margin(scale=30.0, margin=0.1), then clip"


def test_the_command_takes_a_recipe_by_name_and_changes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Recipe] = []

    def stands_in(model: Any, data: Any, out: Any, recipe: Recipe, **more: Any) -> Any:
        kept.append(recipe)
        raise xg.XgapError("enough")

    monkeypatch.setattr("xgap_analysis.training.train", stands_in)
    command = ["train", "--out", str(tmp_path / "run"), "--recipe"]
    assert cli.main([*command, "mod-x(weight=2.0)", "--steps", "3", "--captions", "mix(p=0.2)"]) == 2
    expected = dataclasses.replace(recipe("mod-x(weight=2.0)"), steps=3, captions="mix(p=0.2)")
    assert kept == [expected]
    # What is given counts, also where it is the default of the command.
    assert cli.main([*command, "clip-refine", "--learning-rate", "0.0005", "--token-dropout", "0"]) == 2
    assert kept[-1] == dataclasses.replace(recipe("clip-refine"), learning_rate=0.0005)
    assert cli.main([*command, "modgap", "--temperature", "learned"]) == 2
    assert kept[-1].temperature == "learned"
    assert cli.main(["train", "--out", str(tmp_path / "run")]) == 2
    assert kept[-1] == Recipe()
    capsys.readouterr()
    assert cli.main([*command, "optimizing-clip", "--towers", "image"]) == 2
    assert "recipe 'optimizing-clip' sets --towers for each stage" in capsys.readouterr().err
    assert cli.main(["train", "--recipe", "mod-x"]) == 2
    assert "--out FOLDER" in capsys.readouterr().err


def test_a_batch_that_is_too_small_is_one_sentence(full_batch: Callable[..., Any]) -> None:
    with pytest.raises(xg.XgapError, match="take a batch that is a multiple of it, twice at least"):
        dataclasses.replace(recipe("irra(items=3)"), batch=4)
