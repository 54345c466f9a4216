"""Tables of images and captions in Parquet, and Hugging Face datasets on disk, read with pyarrow alone."""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from xgap_analysis.core.errors import XgapError, notice
from xgap_analysis.core.table_values import id_text, image_path, is_missing
from xgap_analysis.datasets.contents import of_bytes, of_file, once
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.items import Images
from xgap_analysis.datasets.local.columnar import (
    cell_at,
    class_names,
    image_cells,
    image_column,
    path_cells,
    read_columns,
    rows_with_images,
    schema_of,
)
from xgap_analysis.datasets.local.columns import column_in, find_columns
from xgap_analysis.datasets.local.pairs import check_any_there, places_of
from xgap_analysis.datasets.local.records import Record, dataset_of, split_in, split_named
from xgap_analysis.datasets.local.rows import row_of, to_records, without_several_labels
from xgap_analysis.datasets.stored import image_files, stored_images

OWN_ID, OWN_SPLIT = "\0id", "\0split"  # columns added here, under names that no file has
Place = tuple[Path, int]  # a file and the number of its row
LOOKED_AT = 1000  # rows of a file in which repeated images are looked for


def load_arrow(
    path: Path | str,
    *,
    image: str | None = None,
    caption: str | None = None,
    label: str | None = None,
    split: str | None = None,
    id: str | None = None,
    images: Path | str | None = None,
    train_share: float = 0.0,
) -> Dataset:
    """Images and captions in a `.parquet` file, in a folder of them, or in a folder that `save_to_disk` wrote.

    Images are paths (relative to their file, and inside its folder: see `load_pairs`), bytes, or Hugging Face's pairs
    of both; bytes are read when an image is opened. Where no column has a usual name, the one whose values are images
    is taken (`jpg`, as img2dataset writes it). Numbered labels get the names that the dataset gives them. Splits are
    those of a `DatasetDict`, a column, or the names of files and folders (`data/train-00000-of-00002.parquet`). Ids are
    those of a column with distinct values, or split and row number.

    A table with a row for each caption may hold an image several times. Where one of the first thousand rows of a file
    repeats an image, or the ids repeat, the images are read and compared, and rows of one image give it several
    captions. Rows without an image are left out, and counted in a warning.

    Args:
        path: the file or the folder.
        image, caption, label, split, id, images, train_share: as in `load_pairs`.

    Raises:
        XgapError: nothing there, a file that cannot be read, or what `load_pairs` refuses.
    """
    path = Path(path).expanduser()
    files = _files(path)
    named = {"image": image, "caption": caption, "label": label, "split": split, "id": id}
    read = _read(path, files, named, apart=images is None)
    columns = without_several_labels(read.rows, read.columns, path, label)
    if "split" not in columns and any(s for s, _ in files):
        columns = {**columns, "split": OWN_SPLIT}
    names = read.class_names.get(columns.get("label", ""), ())
    if read.hold_images == {True}:
        records, where = _held(read, columns, path, names)
        opened = held_images(where, columns["image"])
    else:
        records, named_by = to_records(read.rows, columns, path, names)
        folders = {file.parent for _, file in files}
        base = next(iter(folders)) if len(folders) == 1 else path
        inside_of = path if path.is_dir() else path.parent
        outside = places_of(named_by, path, images, base=base, inside=inside_of)
        check_any_there(outside, path)
        opened = image_files(Path(), outside)
    name = path.stem if path.is_file() else path.resolve().name
    return dataset_of(name, records, opened, train_share=train_share)


def held_images(where: Mapping[str, Place], column: str) -> Images:
    """The images that lie in rows of files of columns, each read when it is opened.

    Args:
        where: id to a file and the number of its row.
        column: of the images: bytes, or Hugging Face's pairs of bytes and a path.
    """
    return stored_images(where, partial(_source, where, column), partial(_content, where, column))


