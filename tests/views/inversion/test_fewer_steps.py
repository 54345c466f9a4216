"""The closed-form start and the amortised inverter, which are not the paper's inversion."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.models import Model
from xgap_analysis.store import Store
from xgap_analysis.views.inversion.amortised import AmortisedInverter
from xgap_analysis.views.inversion.closed_form import ClosedForm
from xgap_analysis.views.inversion.invert import encode_pseudo_tokens, invert

Make = Callable[..., Model]
QUIET = {"store": None, "progress": False}


def reachable(model: Model, side: str, n: int) -> Features:
    """Features of tokens that the tower can be given, so that a good start can come near."""
    tokens = 0.5 * torch.randn(n, 1, 32, generator=torch.Generator().manual_seed(5))
    space = {"text": "image", "image": "text"}[side]
    return Features(encode_pseudo_tokens(model, tokens, side), [f"item {i}" for i in range(n)], space, space)


def test_the_linear_models_start_is_exact_for_a_linear_tower() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, centre = torch.randn(12, 5, generator=generator), torch.randn(5, generator=generator)
    start = ClosedForm(lambda t: centre + t.flatten(1) @ weight, 2, 6, torch.device("cpu"), batch_size=2)
    torch.testing.assert_close(start._jacobian.float(), weight.T)
    targets = torch.nn.functional.normalize(torch.randn(40, 5, generator=generator), dim=1)
    found = start.starts(targets)
    cosine = torch.cosine_similarity(centre + found.flatten(1) @ weight, targets)
    drawn = 0.02 * torch.randn(40, 12, generator=generator)
    assert (cosine > torch.cosine_similarity(centre + drawn @ weight, targets)).float().mean() > 0.9
    assert cosine.median() > 0.95


@pytest.mark.parametrize("side", ["text", "image"])
def test_the_computed_start_is_nearer_and_does_not_depend_on_company(side: str, make_model: Make) -> None:
    model = make_model("native")
    given = reachable(model, side, 12)
    settings = {**QUIET, "steps": 3, "snapshots": (0,)}
    drawn, computed = (invert(model, given, start=s, **settings) for s in ("normal", "closed-form"))
    assert computed.loss[0].mean() < drawn.loss[0].mean()
    alone = invert(model, given.select(given.ids[3:5]), start="closed-form", **settings)
    assert (alone.features.vectors * computed.features.vectors[3:5]).sum(dim=1).min() > 0.9999
    assert (computed.provenance["start"], "start" in drawn.provenance) == ("closed-form", False)


def test_a_start_has_an_entry_of_its_own(make_model: Make, tmp_path: Path) -> None:
    model, store = make_model("native"), Store(tmp_path)
    given = reachable(model, "text", 4)
    first = invert(model, given, steps=2, store=store, progress=False)
    second = invert(model, given, steps=2, store=store, progress=False, start="closed-form")
    assert not torch.equal(first.pseudo_tokens, second.pseudo_tokens)
    assert len(store.entries()) == 2
    with pytest.raises(XgapError, match="start is"):
        invert(model, given, start="warm", **QUIET)


@pytest.mark.parametrize("side", ["text", "image"])
def test_an_amortised_inverter_serves_items_it_has_not_seen(side: str, make_model: Make, tmp_path: Path) -> None:
    model = make_model("native")
    every = reachable(model, side, 200)
    seen, unseen = every.select(every.ids[:150]), every.select(every.ids[150:])
    inverter = AmortisedInverter.fit(model, seen, steps=120)
    made = inverter.apply(model, unseen)
    assert (made.space, made.origin, made.ids) == (side, unseen.origin, unseen.ids)
    reached = (made.vectors * unseen.vectors).sum(dim=1).mean()
    start = invert(model, unseen, steps=1, **QUIET).loss[0].mean()
    assert 1 - reached < 0.6 * start
    inverter.save(tmp_path / "inverter.safetensors")
    again = AmortisedInverter.load(tmp_path / "inverter.safetensors")
    assert torch.equal(again.apply(model, unseen).vectors, made.vectors)


def test_an_inverters_mistakes_are_reported(make_model: Make, tmp_path: Path) -> None:
    model = make_model("native")
    given = reachable(model, "text", 4)
    inverter = AmortisedInverter.fit(model, given, steps=1)
    with pytest.raises(XgapError, match="takes features of space 'image' and 24"):
        inverter.apply(model, Features(torch.ones(2, 7), ["a", "b"], "image", "image"))
    with pytest.raises(XgapError, match="other weights"):
        inverter.apply(make_model("native", seed=1), given)
    with pytest.raises(XgapError, match="empty"):
        AmortisedInverter.fit(model, Features(torch.zeros(0, 24), [], "image", "image"))
    with pytest.raises(XgapError, match="sound"):
        AmortisedInverter.fit(model, Features(torch.ones(1, 24), ["a"], "sound", "sound"))
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    for name in ("x.safetensors", "absent.safetensors"):
        with pytest.raises(XgapError, match="cannot be read as an amortised inverter"):
            AmortisedInverter.load(tmp_path / name)
    with pytest.raises(XgapError, match=r"kept in a \.safetensors file"):
        inverter.save(tmp_path / "x")
