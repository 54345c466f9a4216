"""The store keeps whole shards only: through kills, damage, full disks and other processes."""

import errno
import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.store import Rows, Store, compute, entry_key, key_of, tasks
from xgap_analysis.store.engines import Ranks
from xgap_analysis.store.entries import Lacking
from xgap_analysis.store.shards import Shard, read_shard

IDS = tuple(f"item-{i}" for i in range(10))
PROVENANCE = {"model": "tiny", "steps": 3, "rate": 0.02, "nested": {"b": [1, None], "a": True}}


def numbers(ids: tuple[str, ...]) -> dict[str, Tensor]:
    """Float64 noise that depends on the id alone, and one integer an item."""
    rows = [
        torch.randn(4, generator=torch.Generator().manual_seed(int(i.split("-")[1])), dtype=torch.float64) for i in ids
    ]
    rank = torch.tensor([int(i.split("-")[1]) for i in ids], dtype=torch.long)
    return {"vectors": torch.stack(rows) if rows else torch.zeros(0, 4, dtype=torch.float64), "rank": rank}


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


def rows(
    store: Store | None,
    worker: Callable[[tuple[str, ...]], dict[str, Tensor]] = numbers,
    items: Sequence[str] = IDS,
    provenance: dict[str, Any] = PROVENANCE,
    **options: Any,
) -> Rows:
    return compute(
        {"it": provenance},
        items,
        lambda places, _: {"it": Rows(worker(tuple(items[place] for place in places)))},
        store=store,
        **{"shard_size": 4, "notes": {"device": "cpu"}, "description": "test", "progress": False, **options},
    )["it"]


def run(*args: Any, **options: Any) -> dict[str, Tensor]:
    return dict(rows(*args, **options).tensors)


def shards(store: Store) -> list[Path]:
    return sorted(store.root.rglob("*.safetensors"))


def shard_of(store: Store, item: str) -> Path:
    return next(file for file in shards(store) if item.encode() in file.read_bytes())


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

    got = run(store, worker)
    assert got["a"][:, 0].tolist() == [1] * 4 + [2] * 4 + [3] * 2
    assert torch.equal(got["a"], got["b"])


def test_a_run_that_raises_midway_resumes_after_the_last_whole_shard(store: Store) -> None:
    with pytest.raises(RuntimeError, match="the worker failed"):
        run(store, Counting(fails_at="item-9"))
    (entry,) = store.entries()
    assert (entry.n_items, entry.n_failed) == (8, 0)
    assert entry.provenance == PROVENANCE
    resumed = Counting()
    assert same(run(store, resumed), numbers(IDS))
    assert resumed.asked == [IDS[8:]]
    (entry,) = store.entries()
    assert (entry.n_items, entry.notes) == (10, {"device": "cpu"})


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
    left = folder / f".tmp-{child.pid}-0-{platform.node()}"
    left.write_bytes(shards(store)[0].read_bytes()[:50])
    resumed = Counting()
    assert same(run(store, resumed), numbers(IDS))
    assert resumed.asked == [IDS[8:]]
    assert not left.exists()
    assert store.verify() == []


def test_a_temporary_file_of_a_living_process_is_left_alone(store: Store) -> None:
    with pytest.raises(RuntimeError):
        run(store, Counting(fails_at="item-9"))
    at_work = shards(store)[0].parent / f".tmp-{os.getppid()}-0-{platform.node()}"
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
    assert store.entries()[0].n_items == 10


def truncate(data: bytes) -> bytes:
    return data[:-10]


def flip_one_bit(data: bytes) -> bytes:
    return data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]


def empty(data: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [truncate, flip_one_bit, empty])
def test_a_damaged_shard_is_named_and_computed_again(store: Store, damage: Callable[[bytes], bytes]) -> None:
    expected = run(store)
    bad = shard_of(store, "item-5")
    bad.write_bytes(damage(bad.read_bytes()))
    assert [(d.file, d.key) for d in store.verify()] == [(bad.name, store.entries()[0].key)]
    repaired = Counting()
    with pytest.warns(UserWarning, match=f"damaged shard .*{bad.name}"):
        got = run(store, repaired)
    assert same(got, expected)
    assert repaired.asked == [IDS[4:8]]
    assert store.verify() == []


