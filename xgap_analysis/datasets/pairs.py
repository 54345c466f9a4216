"""A table of images and captions, one row a pair: CSV, TSV, JSON lines."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from xgap_analysis.datasets.assemble import Record, assemble, split_named
from xgap_analysis.datasets.contents import of_file
from xgap_analysis.datasets.pictures import open_picture
from xgap_analysis.datasets.records import Dataset
from xgap_analysis.errors import XgapError

USUAL = {  # part of a record -> names that its column usually has, the likelier first
    "image": (
        "image",
        "image_path",
        "img_path",
        "filepath",
        "file_path",
        "path",
        "file_name",
        "filename",
        "file",
        "img",
    ),
    "caption": ("caption", "captions", "text", "texts", "txt", "title", "sentence", "sentences", "description", "raw"),
    "label": ("label", "labels", "class", "class_name", "category", "target", "fine_label", "cls"),
    "split": ("split", "set", "partition", "subset"),
    "id": ("id", "image_id", "img_id", "imgid", "key", "uid"),
}
SEPARATORS = ",\t;|"
Row = Mapping[str, Any]


def load_pairs(
    path: Path | str,
    *,
    image: str | None = None,
    caption: str | None = None,
    label: str | None = None,
    split: str | None = None,
    id: str | None = None,
    train_share: float = 0.0,
) -> Dataset:
    """Image-caption pairs in a `.csv`, `.tsv`, `.jsonl` or `.json` table (`.parquet`: see `load_arrow`).

    Rows of one image give it several captions, and so does a list of captions in one cell (JSON). Paths of images are
    relative to the table's folder. A table without images is a data set of texts. What the splits and the levels of
    labels are, `assemble` says.

    Args:
        path: the table; its first row names the columns.
        image, caption, label, split, id: names of the columns, where they are not the usual ones (`USUAL`). Ids are
            the paths of the images, or what the column `id` says where it tells the images apart.
        train_share: see `assemble`.

    Raises:
        XgapError: no such file, a row that cannot be read, no column of images or captions, or none of the images.
    """
    path = Path(path).expanduser()
    rows = read_rows(path)
    columns = find_columns(rows[0], path, image=image, caption=caption, label=label, split=split, id=id)
    records, files = to_records(rows, columns, path)
    places = {item: path.parent / file for item, file in files.items()}
    check_any_there(places, path)
    return assemble(path.stem, records, partial(_open, places), partial(_content, places), train_share=train_share)


def _open(places: Mapping[str, Path], item: str) -> Image.Image:
    return open_picture(places[item])


def _content(places: Mapping[str, Path], item: str) -> str:
    return of_file(places[item])


def check_any_there(places: Mapping[str, Path], table: Path) -> None:
    """Refuse a table none of whose images is there: its paths are meant from another folder."""
    if places and not any(place.is_file() for place in places.values()):
        first = next(iter(places.values()))
        raise XgapError(
            f"none of the {len(places)} images that {table} names is there; the first is looked for at {first}"
        )


def read_rows(path: Path) -> list[Row]:
    """The rows of a table as mappings from column to value.

    Raises:
        XgapError: no such file, another format, no rows, or a line that cannot be read (it is named).
    """
    if not path.is_file():
        raise XgapError(f"there is no file {path}")
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise XgapError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
    if path.suffix in (".csv", ".tsv", ".txt"):
        rows: list[Any] = _separated(text, path)
    elif path.suffix == ".json":
        rows = [_parsed(text, f"{path}")]
        rows = rows[0] if isinstance(rows[0], list) else rows
    else:
        lines = enumerate(text.split("\n"), start=1)  # a caption may hold what splitlines() takes for the end of a line
        rows = [_parsed(line, f"line {number} of {path}") for number, line in lines if line.strip()]
    wrong = next((row for row in rows if not isinstance(row, dict)), None)
    if wrong is not None:
        raise XgapError(f"{path} must hold one object of columns for each row, not {str(wrong)[:40]!r}")
    if not rows:
        raise XgapError(f"{path} has no rows")
    return rows


def _separated(text: str, path: Path) -> list[Row]:
    header = text.split("\n", 1)[0]
    separator = max(SEPARATORS, key=header.count)  # the first of them where the header is one word
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    rows: list[Row] = []
    try:
        for row in reader:
            if None in row:
                what = f"line {reader.line_num} of {path} has more cells than the header has columns"
                raise XgapError(f"{what}; put captions that contain {separator!r} in quotes")
            rows.append({str(name).strip(): value for name, value in row.items()})
    except csv.Error as error:
        raise XgapError(f"line {reader.line_num} of {path} cannot be read: {error}") from error
    return rows


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise XgapError(f"{where} is not JSON: {error.msg} at column {error.colno}") from error


def find_columns(names: Iterable[str], path: Path, **given: str | None) -> dict[str, str]:
    """Part of a record to the name of its column; parts without a column are left out.

    Raises:
        XgapError: a given name that no column has, or no column of images or captions.
    """
    names = list(names)
    lower = {name.lower(): name for name in names}
    found = {}
    for part, usual in USUAL.items():
        asked = given.get(part)
        if asked is not None and asked not in names:
            raise XgapError(f"{path} has no column {asked!r} ({part}); it has: {', '.join(names)}")
        column = asked or next((lower[name] for name in usual if name in lower), None)
        if column is not None:
            found[part] = column
    if "image" not in found and "caption" not in found:
        what = f"no column of {path} looks like images or captions (it has: {', '.join(names)})"
        raise XgapError(f"{what}; name them, as in load_dataset(path, image=..., caption=...)")
    return found


def to_records(
    rows: Sequence[Row],
    columns: Mapping[str, str],
    path: Path,
    label_words: Callable[[Any], str] = str,
    split: str | None = None,
) -> tuple[list[Record], dict[str, str]]:
    """Rows as records, those of one image joined, and the file of each image by id.

    Args:
        rows: with paths as images; an image of another kind stands for itself, one a row.
        columns: from `find_columns`.
        path: the table, for messages and ids.
        label_words: a label's cell as text.
        split: of all rows, where no column says it.

    Raises:
        XgapError: an image with two labels or two splits.
    """
    asked = [_cell(row, columns, "image") for row in rows]
    ids = [_cell(row, columns, "id") for row in rows]
    if "image" in columns and isinstance(next((a for a in asked if a is not None), None), str):
        tell_apart = len(set(asked)) == len(set(ids)) == len({*zip(asked, ids, strict=True)})
        keys = ids if tell_apart and None not in ids else asked
        none = next((k for k, key in enumerate(keys) if key is None), None)
        if none is not None:
            raise XgapError(f"row {none + 1} of {path} names no image")
    else:
        whole = None not in ids and len(set(ids)) == len(ids)
        keys = ids if whole else list(range(len(rows)))
    groups: dict[str, list[int]] = {}
    for k, key in enumerate(keys):
        groups.setdefault(str(key), []).append(k)
    records = []
    for key, members in groups.items():
        told = {}
        for part in ("label", "split"):
            values = {str(v): v for v in (_cell(rows[k], columns, part) for k in members) if v is not None}
            if len(values) > 1:
                raise XgapError(f"{path} gives {key!r} more than one {part}: {', '.join(sorted(values))}")
            told[part] = next(iter(values.values()), None)
        captions = [c for k in members for c in _captions(_cell(rows[k], columns, "caption"))]
        named = split if told["split"] is None else (split_named(str(told["split"])) or str(told["split"]))
        label = None if told["label"] is None else label_words(told["label"])
        records.append(Record(key, captions, label, named, has_image=asked[members[0]] is not None))
    files = {key: asked[members[0]] for key, members in groups.items() if isinstance(asked[members[0]], str)}
    return records, files


def _cell(row: Row, columns: Mapping[str, str], part: str) -> Any:
    """A cell's value, None where the column or the value is missing."""
    value = row.get(columns[part]) if part in columns else None
    if isinstance(value, str):
        value = value.strip() or None
    return value


