"""The store keeps whole shards only: through kills, damage, full disks and other processes."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import xgap_analysis.store as store_module
from xgap_analysis.errors import XgapError
from xgap_analysis.store import Store, key_of, run_shards

IDS = tuple(f"item-{i}" for i in range(10))
PROVENANCE = {"model": "tiny", "steps": 3, "rate": 0.02, "nested": {"b": [1, None], "a": True}}


def numbers(ids: tuple[str, ...]) -> dict[str, Tensor]:
    """Float64 noise that depends on the id alone, and one integer an item."""
    rows = [
        torch.randn(4, generator=torch.Generator().manual_seed(int(i.split("-")[1])), dtype=torch.float64) for i in ids
    ]
    return {"vectors": torch.stack(rows), "rank": torch.tensor([int(i.split("-")[1]) for i in ids])}


class Counting:
    """A worker that remembers its shards and fails when it is asked for `fails_at`."""

    def __init__(self, fails_at: str = "") -> None:
        self.asked: list[tuple[str, ...]] = []
        self.fails_at = fails_at

    def __call__(self, ids: tuple[str, ...]) -> dict[str, Tensor]:
        if self.fails_at in ids:
            raise RuntimeError("the worker failed")
        self.asked.append(ids)
        return numbers(ids)


def run(store: Store | None, worker: Callable[[tuple[str, ...]], dict[str, Tensor]] = numbers) -> dict[str, Tensor]:
    return run_shards(
        PROVENANCE, IDS, worker, shard_size=4, store=store, description="test", progress=False, notes={"device": "cpu"}
    )


def shards(store: Store) -> list[Path]:
    return sorted(store.root.rglob("*.safetensors"))


def same(got: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return got.keys() == expected.keys() and all(torch.equal(got[name], expected[name]) for name in expected)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


def test_results_are_concatenated_in_order_and_read_back_bit_for_bit(store: Store) -> None:
    first, again = Counting(), Counting()
    computed, read, in_memory = run(store, first), run(store, again), run(None)
    assert same(computed, numbers(IDS))
    assert same(read, computed)
    assert same(in_memory, computed)
    assert first.asked == [IDS[:4], IDS[4:8], IDS[8:]]
    assert again.asked == []


def test_a_result_does_not_alias_the_workers_memory(store: Store) -> None:
    buffer = torch.zeros(4, 2)

    def worker(ids: tuple[str, ...]) -> dict[str, Tensor]:
        buffer.add_(1)
        return {"a": buffer[: len(ids)], "b": buffer[: len(ids)].T.contiguous().T}

    got = run_shards({}, IDS, worker, shard_size=4, store=store, description="alias", progress=False)
    assert got["a"][:, 0].tolist() == [1] * 4 + [2] * 4 + [3] * 2
    assert torch.equal(got["a"], got["b"])


def test_a_run_that_raises_midway_resumes_after_the_last_whole_shard(store: Store) -> None:
    with pytest.raises(RuntimeError, match="the worker failed"):
        run(store, Counting(fails_at="item-9"))
    (entry,) = store.entries()
    assert (entry.n_items, entry.n_stored, entry.complete) == (10, 8, False)
    assert entry.provenance == PROVENANCE
    resumed = Counting()
    assert same(run(store, resumed), numbers(IDS))
    assert resumed.asked == [IDS[8:]]
    (entry,) = store.entries()
    assert (entry.n_stored, entry.complete, entry.notes) == (10, True, {"device": "cpu"})


CHILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_store import IDS, numbers, run
from xgap_analysis.store import Store

def worker(ids):
    ready = Path({folder!r}) / f"{{sys.argv[1]}}-{{ids[0]}}"
    ready.touch()
    if sys.argv[1] == "slow" and ids[0] == "item-8":
        time.sleep(600)
    return numbers(ids)

run(Store(Path({root!r})), worker)
"""


