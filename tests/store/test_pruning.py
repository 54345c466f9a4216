"""A store that is made smaller loses what nobody reads, and then what was not used for longest."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
import torch

from xgap_analysis.core.errors import XgapError
from xgap_analysis.store import Rows, Store, compute, entry_key, prune, pruning
from xgap_analysis.store.entries import folder_bytes
from xgap_analysis.store.keys import FORMAT
from xgap_analysis.store.pruning import parse_size

ITEMS = [f"item-{i}" for i in range(8)]


def filled(store: Store, name: str, n: int = 8) -> Path:
    """The folder of an entry, which is computed where it is not there."""
    made = {"it": Rows({"vectors": torch.zeros(n, 1000)})}
    compute(
        {"it": {"which": name}},
        ITEMS[:n],
        lambda places, _: made,
        shard_size=8,
        store=store,
        description="",
        progress=False,
    )
    return store.folder(entry_key({"which": name}))


def used(folder: Path, hours_ago: float) -> None:
    then = time.time() - 3600 * hours_ago
    os.utime(folder / "entry.json", (then, then))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


def test_the_least_recently_used_entries_go_until_the_store_fits(store: Store) -> None:
    folders = {name: filled(store, name) for name in "abc"}
    for hours, name in enumerate("cab", start=1):  # b was used last of all, hours ago
        used(folders[name], hours)
    filled(store, "b")  # reading it is a use
    size = store.size() // 3
    expected = [folders["a"].name, folders["c"].name]
    would = prune(store, size + size // 2, dry_run=True)
    assert [one.what for one in would] == expected
    assert all("last used" in one.reason for one in would)
    assert len(store.entries()) == 3
    assert prune(store, size + size // 2) == would
    assert [entry.key for entry in store.entries()] == [folders["b"].name]
    assert sum(one.n_bytes for one in would) == pytest.approx(2 * size, abs=100)
    assert prune(store, size + size // 2) == []
    assert [one.what for one in prune(store, 0)] == [folders["b"].name]
    assert not any(path.is_file() for path in store.root.rglob("*"))


def test_a_use_is_recorded_without_rewriting_the_entry(store: Store) -> None:
    about = filled(store, "a") / "entry.json"
    content = about.read_bytes()
    used(about.parent, 5)
    filled(store, "a", 4)
    assert time.time() - about.stat().st_mtime < 60
    assert about.read_bytes() == content
    assert store.verify() == []


def test_without_a_size_only_what_nobody_reads_goes(store: Store) -> None:
    folder = filled(store, "a")
    old = store.folder("0" * 64)
    old.mkdir(parents=True)
    (old / "entry.json").write_text(json.dumps({"format": 1, "provenance": {}}))
    (folder / ".tmp-1-0-another.host").write_bytes(b"12345")
    os.utime(folder / ".tmp-1-0-another.host", (0, 0))
    living = folder / f".tmp-{os.getppid()}-0-{os.uname().nodename}"
    living.touch()
    leaving = folder.parent / ".tmp-2-0-another.host"  # an entry that a killed prune had begun to delete
    leaving.mkdir()
    (leaving / "shard").write_bytes(b"123")
    os.utime(leaving, (0, 0))
    pruned = {one.what: one for one in prune(store)}
    assert pruned.keys() == {".tmp-1-0-another.host", ".tmp-2-0-another.host", "0" * 64}
    assert pruned[".tmp-1-0-another.host"].n_bytes == 5
    assert pruned[".tmp-2-0-another.host"].n_bytes == 3
    assert "older format" in pruned["0" * 64].reason
    assert living.exists()
    assert not leaving.exists()
    assert [entry.key for entry in store.entries()] == [folder.name]


def test_a_newer_version_that_shares_the_store_keeps_its_entries(store: Store) -> None:
    newer = store.folder("0" * 64)
    newer.mkdir(parents=True)
    (newer / "entry.json").write_text(json.dumps({"format": FORMAT + 1, "provenance": {}}))
    assert prune(store) == []
    assert [one.what for one in prune(store, 0)] == [newer.name]  # by its last use, as any other


def test_an_entry_that_another_process_removes_meanwhile_is_no_mistake(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, sizes = filled(store, "a"), list[int]()

    def size_of(own: Path) -> int:
        if sizes:
            shutil.rmtree(folder, ignore_errors=True)
        sizes.append(folder_bytes(own))
        return sizes[-1]

    monkeypatch.setattr(pruning, "folder_bytes", size_of)
    assert [one.what for one in prune(store, 0)] == [folder.name]
    assert sizes == [sizes[0], 0]


def test_an_entry_that_is_pruned_while_it_is_written_is_begun_again(store: Store) -> None:
    made = []

    def worker(places: list[int], _: object) -> dict[str, Rows]:
        made.append(len(places))
        if len(made) == 2:
            assert len(prune(store, 0)) == 1
        return {"it": Rows({"vectors": torch.zeros(len(places), 3)})}

    for _ in range(2):
        compute({"it": {}}, ITEMS, worker, shard_size=4, store=store, description="", progress=False)  # type: ignore[arg-type]
    assert made == [4, 4, 4]  # what was pruned is computed again, by the next run
    assert store.verify() == []
    assert store.entries()[0].n_items == 8


@pytest.mark.parametrize(
    ("text", "n_bytes"), [("20GB", 20 * 10**9), ("1.5 TiB", 3 * 2**39), ("500mb", 5 * 10**8), ("12", 12), ("0B", 0)]
)
def test_a_size_is_read_with_its_unit(text: str, n_bytes: int) -> None:
    assert parse_size(text) == n_bytes


@pytest.mark.parametrize("text", ["", "GB", "20 G", "-1GB", "20GBs", "1,5GB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(XgapError, match="written like 20GB"):
        parse_size(text)


def test_a_negative_size_is_refused(store: Store) -> None:
    with pytest.raises(XgapError, match="0 bytes or more"):
        prune(store, -1)