@dataclass
class _Read:
    """What the files hold, as it comes together.

    Attributes:
        rows: column to value, without images that lie in the files themselves.
        places: where the image of each row lies, None where the row holds none.
        columns: part of a record to its column, the same in all files.
        class_names: column to the names of its numbered labels.
        hold_images: whether a file holds images, of all of them.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    places: list[Place | None] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)
    class_names: dict[str, Sequence[str]] = field(default_factory=dict)
    hold_images: set[bool] = field(default_factory=set)


def _read(path: Path, files: Sequence[tuple[str | None, Path]], named: Mapping[str, str | None], apart: bool) -> _Read:
    """The rows of all files, each with an id and a split of ours.

    Args:
        path: of the dataset.
        files: from `_files`.
        named: part of a record to the column that the user named.
        apart: whether paths of images are relative to the folder of their file, where there are several.
    """
    import pyarrow as pa

    read = _Read()
    known: dict[tuple[str, ...], dict[str, str]] = {}  # the columns that are read, of files with these
    counts: dict[str, int] = {}
    apart = apart and len({file.parent for _, file in files}) > 1
    for split, file in files:
        try:
            schema = schema_of(file)
            if tuple(schema.names) not in known:
                image = named["image"] if named["image"] is not None else image_column(file)
                known[tuple(schema.names)] = find_columns(schema.names, file, **{**named, "image": image})
            own = known[tuple(schema.names)]
            table = read_columns(
                file, sorted({column_in(c, schema.names) or c for p, c in own.items() if p != "image"})
            )
            paths = path_cells(file, own["image"]) if "image" in own else None
            held = rows_with_images(file, own["image"]) if "image" in own and paths is None else None
        except (OSError, pa.ArrowException) as error:
            raise XgapError(f"{file} cannot be read: {str(error).splitlines()[0]}") from error
        other = next((part for part in own if read.columns.get(part, own[part]) != own[part]), None)
        if other is not None:
            what = f"the files of {path} have different columns ({other}: {read.columns[other]!r} and {own[other]!r})"
            raise XgapError(f"{what}; name one that all have, as in load_dataset(path, {other}=...)")
        read.columns |= own
        read.class_names |= class_names(schema.metadata or {})
        read.hold_images.add(held is not None)
        for k, row in enumerate(table.to_pylist() if table.num_columns else [{} for _ in range(table.num_rows)]):
            number = counts[split or ""] = counts.get(split or "", -1) + 1
            row[OWN_ID], row[OWN_SPLIT] = f"{split}/{number}" if split else str(number), split
            if paths is not None:
                cell = row_of(file, k, image_path, paths[k])
                inside = file.parent.relative_to(path) if apart and cell is not None else Path()
                row[own["image"]] = (inside / cell).as_posix() if apart and cell is not None else cell
            read.rows.append(row)
            read.places.append((file, k) if held is not None and held[k] else None)
    if not read.rows:
        raise XgapError(f"{path} has no rows")
    if len(read.hold_images) > 1:
        raise XgapError(f"some files of {path} hold images, and others name them or have none; load them one by one")
    return read


def _held(
    read: _Read, columns: Mapping[str, str], path: Path, names: Sequence[str]
) -> tuple[list[Record], dict[str, Place]]:
    """The records of rows that hold their images, and where the image of each record lies."""
    kept = [(row, place) for row, place in zip(read.rows, read.places, strict=True) if place is not None]
    if not kept:
        raise XgapError(f"no row of {path} holds an image in the column {columns['image']!r}")
    if len(kept) < len(read.rows):
        lacking = len(read.rows) - len(kept)
        notice(f"{lacking} of {len(read.rows)} rows of {path} hold no image, and are left out")
    rows = [row for row, _ in kept]
    ids = _ids(rows, [place for _, place in kept], columns, path)
    for row, item in zip(rows, ids, strict=True):
        row[OWN_ID] = item
    records, _ = to_records(rows, {**columns, "id": OWN_ID}, path, names, embedded=True)
    first = {item: place for item, (_, place) in reversed(list(zip(ids, kept, strict=True)))}
    return records, {record.id: first[record.id] for record in records}


def _files(path: Path) -> list[tuple[str | None, Path]]:
    """Split and file, of every file of the dataset."""
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
        raise XgapError(f"{path} holds no dataset: neither what save_to_disk writes nor a .parquet file")
    return [(split_in(file.relative_to(path)), file) for file in files]


def _saved(folder: Path) -> list[Path]:
    listed = _json(folder / "state.json").get("_data_files", [])
    return [folder / Path(str(entry.get("filename"))).name for entry in listed]  # nothing outside the folder


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise XgapError(f"{path} cannot be read as a part of a saved dataset: {error}") from error
    return found if isinstance(found, dict) else {}


def _ids(
    rows: Sequence[Mapping[str, Any]], places: Sequence[Place], columns: Mapping[str, str], path: Path
) -> list[str]:
    """An id of the image of each row: one for all rows of an image, where there is a row for each caption."""
    own = [str(row[OWN_ID]) for row in rows]
    cells = [row.get(columns["id"]) for row in rows] if "id" in columns else []
    given = [row_of(path, k, id_text, cell) for k, cell in enumerate(cells)] if not any(map(is_missing, cells)) else []
    distinct = len(set(given)) == len(rows)
    if "caption" not in columns or (not _repeats(places, columns["image"]) and (distinct or not given)):
        return given if distinct else own
    contents = _contents(places, columns["image"])
    splits = [str(row.get(columns["split"])) if "split" in columns else "" for row in rows]
    images = list(zip(contents, splits, strict=True))
    if given and len(set(given)) == len(set(images)) == len(set(zip(given, images, strict=True))):
        return given
    if given and not distinct:
        what = f"the ids of the column {columns['id']!r} of {path} are not distinct in each split"
        notice(f"{what}; numbers of rows are the ids, and id=... names another column")
    # Without an id that says so, copies of an image under two labels are two items.
    labels = [str(row.get(columns["label"])) if "label" in columns else "" for row in rows]
    keys = list(zip(images, labels, strict=True))
    first: dict[Any, int] = {}
    for k, key in enumerate(keys):
        first.setdefault(key, k)
    return [own[first[key]] for key in keys]


def _repeats(places: Sequence[Place], column: str) -> bool:
    """Whether an image is there twice among the first rows of a file."""
    for file in dict.fromkeys(file for file, _ in places):
        seen = [_digest(cell) for cell in itertools.islice(image_cells(file, column), LOOKED_AT) if cell is not None]
        if len(set(seen)) < len(seen):
            return True
    return False


def _contents(places: Sequence[Place], column: str) -> list[bytes]:
    digests = {
        file: [b"" if cell is None else _digest(cell) for cell in image_cells(file, column)]
        for file in dict.fromkeys(file for file, _ in places)
    }
    return [digests[file][k] for file, k in places]


def _digest(cell: bytes | str) -> bytes:
    return hashlib.blake2b(cell if isinstance(cell, bytes) else cell.encode(), digest_size=16).digest()


def _content(where: Mapping[str, Place], column: str, item: str) -> str:
    def of_row() -> str:  # empty where it names a file, which may change while the table does not
        source = _source(where, column, item)
        return of_bytes(source) if isinstance(source, bytes) else ""

    file, row = where[item]
    inside = once(file, (row, column), of_row)
    if inside:
        return inside
    outside = _source(where, column, item)
    return of_bytes(outside) if isinstance(outside, bytes) else of_file(outside)


def _source(where: Mapping[str, Place], column: str, item: str) -> Path | bytes:
    """The content of a row's image, or the file that it names in its place."""
    file, row = where[item]
    cell = cell_at(file, row, column)
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if content is None and isinstance(cell, dict) and cell.get("path"):
        return _beside(file, cell["path"])
    if not isinstance(content, bytes):
        raise OSError("the row has no image")
    return content


def _beside(file: Path, name: str) -> Path:
    return places_of({"": name}, file, base=file.parent, inside=file.parent)[""]
