"""A matrix of numbers, from whatever holds one: NumPy, torch, pandas, lists of lists, a column of lists."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xgap_analysis.core.errors import XgapError

NUMBERS = "fiu"  # NumPy's kinds of types


def matrix(given: Any, what: str = "vectors") -> Tensor:
    """A tensor `[n, d]` of what holds a matrix; a tensor stays on its device, and in its type.

    Args:
        given: a tensor, an array, a list of lists or of vectors, a data frame whose columns are numbers, or anything
            that NumPy reads as an array. A column of lists (as Parquet keeps vectors) is one too.
        what: these are, for the message.

    Raises:
        XgapError: another rank, rows of different lengths, or something else than numbers.
    """
    if isinstance(given, list | tuple) and given and all(isinstance(row, Tensor) for row in given):
        _check_lengths([tuple(row.shape) for row in given], what)
        given = torch.stack(list(given))
    if not isinstance(given, Tensor):
        given = float_tensor(_array(given, what))
    elif given.is_complex():
        raise XgapError(f"{what} must be real numbers, not of type {given.dtype}")
    if given.ndim != 2:
        raise XgapError(f"{what} must be a matrix [n, d], not of shape {tuple(given.shape)}")
    return given.detach()


def float_tensor(array: NDArray[Any]) -> Tensor:
    """A tensor of an array of numbers: float32 where that holds them exactly, or else float64.

    torch has no tensor for some of NumPy's types and byte orders.
    """
    number = np.float32 if array.dtype in (np.float32, np.float16) else np.float64
    return torch.from_numpy(np.require(array, number, ["C", "W"]))


def content_digest(vectors: Tensor) -> str:
    """The SHA-256 of a matrix: of its shape and the bytes of its numbers."""
    digest = hashlib.sha256(repr(tuple(vectors.shape)).encode())
    digest.update(vectors.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _array(given: Any, what: str) -> NDArray[Any]:
    if isinstance(given, str | bytes):
        hint = "load_features reads the vectors of a file"
        raise XgapError(f"{what} must be a matrix [n, d] of numbers, not the text {str(given)[:40]!r}; {hint}")
    _check_columns(given, what)
    try:
        array = np.asarray(given)
    except (ValueError, TypeError) as error:  # lists of different lengths, or nested to different depths
        raise _ragged(given, what) from error
    if array.dtype == object and array.ndim == 1 and len(array):
        rows = list(array)
        if all(hasattr(row, "__len__") and not isinstance(row, str | bytes) for row in rows):
            _check_lengths([np.shape(row) if hasattr(row, "shape") else len(row) for row in rows], what)
            array = np.asarray(rows)
    if array.dtype.kind not in NUMBERS:
        held = type(given).__name__ if array.ndim == 0 else f"values of type {_type_name(array)}"
        raise XgapError(f"{what} must be a matrix [n, d] of numbers, not {held}")
    return array


def _type_name(array: NDArray[Any]) -> str:
    first = array.reshape(-1)[0] if array.size else None
    return type(first).__name__.removesuffix("_")


def _check_columns(given: Any, what: str) -> None:
    """A data frame's columns are numbers, each; ids and labels stand elsewhere."""
    types: Any = getattr(given, "dtypes", None)
    if not hasattr(types, "items"):
        return
    wrong = [str(name) for name, kind in types.items() if getattr(kind, "kind", "O") not in NUMBERS]
    if wrong:
        more = f" ({len(wrong)} such)" if len(wrong) > 1 else ""
        raise XgapError(f"{what} must be numbers, and the column {wrong[0]!r} holds others{more}; leave it out")


def _check_lengths(lengths: Sequence[Any], what: str) -> None:
    other = next((i for i, length in enumerate(lengths) if length != lengths[0]), None)
    if other is not None:
        a, b = (lengths[i][0] if isinstance(lengths[i], tuple) and lengths[i] else lengths[i] for i in (0, other))
        raise XgapError(f"the rows of {what} must be of one length: row 0 has {a} numbers, and row {other} has {b}")


def _ragged(given: Any, what: str) -> XgapError:
    try:
        _check_lengths([len(row) for row in given], what)
    except XgapError as error:
        return error
    except TypeError:
        pass
    return XgapError(f"{what} must be a matrix [n, d] of numbers, with rows of one length")
