"""Weights out of checkpoint files, and nothing else: no code of a file is run."""

import argparse
import re
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from xgap_analysis.core.errors import XgapError

CHECKPOINTS = (".safetensors", ".bin", ".pt", ".pth")
# Of training code: lightning's, and those that count epochs behind the ending (model.pth.tar-5).
TRAINING_STATES = re.compile(r"\.ckpt$|\.pth\.tar(?:-\d+)?$")
POINTER = b"version https://git-lfs.github.com/spec/"
CONTAINERS = (
    "state_dict_ema",
    "model_ema",
    "state_dict",
    "model",
    "model_state_dict",
)  # averaged weights first, as in timm
# Names that PyTorch puts around a model: data-parallel training in front of all, compilation and sharding anywhere.
PARALLEL = re.compile(r"^(?:_orig_mod\.|module\.)+")
WRAPPED = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")

_ALLOWING = threading.Lock()  # torch keeps what is allowed for the whole process; two loads would undo each other's


def named_file(file: str) -> Path:
    """The checkpoint that a name gives after `//`: a path from the root or, where there is none, from here.

    Raises:
        XgapError: no such file, two of them, or none of the kinds that are read.
    """
    if file.startswith(("/", "./", "../", "~")):
        return existing_checkpoint(file)
    from_root, from_here = Path("/", file), Path(file)
    if from_root.is_file() and from_here.is_file() and not from_root.samefile(from_here):
        raise XgapError(f"there are two files {file}: write ///{file} for {from_root}, //./{file} for the one in here")
    return existing_checkpoint(from_here if from_here.is_file() else from_root)


def existing_checkpoint(file: str | Path) -> Path:
    """The path of a checkpoint that is there.

    Raises:
        XgapError: no such file, or none of the kinds that are read.
    """
    path = Path(file).expanduser()
    if not (path.suffix in CHECKPOINTS or TRAINING_STATES.search(path.name)) or not path.is_file():
        raise XgapError(f"there is no checkpoint {file} (one of {', '.join(CHECKPOINTS)}, .ckpt, .pth.tar is read)")
    refuse_pointer(path)
    if zipfile.is_zipfile(path) and any(name.endswith("/constants.pkl") for name in zipfile.ZipFile(path).namelist()):
        what = f"{path} is a TorchScript archive, as OpenAI's own files are: it holds code, so it is not read"
        raise XgapError(f"{what}; load the weights by name (ViT-B-32/openai), or from a state dict saved from it")
    return path


def refuse_pointer(*paths: Path) -> None:
    """Refuse a file that is only Git LFS's note of where the file is; paths that are not there are passed over.

    Raises:
        XgapError: such a file.
    """
    for path in paths:
        if path.is_file():
            with path.open("rb") as file:
                if file.read(len(POINTER)) == POINTER:
                    what = f"{path} is a Git LFS pointer, not the file itself"
                    raise XgapError(f"{what}: run `git lfs pull` in its folder, or download the file")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a file holds, on the CPU: tensors by name, or a training state with `state_dict` among other things.

    A pickled file is read by torch's restricted reader: tensors and plain containers, and `argparse.Namespace`, which
    holds attributes and runs nothing; anything else in the file is an error. Its tensors are mapped, not copied, so an
    optimiser's state beside the weights costs no memory.
    """
    refuse_pointer(path)
    if path.suffix == ".safetensors":
        return load_file(path)
    with _ALLOWING, torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


def state_dict(checkpoint: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint in float32, under the names that the model had before it was wrapped for training.

    Raises:
        XgapError: it holds none, or two under one name.
    """
    inner: Any = checkpoint
    if isinstance(checkpoint, Mapping):
        inner = next((checkpoint[k] for k in CONTAINERS if isinstance(checkpoint.get(k), Mapping)), checkpoint)
    if not isinstance(inner, Mapping) or not inner or not all(isinstance(t, Tensor) for t in inner.values()):
        raise XgapError(f"{path} holds no state dict of tensors")
    weights: dict[str, Tensor] = {}
    for name, tensor in inner.items():
        own = WRAPPED.sub("", PARALLEL.sub("", name))
        if own in weights:
            raise XgapError(f"{path} holds two weights {own!r}, one of them as {name!r}; save one model in a file")
        weights[own] = tensor.float() if tensor.is_floating_point() else tensor
    return weights


def under(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def depth(weights: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered blocks have weights under a prefix."""
    return len({name.split(".")[0] for name in under(prefix, weights)})


__all__ = [
    "CHECKPOINTS",
    "depth",
    "existing_checkpoint",
    "named_file",
    "read_checkpoint",
    "refuse_pointer",
    "state_dict",
    "under",
]
