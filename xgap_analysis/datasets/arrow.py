"""Tables of images and captions in Parquet, and Hugging Face data sets on disk, read with pyarrow alone."""

import json
import re
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from PIL import Image

from xgap_analysis.datasets.assemble import assemble, split_named
from xgap_analysis.datasets.contents import of_bytes, of_file, once
from xgap_analysis.datasets.pairs import check_any_there, find_columns, to_records
from xgap_analysis.datasets.pictures import open_picture
from xgap_analysis.datasets.records import Dataset
from xgap_analysis.errors import XgapError

OWN_ID, OWN_SPLIT = "\0id", "\0split"  # columns added here, under names that no file has
Place = tuple[Path, int] | Path  # a row of a file that holds the picture, or the file of the picture


def load_arrow(
    path: Path | str,
    *,
    image: str | None = None,
    caption: str | None = None,
    label: str | None = None,
    split: str | None = None,
    id: str | None = None,
    train_share: float = 0.0,
) -> Dataset:
    """Images and captions in a `.parquet` file, in a folder of them, or in a folder that `save_to_disk` wrote.

    Images are paths (relative to their file), bytes, or Hugging Face's pairs of both; bytes are read when a picture is
    opened. Numbered labels get the names that the data set gives them. Splits are those of a `DatasetDict`, a column,
    or the names of files and folders (`data/train-00000-of-00002.parquet`). Ids are those of a column that tells the
    rows apart, or split and row number.

    Args:
        path: the file or the folder.
        image, caption, label, split, id, train_share: as in `load_pairs`.

    Raises:
        XgapError: nothing there, a file that cannot be read, or what `load_pairs` refuses.
    """
    import pyarrow as pa

    path = Path(path).expanduser()
    files = _files(path)
    rows: list[dict[str, Any]] = []
    places: list[Place] = []
    columns: dict[str, str] = {}
    words: dict[str, Sequence[str]] = {}
    counts: dict[str, int] = {}
    for file_split, file in files:
        try:
            names, metadata = _schema(file)
            columns = find_columns(names, file, image=image, caption=caption, label=label, split=split, id=id)
            table = _columns(file, tuple(c for part, c in columns.items() if part != "image"))
            held = _paths(file, columns["image"]) if "image" in columns else None
        except (OSError, pa.ArrowException) as error:
            raise XgapError(f"{file} cannot be read: {str(error).splitlines()[0]}") from error
        words |= _class_names(metadata)
        for k, row in enumerate(table.to_pylist() if table.num_columns else [{} for _ in range(table.num_rows)]):
            number = counts[file_split or ""] = counts.get(file_split or "", -1) + 1
            row[OWN_ID], row[OWN_SPLIT] = f"{file_split}/{number}" if file_split else str(number), file_split
            elsewhere = held[k] if held is not None else None
            if "image" in columns:
                row[columns["image"]] = True if held is None else elsewhere
            rows.append(row)
            places.append(file.parent / elsewhere if elsewhere else (file, k))
    if not rows:
        raise XgapError(f"{path} has no rows")
    embedded = "image" in columns and held is None
    given = (
        {str(row[columns["id"]]) for row in rows if row.get(columns["id"]) is not None} if "id" in columns else set()
    )
    if embedded and len(given) < len(rows):
        columns = {**columns, "id": OWN_ID}
    if "split" not in columns and any(s for s, _ in files):
        columns = {**columns, "split": OWN_SPLIT}
    names_of = words.get(columns.get("label", ""), ())

    def words_of(value: Any) -> str:
        return names_of[value] if isinstance(value, int) and 0 <= value < len(names_of) else str(value)

    records, paths = to_records(rows, columns, path, words_of)
    if embedded:
        where: dict[str, Place] = {str(row[columns["id"]]): place for row, place in zip(rows, places, strict=True)}
    else:
        by_path = {row.get(columns.get("image", "")): place for row, place in zip(rows, places, strict=True)}
        where = {item: by_path[file] for item, file in paths.items()}
        check_any_there({item: place for item, place in where.items() if isinstance(place, Path)}, path)
    content = partial(_content, where, columns.get("image", ""))
    opener = partial(_open, where, columns.get("image", ""))
    name = path.stem if path.is_file() else path.resolve().name
    return assemble(name, records, opener, content, train_share=train_share)


def is_arrow_folder(folder: Path) -> bool:
    """Whether a folder holds a data set that `load_arrow` reads."""
    marks = ("dataset_dict.json", "state.json")
    return any((folder / mark).is_file() for mark in marks) or any(folder.rglob("*.parquet"))