def _captions(cell: Any) -> list[str]:
    """The captions of a cell: one, a list, or a list written as JSON."""
    if isinstance(cell, str) and cell.startswith("[") and cell.endswith("]"):
        try:
            cell = json.loads(cell)
        except json.JSONDecodeError:
            return [cell]
    listed = cell if isinstance(cell, list | tuple) else [] if cell is None else [cell]
    return [str(caption).strip() for caption in listed if caption is not None and str(caption).strip()]


def read_labels(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Labels and splits by id, from the columns `label`, `split` and `id` (or their usual names) of a table.

    Without a column of ids, the rows have running numbers from 0, as those of a `.npy` file do.

    Raises:
        XgapError: a table that cannot be read, no column of labels, or an id with two labels.
    """
    rows = _parquet_rows(path) if path.suffix == ".parquet" else read_rows(path)
    lower = {name.lower(): name for name in rows[0]}
    columns = {
        part: lower[name] for part in ("label", "split", "id") for name in reversed(USUAL[part]) if name in lower
    }
    if "label" not in columns:
        raise XgapError(f"{path} has no column of labels; it has: {', '.join(rows[0])}; call one of them label")
    told: dict[str, dict[str, str]] = {"label": {}, "split": {}}
    for k, row in enumerate(rows):
        item = str(_cell(row, columns, "id")) if "id" in columns else str(k)
        for part, values in told.items():
            value = _cell(row, columns, part)
            if value is not None and values.setdefault(item, str(value)) != str(value):
                raise XgapError(f"{path} gives {item!r} more than one {part}: {values[item]}, {value}")
    return told["label"], {i: split_named(split) or split for i, split in told["split"].items()}


def _parquet_rows(path: Path) -> list[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: list[Row] = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise XgapError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    if not rows:
        raise XgapError(f"{path} has no rows")
    return rows
