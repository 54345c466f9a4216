"""The feature store on disk: rows of items, found by what the items are, in shards that are checked when they are read.

An entry is one kind of computation: its key is the SHA-256 of what determines the numbers (model, preprocess, options),
and of no name, path or list. In it, an item is found by a digest of its content: a longer list, a subset or another
order computes what is new and nothing else. Its folder `root/store/<key[:2]>/<key>/` holds

    entry.json                   what is computed, written first
    <sha256>.safetensors, ...    shards: rows of items and the items' digests, each named by the digest of its bytes

The folder is its own list. A shard appears whole, by one rename, and is never changed; several processes write side by
side without a lock, and what they wrote is read as a union. Only headers are read to find an item. A row is served from
a shard whose bytes have the digest of its name; any other is named, removed, and its items are computed again.

Which items are computed together depends on which are there already. A row does not, beyond the rounding of another
batch. The store knows no model, and nothing in it is a pickle.
"""

import contextlib
import hashlib
import json
import math
import os
import platform
import re
import shutil
import time
import uuid
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import platformdirs
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from xgap_analysis.errors import XgapError
from xgap_analysis.progress import Bar

FORMAT = 2  # enters every key: a change of the layout on disk never reads what another layout wrote
STALE_SECONDS = 24 * 3600.0  # a temporary file this old belongs to no living process, on whatever host


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


Worker = Callable[[Sequence[int], Collection[str]], Mapping[str, Rows]]


