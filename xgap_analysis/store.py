"""The feature store on disk: work cut into shards of ids, each published whole and checked by digest when read.

An entry is one computation: its key is the SHA-256 of what determines the numbers (provenance, ids, shard size).
Its folder `root/store/<key[:2]>/<key>/` holds

    entry.json                          what is computed, written first
    00000-<sha256>.safetensors, ...     one file a shard, named by the digest of its bytes, with its ids inside
    manifest.json                       the list of shards, the versions and the notes, written last

A shard's digest is in its name, so that publishing is one atomic rename: two processes on one entry, or a run killed
at any moment, leave whole shards only. The store knows no model, and nothing in it is a pickle.
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
from dataclasses import dataclass
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

FORMAT = 1  # enters every key: a change of the layout on disk never reads what another layout wrote
STALE_SECONDS = 24 * 3600.0  # a temporary file this old belongs to no living process, on whatever host
Worker = Callable[[tuple[str, ...]], Mapping[str, Tensor]]


def key_of(provenance: Mapping[str, Any]) -> str:
    """The SHA-256 of a provenance as canonical JSON (sorted keys, no NaN): 64 hexadecimal digits.

    Raises:
        XgapError: a value that is not a JSON scalar, list or mapping with string keys (its place is named).
    """
    _check_json(provenance, "provenance")
    canonical = json.dumps(_plain(provenance), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def run_shards(
    provenance: Mapping[str, Any],
    ids: Sequence[str],
    worker: Worker,
    *,
    shard_size: int,
    store: "Store | None",
    description: str,
    progress: bool = True,
    notes: Mapping[str, Any] | None = None,
) -> dict[str, Tensor]:
    """Computes tensors for items shard by shard, or reads the shards that an earlier run finished.

    A rerun, a resume after a kill and a repair after damage call `worker` with the same tuples of ids, so on one
    device they give the same bits. A damaged shard is named in a warning and computed again.

    Args:
        provenance: what determines the numbers, besides the ids; it enters the key (see `key_of`).
        ids: n items, in the order of the result.
        worker: tensors of the items of one shard, by name; the first dimension counts those items.
        shard_size: number of items in a shard (the last may be smaller); a killed run loses at most one shard.
        store: where shards are kept; None computes everything in memory.
        description: what the progress bar says.
        progress: one bar over the items, shown only when something is left to compute.
        notes: what is recorded beside the provenance and not in the key (device, batch size, ...).

    Returns:
        Tensors by name, `[n, ...]` each, on the CPU.

    Raises:
        XgapError: no ids, tensors that do not fit the shard, or a store that cannot be written.
    """
    made = run_entries(
        {"": provenance},
        ids,
        lambda part, _: {"": worker(part)},
        shard_size=shard_size,
        store=store,
        description=description,
        progress=progress,
        notes=notes,
    )
    return made[""]


def run_entries(
    provenances: Mapping[str, Mapping[str, Any]],
    ids: Sequence[str],
    worker: Callable[[tuple[str, ...], Collection[str]], Mapping[str, Mapping[str, Tensor]]],
    *,
    shard_size: int,
    store: "Store | None",
    description: str,
    progress: bool = True,
    notes: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, Tensor]]:
    """`run_shards` for a computation that gives several entries at once, each found again without the others.

    Args:
        provenances: by name of the entry.
        worker: from the ids of a shard and the names of the entries that lack it, the tensors of those entries.
        ids, shard_size, store, description, progress, notes: as in `run_shards`.

    Returns:
        Tensors by name, for each entry.
    """
    jobs = {name: Job(store, provenance, ids, shard_size, notes or {}) for name, provenance in provenances.items()}
    shards: dict[str, list[dict[str, Tensor]]] = {name: [] for name in jobs}
    parts = next(iter(jobs.values())).parts
    stored = all(job.has_all_files() for job in jobs.values())
    with Bar(total=len(ids), desc=description, unit="item", disable=not progress or stored) as bar:
        for index, part in enumerate(parts):
            read = {name: job.read(index) for name, job in jobs.items()}
            missing = [name for name, tensors in read.items() if tensors is None]
            made = worker(part, missing) if missing else {}
            for name, job in jobs.items():
                known = read[name]
                tensors = job.publish(index, made[name]) if known is None else known
                if index and _layout(tensors) != _layout(shards[name][0]):
                    first = _layout(shards[name][0])
                    raise XgapError(f"{description}: shard {index} holds {_layout(tensors)}, unlike the first, {first}")
                shards[name].append(tensors)
            bar.update(len(part))
    for job in jobs.values():
        job.finish()
    return {
        name: {tensor: torch.cat([shard[tensor] for shard in of]) for tensor in of[0]} for name, of in shards.items()
    }


class Job:
    """One computation in shards, in a store or (without a store) in memory; `run_entries` is the loop over it.

    Args:
        store, provenance, ids, shard_size, notes: as in `run_shards`.

    Attributes:
        parts: the ids of each shard.
        key: the entry's key.
    """

    def __init__(
        self,
        store: "Store | None",
        provenance: Mapping[str, Any],
        ids: Sequence[str],
        shard_size: int,
        notes: Mapping[str, Any],
    ) -> None:
        if not len(ids):
            raise XgapError("there is nothing to compute: no ids were given")
        if shard_size < 1:
            raise XgapError(f"shard_size must be at least 1, not {shard_size}")
        self.ids = tuple(ids)
        self.parts = [self.ids[i : i + shard_size] for i in range(0, len(self.ids), shard_size)]
        _check_json(provenance, "provenance")
        _check_json(notes, "notes")
        ids_digest = hashlib.sha256(json.dumps(self.ids).encode()).hexdigest()
        # The ids are part of the key: two selections of one data set share a provenance, and must not share shards.
        self._what = {
            "format": FORMAT,
            "provenance": _plain(provenance),
            "ids": ids_digest,
            "n": len(self.ids),
            "shard_size": shard_size,
        }
        self.key = key_of(self._what)
        self._notes = _plain(notes)
        self._store = store
        self._folder = store.folder(self.key) if store is not None else None
        self._listed = _shard_files(self._folder) if self._folder else {}
        self._files: dict[int, Path] = {}
        self._prepared = self._changed = False

    def has_all_files(self) -> bool:
        """Whether a file stands for every shard (its digest is checked by `read`)."""
        return len(self._listed) == len(self.parts)

    def read(self, index: int) -> dict[str, Tensor] | None:
        """The tensors of a finished shard, or None where there is none or it is damaged (which a warning says)."""
        if self._folder is None:
            return None
        # A shard that was not there at the start may have been published by another process since.
        for file in self._listed.get(index) or _shard_files(self._folder).get(index, []):
            try:
                ids, tensors = _read_shard(file)
                if ids != list(self.parts[index]) or any(len(t) != len(ids) for t in tensors.values()):
                    raise ValueError("it holds other items")
            except FileNotFoundError:  # another process is repairing this shard
                continue
            except (OSError, ValueError) as error:
                warnings.warn(f"damaged shard {file}: {error}; it is computed again", stacklevel=4)
                with contextlib.suppress(OSError):
                    file.unlink()
                continue
            self._files[index] = file
            return tensors
        return None

    def publish(self, index: int, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Writes a shard whole (temporary name, fsync, rename) and returns its tensors, on the CPU.

        Raises:
            XgapError: tensors that do not count the items of the shard, or a store that cannot be written.
        """
        n = len(self.parts[index])
        if not tensors:
            raise XgapError(f"the worker gave no tensors for shard {index}")
        for name, tensor in tensors.items():
            if tensor.ndim == 0 or len(tensor) != n:
                raise XgapError(f"{name!r} of shard {index} has shape {tuple(tensor.shape)} for {n} items")
        whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        if self._folder is not None:
            # One metadata key only: with two, their order in the file, and so its digest, would change between runs.
            data = safetensors.torch.save(whole, metadata={"ids": json.dumps(self.parts[index])})
            file = self._folder / f"{index:05d}-{hashlib.sha256(data).hexdigest()}.safetensors"
            with self._write_errors():
                self._prepare()
                _write_atomically(file, data)
            self._files[index] = file
            self._changed = True
        return whole

    def finish(self) -> None:
        """Writes the manifest, once every shard is there.

        Raises:
            XgapError: a store that cannot be written.
        """
        if self._folder is None or not (self._changed or _read_about(self._folder, "manifest.json") is None):
            return
        shards = [
            {"file": self._files[i].name, "sha256": _digest_in_name(self._files[i]), "n": len(part)}
            for i, part in enumerate(self.parts)
        ]
        manifest = {
            **self._what,
            "shards": shards,
            "notes": self._notes,
            "versions": _versions(),
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        with self._write_errors():
            self._prepare()
            _write_atomically(self._folder / "manifest.json", _json_bytes(manifest))

    def _prepare(self) -> None:
        """Makes the folder and says what it is for, once, before the first write."""
        if self._prepared:
            return
        assert self._folder is not None
        self._folder.mkdir(parents=True, exist_ok=True)
        _remove_stale_temporaries(self._folder)
        if _read_about(self._folder, "entry.json") is None:
            _write_atomically(self._folder / "entry.json", _json_bytes(self._what))
        self._prepared = True

    @contextlib.contextmanager
    def _write_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            assert self._store is not None
            done = sum(len(self.parts[i]) for i in self._files)
            raise XgapError(
                f"the feature store {self._store.root} cannot be written ({error.strerror or error}): free some space "
                f"or set XGAP_HOME to another folder; {done} of {len(self.ids)} items are stored and will be reused"
            ) from error


@dataclass(frozen=True)
class Entry:
    """One computation in the store.

    Attributes:
        key: 64 hexadecimal digits.
        provenance: what was computed; empty where the file that says so is damaged.
        n_items: number of items of the whole computation; `n_stored` of them have a shard.
        n_bytes: size of its folder.
        complete: whether its manifest and every shard are there.
        created: when the manifest was written (UTC, ISO 8601), or an empty string.
        notes: what was recorded beside the provenance.
    """

    key: str
    provenance: Mapping[str, Any]
    n_items: int
    n_stored: int
    n_bytes: int
    complete: bool
    created: str
    notes: Mapping[str, Any]


@dataclass(frozen=True)
class Damage:
    """A file of the store that is not what was written, and why."""

    key: str
    file: str
    reason: str


class Store:
    """A folder of finished and unfinished computations.

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
    """Name to dtype and shape without the first dimension; equal layouts can be concatenated."""
    return {name: f"{t.dtype}{list(t.shape[1:])}" for name, t in sorted(tensors.items())}


def _shard_files(folder: Path) -> dict[int, list[Path]]:
    """Files by shard number. Two stand for one shard when two processes computed it with different last bits."""
    files: dict[int, list[Path]] = {}
    for file in sorted(folder.glob("*-*.safetensors")):
        if re.fullmatch(r"\d{5,}-[0-9a-f]{64}", file.stem):
            files.setdefault(int(file.stem.split("-")[0]), []).append(file)
    return files


def _digest_in_name(file: Path) -> str:
    return file.stem.split("-")[1]


def _read_shard(file: Path) -> tuple[list[str], dict[str, Tensor]]:
    """Ids and tensors of a shard whose bytes have the digest of its name; anything else is a ValueError."""
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != _digest_in_name(file):
        raise ValueError("its SHA-256 is not the one it was published with")
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return json.loads(header["__metadata__"]["ids"]), safetensors.torch.load(data)
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError("it is not a shard of this store") from error


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


def _read_about(folder: Path, name: str) -> dict[str, Any] | None:
    """`entry.json` or `manifest.json` of an entry, or None where it is missing, damaged or of another key."""
    try:
        about = json.loads((folder / name).read_bytes())
        what = {part: about[part] for part in ("format", "provenance", "ids", "n", "shard_size")}
        return about if key_of(what) == folder.name else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _entry(folder: Path) -> Entry:
    manifest = _read_about(folder, "manifest.json")
    about = manifest or _read_about(folder, "entry.json") or {}
    n_items, shard_size = about.get("n", 0), about.get("shard_size", 1)
    stored = [i for i in _shard_files(folder) if i * shard_size < n_items]
    return Entry(
        key=folder.name,
        provenance=about.get("provenance", {}),
        n_items=n_items,
        n_stored=sum(min(shard_size, n_items - i * shard_size) for i in stored),
        n_bytes=_folder_bytes(folder),
        complete=manifest is not None and len(stored) == math.ceil(n_items / shard_size),
        created=about.get("created", ""),
        notes=about.get("notes", {}),
    )


def _damages(folder: Path) -> Iterator[Damage]:
    manifest = _read_about(folder, "manifest.json")
    if _read_about(folder, "entry.json") is None:
        yield Damage(folder.name, "entry.json", "it is missing, damaged or of another key")
    # The manifest is written last: without one the run is unfinished, which is no damage.
    if manifest is None and (folder / "manifest.json").exists():
        yield Damage(folder.name, "manifest.json", "it is damaged or of another key")
    files = _shard_files(folder)
    for index, shard in enumerate((manifest or {}).get("shards", [])):
        if index not in files:
            yield Damage(folder.name, shard["file"], "it is missing")
    for file in (file for several in files.values() for file in several):
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