def test_the_header_of_a_damaged_shard_names_no_item_of_its_own(store: Store) -> None:
    """A digest in a header that was changed on the disk is not found, or its shard is not believed."""
    expected = run(store)
    bad = shard_of(store, "item-0")
    bad.write_bytes(bad.read_bytes().replace(b"item-0", b"item-x"))
    with pytest.warns(UserWarning, match="damaged shard"):
        assert same(run(store), expected)
    assert store.verify() == []


def test_a_foreign_file_with_a_right_digest_is_not_believed(store: Store) -> None:
    expected = run(store)
    data = b"not a shard"
    foreign = shards(store)[0].with_name(f"{hashlib.sha256(data).hexdigest()}.safetensors")
    foreign.write_bytes(data)
    shards(store)[0].with_name("00001-0badd1ce.safetensors").write_bytes(data)  # no name of a shard's
    again = Counting()
    shard_of(store, "item-0").unlink()
    with pytest.warns(UserWarning, match="not a shard of this store"):
        got = run(store, again)
    assert same(got, expected)
    assert again.asked == [IDS[:4]]
    assert not foreign.exists()


def test_a_damaged_entry_file_is_found_and_written_again(store: Store) -> None:
    run(store)
    about = next(store.root.rglob("entry.json"))
    about.write_text(about.read_text().replace('"steps": 3', '"steps": 4'))
    assert [d.file for d in store.verify()] == ["entry.json"]
    assert store.entries()[0].provenance == {}
    longer = Counting()
    run(store, longer, (*IDS, "item-10"))
    assert longer.asked == [("item-10",)]
    assert store.verify() == []


def test_the_entry_file_records_what_was_done(store: Store) -> None:
    run(store)
    about = json.loads(next(store.root.rglob("entry.json")).read_text())
    assert about["provenance"] == PROVENANCE
    assert about["notes"] == {"device": "cpu"}
    assert about["versions"]["torch"] == torch.__version__
    assert about["created"].endswith("+00:00")
    assert [file.stem for file in shards(store)] == [hashlib.sha256(f.read_bytes()).hexdigest() for f in shards(store)]
    assert shards(store)[0].parent == store.folder(entry_key(PROVENANCE))
    assert not list(store.root.rglob(".tmp-*"))


def test_other_work_has_another_entry_and_other_notes_have_not(store: Store) -> None:
    run(store)
    run(store, provenance={**PROVENANCE, "steps": 4})
    assert len(store.entries()) == 2
    again = Counting()
    run(store, again, notes={"device": "cuda"}, shard_size=5)
    assert again.asked == []


# Items are found by what they are


def test_a_longer_list_computes_what_is_new(store: Store) -> None:
    items = tuple(f"item-{i}" for i in range(1010))
    run(store, items=items[:1000], shard_size=256)
    more = Counting()
    got = run(store, more, items, shard_size=256)
    assert more.asked == [items[1000:]]
    assert same(got, numbers(items))


@pytest.mark.parametrize("some", [IDS[::-1], IDS[2:5], (IDS[7], IDS[1]), (IDS[3], IDS[3], IDS[0])])
def test_another_order_a_subset_and_a_repetition_compute_nothing(store: Store, some: tuple[str, ...]) -> None:
    run(store)
    again = Counting()
    assert same(run(store, again, some), numbers(some))
    assert again.asked == []


@pytest.mark.parametrize("kept", [True, False])
def test_an_item_given_twice_is_computed_once(store: Store, kept: bool) -> None:
    items = ("item-1", "item-2", "item-1", "item-3", "item-2")
    once = Counting()
    assert same(run(store if kept else None, once, items), numbers(items))
    assert once.asked == [("item-1", "item-2", "item-3")]


def test_only_shards_with_a_wanted_item_are_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run(store)
    real, opened = tasks.read_shard, list[Path]()
    monkeypatch.setattr(tasks, "read_shard", lambda file: (opened.append(file), real(file))[1])
    assert same(run(store, items=IDS[5:7]), numbers(IDS[5:7]))
    assert opened == [shard_of(store, "item-5")]


