"""Every further term in the real loop: it is finite, goes on after a stop, and leaves no trace at weight 0."""

import dataclasses
import doctest
import importlib
import math
from pathlib import Path

import pytest
import torch
from torch import nn

import xgap_analysis as xg
from xgap_analysis.models.trainable import WEIGHTS, load_trainable
from xgap_analysis.training import Sizes, recipe
from xgap_analysis.training.objectives.pseudo_labels import (
    description_classifier,
    fit_labeller,
    pseudo_labels,
    student_of,
)
from xgap_analysis.training.pairs import Pairs, augmentation
from xgap_analysis.training.step import TrainStep

SHORT = xg.Recipe(steps=3, batch=6, warmup=1, learning_rate=1e-2)
TERMS = {  # with options that keep them small
    "token-max(smoothing=0.1, share=0.5)": {},
    "multi-positive(k=2)": {},
    "grouping(k=2, delta=0.1)": {},
    "multi-event(k=2, unbalanced=True)": {},
    "long-and-short(rank=2)": {},
    "centroid-uniformity": {},
    "random-reference": {},
    "hybrid-distillation": {},
    "separability": {},
    "adaptive-contrast": {},
    "latent-reconstruction(width=4)": {},
    "masked-words(blocks=1)": {},
    "masked-words(blocks=1, patches=0.5)": {},
    "masked-patches": {},
    "grammar": {"towers": "text"},
    "caption-reward(k=2, references=True)": {},
}


@pytest.mark.parametrize("term", TERMS)
def test_alone_it_gives_the_towers_a_gradient(term: str, start: Path, data: xg.Dataset) -> None:
    recipe = dataclasses.replace(SHORT, objective={term: 1.0}, **TERMS[term])
    model = load_trainable(start, device="cpu")
    pairs = Pairs(data, recipe, model.tokenize, augmentation(model.module, model.preprocess, "crop"))
    learner = TrainStep(model.module, recipe, len(pairs.labels))
    learner.train()
    assert math.isfinite(learner.gradients(pairs[0], 0)["loss"])
    grads = [p.grad for p in model.module.parameters() if p.grad is not None]
    assert all(bool(grad.isfinite().all()) for grad in grads)
    assert any(bool(grad.any()) for grad in grads)


def test_all_of_them_train_in_the_loop(start: Path, data: xg.Dataset, tmp_path: Path) -> None:
    recipe = dataclasses.replace(SHORT, objective=dict.fromkeys(TERMS, 1.0))
    curve = xg.train(start, data, tmp_path, recipe, note_every=1, progress=False, device="cpu").curve[[*TERMS]]
    assert torch.isfinite(torch.tensor(curve.to_numpy())).all()
    assert (curve.nunique() == len(curve)).all()  # each has moved


def test_a_stopped_run_draws_what_it_would_have_drawn(
    start: Path, data: xg.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawing = ("random-reference", "masked-words(blocks=1)", "masked-patches", "grammar", "caption-reward")
    recipe = dataclasses.replace(SHORT, objective=dict.fromkeys(drawing, 1.0), steps=4, token_dropout=0.1)
    how = {"save_every": 2, "progress": False, "device": "cpu"}
    whole = xg.train(start, data, tmp_path / "whole", recipe, **how)
    plain, steps = TrainStep.gradients, []

    def killed(self: TrainStep, *given: object) -> dict[str, float]:
        steps.append(given)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return plain(self, *given)

    monkeypatch.setattr(TrainStep, "gradients", killed)
    with pytest.raises(KeyboardInterrupt):
        xg.train(start, data, tmp_path / "again", recipe, **how)
    torch.manual_seed(99)  # another process draws otherwise
    again = xg.train(start, data, tmp_path / "again", recipe, **how)
    assert len(steps) == 4 + 2
    assert (whole.last / WEIGHTS).read_bytes() == (again.last / WEIGHTS).read_bytes()


MODULES = "caption_reward centroids corruption grouping latent_space masked_words multi_event principal"


@pytest.mark.parametrize(
    "name", [*MODULES.split(), "pseudo_labels", "refinement", "relevant_patches", "token_contrast"]
)
def test_examples_run(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"xgap_analysis.training.objectives.{name}"))
    assert found.attempted > 0
    assert found.failed == 0


RECIPES = ["filip", "dreamlip", "mevtr", "sycoca", "clip-reward(references=True)", "clsr", "long-clip(rank=2)"]


@pytest.mark.parametrize("name", [*RECIPES, "modgap", "clip-refine", "irra"])
def test_recipes_of_systems_run(name: str, start: Path, data: xg.Dataset, tmp_path: Path) -> None:
    change = {"steps": 2, "batch": 6, "warmup": 1}
    made = recipe(name)
    stages = tuple({**stage, "steps": 2} for stage in made.stages)
    small = dataclasses.replace(made, **change, stages=stages)
    curve = xg.train(start, data, tmp_path, small, note_every=1, progress=False, device="cpu").curve
    assert torch.isfinite(torch.tensor(curve["loss"].to_numpy())).all()
    assert len(curve) == 2 * max(1, len(stages))


