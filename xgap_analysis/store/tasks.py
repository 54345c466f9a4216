"""Computing rows of items shard by shard: what the store has is read, what it lacks is computed and kept."""

import contextlib
import hashlib
import json
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.progress import Bar
from xgap_analysis.store.entries import Lacking, Store
from xgap_analysis.store.keys import FORMAT, check_json, key_of, plain
from xgap_analysis.store.shards import (
    Shard,
    header,
    json_bytes,
    layout,
    read_about,
    read_shard,
    record_use,
    remove_stale_temporaries,
    shard_files,
    versions,
    write_atomically,
)


@dataclass(frozen=True)
class Rows:
    """What is known of some items.

    Attributes:
        tensors: by name, `[m, ...]` each: one row for each item that did not fail, in the order of the items.
        failed: place of an item that failed, to the reason.
        passing: places among `failed` whose reason may be gone next time; the store does not keep these.
    """

    tensors: Mapping[str, Tensor]
    failed: Mapping[int, str] = field(default_factory=dict)
    passing: Collection[int] = ()


class Unwritable(XgapError):
    """A store that cannot be written, by a full disk or a missing right: no work makes sense before that is mended."""


POLL_SECONDS = 2.0  # between two looks at what others have stored
Worker = Callable[[Sequence[int], Collection[str]], Mapping[str, Rows]]


def compute(
    entries: Mapping[str, Mapping[str, Any]],
    items: Sequence[str],
    worker: Worker,
    *,
    shard_size: int,
    store: "Store | None",
    description: str,
    progress: bool = True,
    notes: Mapping[str, Any] | None = None,
) -> dict[str, Rows]:
    """Rows of items, read where the store has them and computed shard by shard where it does not.

    A resume after a kill, a longer list and a repair after damage compute what is lacking. An item that is given twice
    is computed once.

    Args:
        entries: by a name of the caller's, what determines the numbers of each entry besides the item (see `key_of`).
            A computation that gives several entries at once fills those that lack an item.
        items: n digests, each of all that is particular to an item: equal digests, equal rows.
        worker: from places in `items` and the names of the entries that lack them, the rows of these places in each of
            these entries; the places in its `Rows` count within what it was given.
        shard_size: number of items computed before they are kept; a killed run loses at most so many.
        store: where rows are kept; None computes everything in memory. It also says whether kept failures are tried
            again, and what is done about items that other processes are to compute (see `Store.waiting`).
        description: what the progress bar says.
        progress: one bar over the items, shown only when something is left to compute.
        notes: what is recorded beside the provenance and not in the key (name, device, batch size, ...).

    Returns:
        By name of the entry, rows of the n items, on the CPU.

    Raises:
        XgapError: no items, rows that do not fit them, a store that cannot be written (`Unwritable`), or one that is
            only read and lacks items (`Lacking`).
    """
    if not len(items):
        raise XgapError("there is nothing to compute: no items were given")
    if shard_size < 1:
        raise XgapError(f"shard_size must be at least 1, not {shard_size}")
    place = {item: i for i, item in reversed(list(enumerate(items)))}  # the first of equal ones
    distinct = list(dict.fromkeys(items))
    shelves = {name: _Shelf(store, about, notes or {}) for name, about in entries.items()}
    found = {name: _Found(description) for name in entries}
    for name, shelf in shelves.items():
        found[name].add(*shelf.read(distinct))
        if store is not None and store.retry_failed:
            store.overdue |= found[name].forget(shelf.key, store.retried)  # whoever else tries them again
    groups = _lacking(found, distinct)
    done = len(distinct) - sum(map(len, groups.values()))
    if groups and store is not None and not store.computes:
        raise Lacking(len(distinct) - done, len(distinct), {shelves[name].key for names in groups for name in names})
    with Bar(total=len(distinct), desc=description, unit="item", disable=not progress or not groups) as bar:
        bar.update(done)
        if groups and store is not None and store.patience:
            groups, done = _awaited(store, shelves, found, distinct, bar)
        for lacking, group in groups.items():
            for part in (group[i : i + shard_size] for i in range(0, len(group), shard_size)):
                for name in lacking:  # another process may have written them since
                    found[name].add(*shelves[name].read(item for item in distinct if item not in found[name]))
                left = [item for item in part if any(item not in found[name] for name in lacking)]
                missing = [name for name in lacking if any(item not in found[name] for item in left)]
                made = worker([place[item] for item in left], missing) if missing else {}
                for name in missing:
                    try:
                        found[name].add(shelves[name].publish(left, made[name]))
                    except OSError as error:
                        assert store is not None
                        raise Unwritable(
                            f"the feature store {store.root} cannot be written ({error.strerror or error}): free some "
                            f"space or set XGAP_HOME to another folder; {done} of {len(distinct)} items are stored and "
                            "will be reused"
                        ) from error
                done += len(part)
                bar.update(len(part))
    return {name: found[name].rows(items) for name in entries}


