"""Fitted weights in files: what is written is read again, and anything else is one sentence."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.weights import read_weights, save_weights

HELD = {"key": "map", "kind": "a map"}


def test_weights_and_what_they_are_come_back(tmp_path: Path) -> None:
    made = {"a": torch.randn(3, 2).T.requires_grad_(), "b": torch.tensor(2.0)}
    path = save_weights(made, tmp_path / "new" / "map.safetensors", **HELD, about={"sizes": [1, 2]})
    with read_weights(path, **HELD) as (about, weights):
        assert about == {"sizes": [1, 2]}
    assert all(torch.equal(weights[name], made[name]) for name in made)
    assert [file.name for file in path.parent.iterdir()] == ["map.safetensors"]


@pytest.mark.parametrize("metadata", [None, {"map": "[" * 100_000}, {"map": "{"}])
def test_a_file_of_something_else_is_one_sentence(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "map.safetensors"
    safetensors.torch.save_file({"a": torch.ones(2)}, path, metadata=metadata)
    with pytest.raises(XgapError, match=r"(does not hold|cannot be read as) a map"), read_weights(path, **HELD):
        pass


def test_what_a_block_does_not_find_is_the_fault_of_the_file(tmp_path: Path) -> None:
    path = save_weights({"a": torch.ones(2)}, tmp_path / "map.safetensors", **HELD, about={"d": "two"})
    for wrong, message in (("e", "'e' is missing"), ("d", "cannot be read as a map")):
        with pytest.raises(XgapError, match=message), read_weights(path, **HELD) as (about, _):
            int(about[wrong])


def test_other_suffixes_missing_files_and_what_json_cannot_hold_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(XgapError, match=r"a map is kept in a \.safetensors file"):
        save_weights({}, tmp_path / "map.pt", **HELD, about={})
    with pytest.raises(XgapError, match="cannot be read as a map"), read_weights(tmp_path / "no.safetensors", **HELD):
        pass
    with pytest.raises(XgapError, match="what is known of a map cannot be put in map"):
        save_weights({}, tmp_path / "map.safetensors", **HELD, about={"of": object()})