def key_of(provenance: Mapping[str, Any]) -> str:
    """The SHA-256 of a provenance as canonical JSON (sorted keys, no NaN): 64 hexadecimal digits.

    Raises:
        XgapError: a value that is not a JSON scalar, list or mapping with string keys (its place is named).
    """
    _check_json(provenance, "provenance")
    canonical = json.dumps(_plain(provenance), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def entry_key(provenance: Mapping[str, Any]) -> str:
    """The key of the entry that holds what this provenance gives."""
    return key_of({"format": FORMAT, "provenance": provenance})


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
        store: where rows are kept; None computes everything in memory.
        description: what the progress bar says.
        progress: one bar over the items, shown only when something is left to compute.
        notes: what is recorded beside the provenance and not in the key (name, device, batch size, ...).

    Returns:
        By name of the entry, rows of the n items, on the CPU.

    Raises:
        XgapError: no items, rows that do not fit them, or a store that cannot be written.
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
    groups: dict[tuple[str, ...], list[str]] = {}  # by the entries that lack an item: what one has is not made again
    for item in distinct:
        groups.setdefault(tuple(name for name in entries if item not in found[name]), []).append(item)
    done = len(groups.pop((), []))
    with Bar(total=len(distinct), desc=description, unit="item", disable=not progress or not groups) as bar:
        bar.update(done)
        for lacking, group in groups.items():
            for part in (group[i : i + shard_size] for i in range(0, len(group), shard_size)):
                for name in lacking:  # another process may have written them since
                    found[name].add(*shelves[name].read(part))
                missing = [name for name in lacking if any(item not in found[name] for item in part)]
                made = worker([place[item] for item in part], missing) if missing else {}
                for name in missing:
                    try:
                        found[name].add(shelves[name].publish(part, made[name]))
                    except OSError as error:
                        assert store is not None
                        raise XgapError(
                            f"the feature store {store.root} cannot be written ({error.strerror or error}): free some "
                            f"space or set XGAP_HOME to another folder; {done} of {len(distinct)} items are stored and "
                            "will be reused"
                        ) from error
                done += len(part)
                bar.update(len(part))
    return {name: found[name].rows(items) for name in entries}


@dataclass(frozen=True)
class _Shard:
    """Rows with the digests of the items they belong to, and the reasons of items that have none."""

    items: Sequence[str]
    tensors: Mapping[str, Tensor]
    failed: Mapping[str, str]

    def of(self, wanted: Collection[str]) -> "_Shard":
        """The part of it that is wanted."""
        rows = [row for row, item in enumerate(self.items) if item in wanted]
        return _Shard(
            [self.items[row] for row in rows],
            {name: tensor[rows] for name, tensor in self.tensors.items()},
            {item: reason for item, reason in self.failed.items() if item in wanted},
        )


class _Found:
    """What is known of one entry's items, as it comes together."""

    def __init__(self, description: str) -> None:
        self._description = description
        self._shards: list[_Shard] = []
        self._row: dict[str, int] = {}
        self._failed: dict[str, str] = {}
        self._n = 0

    def __contains__(self, item: str) -> bool:
        return item in self._row or item in self._failed

    def add(self, *shards: _Shard) -> None:
        for shard in shards:
            if self._shards and _layout(shard.tensors) != _layout(self._shards[0].tensors):
                first = _layout(self._shards[0].tensors)
                raise XgapError(f"{self._description}: a shard holds {_layout(shard.tensors)}, unlike another, {first}")
            self._shards.append(shard)
            self._row |= {item: self._n + row for row, item in enumerate(shard.items)}
            self._failed |= shard.failed
            self._n += len(shard.items)

    def rows(self, items: Sequence[str]) -> Rows:
        chosen = torch.tensor([self._row[item] for item in items if item in self._row], dtype=torch.long)
        whole = {name: torch.cat([s.tensors[name] for s in self._shards]) for name in self._shards[0].tensors}
        failed = {place: self._failed[item] for place, item in enumerate(items) if item not in self._row}
        return Rows({name: tensor[chosen] for name, tensor in whole.items()}, failed)


class _Shelf:
    """One entry, in a store or (without a store) nowhere."""

    def __init__(self, store: "Store | None", provenance: Mapping[str, Any], notes: Mapping[str, Any]) -> None:
        _check_json(provenance, "provenance")
        _check_json(notes, "notes")
        self._what = {"format": FORMAT, "provenance": _plain(provenance)}
        self._notes = _plain(notes)
        self._folder = None if store is None else store.folder(key_of(self._what))
        self._seen: set[Path] = set()
        self._prepared = False

    def read(self, wanted: Collection[str]) -> Iterator[_Shard]:
        """What the shards that came since the last call hold of these items; a damaged one is said, and removed."""
        if self._folder is None:
            return
        left = set(wanted)
        for file in _shard_files(self._folder):
            if file in self._seen or not left:
                continue
            self._seen.add(file)
            try:
                inside = _header(file)
                if left.isdisjoint(inside["items"]) and left.isdisjoint(inside["failed"]):
                    continue
                shard = _read_shard(file).of(left)
            except FileNotFoundError:  # another process is repairing it
                continue
            except OSError as error:
                warnings.warn(f"shard {file} cannot be read: {error}; its items are computed again", stacklevel=5)
                continue
            except ValueError as error:
                warnings.warn(f"damaged shard {file}: {error}; its items are computed again", stacklevel=5)
                with contextlib.suppress(OSError):
                    file.unlink()
                continue
            left.difference_update(shard.items, shard.failed)
            yield shard

    def publish(self, items: Sequence[str], rows: Rows) -> _Shard:
        """Writes the rows of items whole (temporary name, fsync, rename) and gives them back, on the CPU.

        Raises:
            XgapError: tensors that do not count the items.
            OSError: a store that cannot be written.
        """
        kept = [item for place, item in enumerate(items) if place not in rows.failed]
        if not rows.tensors:
            raise XgapError(f"the worker gave no tensors for {len(items)} items")
        for name, tensor in rows.tensors.items():
            if tensor.ndim == 0 or len(tensor) != len(kept):
                raise XgapError(f"{name!r} has shape {tuple(tensor.shape)} for {len(kept)} items")
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in rows.tensors.items()}
        made = _Shard(kept, tensors, {items[place]: reason for place, reason in rows.failed.items()})
        lasting = {items[place]: reason for place, reason in rows.failed.items() if place not in set(rows.passing)}
        if self._folder is not None and (kept or lasting):
            # One metadata key only: with two, their order in the file, and so its digest, would change between runs.
            inside = json.dumps({"items": kept, "failed": lasting})
            data = safetensors.torch.save(tensors, metadata={"rows": inside})
            file = self._folder / f"{hashlib.sha256(data).hexdigest()}.safetensors"
            self._prepare(self._folder)
            _write_atomically(file, data)
            self._seen.add(file)
        return made

    def _prepare(self, folder: Path) -> None:
        """Makes the folder and says what it is for, once, before the first write."""
        if self._prepared:
            return
        folder.mkdir(parents=True, exist_ok=True)
        _remove_stale_temporaries(folder)
        if _read_about(folder) is None:
            created = datetime.now(timezone.utc).isoformat(timespec="seconds")
            about = {**self._what, "notes": self._notes, "versions": _versions(), "created": created}
            _write_atomically(folder / "entry.json", _json_bytes(about))
        self._prepared = True


