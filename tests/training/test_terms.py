"""Terms of objectives: options, needs, parameters of their own, the teacher; and bad input in one sentence."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

import xgap_analysis as xg
from xgap_analysis.models.trainable import load_trainable
from xgap_analysis.training import Sizes
from xgap_analysis.training.objectives import active, arc_margin_loss, simclr_loss, total
from xgap_analysis.training.pairs import Pairs, augmentation
from xgap_analysis.training.step import TrainStep

SHORT = xg.Recipe(steps=3, batch=6, warmup=1, learning_rate=1e-2)


def features(seed: int = 0, n: int = 4, d: int = 5) -> xg.BatchFeatures:
    generator = torch.Generator().manual_seed(seed)
    images = normalize(torch.randn(2, n, d, generator=generator), dim=-1)
    texts = normalize(torch.randn(n, 2, d, generator=generator), dim=-1)
    return xg.BatchFeatures(images, texts, torch.tensor(5.0), torch.tensor(-1.0), torch.arange(n))


def same_images(batch: xg.BatchFeatures) -> Tensor:
    """How far images have moved from where they were before training."""
    assert batch.teacher is not None
    return (batch.images - batch.teacher.images).square().sum()


def pair_head(sizes: Sizes, *, width: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(4 * sizes.dim, width), nn.ReLU(), nn.Linear(width, 1))


def pair(batch: xg.BatchFeatures, own: nn.Module, *, target: float = 1.0) -> Tensor:
    a, b = batch.images[0], batch.texts[:, 0]
    return (own(torch.cat([a, b, a * b, (a - b).abs()], dim=1)) - target).square().mean()


PAIR = xg.Term("pair", pair, parameters=pair_head)
STILL = xg.Term("still", same_images, needs=xg.Needs(captions=0, teacher=True))


def test_options_change_the_loss_as_arguments_do() -> None:
    batch = features()
    cool = xg.objective("image-image(temperature=0.5)")
    assert float(cool(batch)) == float(simclr_loss(batch.images[0], batch.images[1], 0.5))
    margin = xg.objective("arc-margin", margin=0.1)
    own = margin.made(Sizes(5, 4))
    assert own is not None
    each = [arc_margin_loss(images, own.centres, batch.labels, 64.0, 0.1) for images in batch.images]
    assert margin(batch, own).item() == pytest.approx(torch.stack(each).mean().item())
    assert str(margin) == "arc-margin(margin=0.1)"


def test_each_function_of_a_term_gets_the_options_that_it_takes() -> None:
    term = xg.objective(PAIR, width=7, target=0.0)
    own = term.made(Sizes(5, 4))
    assert own is not None
    assert [p.shape[0] for p in own.parameters()] == [7, 7, 1, 1]
    assert term(features(), own).item() == pytest.approx(pair(features(), own, target=0.0).item())
    assert term.known_options == {"target": 1.0, "width": 3}
    many = xg.objective("one-to-many(k=5)")
    assert (many.needed.captions, xg.Recipe(objective={"one-to-many(k=5)": 1.0}).n_captions) == (5, 5)


def test_an_objective_is_the_weighted_sum_of_its_terms() -> None:
    terms = active({"clip": 2.0, "uniformity(t=1.0)": 0.5, "alignment": 0.0})
    parts = total(terms, features(), {})
    assert set(parts) == {"clip", "uniformity(t=1.0)", "loss"}
    assert float(parts["loss"]) == pytest.approx(2 * float(parts["clip"]) + 0.5 * float(parts["uniformity(t=1.0)"]))


def test_the_teacher_is_the_model_before_training(start: Path, data: xg.Dataset, tmp_path: Path) -> None:
    recipe = dataclasses.replace(SHORT, objective={"clip": 1.0, STILL: 0.5})
    made = xg.train(start, data, tmp_path, recipe, note_every=1, progress=False, device="cpu")
    still = made.curve["still"].tolist()
    assert still[0] == pytest.approx(0, abs=1e-6)
    assert min(still[1:]) > 1e-4
    held = dataclasses.replace(SHORT, objective={"clip": 1.0, STILL: 100.0})
    near = xg.train(start, data, tmp_path / "held", held, note_every=1, progress=False, device="cpu")
    assert near.curve["still"].iloc[-1] < still[-1]
    base, on, off = (
        xg.encode(xg.load_model(path, device="cpu"), data.images, store=None, progress=False).vectors
        for path in (start, near.last, made.last)
    )
    assert (on - base).square().sum() < (off - base).square().sum()


def test_a_teacher_and_a_head_in_parts_give_the_gradient_of_the_whole(start: Path, data: xg.Dataset) -> None:
    grads = []
    for size in (None, 4):
        recipe = xg.Recipe(steps=2, batch=10, micro_batch=size, objective={STILL: 1.0, PAIR: 0.5, "clip": 1.0})
        model = load_trainable(start, device="cpu")
        pairs = Pairs(data, recipe, model.tokenize, augmentation(model.module, model.preprocess, "crop"))
        learner = TrainStep(model.module, recipe, len(pairs.labels))
        with torch.no_grad():  # away from its teacher
            model.module.visual.proj.mul_(1.0 + torch.linspace(-0.3, 0.3, model.module.visual.proj.shape[1]))
        learner.gradients(pairs[0], 0)
        grads.append({name: p.grad for name, p in learner.parameters() if p.grad is not None})
    assert {"pair.0.weight", "visual.proj"} <= grads[0].keys()
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, atol=1e-6, rtol=1e-4)


def test_the_parameters_of_a_term_are_trained_and_drawn_from_the_seed(
    start: Path, data: xg.Dataset, tmp_path: Path
) -> None:
    def kept(name: str, **change: Any) -> dict[str, Tensor]:
        recipe = dataclasses.replace(SHORT, objective={"clip": 1.0, PAIR: 1.0}, **change)
        xg.train(start, data, tmp_path / name, recipe, progress=False, device="cpu")
        state = torch.load(tmp_path / name / "state.pt", weights_only=True)["parts"]["term pair"]
        assert not [key for key in state if "pair" in key]
        return state

    one, again, other = kept("one"), kept("again"), kept("other", seed=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first = pair_head(Sizes(16, 12)).state_dict()
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in ("0.weight", "2.weight"))
    assert not any(torch.equal(one[name], first[name]) for name in ("0.weight", "2.weight"))
    assert (one["0.weight"] - first["0.weight"]).abs().max() < 0.1  # from there
    weights = (tmp_path / "one" / "last" / "open_clip_model.safetensors").read_bytes()
    assert b"pair" not in weights[:20000]  # no part of the trained model


def test_a_weight_of_zero_leaves_no_trace(start: Path, data: xg.Dataset, tmp_path: Path) -> None:
    files = []
    for name, objective in (
        ("without", {"clip": 1.0}),
        ("with", {"clip": 1.0, PAIR: 0.0, STILL: 0.0, "siglip": 0.0, "one-to-many(k=2)": 0.0}),
    ):
        recipe = dataclasses.replace(SHORT, objective=objective)
        made = xg.train(start, data, tmp_path / name, recipe, progress=False, device="cpu")
        files.append([(made.last / file.name).read_bytes() for file in sorted(made.last.iterdir())])
        assert (tmp_path / name / "run.json").read_text() == (tmp_path / "without" / "run.json").read_text()
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"clap": 1.0}, "unknown objective 'clap'; nearest names: clip"),
        ({"arc-margin(margn=1)": 1.0}, "unknown option of arc-margin 'margn'; nearest names: margin"),
        ({"arc-margin(0.3)": 1.0}, r"an objective takes options by name: arc-margin\(option=value\)"),
        ({"clip(": 1.0}, "is not written like name"),
        ({xg.Term: 1.0}, "a name, a Term or a function of a batch"),
        ({"clip": 1.0, " clip": 1.0}, "term 'clip' is in the objective twice"),
        ({"clip": float("nan")}, "0 or more, not nan"),
        ({xg.Term("gap", same_images): 1.0}, "a term cannot be named 'gap', which is a column of the curve"),
        ({"one-to-many(k=-1)": 1.0}, "a term needs images or captions of an item"),
        ({xg.Term("odd", same_images, needs=lambda: 3): 1.0}, "needs of objective odd must give a Needs, not 3"),
    ],
)
def test_mistakes_are_one_sentence(objective: dict[Any, Any], message: str) -> None:
    with pytest.raises(xg.XgapError, match=message) as caught:
        xg.Recipe(objective=objective)
    assert "\n" not in str(caught.value)


def test_mistakes_that_show_when_it_is_computed(start: Path, data: xg.Dataset, tmp_path: Path) -> None:
    def run(term: Any, of: xg.Dataset = data, **change: Any) -> None:
        recipe = dataclasses.replace(SHORT, objective={term: 1.0}, **change)
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        xg.train(start, of, folder, recipe, progress=False, device="cpu")

    with pytest.raises(xg.XgapError, match=r"objective own must give one number, .* not a tensor \[6\]"):
        run(lambda batch: (batch.images[0] * batch.texts[:, 0]).sum(dim=1))
    with pytest.raises(xg.XgapError, match=r"objective own must give one number, .* not a float"):
        run(lambda batch: 1.0)
    with pytest.raises(xg.XgapError, match="must give a torch module with parameters, not a ReLU"):
        run(xg.Term("bare", pair, parameters=lambda sizes: nn.ReLU()))
    with pytest.raises(xg.XgapError, match="a term needs the model as it was before training, which scratch=True"):
        run(STILL, towers="image", scratch=True)
    alone = dataclasses.replace(data, texts=xg.Texts((), ()))
    with pytest.raises(xg.XgapError, match=r"objective 'clip' needs captions, and 'colours' \(train\) has none"):
        run("clip", alone)


def test_a_function_that_has_changed_is_another_run(start: Path, data: xg.Dataset, tmp_path: Path) -> None:
    def run(loss: Any) -> None:
        recipe = dataclasses.replace(SHORT, objective={"clip": 1.0, xg.Term("mine", loss): 0.1})
        xg.train(start, data, tmp_path, recipe, progress=False, device="cpu")

    def once(batch: xg.BatchFeatures) -> Tensor:
        return batch.texts.mean()

    def changed(batch: xg.BatchFeatures) -> Tensor:
        return batch.texts.mean() * 2

    run(once)
    run(once)  # goes on, and has nothing left to do
    with pytest.raises(xg.XgapError, match="another run"):
        run(changed)


def test_registering_follows_the_rules_of_all_registries() -> None:
    xg.register_objective("kept")(same_images)
    try:
        with pytest.warns(UserWarning, match="the objective 'kept' is replaced by its new definition"):
            xg.register_objective("kept", needs=xg.Needs(captions=0, teacher=True))(same_images)
        assert xg.objective(same_images).needed.teacher  # the function itself, where its name may stand
        with pytest.raises(xg.XgapError, match="there is an objective named 'clip' already"):
            xg.register_objective("clip")(same_images)
    finally:
        del same_images.term  # type: ignore[attr-defined]
    with pytest.raises(xg.XgapError, match="a term needs images or captions"):
        xg.Needs(images=0, captions=0)
