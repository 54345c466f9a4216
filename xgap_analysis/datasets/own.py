"""Own data by path: which reader a file or a folder is for."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xgap_analysis.datasets.arrow import is_arrow_folder, load_arrow
from xgap_analysis.datasets.folders import load_folder
from xgap_analysis.datasets.pairs import load_pairs
from xgap_analysis.datasets.records import Dataset
from xgap_analysis.datasets.shards import load_shards
from xgap_analysis.errors import XgapError, unknown_name

READERS: dict[str, Callable[..., Dataset]] = {
    "folder": load_folder,
    "pairs": load_pairs,
    "wds": load_shards,
    "hf": load_arrow,
}
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")


def is_own(name: str) -> bool:
    """Whether a name of a data set is a path: it has a slash or a prefix of `READERS`, or such a file is there."""
    prefix, colon, _ = name.partition(":")
    return bool(colon and prefix in READERS) or "/" in name or "\\" in name or Path(name).exists()


def load_own(name: str, **options: Any) -> Dataset:
    """A data set by its path, read as its prefix says (`folder:`, `pairs:`, `wds:`, `hf:`) or as it looks.

    Args:
        name: the path, with a prefix or without.
        options: of the reader.

    Raises:
        XgapError: nothing there, a form that no reader knows, or what the reader refuses.
    """
    prefix, colon, rest = name.partition(":")
    if colon and prefix in READERS and not rest:
        raise XgapError(f"{name!r} names no path; write {prefix}:/path/to/data")
    if colon and prefix in READERS:
        kind, path = prefix, rest
        if kind == "pairs" and Path(path).suffix == ".parquet":
            kind = "hf"
    else:
        kind, path = _kind(name), name
    known = list(inspect.signature(READERS[kind]).parameters)[1:]
    for option in options:
        if option not in known:
            raise unknown_name(f"option of data read as {kind}:", option, known)
    return READERS[kind](path, **options)


def _kind(name: str) -> str:
    path = Path(name).expanduser()
    if path.suffix == ".tar":
        return "wds"
    if path.is_dir():
        if any(path.glob("*.tar")) or any(path.glob("*/*.tar")):
            return "wds"
        return "hf" if is_arrow_folder(path) else "folder"
    if not path.exists():
        raise XgapError(f"there is no file or folder {path}")
    if path.suffix == ".parquet":
        return "hf"
    if path.suffix in TABLES:
        return "pairs"
    known = f"a folder, {', '.join((*TABLES, '.parquet', '.tar'))}"
    raise XgapError(f"{path} is none of the forms that are read: {known} (or say which with {', '.join(READERS)}:)")