@dataclass(frozen=True)
class Entry:
    """One kind of computation in the store.

    Attributes:
        key: 64 hexadecimal digits.
        provenance: what was computed; empty where the file that says so is damaged.
        n_items: items that have a row; `n_failed` have a reason in its place.
        n_bytes: size of its folder.
        created: when it was begun (UTC, ISO 8601), or an empty string.
        notes: what the run that began it recorded beside the provenance.
        format: of its layout; an entry of another one than this version's is never read, and may be removed.
    """

    key: str
    provenance: Mapping[str, Any]
    n_items: int
    n_failed: int
    n_bytes: int
    created: str
    notes: Mapping[str, Any]
    format: int


@dataclass(frozen=True)
class Damage:
    """A file of the store that is not what was written, and why."""

    key: str
    file: str
    reason: str


class Store:
    """A folder of computed features.

    Args:
        root: where it lies; without it `$XGAP_HOME`, or else the user's cache directory. Nothing is made there
            before something is stored.
    """

    def __init__(self, root: Path | str | None = None) -> None:
        chosen = root or os.environ.get("XGAP_HOME") or platformdirs.user_cache_path("xgap", appauthor=False)
        self.root = Path(chosen).expanduser()

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    def folder(self, key: str) -> Path:
        """Where the entry of a key lies."""
        return self.root / "store" / key[:2] / key

    def entries(self) -> list[Entry]:
        """All entries, by key."""
        return [_entry(folder) for folder in self._folders()]

    def verify(self, key: str | None = None) -> list[Damage]:
        """Reads every byte of every shard (or those of one entry, see `remove`) and says what is damaged."""
        folders = self._folders() if key is None else [self._find(key)]
        return [damage for folder in folders for damage in _damages(folder)]

    def remove(self, key: str) -> None:
        """Deletes an entry, given by its key or the first digits of it.

        Raises:
            XgapError: no such entry, more than one, or a folder that cannot be deleted.
        """
        folder = self._find(key)
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise XgapError(f"{folder} cannot be deleted ({error.strerror or error})") from error

    def size(self) -> int:
        """Bytes in the store."""
        return sum(_folder_bytes(folder) for folder in self._folders())

    def _folders(self) -> list[Path]:
        return sorted(
            (f for f in (self.root / "store").glob("??/*") if re.fullmatch("[0-9a-f]{64}", f.name) and f.is_dir()),
            key=lambda folder: folder.name,
        )

    def _find(self, key: str) -> Path:
        found = [folder for folder in self._folders() if key and folder.name.startswith(key)]
        if len(found) != 1:
            raise XgapError(f"{len(found) or 'no'} entries of {self.root} have a key that starts with {key!r}")
        return found[0]


def _check_json(value: Any, place: str) -> None:
    """Refuses what has no single JSON form; `place` is how the message points to it."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if not isinstance(name, str):
                raise XgapError(f"{place} has a key that is not a string: {name!r}")
            _check_json(item, f"{place}[{name!r}]")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _check_json(item, f"{place}[{i}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise XgapError(f"{place} is {value}, which has no place in a key")
    elif not (value is None or isinstance(value, str | int | float)):
        raise XgapError(f"{place} is a {type(value).__name__}; only strings, numbers, lists and mappings can be stored")


def _plain(value: Any) -> Any:
    """Mappings as dicts and tuples as lists, all the way down, as JSON will give them back."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _layout(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Kind of number and shape of a row, by name."""
    return {name: f"{tensor.dtype} {list(tensor.shape[1:])}" for name, tensor in sorted(tensors.items())}


