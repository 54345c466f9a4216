"""Fitted weights in a `.safetensors` file, and in its header as JSON what they are. Nothing in a file is run."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.writing import written_whole

SUFFIX = ".safetensors"


def save_weights(
    weights: Mapping[str, Tensor], path: Path | str, *, key: str, kind: str, about: Mapping[str, Any]
) -> Path:
    """Write weights to a file, whole or not at all; its folder is made where it is missing.

    Args:
        weights: by name.
        path: ends in `.safetensors`.
        key: under which the header holds what they are.
        kind: what has these weights, with its article, for the messages ("a fitted scorer").
        about: what they are, of JSON's types.

    Raises:
        XgapError: another suffix, or a place that cannot be written.

    Example:
        >>> import tempfile, torch
        >>> how = {"key": "map", "kind": "a map"}
        >>> path = save_weights({"a": torch.ones(2)}, tempfile.mkdtemp() + "/map.safetensors", about={"d": 2}, **how)
        >>> with read_weights(path, **how) as (about, weights):
        ...     print(about["d"], weights["a"].tolist())
        2 [1.0, 1.0]
    """
    path = _checked(path, kind)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with written_whole(path, f"what is known of {kind}") as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata={key: json.dumps(about)})
    return path


@contextlib.contextmanager
def read_weights(path: Path | str, *, key: str, kind: str) -> Iterator[tuple[dict[str, Any], dict[str, Tensor]]]:
    """What a file of `save_weights` holds, for a block that checks it: what fails in the block is the file's fault.

    Args:
        path: ends in `.safetensors`.
        key, kind: as of `save_weights`.

    Raises:
        XgapError: a file that cannot be read or holds something else.
    """
    path = _checked(path, kind)
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[key])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
        yield about, weights
    except KeyError as error:
        raise XgapError(f"{path} does not hold {kind} ({error.args[0]!r} is missing)") from error
    except (OSError, SafetensorError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise XgapError(f"{path} cannot be read as {kind} ({error})") from error


def _checked(path: Path | str, kind: str) -> Path:
    path = Path(path)
    if path.suffix != SUFFIX:
        raise XgapError(f"{kind} is kept in a {SUFFIX} file, and {str(path)!r} is none")
    return path
