"""The pickle reader gives plain data as Python's own does, and runs nothing."""

import contextlib
import os
import pickle
import subprocess
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.published.pickles import read_plain_pickle

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=5)
        | st.lists(inner, max_size=3).map(tuple)
    ),
    max_leaves=20,
)


def read(tmp: Path, content: bytes) -> Any:
    file = tmp / "some.pkl"
    file.write_bytes(content)
    return read_plain_pickle(file)


@given(value=PLAIN, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_data_comes_back(value: object, protocol: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert read(tmp_path_factory.getbasetemp(), pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int64),
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([], dtype=np.float64),
        np.array([1.5, -2.0], dtype=np.float32),
        np.array(["a", "bcd"]),
        np.array([True, False]),
    ],
)
def test_arrays_come_as_lists(array: np.ndarray, protocol: int, tmp_path: Path) -> None:
    made = read(tmp_path, pickle.dumps({"twice": [array, array], "one": array[:1].copy()}, protocol))
    assert made["twice"] == [array.tolist()] * 2
    assert made["one"] == array[:1].tolist()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_numpy_numbers_come_as_numbers(protocol: int, tmp_path: Path) -> None:
    assert read(tmp_path, pickle.dumps([np.float64(2.5), np.int32(-3)], protocol)) == [2.5, -3]


def test_a_pickle_of_python_2(tmp_path: Path) -> None:
    old = b"(dp0\nS'imlist'\np1\n(lp2\nS'a_000001'\np3\nas."  # cPickle.dumps({'imlist': ['a_000001']}, 0)
    assert read(tmp_path, old) == {"imlist": ["a_000001"]}


class Runs:
    """Unpickling it runs a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, Any]:
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("place", ["top", "deep"])
def test_a_malicious_pickle_runs_nothing_and_is_refused(protocol: int, place: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for evil in (
        Runs(os.system, f"touch {trace}"),
        Runs(subprocess.check_call, ["touch", str(trace)]),
        Runs(eval, f"open({str(trace)!r}, 'w')"),
        Runs(np.loadtxt, str(trace)),
        Runs(getattr, "x", "upper"),
    ):
        content = pickle.dumps(evil if place == "top" else {"gnd": [{"bbx": evil}]}, protocol)
        with pytest.raises(XgapError, match=r"is refused: it names .*, and only plain data is read; restore the pub"):
            read(tmp_path, content)
    assert not trace.exists()
    assert pickle.loads(pickle.dumps(Runs(os.system, f"touch {trace}"))) == 0  # the trap does work
    assert trace.exists()


@pytest.mark.parametrize(
    "value", [OrderedDict(a=1), {1, 2}, np.array([None, "x"], dtype=object), np.zeros(2, dtype="i4,f8"), 1j, Path("x")]
)
def test_other_objects_are_refused(value: object, tmp_path: Path) -> None:
    with pytest.raises(XgapError, match="is refused"):
        read(tmp_path, pickle.dumps(value, 2))


WHOLE = pickle.dumps({"imlist": ["a", "b"], "gnd": [{"easy": np.arange(4)}]}, 2)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pickle at all",
        WHOLE[:-1],
        WHOLE[: len(WHOLE) // 2],
        b"\x80\x02.",  # nothing on the stack
        b"\x80\x02]]e.",  # a mark is missing
        b"\x80\x02h\x05.",  # from an empty memo
        b"\x80\x02K\x01K\x02a.",  # append to a number
        b"\x80\x02}](K\x01e\x86s.",
        b"\x80\x02cnumpy\nndarray\n.",  # ends in a name
        b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00i8\x85R.",  # ends in a dtype
    ],
)
def test_damage_is_reported_in_one_sentence(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(XgapError, match=r"some\.pkl is (damaged|refused)"):
        read(tmp_path, content)


@given(at=st.integers(0, len(WHOLE) - 1), to=st.integers(0, 255))
def test_a_flipped_byte_is_data_or_an_error_of_ours(at: int, to: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    content = bytes([*WHOLE[:at], to, *WHOLE[at + 1 :]])
    with contextlib.suppress(XgapError):
        read(tmp_path_factory.getbasetemp(), content)


def test_a_huge_or_missing_file(tmp_path: Path) -> None:
    with pytest.raises(XgapError, match="cannot be read"):
        read_plain_pickle(tmp_path / "none.pkl")
    with (tmp_path / "huge.pkl").open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(XgapError, match="more than 64 MiB"):
        read_plain_pickle(tmp_path / "huge.pkl")