def test_in_parts_they_give_the_gradient_of_the_whole(start: Path, data: xg.Dataset) -> None:
    """But for those that encode something of their own, which are refused in one sentence."""
    whole = {term: 1.0 for term in TERMS if not xg.objective(term).needed.towers}
    assert len(whole) == len(TERMS) - 5
    grads = []
    for size in (None, 4):
        recipe = dataclasses.replace(SHORT, batch=10, micro_batch=size, objective=whole)
        model = load_trainable(start, device="cpu")
        pairs = Pairs(data, recipe, model.tokenize, augmentation(model.module, model.preprocess, "crop"))
        learner = TrainStep(model.module, recipe, len(pairs.labels))
        learner.gradients(pairs[0], 0)
        grads.append({name: p.grad for name, p in learner.parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, atol=1e-5, rtol=1e-3)
    with pytest.raises(xg.XgapError, match=r"'masked-patches' encodes something of its own, .* leave micro_batch out"):
        dataclasses.replace(SHORT, micro_batch=2, objective={"masked-patches": 1.0})


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ("one-to-many(weighting=halves)", "weighting of one-to-many is one of 'equal', 'published', not 'halves'"),
        ("symile(negatives=1)", "negatives of symile is one of 'shuffle', 'all', not 1"),
        ("token-max(share=most)", "share of token-max is a number, not 'most'"),
        ("caption-reward(references=maybe)", "references of caption-reward is True or False, not 'maybe'"),
        ("long-and-short(rank=1.5)", "rank of long-and-short is a whole number, not 1.5"),
        ("latent-reconstruction(width=wide)", "is a whole number or None, not 'wide'"),
        ("masked-words(share=2.0)", "share of masked-words is a share, above 0 and at most 1, not 2"),
        ("masked-words(patches=1.5)", "patches of masked-words is a share"),
        ("long-and-short(rank=0)", "rank of long-and-short is 1 or more"),
        ("caption-reward(samples=0)", "samples of caption-reward are 1 or more"),
        ("adaptive-contrast(guidance=-1.0)", "guidance of adaptive-contrast is 0 or more"),
    ],
)
def test_a_wrong_value_of_an_option_is_one_sentence(term: str, message: str) -> None:
    with pytest.raises(xg.XgapError, match=message) as caught:
        xg.objective(term)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("term", ["pair-scores(width=-1)", "latent-reconstruction(width=0)", "masked-words(blocks=-1)"])
def test_parameters_of_no_size_are_refused(term: str) -> None:
    with pytest.raises(xg.XgapError, match=r"or more.*, not"):
        xg.objective(term).made(Sizes(4, 3, 20))


def test_at_weight_zero_they_leave_no_trace(start: Path, data: xg.Dataset, tmp_path: Path) -> None:
    files = []
    for name, others in (("without", {}), ("with", dict.fromkeys(TERMS, 0.0))):
        recipe = dataclasses.replace(SHORT, objective={"clip": 1.0, **others})
        made = xg.train(start, data, tmp_path / name, recipe, progress=False, device="cpu")
        files.append([(made.last / file.name).read_bytes() for file in sorted(made.last.iterdir())])
        assert (tmp_path / name / "run.json").read_text() == (tmp_path / "without" / "run.json").read_text()
    assert files[0] == files[1]


def test_a_term_of_hidden_words_lowers_what_it_measures(start: Path, data: xg.Dataset, tmp_path: Path) -> None:
    recipe = dataclasses.replace(SHORT, objective={"masked-words(blocks=1)": 1.0}, steps=12, learning_rate=2e-2)
    curve = xg.train(start, data, tmp_path, recipe, note_every=1, progress=False, device="cpu").curve
    values = curve["masked-words(blocks=1)"]
    assert values.iloc[-4:].mean() < 0.9 * values.iloc[0]


def test_nola_whole(start: Path, data: xg.Dataset, tmp_path: Path) -> None:
    """Descriptions, pseudo-labels, a labeller on the features of another tower, and the student in the loop."""
    model = xg.load_model(start, device="cpu")
    images, texts = (xg.encode(model, items, store=None, progress=False) for items in (data.images, data.texts))
    labels = data.labels_of()
    classifier = description_classifier(texts.vectors, torch.tensor([int(labels[item]) for item in texts.ids]))
    items, classes = pseudo_labels(100 * images.vectors @ classifier.T, least=2)
    pixels = torch.stack([model.image.prepare([image])[0] for image in map(data.images.opener, images.ids)])
    seen = pixels.mean(dim=(2, 3))  # an image-only model: the mean colour
    head = fit_labeller(seen[items], classes, len(classifier), epochs=20, learning_rate=1e-2, width=8)
    colour = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    term = student_of(classifier, colour)
    recipe = dataclasses.replace(SHORT, objective={term: 1.0}, towers="image", steps=12, learning_rate=3e-3)
    made = xg.train(start, data, tmp_path, recipe, note_every=1, progress=False, device="cpu")
    assert made.curve[str(term)].iloc[-4:].mean() < made.curve[str(term)].iloc[:2].mean()
    state = torch.load(tmp_path / "state.pt", weights_only=True)["parts"][f"term {term}"]["weight"]
    assert not torch.equal(state, classifier)