def _shard_files(folder: Path) -> list[Path]:
    """The shards of an entry, in an order on which all readers agree."""
    try:
        return sorted(file for file in folder.iterdir() if re.fullmatch(r"[0-9a-f]{64}\.safetensors", file.name))
    except OSError:  # nothing there yet
        return []


def _header(file: Path) -> dict[str, Any]:
    """The items of a shard and the reasons of those that failed, without its tensors (nothing has checked them yet)."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > file.stat().st_size:
            raise ValueError("it is not a shard of this store")
        return _about_rows(stream.read(length))


def _about_rows(header: bytes) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads(json.loads(header)["__metadata__"]["rows"])
        if not isinstance(about["items"], list) or not isinstance(about["failed"], dict):
            raise TypeError
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError("it is not a shard of this store") from error
    return about


def _read_shard(file: Path) -> _Shard:
    """A shard whose bytes have the digest of its name and whose rows count its items; else a ValueError."""
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != file.stem:
        raise ValueError("its SHA-256 is not the one it was published with")
    about = _about_rows(data[8 : 8 + int.from_bytes(data[:8], "little")])
    try:
        tensors = safetensors.torch.load(data)
    except SafetensorError as error:
        raise ValueError("it is not a shard of this store") from error
    if any(tensor.ndim == 0 or len(tensor) != len(about["items"]) for tensor in tensors.values()):
        raise ValueError("its rows are not those of its items")
    return _Shard(about["items"], tensors, about["failed"])


def _write_atomically(file: Path, data: bytes) -> None:
    """Bytes to a file that appears whole or not at all, also after a power cut."""
    temporary = file.with_name(f".tmp-{os.getpid()}-{uuid.uuid4().hex}-{platform.node()}")
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
        if os.name == "posix":  # the rename itself reaches the disk with the folder
            descriptor = os.open(file.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _remove_stale_temporaries(folder: Path) -> None:
    """Deletes temporary files of processes that are gone; one that is at work keeps its own."""
    for file in folder.glob(".tmp-*"):
        with contextlib.suppress(OSError, ValueError):
            _, pid, _, host = file.name.split("-", 3)
            old = time.time() - file.stat().st_mtime > STALE_SECONDS
            if old or (host == platform.node() and not _is_running(int(pid))):
                file.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    if os.name != "posix":  # there, signal 0 is not a mere question
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _json_bytes(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _read_about(folder: Path) -> dict[str, Any] | None:
    """`entry.json` of an entry, or None where it is missing, damaged or of another key."""
    try:
        about: dict[str, Any] = json.loads((folder / "entry.json").read_bytes())
        what = {part: about[part] for part in ("format", "provenance")}
        if about["format"] != FORMAT:  # the keys of the first format held more
            return about
        return about if key_of(what) == folder.name else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _entry(folder: Path) -> Entry:
    about = _read_about(folder) or {}
    items: set[str] = set()
    failed: set[str] = set()
    for file in _shard_files(folder):
        with contextlib.suppress(OSError, ValueError):  # a damaged one; `verify` says it
            inside = _header(file)
            items.update(inside["items"])
            failed.update(inside["failed"])
    return Entry(
        key=folder.name,
        provenance=about.get("provenance", {}),
        n_items=len(items),
        n_failed=len(failed - items),
        n_bytes=_folder_bytes(folder),
        created=about.get("created", ""),
        notes=about.get("notes", {}),
        format=about.get("format", FORMAT),
    )


def _damages(folder: Path) -> Iterator[Damage]:
    about = _read_about(folder)
    if about is None:
        yield Damage(folder.name, "entry.json", "it is missing, damaged or of another key")
    elif about["format"] != FORMAT:  # nothing reads it any more
        return
    for file in _shard_files(folder):
        try:
            _read_shard(file)
        except (OSError, ValueError) as error:
            yield Damage(folder.name, file.name, str(error))


def _folder_bytes(folder: Path) -> int:
    total = 0
    for file in folder.iterdir():
        with contextlib.suppress(OSError):  # a file that another process has just renamed
            total += file.stat().st_size
    return total


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
    with contextlib.suppress(metadata.PackageNotFoundError):
        versions["xgap-analysis"] = metadata.version("xgap-analysis")
    return versions
