"""Weights out of checkpoint files, and nothing else: no code of a file is run."""

import argparse
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from xgap_analysis.errors import XgapError

CHECKPOINTS = (".safetensors", ".bin", ".pt", ".pth")


def existing_checkpoint(file: str | Path) -> Path:
    """The path of a checkpoint that is there.

    Raises:
        XgapError: no such file, or none of the kinds that are read.
    """
    path = Path(file).expanduser()
    if path.suffix not in CHECKPOINTS or not path.is_file():
        raise XgapError(f"there is no checkpoint {file} (one of {', '.join(CHECKPOINTS)} is read)")
    if zipfile.is_zipfile(path) and any(name.endswith("/constants.pkl") for name in zipfile.ZipFile(path).namelist()):
        what = f"{path} is a TorchScript archive, as OpenAI's own files are: it holds code, so it is not read"
        raise XgapError(f"{what}; load the weights by name (ViT-B-32/openai), or from a state dict saved from it")
    return path


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a file holds, on the CPU: tensors by name, or a training state with `state_dict` among other things.

    A pickled file is read by torch's restricted reader: tensors and plain containers, and `argparse.Namespace`, which
    holds attributes and runs nothing; anything else in the file is an error. Its tensors are mapped, not copied, so an
    optimiser's state beside the weights costs no memory.
    """
    if path.suffix == ".safetensors":
        return load_file(path)
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


def state_dict(checkpoint: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint in float32, under the names that the model had outside data-parallel training.

    Raises:
        XgapError: it holds none.
    """
    inner = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else None
    if not isinstance(inner, Mapping) or not inner or not all(isinstance(t, Tensor) for t in inner.values()):
        raise XgapError(f"{path} holds no state dict of tensors")
    return {name.removeprefix("module."): tensor.float() for name, tensor in inner.items()}


def under(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def depth(weights: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered blocks have weights under a prefix."""
    return len({name.split(".")[0] for name in under(prefix, weights)})


__all__ = ["CHECKPOINTS", "depth", "existing_checkpoint", "read_checkpoint", "state_dict", "under"]
