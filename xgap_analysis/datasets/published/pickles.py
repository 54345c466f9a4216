"""A reader of pickle files that runs nothing: lists, dicts, strings, numbers and numeric arrays, and no other object.

Python's own `pickle` calls whatever a file names. Here the file's instructions are only listed (`pickletools`), and the
few that build plain data are carried out one by one; every other one is refused.
"""

import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from xgap_analysis.core.errors import XgapError

LARGEST = 64 * 2**20  # bytes; the published ground truths have a fiftieth of it

_PUSHED = {
    *("BINUNICODE", "BINUNICODE8", "SHORT_BINUNICODE", "UNICODE", "BINSTRING", "SHORT_BINSTRING", "STRING"),
    *("BINBYTES", "BINBYTES8", "SHORT_BINBYTES", "BYTEARRAY8"),
    *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT"),
}
_MADE: dict[str, Callable[[], Any]] = {
    **{"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "NONE": lambda: None},
    **{"NEWTRUE": lambda: True, "NEWFALSE": lambda: False},
}
_NOTHING = {"PROTO", "FRAME", "STOP"}
_NUMPY = {f"{core}.{part}" for core in ("numpy.core", "numpy._core") for part in ("multiarray", "numeric")}
_MARK = object()


class _Named:
    """A function or type that a file names; it stands for what is done here in its place, and is never called."""

    def __init__(self, module: str, name: str) -> None:
        self.does = {
            ("numpy", "dtype"): "dtype",
            ("numpy", "ndarray"): "ndarray",
            ("_codecs", "encode"): "encode",
            ("__builtin__", "bytes"): "bytes",  # how protocols 0 to 2 write no bytes at all
        }.get((module, name), name if module in _NUMPY and name in ("_reconstruct", "scalar", "_frombuffer") else "")
        if not self.does:
            raise _Refused(f"it names {module}.{name}, and only plain data is read")


class _Type:
    """A numeric dtype in the making: `BUILD` gives its byte order."""

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "="

    def numpy(self) -> np.dtype[Any]:
        made = np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]  # checked in _build
        if made.kind not in "biufSU":
            raise _Refused(f"it holds an array of type {self.code!r}, and only numbers and strings are read")
        return made


class _Refused(Exception):
    """What a file holds beyond plain data."""


def read_plain_pickle(path: Path) -> Any:
    """The plain data of a pickle file; nothing in it is run.

    Numeric numpy arrays come as (nested) lists.

    Raises:
        XgapError: a file that is missing, too large, damaged, or that holds anything but plain data.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise XgapError(f"{path} has more than {LARGEST >> 20} MiB, which no published ground truth has")
        content = path.read_bytes()
    except OSError as error:
        raise XgapError(f"{path} cannot be read ({error.strerror or error})") from error
    try:
        return _interpreted(content)
    except _Refused as error:
        raise XgapError(f"{path} is refused: {error}; restore the published file") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise XgapError(f"{path} is damaged: it is not a valid pickle of plain data (truncated?): {error}") from error


def _interpreted(content: bytes) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(content):
        name = opcode.name
        if name in _PUSHED:
            stack.append(argument)
        elif name in _MADE:
            stack.append(_MADE[name]())
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "POP":
            stack.pop()
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            n = int(name[-1])
            stack[-n:] = [tuple(stack[-n:])]
        elif name in ("TUPLE", "LIST", "DICT"):
            items = _since_mark(stack)
            stack.append(tuple(items) if name == "TUPLE" else items if name == "LIST" else _pairs(items))
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else _since_mark(stack)
            _of(list, stack[-1]).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = [stack.pop(-2), stack.pop()] if name == "SETITEM" else _since_mark(stack)
            _of(dict, stack[-1]).update(_pairs(items))
        elif name == "GLOBAL":
            stack.append(_Named(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            stack[-2:] = [_Named(stack[-2], stack[-1])]
        elif name == "REDUCE":
            stack[-2:] = [_reduced(_of(_Named, stack[-2]).does, _of(tuple, stack[-1]))]
        elif name == "BUILD":
            state = stack.pop()
            _build(stack[-1], state)
        elif name not in _NOTHING:
            raise _Refused(f"it has the instruction {name}, and only plain data is read")
    if len(stack) != 1 or stack[0] is _MARK or isinstance(stack[0], _Named | _Type):
        raise ValueError("its instructions do not end in one object of plain data")
    return stack[0]


def _since_mark(stack: list[Any]) -> list[Any]:
    start = next((i for i in range(len(stack) - 1, -1, -1) if stack[i] is _MARK), None)
    if start is None:
        raise ValueError("a mark is missing")
    items = stack[start + 1 :]
    del stack[start:]
    return items


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))


def _of(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"an instruction is applied to {type(value).__name__}, and needs {kind.__name__}")
    return value


def _reduced(does: str, given: tuple[Any, ...]) -> Any:
    """What numpy would make of a named function and its arguments, made here of plain data."""
    if does == "dtype":
        return _Type(_of(str, given[0]))
    if does == "_reconstruct":
        return []  # filled by BUILD
    if does == "bytes" and not given:
        return b""
    if does == "encode":
        return _of(str, given[0]).encode("latin-1")
    if does == "scalar":
        return _values(given[1], _of(_Type, given[0]), (1,), False)[0]
    if does == "_frombuffer":
        raw, kind, shape, order = given
        return _values(raw, _of(_Type, kind), shape, order == "F")
    raise _Refused(f"it makes a {does}, and only plain data is read")


def _build(made: Any, state: Any) -> None:
    if isinstance(made, _Type):
        made.order = state[1] if state[1] in ("<", ">", "|") else "="
    elif isinstance(made, list):
        _, shape, kind, by_column, raw = state
        made.extend(_values(raw, _of(_Type, kind), shape, bool(by_column)))
    else:
        raise _Refused(f"it sets the state of a {type(made).__name__}, and only plain data is read")


def _values(raw: Any, kind: _Type, shape: Any, by_column: bool) -> list[Any]:
    if isinstance(raw, str):  # the bytes of Python 2
        raw = raw.encode("latin-1")
    if not isinstance(raw, bytes | bytearray):
        raise _Refused("it holds an array of objects, and only numbers and strings are read")
    flat = np.frombuffer(raw, dtype=kind.numpy())
    values = flat.reshape(_of(tuple, shape), order="F" if by_column else "C").tolist()
    return _of(list, values)
