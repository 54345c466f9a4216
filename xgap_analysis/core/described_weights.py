"""Weights in a safetensors file whose header says in JSON what they are: written whole, read as data alone."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.writing import written_whole

SUFFIX = ".safetensors"
Read = TypeVar("Read")


@dataclass(frozen=True)
class Kind:
    """What such files hold.

    Args:
        key: of the description in the header.
        name: for messages, such as `"joint encoder"`.
        saved_by: the function that writes them.
    """

    key: str
    name: str
    saved_by: str


def save_described(path: Path | str, kind: Kind, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    """Write weights and what they are to a file, whole or not at all; its folder is made where it is missing.

    Raises:
        XgapError: another suffix than `.safetensors`, a description that is no JSON, or a place that cannot be written.

    Example:
        >>> import tempfile, torch
        >>> kind = Kind("scale", "scale", "save_scale")
        >>> path = save_described(tempfile.mkdtemp() + "/a.safetensors", kind, {"of": "cats"}, {"w": torch.ones(2)})
        >>> load_described(path, kind, lambda about, weights: (about["of"], weights["w"].tolist()))
        ('cats', [1.0, 1.0])
    """
    path = _checked(path, kind)
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with written_whole(path, f"what this {kind.name} is") as temporary:
        safetensors.torch.save_file(held, temporary, metadata={kind.key: json.dumps(about)})
    return path


def load_described(path: Path | str, kind: Kind, read: Callable[[Any, dict[str, Tensor]], Read]) -> Read:
    """What is made of a file of `save_described`.

    Args:
        path: of the file.
        kind: that it must be of.
        read: from the description and the weights; whatever it raises for a description of another shape (KeyError,
            ValueError, TypeError, ...) says that the file is not of this kind.

    Raises:
        XgapError: a file that cannot be read or holds something else.
    """
    path = _checked(path, kind)
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[kind.key])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
        return read(about, weights)
    except KeyError as error:
        what = f"{path} holds no {kind.name} of {kind.saved_by}"
        raise XgapError(f"{what} ({error.args[0]!r} is missing)") from error
    except (OSError, SafetensorError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise XgapError(f"{path} cannot be read as {_one(kind)} ({error})") from error


def _checked(path: Path | str, kind: Kind) -> Path:
    path = Path(path)
    if path.suffix != SUFFIX:
        raise XgapError(f"{_one(kind)} is kept in a {SUFFIX} file, and {str(path)!r} is none")
    return path


def _one(kind: Kind) -> str:
    return f"{'an' if kind.name[0] in 'aeiou' else 'a'} {kind.name}"