def test_entries_that_are_made_together_are_found_apart(store: Store) -> None:
    asked = []

    def both(places: Sequence[int], missing: Collection[str]) -> dict[str, Rows]:
        asked.append((list(places), sorted(missing)))
        return {name: Rows(numbers(tuple(IDS[place] for place in places))) for name in missing}

    def made(names: str, n: int) -> None:
        entries = {name: {"which": name} for name in names}
        got = compute(entries, IDS[:n], both, shard_size=4, store=store, description="", progress=False)
        assert all(same(dict(got[name].tensors), numbers(IDS[:n])) for name in names)

    made("a", 2)
    made("ab", 6)
    assert asked == [([0, 1], ["a"]), ([0, 1], ["b"]), ([2, 3, 4, 5], ["a", "b"])]
    made("ab", 6)
    made("b", 4)
    assert len(asked) == 3


def test_what_failed_is_a_row_with_a_reason_and_what_may_pass_is_tried_again(store: Store) -> None:
    asked = []

    def worker(places: Sequence[int], _: Collection[str]) -> dict[str, Rows]:
        asked.append([IDS[place] for place in places])
        good = tuple(IDS[place] for place in places if place not in (1, 2))
        reasons = {k: f"broken {place}" for k, place in enumerate(places) if place in (1, 2)}
        return {"it": Rows(numbers(good), reasons, [k for k, place in enumerate(places) if place == 2])}

    def found() -> Rows:
        return compute({"it": {}}, IDS, worker, shard_size=20, store=store, description="", progress=False)["it"]

    for made in (found(), found(), found()):
        assert made.failed == {1: "broken 1", 2: "broken 2"}
        assert same(dict(made.tensors), numbers((IDS[0], *IDS[3:])))
    assert asked == [list(IDS), [IDS[2]], [IDS[2]]]
    (entry,) = store.entries()
    assert (entry.n_items, entry.n_failed) == (8, 1)
    assert store.verify() == []


def test_several_writers_of_other_lists_are_read_as_a_union(store: Store) -> None:
    for chosen in (IDS[:3], IDS[6:], IDS[2:7]):
        run(Store(store.root), items=chosen)
    again = Counting()
    assert same(run(store, again), numbers(IDS))
    assert again.asked == []


def test_what_another_process_wrote_meanwhile_is_read(store: Store) -> None:
    asked = []

    def worker(ids: tuple[str, ...]) -> dict[str, Tensor]:
        if not asked:
            run(Store(store.root))
        asked.append(ids)
        return numbers(ids)

    assert same(run(store, worker), numbers(IDS))
    assert asked == [IDS[:4]]


def test_an_entry_of_an_older_format_is_listed_and_removed_but_never_read(store: Store) -> None:
    run(store)
    old = store.folder("0" * 64)
    old.mkdir(parents=True)
    (old / "entry.json").write_text(json.dumps({"format": 1, "provenance": PROVENANCE, "ids": "", "n": 4}))
    (old / f"00000-{'1' * 64}.safetensors").write_bytes(b"whatever it held")
    assert [(e.format, e.n_items, e.provenance) for e in store.entries()] == [(1, 0, PROVENANCE), (2, 10, PROVENANCE)]
    assert store.verify() == []
    store.remove("0000")
    assert [e.format for e in store.entries()] == [2]


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
        ({"a": torch.zeros(3, 2)}, r"'a' has shape \(3, 2\) for 4 items"),
        ({"a": torch.tensor(1.0)}, "shape"),
    ],
)
def test_tensors_that_do_not_fit_the_shard_are_refused(tensors: dict[str, Tensor], message: str) -> None:
    with pytest.raises(XgapError, match=message):
        run(None, lambda ids: tensors)


def test_shards_must_be_alike() -> None:
    with pytest.raises(XgapError, match="unlike another"):
        run(None, lambda ids: {"a": torch.zeros(len(ids), int(ids[0][-1]))})


def test_nothing_to_do_is_said(store: Store) -> None:
    with pytest.raises(XgapError, match="no items"):
        run(store, items=())
    with pytest.raises(XgapError, match="at least 1"):
        run(store, shard_size=0)


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
    run(store, provenance={"other": 1})
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
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    for worker in (numbers, Counting(fails_at="item-0")):
        run(store, worker, description="counting", progress=True)
        said = capsys.readouterr().err
        assert ("counting" in said and "10/10" in said) == (worker is numbers)
        assert worker is numbers or said == ""


# Failures that are tried again