def _files(path: Path) -> list[tuple[str | None, Path]]:
    """Split and file, of every file of the data set."""
    if path.is_file():
        return [(None, path)]
    if not path.is_dir():
        raise XgapError(f"there is no file or folder {path}")
    if (path / "dataset_dict.json").is_file():
        splits = _json(path / "dataset_dict.json").get("splits", [])
        return [(split_named(s) or s, file) for s in splits for file in _saved(path / Path(s).name)]
    if (path / "state.json").is_file():
        return [(None, file) for file in _saved(path)]
    files = sorted(path.rglob("*.parquet"))
    if not files:
        raise XgapError(f"{path} holds no data set: neither what save_to_disk writes nor a .parquet file")
    return [(_split_in(file.relative_to(path)), file) for file in files]


def _split_in(path: Path) -> str | None:
    words = [word for part in path.with_suffix("").parts for word in re.split(r"[-_.]", part)]
    return next((split for word in words if (split := split_named(word))), None)


def _saved(folder: Path) -> list[Path]:
    listed = _json(folder / "state.json").get("_data_files", [])
    return [folder / Path(str(entry.get("filename"))).name for entry in listed]  # nothing outside the folder


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise XgapError(f"{path} cannot be read as a part of a saved data set: {error}") from error
    return found if isinstance(found, dict) else {}


def _schema(file: Path) -> tuple[list[str], Mapping[bytes, bytes]]:
    import pyarrow.parquet as pq

    schema = pq.read_schema(file) if file.suffix == ".parquet" else _mapped(file).schema
    return list(schema.names), schema.metadata or {}


@lru_cache(maxsize=256)
def _mapped(file: Path) -> Any:
    """A file that `save_to_disk` wrote, mapped into memory: its rows are read when they are asked for."""
    import pyarrow as pa

    return pa.ipc.open_stream(pa.memory_map(str(file))).read_all()


def _columns(file: Path, names: Sequence[str]) -> Any:
    import pyarrow.parquet as pq

    return pq.read_table(file, columns=list(names)) if file.suffix == ".parquet" else _mapped(file).select(list(names))


def _paths(file: Path, column: str) -> list[str | None] | None:
    """Paths of pictures outside the file; None where the file holds the pictures themselves."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pq.read_schema(file) if file.suffix == ".parquet" else _mapped(file).schema
    kind = schema.field(column).type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _columns(file, [column])[column].to_pylist()
    parts = {kind.field(k).name for k in range(kind.num_fields)} if pa.types.is_struct(kind) else set()
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or "bytes" in parts):
        raise XgapError(f"column {column!r} of {file} holds {kind}, not paths or pictures")
    return None


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, Sequence[str]]:
    """Column to the names of its numbered labels, as Hugging Face keeps them beside the schema."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {column: about["names"] for column, about in features.items() if "names" in about}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _open(where: Mapping[str, Place], column: str, item: str) -> Image.Image:
    return open_picture(_source(where[item], column))


def _content(where: Mapping[str, Place], column: str, item: str) -> str:
    place = where[item]
    if isinstance(place, Path):
        return of_file(place)

    def of_row() -> str:  # empty where it names a file, which may change while the table does not
        source = _source(place, column)
        return of_bytes(source) if isinstance(source, bytes) else ""

    inside = once(place[0], (place[1], column), of_row)
    if inside:
        return inside
    outside = _source(place, column)
    return of_bytes(outside) if isinstance(outside, bytes) else of_file(outside)


def _source(place: Place, column: str) -> Path | bytes:
    """The image file of a row, or its content."""
    if isinstance(place, Path):
        return place
    cell = _cell(*place, column)
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if content is None and isinstance(cell, dict) and cell.get("path"):
        return place[0].parent / cell["path"]
    if not isinstance(content, bytes):
        raise OSError("the row holds no picture")
    return content


def _cell(file: Path, row: int, column: str) -> Any:
    if file.suffix != ".parquet":
        return _mapped(file)[column][row].as_py()
    group = 0
    for size in _group_sizes(file):
        if row < size:
            break
        row, group = row - size, group + 1
    with _READING:  # threads that decode ask for rows of one group, which is to be read once
        values = _group(file, group, column)
    return values[row].as_py()


_READING = threading.Lock()


@lru_cache(maxsize=256)
def _group_sizes(file: Path) -> tuple[int, ...]:
    import pyarrow.parquet as pq

    about = pq.read_metadata(file)
    return tuple(about.row_group(k).num_rows for k in range(about.num_row_groups))


@lru_cache(maxsize=4)
def _group(file: Path, group: int, column: str) -> Any:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as opened:
        return opened.read_row_group(group, [column])[column]