def start(store: Store, name: str) -> "subprocess.Popen[bytes]":
    """A process of its own that fills the store; it touches a file for each shard that it computes."""
    code = CHILD.format(tests=str(Path(__file__).parent), folder=str(store.root.parent), root=str(store.root))
    return subprocess.Popen([sys.executable, "-c", code, name], env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_a_killed_process_loses_only_the_shard_in_work(store: Store) -> None:
    child = start(store, "slow")
    try:
        while not (store.root.parent / "slow-item-8").exists():
            assert child.poll() is None, "the process ended before it could be killed"
            time.sleep(0.05)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    # What a kill in the middle of a write leaves: half a shard under the dead process's temporary name.
    folder = shards(store)[0].parent
    left = folder / f".tmp-{child.pid}-0-{store_module.platform.node()}"
    left.write_bytes(shards(store)[0].read_bytes()[:50])
    resumed = Counting()
    assert same(run(store, resumed), numbers(IDS))
    assert resumed.asked == [IDS[8:]]
    assert not left.exists()
    assert store.verify() == []


def test_a_temporary_file_of_a_living_process_is_left_alone(store: Store) -> None:
    with pytest.raises(RuntimeError):
        run(store, Counting(fails_at="item-9"))
    at_work = shards(store)[0].parent / f".tmp-{os.getppid()}-0-{store_module.platform.node()}"
    elsewhere = shards(store)[0].parent / ".tmp-1-0-another.host"
    forgotten = shards(store)[0].parent / ".tmp-2-0-another.host"
    for file in (at_work, elsewhere, forgotten):
        file.touch()
    os.utime(forgotten, (0, 0))
    run(store)
    assert at_work.exists()
    assert elsewhere.exists()
    assert not forgotten.exists()


def test_two_processes_on_one_key_leave_one_whole_entry(store: Store) -> None:
    children = [start(store, "one"), start(store, "two")]
    assert [child.wait() for child in children] == [0, 0]
    again = Counting()
    assert same(run(store, again), numbers(IDS))
    assert again.asked == []
    assert len(shards(store)) == 3
    assert store.verify() == []


def test_two_results_for_one_shard_are_both_valid(store: Store, tmp_path: Path) -> None:
    """Two devices may differ in the last bits; readers agree on one of the files."""
    run(store)
    other = Store(tmp_path / "other")
    run(other, lambda ids: {**numbers(ids), "vectors": numbers(ids)["vectors"] * (1 + 1e-12)})
    for file in shards(other):
        (shards(store)[0].parent / file.name).write_bytes(file.read_bytes())
    assert len(shards(store)) == 6
    assert store.verify() == []
    first, second = run(store, Counting(fails_at="item-0")), run(store, Counting(fails_at="item-0"))
    assert same(first, second)
    assert torch.allclose(first["vectors"], numbers(IDS)["vectors"])
    assert store.entries()[0].complete


def truncate(data: bytes) -> bytes:
    return data[:-10]


def flip_one_bit(data: bytes) -> bytes:
    return data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]


def empty(data: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [truncate, flip_one_bit, empty])
def test_a_damaged_shard_is_named_and_computed_again(store: Store, damage: Callable[[bytes], bytes]) -> None:
    expected = run(store)
    bad = shards(store)[1]
    bad.write_bytes(damage(bad.read_bytes()))
    assert [(d.file, d.key) for d in store.verify()] == [(bad.name, store.entries()[0].key)]
    repaired = Counting()
    with pytest.warns(UserWarning, match=f"damaged shard .*{bad.name}"):
        got = run(store, repaired)
    assert same(got, expected)
    assert repaired.asked == [IDS[4:8]]
    assert store.verify() == []


def test_a_shard_with_other_items_is_not_believed(store: Store) -> None:
    expected = run(store)
    first, second, _ = shards(store)
    # A whole, valid shard under another shard's number: only the ids inside tell.
    wrong = second.with_name(second.name[:6] + first.name[6:])
    second.unlink()
    wrong.write_bytes(first.read_bytes())
    with pytest.warns(UserWarning, match="other items"):
        got = run(store)
    assert same(got, expected)


def test_a_foreign_file_with_a_right_digest_is_not_believed(store: Store) -> None:
    expected = run(store)
    data = b"not a shard"
    shards(store)[1].with_name("00001-0badd1ce.safetensors").write_bytes(data)
    shards(store)[0].rename(shards(store)[0].with_name(f"00000-{hashlib.sha256(data).hexdigest()}.safetensors"))
    shards(store)[0].write_bytes(data)
    repaired = Counting()
    with pytest.warns(UserWarning, match="not a shard of this store"):
        got = run(store, repaired)
    assert same(got, expected)
    assert repaired.asked == [IDS[:4]]


def test_a_damaged_manifest_is_found_and_written_again(store: Store) -> None:
    run(store)
    manifest = next(store.root.rglob("manifest.json"))
    manifest.write_text(manifest.read_text().replace('"steps": 3', '"steps": 4'))
    assert [d.file for d in store.verify()] == ["manifest.json"]
    assert not store.entries()[0].complete
    again = Counting()
    run(store, again)
    assert again.asked == []
    assert store.verify() == []
    assert store.entries()[0].complete