def failing(broken: set[str], asked: list[list[str]]) -> Callable[..., Rows]:
    """`compute` with a worker that cannot read some items, from a store."""

    def found(store: Store, items: Sequence[str] = IDS) -> Rows:
        def worker(places: Sequence[int], _: Collection[str]) -> dict[str, Rows]:
            asked.append([items[place] for place in places])
            good = tuple(items[place] for place in places if items[place] not in broken)
            reasons = {k: "broken" for k, place in enumerate(places) if items[place] in broken}
            return {"it": Rows(numbers(good) if good else {}, reasons)}

        return compute({"it": {}}, items, worker, shard_size=4, store=store, description="", progress=False)["it"]

    return found


def test_kept_failures_are_tried_again_once_where_that_is_wished(store: Store) -> None:
    broken, asked = {"item-1", "item-5"}, list[list[str]]()
    found = failing(broken, asked)
    assert found(store).failed.keys() == {1, 5}
    asked.clear()
    assert found(store).failed.keys() == {1, 5}
    assert asked == []
    again = Store(store.root, retry_failed=True)
    broken.discard("item-1")
    for _ in range(2):
        made = found(again)
        assert made.failed.keys() == {5}
        assert same(dict(made.tensors), numbers((*IDS[:5], *IDS[6:])))
    assert asked == [["item-1", "item-5"]]
    assert found(store).failed.keys() == {5}  # a row counts more than a failure, in whichever shard it is
    assert len(asked) == 1
    (entry,) = store.entries()
    assert (entry.n_items, entry.n_failed) == (9, 1)
    assert store.verify() == []


def test_a_shard_of_failures_alone_is_kept(store: Store) -> None:
    asked = list[list[str]]()
    found = failing(set(IDS[:4]), asked)
    for _ in range(2):
        made = found(store)
        assert made.failed.keys() == {0, 1, 2, 3}
        assert same(dict(made.tensors), numbers(IDS[4:]))
    assert len(asked) == 3
    assert store.verify() == []
    assert found(store, IDS[:4]).tensors == {}


# Rows that other processes are to compute


def test_a_store_that_is_only_read_counts_what_it_lacks(store: Store) -> None:
    run(store, items=IDS[:3])
    again = Counting()
    with pytest.raises(Lacking, match="7 of 10 items have no row") as raised:
        run(store.reading(), again)
    assert (raised.value.n, raised.value.total) == (7, 10)
    assert same(run(store.reading(), again, IDS[:3]), numbers(IDS[:3]))
    assert again.asked == []


def test_rows_of_others_are_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is published meanwhile is not computed; what nobody publishes for a while is."""
    run(store, items=IDS[:2])
    waits = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) in (3, 7):
            run(Store(store.root), items=IDS[2:5] if len(waits) == 3 else IDS[5:8])

    monkeypatch.setattr(tasks.time, "sleep", sleep)
    monkeypatch.setattr(tasks.time, "monotonic", lambda: float(sum(waits)))
    mine = Counting()
    assert same(run(store.waiting(10.0), mine), numbers(IDS))
    assert mine.asked == [IDS[8:]]
    assert len(waits) == 17  # of one second: ten more after the last row of others
    waits.clear()
    assert same(run(store.waiting(10.0), mine), numbers(IDS))
    assert waits == []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits of a store, which take no time."""
    waits = list[float]()
    monkeypatch.setattr(tasks.time, "sleep", waits.append)
    monkeypatch.setattr(tasks.time, "monotonic", lambda: float(sum(waits)))
    return waits


