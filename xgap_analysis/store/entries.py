"""The store as a user sees it: entries, their sizes, damage, removal."""

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from xgap_analysis.core.errors import XgapError
from xgap_analysis.store.keys import FORMAT
from xgap_analysis.store.shards import header, read_about, read_shard, shard_files


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


class Lacking(XgapError):
    """Raised where rows are only read: items without a row.

    Args:
        n: their number.
        total: of the items.
        entries: keys of the entries that lack them.
    """

    def __init__(self, n: int, total: int, entries: Collection[str]) -> None:
        super().__init__(f"{n} of {total} items have no row in the feature store")
        self.n, self.total, self.entries = n, total, frozenset(entries)


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
        retry_failed: compute items again whose failure is kept (an image that could not be read), once each.

    Example:
        >>> import xgap_analysis as xg
        >>> store = xg.Store("features")
        >>> store.size(), len(store.entries())  # an empty store
        (0, 0)
    """

    def __init__(self, root: Path | str | None = None, *, retry_failed: bool = False) -> None:
        chosen = root or os.environ.get("XGAP_HOME") or platformdirs.user_cache_path("xgap", appauthor=False)
        self.root = Path(chosen).expanduser()
        self.retry_failed = retry_failed
        self.retried: set[tuple[str, str]] = set()  # entry and item
        self.patience = 0.0
        self.in_vain: Callable[[frozenset[str]], object] = lambda entries: None
        self.overdue: set[tuple[str, str]] = set()  # entry and item: not waited for any more
        self.computes = True

    def waiting(self, patience: float, in_vain: Callable[[frozenset[str]], object] = lambda entries: None) -> "Store":
        """The same store for work that others have begun: what is lacking is computed here only when no row of it has
        come for `patience` seconds. Kept failures that are to be tried again are not waited for.

        Args:
            patience: seconds.
            in_vain: called when something was waited for in vain, before it is computed, with the keys of its entries.
        """
        made = Store(self.root, retry_failed=self.retry_failed)
        made.retried = self.retried
        made.patience, made.in_vain = patience, in_vain
        return made

    def reading(self) -> "Store":
        """The same store for what is there already: what is lacking is counted (`Lacking`) and not computed."""
        made = Store(self.root)
        made.computes = False
        return made

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    def folder(self, key: str) -> Path:
        """Where the entry of a key lies."""
        return self.root / "store" / key[:2] / key

    def entries(self) -> list[Entry]:
        """All entries, by key."""
        return [_entry(folder) for folder in self.folders()]

    def verify(self, key: str | None = None) -> list[Damage]:
        """Reads every byte of every shard (or those of one entry, see `remove`) and says what is damaged."""
        folders = self.folders() if key is None else [self._find(key)]
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
        return sum(folder_bytes(folder) for folder in self.folders())

    def folders(self) -> list[Path]:
        """The folders of all entries, by key."""
        return sorted(
            (f for f in (self.root / "store").glob("??/*") if re.fullmatch("[0-9a-f]{64}", f.name) and f.is_dir()),
            key=lambda folder: folder.name,
        )

    def _find(self, key: str) -> Path:
        found = [folder for folder in self.folders() if key and folder.name.startswith(key)]
        if len(found) != 1:
            raise XgapError(f"{len(found) or 'no'} entries of {self.root} have a key that starts with {key!r}")
        return found[0]


def _entry(folder: Path) -> Entry:
    about = read_about(folder) or {}
    items: set[str] = set()
    failed: set[str] = set()
    for file in shard_files(folder):
        with contextlib.suppress(OSError, ValueError):  # a damaged one; `verify` says it
            inside = header(file)
            items.update(inside["items"])
            failed.update(inside["failed"])
    return Entry(
        key=folder.name,
        provenance=about.get("provenance", {}),
        n_items=len(items),
        n_failed=len(failed - items),
        n_bytes=folder_bytes(folder),
        created=about.get("created", ""),
        notes=about.get("notes", {}),
        format=about.get("format", FORMAT),
    )


def _damages(folder: Path) -> Iterator[Damage]:
    about = read_about(folder)
    if about is None:
        yield Damage(folder.name, "entry.json", "it is missing, damaged or of another key")
    elif about["format"] != FORMAT:  # nothing reads it any more
        return
    for file in shard_files(folder):
        try:
            read_shard(file)
        except (OSError, ValueError) as error:
            yield Damage(folder.name, file.name, str(error))


def folder_bytes(folder: Path) -> int:
    """Bytes in the files of a folder."""
    total = 0
    with contextlib.suppress(FileNotFoundError):  # a folder that another process has just removed
        for file in folder.iterdir():
            with contextlib.suppress(OSError):  # a file that another process has just renamed
                total += file.stat().st_size
    return total