def _lacking(found: Mapping[str, "_Found"], items: Sequence[str]) -> dict[tuple[str, ...], list[str]]:
    """Items without a row, by the entries that lack them: what one has is not made again."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for item in items:
        names = tuple(name for name, known in found.items() if item not in known)
        if names:
            groups.setdefault(names, []).append(item)
    return groups


def _awaited(
    store: Store, shelves: Mapping[str, "_Shelf"], found: Mapping[str, "_Found"], items: Sequence[str], bar: Bar
) -> tuple[dict[tuple[str, ...], list[str]], int]:
    """What is still lacking when nothing new has come for the store's patience, and the number of the other items.

    What was waited for in vain is overdue, and is not waited for again.
    """

    def lacking() -> set[tuple[str, str]]:
        return {(shelves[name].key, item) for name, known in found.items() for item in items if item not in known}

    last, awaited = time.monotonic(), lacking() - store.overdue
    while awaited and time.monotonic() - last < store.patience:
        time.sleep(min(POLL_SECONDS, store.patience / 10))
        for name, shelf in shelves.items():
            found[name].add(*shelf.read(item for item in items if item not in found[name]))
        before, left = len(awaited), lacking()
        awaited = left - store.overdue
        if len(awaited) < before:
            last = time.monotonic()
        bar.update(len(items) - len({item for _, item in left}) - bar.n)
    if awaited:
        store.in_vain(frozenset(key for key, _ in awaited))
    store.overdue |= awaited
    groups = _lacking(found, items)
    return groups, len(items) - sum(map(len, groups.values()))


class _Found:
    """What is known of one entry's items, as it comes together."""

    def __init__(self, description: str) -> None:
        self._description = description
        self._shards: list[Shard] = []
        self._row: dict[str, int] = {}
        self._failed: dict[str, str] = {}
        self._n = 0

    def __contains__(self, item: str) -> bool:
        return item in self._row or item in self._failed

    def add(self, *shards: Shard) -> None:
        for shard in shards:
            self._failed |= shard.failed
            if not shard.items:  # all of them failed, so that nothing says how a row would look
                continue
            if self._shards and layout(shard.tensors) != layout(self._shards[0].tensors):
                first = layout(self._shards[0].tensors)
                raise XgapError(f"{self._description}: a shard holds {layout(shard.tensors)}, unlike another, {first}")
            self._shards.append(shard)
            self._row |= {item: self._n + row for row, item in enumerate(shard.items)}
            self._n += len(shard.items)

    def forget(self, key: str, retried: set[tuple[str, str]]) -> set[tuple[str, str]]:
        """Forgets failures, so that their items are computed again, but those that were tried again already.

        Returns:
            Entry and item of what was forgotten.
        """
        known = {item: reason for item, reason in self._failed.items() if item not in self._row}
        self._failed = {item: reason for item, reason in known.items() if (key, item) in retried}
        forgotten = {(key, item) for item in known.keys() - self._failed.keys()}
        retried |= forgotten
        return forgotten

    def rows(self, items: Sequence[str]) -> Rows:
        chosen = torch.tensor([self._row[item] for item in items if item in self._row], dtype=torch.long)
        names = self._shards[0].tensors if self._shards else ()
        whole = {name: torch.cat([s.tensors[name] for s in self._shards]) for name in names}
        failed = {place: self._failed[item] for place, item in enumerate(items) if item not in self._row}
        return Rows({name: tensor[chosen] for name, tensor in whole.items()}, failed)


