"""Shards on disk: rows of items in one file, named by the digest of its bytes, written whole and checked when read."""

import contextlib
import hashlib
import json
import os
import platform
import re
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from xgap_analysis.store.keys import FORMAT, key_of

STALE_SECONDS = 24 * 3600.0  # a temporary file this old belongs to no living process, on whatever host
USED_SECONDS = 60.0  # a use is recorded at most once in this time: a network disk has better to do


@dataclass(frozen=True)
class Shard:
    """Rows with the digests of the items they belong to, and the reasons of items that have none."""

    items: Sequence[str]
    tensors: Mapping[str, Tensor]
    failed: Mapping[str, str]

    def of(self, wanted: Collection[str]) -> "Shard":
        """The part of it that is wanted."""
        rows = [row for row, item in enumerate(self.items) if item in wanted]
        return Shard(
            [self.items[row] for row in rows],
            {name: tensor[rows] for name, tensor in self.tensors.items()},
            {item: reason for item, reason in self.failed.items() if item in wanted},
        )


def layout(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Kind of number and shape of a row, by name."""
    return {name: f"{tensor.dtype} {list(tensor.shape[1:])}" for name, tensor in sorted(tensors.items())}


def shard_files(folder: Path) -> list[Path]:
    """The shards of an entry, in an order on which all readers agree."""
    try:
        return sorted(file for file in folder.iterdir() if re.fullmatch(r"[0-9a-f]{64}\.safetensors", file.name))
    except OSError:  # nothing there yet
        return []


def header(file: Path) -> dict[str, Any]:
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


def read_shard(file: Path) -> Shard:
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
    return Shard(about["items"], tensors, about["failed"])


def write_atomically(file: Path, data: bytes) -> None:
    """Bytes to a file that appears whole or not at all, also after a power cut."""
    temporary = file.with_name(temporary_name())
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


def temporary_name() -> str:
    """A name that no other process gives, and that says whose it is; see `stale_temporaries`."""
    return f".tmp-{os.getpid()}-{uuid.uuid4().hex}-{platform.node()}"


def stale_temporaries(folder: Path) -> list[Path]:
    """Temporary files (and folders on their way out) of processes that are gone; one that is at work keeps its own."""
    stale = []
    for file in folder.glob(".tmp-*"):
        with contextlib.suppress(OSError, ValueError):
            _, pid, _, host = file.name.split("-", 3)
            old = time.time() - file.stat().st_mtime > STALE_SECONDS
            if old or (host == platform.node() and not _is_running(int(pid))):
                stale.append(file)
    return stale


def remove_stale_temporaries(folder: Path) -> None:
    """Deletes the temporary files of an entry whose processes are gone."""
    for file in stale_temporaries(folder):
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)


def record_use(folder: Path) -> None:
    """Records that an entry is used now: the time of its `entry.json`, which needs no lock and no further file."""
    with contextlib.suppress(OSError):  # nothing there yet, or a store that may only be read
        if time.time() - last_use(folder) > USED_SECONDS:
            os.utime(folder / "entry.json")


def last_use(folder: Path) -> float:
    """When an entry was last used, in seconds since 1970; that of its last shard where `entry.json` is missing, and 0
    where another process has just removed it.
    """
    for path in (folder / "entry.json", folder):
        with contextlib.suppress(OSError):
            return path.stat().st_mtime
    return 0.0


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


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """A mapping as the bytes of a JSON file that a person can read."""
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def read_about(folder: Path) -> dict[str, Any] | None:
    """`entry.json` of an entry, or None where it is missing, damaged or of another key."""
    try:
        about: dict[str, Any] = json.loads((folder / "entry.json").read_bytes())
        what = {part: about[part] for part in ("format", "provenance")}
        if about["format"] != FORMAT:  # the keys of the first format held more
            return about
        return about if key_of(what) == folder.name else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def versions() -> dict[str, str]:
    """The versions that are recorded beside an entry."""
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
    with contextlib.suppress(metadata.PackageNotFoundError):
        versions["xgap-analysis"] = metadata.version("xgap-analysis")
    return versions