def test_a_shard_that_cannot_be_read_at_once_is_looked_at_again(
    store: Store, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hiccup of a network disk costs one look, and not the whole patience and the work of others."""
    run(store)
    first = shards(store)[0]
    errors = [OSError(errno.EIO, "a hiccup"), OSError(errno.EIO, "a hiccup"), FileNotFoundError()]

    def hiccup(file: Path) -> Shard:
        if file == first and errors:
            raise errors.pop()
        return read_shard(file)

    monkeypatch.setattr(tasks, "read_shard", hiccup)
    mine = Counting()
    with pytest.warns(UserWarning, match="cannot be read") as said:
        assert same(run(store.waiting(10.0), mine), numbers(IDS))
    assert len(said) == 1
    assert mine.asked == []
    assert clock == [1.0] * 3


def test_a_shard_that_others_repair_is_found_under_its_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run(store, items=IDS[:4])
    (file,) = store.folder(entry_key(PROVENANCE)).glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    waits = list[float]()

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        run(Store(store.root), items=IDS[:4])

    monkeypatch.setattr(tasks.time, "sleep", sleep)
    monkeypatch.setattr(tasks.time, "monotonic", lambda: float(sum(waits)))
    mine = Counting()
    with pytest.warns(UserWarning, match="damaged shard"):
        assert same(run(store.waiting(10.0), mine, IDS[:4]), numbers(IDS[:4]))
    assert (mine.asked, len(waits)) == ([], 1)


def test_what_was_waited_for_in_vain_is_not_waited_for_again(store: Store, clock: list[float]) -> None:
    """A failure that nobody stores costs the patience once, in however many views the item stands."""
    asked = []

    def worker(places: Sequence[int], _: Collection[str]) -> dict[str, Rows]:
        asked.append(list(places))
        return {"it": Rows({}, {0: "the share is away"}, passing=[0])}

    run(store, items=IDS[1:], provenance={})
    waiting = store.waiting(10.0)
    for _ in range(3):
        made = compute({"it": {}}, IDS, worker, shard_size=4, store=waiting, description="", progress=False)["it"]
        assert made.failed == {0: "the share is away"}
        assert len(clock) == 10
    assert asked == [[0]] * 3
    run(waiting, items=IDS[:1])  # another entry
    assert len(clock) == 20


def test_failures_that_are_tried_again_are_not_waited_for(store: Store, clock: list[float]) -> None:
    """Whether another rank has tried them again by now changes no result."""
    broken, asked = {"item-1", "item-5"}, list[list[str]]()
    found = failing(broken, asked)
    found(store)
    mine, _ = Store(store.root, retry_failed=True), asked.clear()
    assert found(mine, IDS[:4]).failed.keys() == {1}
    broken.clear()
    made = found(mine.waiting(10.0))
    assert made.failed.keys() == {1}  # tried again before, with this process's share
    assert same(dict(made.tensors), numbers((IDS[0], *IDS[2:])))
    assert asked == [["item-1"], ["item-5"]]
    assert clock == []


def test_what_others_store_meanwhile_is_not_computed_again(store: Store) -> None:
    asked = list[tuple[str, ...]]()

    def worker(ids: tuple[str, ...]) -> dict[str, Tensor]:
        asked.append(ids)
        if len(asked) == 1:
            run(Store(store.root), items=IDS[5:9], shard_size=4)
        return numbers(ids)

    assert same(run(store, worker, shard_size=3), numbers(IDS))
    assert asked == [IDS[:3], IDS[3:5], IDS[9:]]


SHARING = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_store import IDS, numbers, run
from xgap_analysis.store import Store
from xgap_analysis.store.engines import Ranks

rank = Ranks(int(sys.argv[1]), 2)
mine = [item for item in IDS if rank.owns(item)]

def worker(ids):
    with (Path({folder!r}) / "log").open("a") as log:
        log.write(f"{{rank.rank}} {{' '.join(ids)}}\\n")
    if rank.rank == 1 and mine[2] in ids:
        (Path({folder!r}) / "stuck").touch()
        time.sleep(600)
    return numbers(ids)

run(Store(Path({root!r})), worker, mine, shard_size=2)
"""


def test_a_rank_that_is_killed_loses_only_the_shard_in_work(store: Store, tmp_path: Path) -> None:
    code = SHARING.format(tests=str(Path(__file__).parent), folder=str(tmp_path), root=str(store.root))
    own = {**os.environ, "OMP_NUM_THREADS": "1"}
    ranks = [subprocess.Popen([sys.executable, "-c", code, str(rank)], env=own) for rank in range(2)]
    try:
        while not (tmp_path / "stuck").exists():
            assert ranks[1].poll() is None, "the rank ended before it could be killed"
            time.sleep(0.05)
    finally:
        ranks[1].send_signal(signal.SIGKILL)
        ranks[1].wait()
    assert ranks[0].wait() == 0
    rest = Counting()
    assert same(run(store.waiting(0.2), rest), numbers(IDS))
    done = [line.split()[1:] for line in (tmp_path / "log").read_text().splitlines() if line.startswith("1")]
    owned = [item for item in IDS if Ranks(1, 2).owns(item)]
    assert done == [owned[:2], owned[2:]]
    assert rest.asked == [tuple(owned[2:])]
    assert store.verify() == []
