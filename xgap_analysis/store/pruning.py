"""A smaller store: what no process reads any more, and then the least recently used entries."""

import contextlib
import math
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xgap_analysis.core.errors import XgapError
from xgap_analysis.store.entries import Store, folder_bytes
from xgap_analysis.store.keys import FORMAT
from xgap_analysis.store.shards import last_use, read_about, stale_temporaries, temporary_name

UNITS = {"": 1, "B": 1}
UNITS |= {f"{letter}B": 1000**power for power, letter in enumerate("KMGT", start=1)}
UNITS |= {f"{letter}IB": 1024**power for power, letter in enumerate("KMGT", start=1)}


@dataclass(frozen=True)
class Pruned:
    """What was removed from a store, or would be.

    Attributes:
        what: an entry's key, or the name of a temporary file.
        n_bytes: its size.
        reason: why.
    """

    what: str
    n_bytes: int
    reason: str


def prune(store: Store, max_bytes: int | None = None, *, dry_run: bool = False) -> list[Pruned]:
    """Removes temporaries of dead processes, entries of an older format, and the least recently used entries.

    An entry's last use is the time of its `entry.json`, which each run that reads or writes the entry sets, without a
    lock. An entry disappears whole, by one rename; a run that needs it at that moment computes it again.

    Args:
        store: to be made smaller.
        max_bytes: the size that it may have; None removes no entry of the present format.
        dry_run: remove nothing, and only say what would be.

    Returns:
        What was removed, in this order.

    Raises:
        XgapError: a negative size, or an entry that cannot be removed.

    Example:
        >>> import xgap_analysis as xg
        >>> from xgap_analysis.store import prune
        >>> prune(xg.Store("features"), max_bytes=20 * 10**9)  # an empty store
        []
    """
    if max_bytes is not None and max_bytes < 0:
        raise XgapError(f"the size of a store is 0 bytes or more, not {max_bytes}")
    pruned = []
    for file in _temporaries(store):
        pruned.append(Pruned(file.name, _size(file), "left by a process that is gone"))
        if not dry_run:
            _delete(file)
    old: list[Path] = []
    kept: list[Path] = []
    for folder in store.folders():
        about = read_about(folder)
        (old if about is not None and _is_older(about["format"]) else kept).append(folder)
    chosen = [(folder, "of an older format, which is no longer read") for folder in old]
    sizes = {folder: folder_bytes(folder) for folder in kept}  # once: other processes write and prune meanwhile
    size, room = sum(sizes.values()), math.inf if max_bytes is None else max_bytes
    for folder in sorted(kept, key=last_use):
        if size <= room:
            break
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(last_use(folder)))
        chosen.append((folder, f"last used {when}"))
        size -= sizes[folder]
    for folder, reason in chosen:
        pruned.append(Pruned(folder.name, folder_bytes(folder), reason))
        if not dry_run:
            _remove_whole(folder)
    return pruned


def parse_size(text: str) -> int:
    """Bytes from `20GB`, `500 MB`, `1.5TiB` or a number: units of 1000, or with an i of 1024.

    Raises:
        XgapError: something else.

    Example:
        >>> from xgap_analysis.store.pruning import parse_size
        >>> parse_size("1.5GB"), parse_size("2KiB")
        (1500000000, 2048)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if found is None or found[2].upper() not in UNITS:
        raise XgapError(f"a size is written like 20GB, 500MB or 1.5TiB, not {text!r}")
    return int(float(found[1]) * UNITS[found[2].upper()])


def _is_older(format: object) -> bool:
    """Whether nobody writes entries of a format any more; a newer one is of another version that shares the store."""
    return not isinstance(format, int) or format < FORMAT


def _temporaries(store: Store) -> Iterator[Path]:
    yield from stale_temporaries(store.root)
    for folder in sorted((store.root / "store").glob("??")):
        yield from stale_temporaries(folder)  # entries on their way out
        for entry in sorted(folder.iterdir()):
            if entry.is_dir() and not entry.name.startswith("."):
                yield from stale_temporaries(entry)


def _size(file: Path) -> int:
    try:
        return folder_bytes(file) if file.is_dir() else file.stat().st_size
    except OSError:
        return 0


def _remove_whole(folder: Path) -> None:
    """An entry that is gone for all processes at once, and then deleted."""
    leaving = folder.with_name(temporary_name())
    try:
        folder.rename(leaving)
        os.utime(leaving)
    except FileNotFoundError:  # another process has removed it meanwhile
        return
    except OSError as error:
        raise XgapError(f"{folder} cannot be removed ({error.strerror or error})") from error
    _delete(leaving)


def _delete(file: Path) -> None:
    """Deletes as far as it goes: what stays is found by the next call."""
    with contextlib.suppress(OSError):
        if file.is_dir():
            shutil.rmtree(file)
        else:
            file.unlink(missing_ok=True)
