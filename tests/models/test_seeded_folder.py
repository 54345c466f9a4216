"""Folders without weights: an open_clip configuration that names the seed of its first weights."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.paths import data_root
from xgap_analysis.models import load_model
from xgap_analysis.models.building import CONFIG
from xgap_analysis.models.trainable import load_trainable

UNTRAINED = data_root() / "models" / "tiny-untrained"


def digest(name: str | Path) -> str:
    return load_model(name, device="cpu").weights_digest


def of_seed(folder: Path, seed: object) -> Path:
    """A copy of the untrained model's folder that says another seed."""
    shutil.copytree(UNTRAINED, folder)
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    (folder / CONFIG).write_text(json.dumps({**config, "xgap_analysis": {"seed": seed}}))
    return folder


def test_the_untrained_model_has_the_weights_that_training_from_scratch_starts_from() -> None:
    drawn = load_trainable("tiny-untrained", device="cpu").module.state_dict()
    start = load_trainable("tiny", device="cpu", scratch=True, seed=0).module.state_dict()
    assert all(torch.equal(drawn[name], start[name]) for name in start)


def test_the_first_weights_are_the_same_on_every_machine_to_rounding() -> None:
    weights = load_trainable("tiny-untrained", device="cpu").module.state_dict()
    known = {  # of PyTorch 2.11 and 2.15, whose generator draws the same numbers on every processor
        "visual.conv1.weight": (-0.00027016, -0.0030678, 0.0183723),
        "token_embedding.weight": (0.0102007, -0.0046426, 0.0046110),
        "text_projection": (0.0698680, 0.0892025, 0.0495638),
    }
    for name, first in known.items():
        torch.testing.assert_close(weights[name].flatten()[[0, 1000, -1]], torch.tensor(first), atol=1e-6, rtol=1e-4)


def test_each_seed_has_weights_of_its_own(tmp_path: Path) -> None:
    first, again, other = (of_seed(tmp_path / str(i), seed) for i, seed in enumerate((0, 0, 1)))
    assert digest(first) == digest(again) == digest("tiny-untrained")
    assert digest(other) != digest(first)


def test_a_seed_is_an_integer_and_stands_instead_of_weights(tmp_path: Path) -> None:
    with pytest.raises(XgapError, match="seed is '0', not an integer"):
        load_model(of_seed(tmp_path / "word", "0"), device="cpu")
    both = of_seed(tmp_path / "both", 0)
    shutil.copy(data_root() / "models" / "tiny" / "open_clip_model.safetensors", both)
    with pytest.raises(XgapError, match=r"holds weights, and its .* says a seed"):
        load_model(both, device="cpu")


def test_an_embedded_image_tower_alone_needs_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    from xgap_analysis.models import catalog

    def never() -> bool:
        raise AssertionError("the hub was looked for")

    monkeypatch.setattr(catalog, "reachable", never)
    model = load_model("tiny-image", device="cpu")
    assert set(model.towers) == {"image"}
    assert model.settings["image_only"]
