"""Own data by path: which reader a file or a folder is for."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xgap_analysis.core.calls import options_alone, parse
from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.images import is_hidden
from xgap_analysis.datasets.local.arrow import load_arrow
from xgap_analysis.datasets.local.folders import METADATA, has_images, load_folder
from xgap_analysis.datasets.local.mixed import is_mixed, load_mixed
from xgap_analysis.datasets.local.pairs import load_pairs
from xgap_analysis.datasets.local.results import is_own_table, is_results_folder
from xgap_analysis.datasets.local.shards import load_shards

READERS: dict[str, Callable[..., Dataset]] = {
    "folder": load_folder,
    "pairs": load_pairs,
    "wds": load_shards,
    "hf": load_arrow,
    "mixed-jsonl": load_mixed,
}
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")


def is_own(name: str) -> bool:
    """Whether a name of a dataset is a path: it has a slash or a prefix of `READERS`, or such a file is there."""
    prefix, colon, _ = name.partition(":")
    return bool(colon and prefix in READERS) or "/" in name or "\\" in name or Path(with_options(name)[0]).exists()


def with_options(name: str) -> tuple[str, dict[str, Any]]:
    """The path in `"path(option=value)"`, and the options; a path that exists as it stands has none.

    Example:
        >>> with_options("./photos(train_share=0.5)")
        ('./photos', {'train_share': 0.5})
    """
    noted = re.fullmatch(r"(.+)(\(\s*[A-Za-z_]\w*\s*=.*\))", name)
    if noted is None or Path(name).exists():
        return name, {}
    return noted[1], options_alone(parse(f"data{noted[2]}"), "own data")


def load_own(name: str, **options: Any) -> Dataset:
    """A dataset by its path, read as its prefix says (a key of `READERS`, as in `folder:/my/images`) or as it looks.

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
    if path.is_dir():
        return _kind_of_folder(path)
    if path.suffix == ".tar":
        return "wds"
    if not path.exists():
        raise XgapError(f"there is no file or folder {path}")
    if path.suffix == ".parquet":
        return "hf"
    if path.suffix in TABLES:
        return "pairs"
    known = f"a folder, {', '.join((*TABLES, '.parquet', '.tar'))}"
    raise XgapError(f"{path} is none of the forms that are read: {known} (or say which with {', '.join(READERS)}:)")


def _kind_of_folder(path: Path) -> str:
    """The reader of a folder; one that holds images and something else that could be the data is never guessed.

    Raises:
        XgapError: a folder that two readers could read.
    """
    if is_saved(path):
        return "hf"
    if is_mixed(path):
        return "mixed-jsonl"
    shards = [p for pattern in ("*.tar", "*/*.tar") for p in path.glob(pattern) if _is_data(p, path)]
    tables = [] if shards else [p for p in path.rglob("*.parquet") if _is_data(p, path)]
    kind, others = ("wds", shards) if shards else ("hf", tables)
    if not others:
        return "folder"
    if has_images(path):
        what = f"{path} holds images and {len(others)} {others[0].suffix} files ({min(others).relative_to(path)})"
        raise XgapError(f"{what}; say which of them are the data: folder:{path} or {kind}:{path}")
    return kind


def is_saved(path: Path) -> bool:
    """Whether a folder is what Hugging Face's `save_to_disk` wrote."""
    return any((path / mark).is_file() for mark in ("dataset_dict.json", "state.json"))


def _is_data(file: Path, root: Path) -> bool:
    """Whether a file may hold a dataset: not what a system, or this tool itself, put there."""
    parts = file.relative_to(root).parts
    if any(map(is_hidden, parts)) or file.name in METADATA or not file.is_file():
        return False
    above = [folder for folder in file.parents if folder != root and folder.is_relative_to(root)]
    ours = any(is_results_folder(folder, [entry.name for entry in folder.iterdir()]) for folder in above)
    return not ours and not (file.suffix == ".parquet" and is_own_table(file))