def test_the_manifest_records_what_was_done(store: Store) -> None:
    run(store)
    manifest = json.loads(next(store.root.rglob("manifest.json")).read_text())
    assert manifest["provenance"] == PROVENANCE
    assert manifest["notes"] == {"device": "cpu"}
    assert manifest["versions"]["torch"] == torch.__version__
    assert manifest["created"].endswith("+00:00")
    for file, shard in zip(shards(store), manifest["shards"], strict=True):
        assert shard["file"] == file.name
        assert shard["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert not list(store.root.rglob(".tmp-*"))


def test_other_work_has_another_key(store: Store) -> None:
    base = {"provenance": PROVENANCE, "ids": IDS, "shard_size": 4}
    for change in (
        {"provenance": {**PROVENANCE, "steps": 4}},
        {"ids": IDS[:8]},
        {"ids": IDS[::-1]},
        {"shard_size": 5},
    ):
        work = {**base, **change}
        run_shards(**base, worker=numbers, store=store, description="", progress=False)
        before = len(store.entries())
        run_shards(**work, worker=numbers, store=store, description="", progress=False)
        assert len(store.entries()) == before + 1
    noted = Counting()
    run_shards(**base, worker=noted, store=store, description="", notes={"device": "cuda"}, progress=False)
    assert noted.asked == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def reverse(value: object) -> object:
    if isinstance(value, dict):
        return {name: reverse(item) for name, item in reversed(value.items())}
    return [reverse(item) for item in value] if isinstance(value, list) else value


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_a_key_does_not_depend_on_the_order_of_a_mapping(provenance: dict[str, object]) -> None:
    key = key_of(provenance)
    assert len(key) == 64
    assert key == key_of(reverse(provenance))
    assert key == key_of(json.loads(json.dumps(provenance)))
    assert key != key_of({**provenance, "one more": 1} if "one more" not in provenance else {})


def test_a_key_is_the_digest_of_canonical_json() -> None:
    assert key_of({"b": (1, 2.5), "a": "é"}) == hashlib.sha256(b'{"a":"\\u00e9","b":[1,2.5]}').hexdigest()


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": [0, float("nan")]}, r"provenance\['a'\]\[1\] is nan"),
        ({"a": float("inf")}, r"provenance\['a'\] is inf"),
        ({"a": {"b": torch.zeros(1)}}, r"provenance\['a'\]\['b'\] is a Tensor"),
        ({"a": Path("x")}, "only strings, numbers, lists and mappings"),
        ({"a": {1: 2}}, "a key that is not a string: 1"),
    ],
)
def test_a_value_without_a_json_form_is_refused(value: dict[str, object], place: str) -> None:
    with pytest.raises(XgapError, match=place):
        key_of(value)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "no tensors"),
        ({"a": torch.zeros(3, 2)}, r"'a' of shard 0 has shape \(3, 2\) for 4 items"),
        ({"a": torch.tensor(1.0)}, "shape"),
    ],
)
def test_tensors_that_do_not_fit_the_shard_are_refused(tensors: dict[str, Tensor], message: str) -> None:
    with pytest.raises(XgapError, match=message):
        run(None, lambda ids: tensors)


def test_shards_must_be_alike() -> None:
    with pytest.raises(XgapError, match="unlike the first"):
        run(None, lambda ids: {"a": torch.zeros(len(ids), int(ids[0][-1]))})


def test_nothing_to_do_is_said(store: Store) -> None:
    with pytest.raises(XgapError, match="no ids"):
        run_shards({}, (), numbers, shard_size=4, store=store, description="")
    with pytest.raises(XgapError, match="at least 1"):
        run_shards({}, IDS, numbers, shard_size=0, store=store, description="")


def test_an_unwritable_root_is_said_at_once_and_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(XgapError, match=r"the feature store .*file cannot be written .*XGAP_HOME"):
        run(Store(tmp_path / "file"))


def test_a_disk_that_fills_up_keeps_what_was_computed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def full(descriptor: int) -> None:
        if len(shards(store)) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(XgapError, match=r"No space left on device.*; 4 of 10 items"):
            run(store)
    assert not list(store.root.rglob(".tmp-*"))
    assert store.verify() == []
    resumed = Counting()
    assert same(run(store, resumed), numbers(IDS))
    assert resumed.asked == [IDS[8:]]


def test_entries_can_be_listed_and_removed(store: Store) -> None:
    assert store.entries() == []
    assert store.size() == 0
    run(store)
    run_shards({"other": 1}, IDS, numbers, shard_size=4, store=store, description="", progress=False)
    entries = store.entries()
    assert len(entries) == 2
    assert store.size() == sum(e.n_bytes for e in entries) > sum(len(f.read_bytes()) for f in shards(store))
    store.remove(entries[0].key[:12])
    assert [e.key for e in store.entries()] == [entries[1].key]
    for wrong in (entries[0].key, "../..", ""):
        with pytest.raises(XgapError, match="no entries"):
            store.remove(wrong)


def test_the_root_is_the_argument_then_the_variable_then_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XGAP_HOME", str(tmp_path / "variable"))
    assert Store(tmp_path / "argument").root == tmp_path / "argument"
    assert Store().root == tmp_path / "variable"
    monkeypatch.delenv("XGAP_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert Store().root.name == "xgap"
    if sys.platform == "linux":
        assert Store().root == tmp_path / "cache" / "xgap"


def test_the_bar_counts_items_and_is_silent_when_nothing_is_left(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    for worker in (numbers, Counting(fails_at="item-0")):
        run_shards(PROVENANCE, IDS, worker, shard_size=4, store=store, description="counting")
        said = capsys.readouterr().err
        assert ("counting" in said and "10/10" in said) == (worker is numbers)
        assert worker is numbers or said == ""
