"""Published files as they lie on disk: lists, JSON, Parquet, and images that are opened when they are needed."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.items import Images
from xgap_analysis.datasets.stored import image_files

if TYPE_CHECKING:
    import pandas as pd


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The text of a published file.

    Raises:
        XgapError: a file that is missing, cannot be read, or is no text.
    """
    try:
        return path.read_text(encoding)
    except OSError as error:
        raise XgapError(f"{path} cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise XgapError(f"{path} is damaged: it is not the {encoding} text that was expected there") from error


def read_rows(path: Path, columns: int) -> list[list[str]]:
    """The lines of a table of text, each split into `columns` fields (the last keeps what is left); no empty lines.

    Raises:
        XgapError: as `read_text`, a line of fewer fields, or no line at all.
    """
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        fields = line.strip().split(None, columns - 1)
        if len(fields) < columns:
            raise XgapError(f"{path}, line {number}: expected {columns} fields, found {line[:80]!r}")
        rows.append(fields)
    if not rows:
        raise XgapError(f"{path} is empty")
    return rows


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        XgapError: as `read_text`, or no JSON.
    """
    try:
        return json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise XgapError(f"{path} is damaged: it is not valid JSON (truncated?): {error}") from error


def read_parquet(folder: Path, columns: Sequence[str]) -> "pd.DataFrame":
    """The rows of all Parquet files of a folder, in the order of their names; ids come as strings.

    Raises:
        XgapError: no such file, a damaged one, or one without these columns.
    """
    import pandas as pd
    import pyarrow.lib
    import pyarrow.parquet

    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise XgapError(f"expected {folder / '*.parquet'}, and there is none")
    parts = []
    for file in files:
        try:
            part = pyarrow.parquet.read_table(file).to_pandas()
        except (OSError, pyarrow.lib.ArrowException) as error:
            raise XgapError(f"{file} is damaged: it is not a valid Parquet file (truncated?): {error}") from error
        lacking = [name for name in columns if name not in part]
        if lacking:
            raise XgapError(f"{file} has no column {lacking[0]!r}; it has: {', '.join(map(str, part.columns))}")
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def first_folder(folder: Path, names: Iterable[str]) -> Path | None:
    """The first of these sub-folders that is there."""
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def listed_images(base: Path, paths: Mapping[str, str], listed_in: str) -> Images:
    """Images of a folder by id, all of them there; opened as the published evaluations open theirs.

    Args:
        base: the folder.
        paths: id to path under it, with `/`.
        listed_in: the file that lists them, for the error.

    Raises:
        XgapError: a path that leaves the folder, or files that are not there.
    """
    outside = next((path for path in paths.values() if path.startswith("/") or ".." in path.split("/")), None)
    if outside is not None:
        raise XgapError(f"{listed_in} lists {outside!r}, which is not a path under {base}")
    sizes: dict[str, int] = {}
    for parent in {path.rpartition("/")[0] for path in paths.values()}:
        sizes |= _sizes(base, parent)
    lost = [path for path in paths.values() if path not in sizes]
    if lost:
        what = f"{len(lost)} of {len(paths)} images that {listed_in} lists are missing"
        raise XgapError(f"{what}: put there {base / lost[0]}")
    return image_files(base, dict(paths), plain=True)


def _sizes(base: Path, parent: str) -> dict[str, int]:
    """Path under the base to size, of the files of one folder (one scan costs less than a look at each file)."""
    prefix = f"{parent}/" if parent else ""
    try:
        with os.scandir(base / parent) as entries:
            return {f"{prefix}{entry.name}": entry.stat().st_size for entry in entries if entry.is_file()}
    except OSError:
        return {}
