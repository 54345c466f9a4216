"""Weights with a description in their header: one format, whoever wrote the file, and one sentence for any other."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from xgap_analysis.core.described_weights import Kind, load_described, save_described
from xgap_analysis.core.errors import XgapError
from xgap_analysis.scoring.learned import saving
from xgap_analysis.training import joint_files
from xgap_analysis.views.inversion import amortised

KIND = Kind("scale", "old scale", "save_scale")
WEIGHTS = {"w": torch.arange(6.0).view(2, 3), "b": torch.tensor([1, 2])}
ABOUT = {"of": "cats", "losses": [0.5, 0.25]}


def read(about: Any, weights: dict[str, Tensor]) -> tuple[Any, dict[str, Tensor]]:
    return about["of"], weights


def test_the_file_is_what_safetensors_writes_with_the_description_under_the_key(tmp_path: Path) -> None:
    path = save_described(tmp_path / "new" / "a.safetensors", KIND, ABOUT, {**WEIGHTS, "w": WEIGHTS["w"].T.T})
    safetensors.torch.save_file(WEIGHTS, tmp_path / "b.safetensors", metadata={"scale": json.dumps(ABOUT)})
    assert path.read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    of, weights = load_described(str(tmp_path / "b.safetensors"), KIND, read)
    assert (of, weights.keys()) == ("cats", WEIGHTS.keys())
    assert all(torch.equal(weights[name], tensor) for name, tensor in WEIGHTS.items())
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"scale": json.dumps(ABOUT)}


def test_files_of_before_keep_their_keys() -> None:
    assert [one.KIND.key for one in (joint_files, saving, amortised)] == ["joint", "scorer", "inverter"]


def test_what_is_no_such_file_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    with pytest.raises(XgapError, match="cannot be read as an old scale"):
        load_described(file, KIND, read)
    save_described(file, Kind("other", "other thing", "save_other"), ABOUT, WEIGHTS)
    with pytest.raises(XgapError, match=r"holds no old scale of save_scale \('scale' is missing\)"):
        load_described(file, KIND, read)
    save_described(file, KIND, {"losses": []}, WEIGHTS)
    with pytest.raises(XgapError, match=r"holds no old scale of save_scale \('of' is missing\)"):
        load_described(file, KIND, read)
    for header in ("3", "not JSON", "[" * 100_000):
        safetensors.torch.save_file(WEIGHTS, file, metadata={"scale": header})
        with pytest.raises(XgapError, match="cannot be read as an old scale") as raised:
            load_described(file, KIND, read)
        assert "\n" not in str(raised.value)
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(XgapError, match="cannot be read as an old scale"):
        load_described(file, KIND, read)
    for call in (
        lambda path: load_described(path, KIND, read),
        lambda path: save_described(path, KIND, ABOUT, WEIGHTS),
    ):
        with pytest.raises(XgapError, match=r"an old scale is kept in a \.safetensors file, and 'a\.pt' is none"):
            call("a.pt")


def test_nothing_is_left_of_what_cannot_be_written(tmp_path: Path) -> None:
    file = save_described(tmp_path / "a.safetensors", KIND, ABOUT, WEIGHTS)
    before = file.read_bytes()
    with pytest.raises(XgapError, match="what this old scale is cannot be put in"):
        save_described(file, KIND, {"of": object()}, WEIGHTS)
    (tmp_path / "plain").touch()
    with pytest.raises(XgapError, match="cannot be written"):
        save_described(tmp_path / "plain" / "a.safetensors", KIND, ABOUT, WEIGHTS)
    assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "plain"]