class _Shelf:
    """One entry, in a store or (without a store) nowhere."""

    def __init__(self, store: "Store | None", provenance: Mapping[str, Any], notes: Mapping[str, Any]) -> None:
        check_json(provenance, "provenance")
        check_json(notes, "notes")
        self._what = {"format": FORMAT, "provenance": plain(provenance)}
        self._notes = plain(notes)
        self.key = key_of(self._what)
        self._folder = None if store is None else store.folder(self.key)
        self._seen: set[Path] = set()
        self._unread: set[Path] = set()  # of which it was said
        self._prepared = False

    def read(self, wanted: Iterable[str]) -> Iterator[Shard]:
        """What the shards that came since the last call hold of these items; a damaged one is said, and removed.

        What such a shard holds of other items is not looked at again.
        """
        if self._folder is None:
            return
        record_use(self._folder)
        new = [file for file in shard_files(self._folder) if file not in self._seen]
        left = set(wanted) if new else set()
        for file in new:
            if not left:
                return
            self._seen.add(file)
            try:
                inside = header(file)
                if left.isdisjoint(inside["items"]) and left.isdisjoint(inside["failed"]):
                    continue
                shard = read_shard(file).of(left)
            except FileNotFoundError:  # another process is repairing it, under the same name
                self._seen.discard(file)
                continue
            except OSError as error:  # it may pass: the next call looks again
                self._seen.discard(file)
                if file not in self._unread:
                    self._unread.add(file)
                    warnings.warn(f"shard {file} cannot be read: {error}; its items are computed again", stacklevel=5)
                continue
            except ValueError as error:
                warnings.warn(f"damaged shard {file}: {error}; its items are computed again", stacklevel=5)
                with contextlib.suppress(OSError):
                    file.unlink()
                    self._seen.discard(file)  # whoever computes its items gives it the same name
                continue
            left.difference_update(shard.items)  # a row in another shard counts more than a failure in this one
            yield shard

    def publish(self, items: Sequence[str], rows: Rows) -> Shard:
        """Writes the rows of items whole (temporary name, fsync, rename) and gives them back, on the CPU.

        Raises:
            XgapError: tensors that do not count the items.
            OSError: a store that cannot be written.
        """
        kept = [item for place, item in enumerate(items) if place not in rows.failed]
        if not rows.tensors and kept:
            raise XgapError(f"the worker gave no tensors for {len(items)} items")
        for name, tensor in rows.tensors.items():
            if tensor.ndim == 0 or len(tensor) != len(kept):
                raise XgapError(f"{name!r} has shape {tuple(tensor.shape)} for {len(kept)} items")
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in rows.tensors.items()}
        made = Shard(kept, tensors, {items[place]: reason for place, reason in rows.failed.items()})
        lasting = {items[place]: reason for place, reason in rows.failed.items() if place not in set(rows.passing)}
        if self._folder is not None and (kept or lasting):
            # One metadata key only: with two, their order in the file, and so its digest, would change between runs.
            inside = json.dumps({"items": kept, "failed": lasting})
            data = safetensors.torch.save(tensors, metadata={"rows": inside})
            file = self._folder / f"{hashlib.sha256(data).hexdigest()}.safetensors"
            self._prepare(self._folder)
            try:
                write_atomically(file, data)
            except FileNotFoundError:  # the entry was pruned or removed meanwhile
                self._prepared = False
                self._prepare(self._folder)
                write_atomically(file, data)
            self._seen.add(file)
        return made

    def _prepare(self, folder: Path) -> None:
        """Makes the folder and says what it is for, once, before the first write."""
        if self._prepared:
            return
        folder.mkdir(parents=True, exist_ok=True)
        remove_stale_temporaries(folder)
        if read_about(folder) is None:
            created = datetime.now(timezone.utc).isoformat(timespec="seconds")
            about = {**self._what, "notes": self._notes, "versions": versions(), "created": created}
            write_atomically(folder / "entry.json", json_bytes(about))
        self._prepared = True
