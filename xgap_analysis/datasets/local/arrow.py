"""Tables of images and captions in Parquet, and Hugging Face data sets on disk, read with pyarrow alone."""

import hashlib
import itertools
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from PIL import Image

from xgap_analysis.core.cells import id_text, image_path, is_missing
from xgap_analysis.core.errors import XgapError, notice
from xgap_analysis.datasets.contents import of_bytes, of_file, once
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.images import is_picture, open_picture
from xgap_analysis.datasets.local.assemble import assemble, split_named
from xgap_analysis.datasets.local.pairs import (
    USUAL,
    check_any_there,
    column_in,
    find_columns,
    places_of,
    row_of,
    to_records,
    without_several_labels,
)

OWN_ID, OWN_SPLIT = "\0id", "\0split"  # columns added here, under names that no file has
Place = tuple[Path, int] | Path  # a row of a file that holds the image, or the file of the image
# What the content of an image file begins with, of the formats that `open_picture` reads.
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP", b"P5", b"P6")
BRANDS = (b"WEBP", b"avif", b"avis", b"heic", b"heix", b"mif1")  # the same, from the ninth byte
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
    those of a column that tells the images apart, or split and row number.

    A table with a row for each caption may hold an image several times. Where one of the first thousand rows of a file
    repeats an image, or the ids repeat, the images are read and compared, and rows of one image give it several
    captions. Rows without an image are left out, and counted in a warning.

    Args:
        path: the file or the folder.
        image, caption, label, split, id, images, train_share: as in `load_pairs`.

    Raises:
        XgapError: nothing there, a file that cannot be read, or what `load_pairs` refuses.
    """
    import pyarrow as pa

    path = Path(path).expanduser()
    files = _files(path)
    rows: list[dict[str, Any]] = []
    places: list[tuple[Path, int] | None] = []
    columns: dict[str, str] = {}
    known: dict[tuple[str, ...], dict[str, str]] = {}  # the columns that are read, of files with these
    words: dict[str, Sequence[str]] = {}
    counts: dict[str, int] = {}
    kinds: set[bool] = set()
    folders = {file.parent for _, file in files}
    for file_split, file in files:
        try:
            schema = _schema(file)
            if tuple(schema.names) not in known:
                asked = image if image is not None else _image_column(file)
                named = {"image": asked, "caption": caption, "label": label, "split": split, "id": id}
                known[tuple(schema.names)] = find_columns(schema.names, file, **named)
            own = known[tuple(schema.names)]
            table = _columns(file, sorted({column_in(c, schema.names) or c for p, c in own.items() if p != "image"}))
            paths = _paths(file, own["image"]) if "image" in own else None
            held = _held(file, own["image"]) if "image" in own and paths is None else None
        except (OSError, pa.ArrowException) as error:
            raise XgapError(f"{file} cannot be read: {str(error).splitlines()[0]}") from error
        other = next((part for part in own if columns.get(part, own[part]) != own[part]), None)
        if other is not None:
            what = f"the files of {path} have different columns ({other}: {columns[other]!r} and {own[other]!r})"
            raise XgapError(f"{what}; name one that all have, as in load_dataset(path, {other}=...)")
        columns |= own
        words |= _class_names(schema.metadata or {})
        kinds.add(held is not None)
        for k, row in enumerate(table.to_pylist() if table.num_columns else [{} for _ in range(table.num_rows)]):
            number = counts[file_split or ""] = counts.get(file_split or "", -1) + 1
            row[OWN_ID], row[OWN_SPLIT] = f"{file_split}/{number}" if file_split else str(number), file_split
            if paths is not None:
                cell = row_of(file, k, image_path, paths[k])
                apart = cell is not None and len(folders) > 1 and images is None
                row[own["image"]] = (file.parent.relative_to(path) / cell).as_posix() if apart else cell
            rows.append(row)
            places.append((file, k) if held is not None and held[k] else None)
    if not rows:
        raise XgapError(f"{path} has no rows")
    if len(kinds) > 1:
        raise XgapError(f"some files of {path} hold images, and others name them or have none; load them one by one")
    columns = without_several_labels(rows, columns, path, label)
    if "split" not in columns and any(s for s, _ in files):
        columns = {**columns, "split": OWN_SPLIT}
    names_of = words.get(columns.get("label", ""), ())
    where: dict[str, Place]
    if kinds == {True}:
        lacking = places.count(None)
        if lacking == len(rows):
            raise XgapError(f"no row of {path} holds an image in the column {columns['image']!r}")
        if lacking:
            notice(f"{lacking} of {len(rows)} rows of {path} hold no image, and are left out")
        kept = [(row, place) for row, place in zip(rows, places, strict=True) if place is not None]
        rows = [row for row, _ in kept]
        ids = _ids(rows, [place for _, place in kept], columns, path)
        for row, item in zip(rows, ids, strict=True):
            row[OWN_ID] = item
        records, _ = to_records(rows, {**columns, "id": OWN_ID}, path, names_of, embedded=True)
        where = {item: place for item, (_, place) in reversed(list(zip(ids, kept, strict=True)))}  # the first of each
        where = {record.id: where[record.id] for record in records}
    else:
        records, named_by = to_records(rows, columns, path, names_of)
        base = next(iter(folders)) if len(folders) == 1 else path
        inside_of = path if path.is_dir() else path.parent
        outside = places_of(named_by, path, images, base=base, inside=inside_of)
        check_any_there(outside, path)
        where = dict(outside)
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


def _schema(file: Path) -> Any:
    import pyarrow.parquet as pq

    return pq.read_schema(file) if file.suffix == ".parquet" else _mapped(file).schema


@lru_cache(maxsize=256)
def _mapped(file: Path) -> Any:
    """A file that `save_to_disk` wrote, mapped into memory: its rows are read when they are asked for."""
    import pyarrow as pa

    return pa.ipc.open_stream(pa.memory_map(str(file))).read_all()


def _columns(file: Path, names: Sequence[str]) -> Any:
    import pyarrow.parquet as pq

    return pq.read_table(file, columns=list(names)) if file.suffix == ".parquet" else _mapped(file).select(list(names))


def _kind(of: Any) -> str:
    """What a column's type may hold: "path", "image" (bytes), "both" (Hugging Face's pairs), or nothing of these."""
    import pyarrow as pa

    if isinstance(of, pa.BaseExtensionType):
        return _kind(of.storage_type)
    if pa.types.is_dictionary(of):
        return _kind(of.value_type)
    if str(of) in ("string", "large_string", "string_view"):
        return "path"
    if str(of) in ("binary", "large_binary", "binary_view"):
        return "image"
    if pa.types.is_struct(of):
        parts = {of.field(k).name: _kind(of.field(k).type) for k in range(of.num_fields)}
        return "both" if parts.get("bytes") == "image" else "path" if "path" in parts.values() else ""
    if pa.types.is_list(of) or pa.types.is_large_list(of):  # of one path; several are refused as they are read
        return "path" if _kind(of.value_type) == "path" else ""
    return ""


def _image_column(file: Path) -> str | None:
    """The column whose values are images, where its name does not say it; None where the names are to decide.

    Raises:
        XgapError: several such, and no usual name among them.
    """
    import pyarrow as pa

    schema = _schema(file)
    kinds = {field.name: _kind(field.type) for field in schema}
    usual = [name for word in USUAL["image"] for name in schema.names if name.lower() == word]
    if usual and kinds[usual[0]] in ("image", "both"):
        return usual[0]
    begins = {name: _begins_as_image(file, name) for name, kind in kinds.items() if kind in ("image", "both")}
    stored = [name for name in begins if begins[name]]
    if len(stored) > 1:
        raise XgapError(f"{file} has several columns of images ({', '.join(stored)}); name one, as image=...")
    if stored and usual and kinds[usual[0]] == "path":
        what = f"{file} holds images in its column {stored[0]!r} and may name them in {usual[0]!r}"
        notice(f"{what}; {stored[0]!r} is read, and image={usual[0]!r} reads the other")
    if not stored and not usual:
        lists = [f.name for f in schema if pa.types.is_list(f.type) and _kind(f.type.value_type) in ("image", "both")]
        for name in (*lists, *begins):
            what = "several images a row" if name in lists else "bytes that no image begins with"
            notice(f"the column {name!r} of {file} holds {what}; it is not read")
    return stored[0] if stored else None


def _begins_as_image(file: Path, column: str) -> bool:
    cells = (cell for cell in itertools.islice(_stored(file, column), 100) if cell is not None)
    return any(
        is_picture(cell) if isinstance(cell, str) else cell.startswith(SIGNATURES) or cell[8:12] in BRANDS
        for cell in cells
    )


def _stored(file: Path, column: str) -> Iterator[Any]:
    """What each row of a file holds of its image, or the path that it names in its place; one batch in memory."""
    import pyarrow.parquet as pq

    if file.suffix == ".parquet":
        with pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches(batch_size=64, columns=[column]):
                yield from _stored_in(batch.column(0))
        return
    for chunk in _mapped(file)[column].chunks:
        for start in range(0, len(chunk), 64):
            yield from _stored_in(chunk.slice(start, 64))


def _stored_in(cells: Any) -> Iterator[Any]:
    for cell in cells.to_pylist():
        yield (cell.get("bytes") or cell.get("path") or None) if isinstance(cell, dict) else cell or None


def _nulls(file: Path, column: str) -> int | None:
    """How many rows hold no bytes, as the file's own statistics say; None where they do not."""
    import pyarrow.parquet as pq

    if file.suffix != ".parquet":
        cells = _mapped(file)[column]
        of = cells.type.get_field_index("bytes") if _kind(cells.type) == "both" else None
        return sum((chunk if of is None else chunk.flatten()[of]).null_count for chunk in cells.chunks)
    about = pq.read_metadata(file)
    name = f"{column}.bytes" if _kind(_schema(file).field(column).type) == "both" else column
    total = 0
    for k in range(about.num_row_groups):
        group = about.row_group(k)
        leaf = next((c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == name), None)
        if leaf is None or leaf.statistics is None or not leaf.statistics.has_null_count:
            return None
        total += leaf.statistics.null_count
    return total


def _rows_in(file: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(file).num_rows if file.suffix == ".parquet" else len(_mapped(file)))


def _paths(file: Path, column: str) -> list[Any] | None:
    """What names the images outside the file; None where the file holds the images themselves."""
    field = _schema(file).field(column)
    kind = _kind(field.type)
    if kind == "path":
        return list(_columns(file, [column])[column].to_pylist())
    if kind == "both" and _nulls(file, column) == _rows_in(file) and field.type.get_field_index("path") >= 0:
        return list(_stored(file, column))
    if not kind:
        raise XgapError(f"column {column!r} of {file} holds {field.type}, not paths or pictures")
    return None


def _held(file: Path, column: str) -> list[bool]:
    """Whether each row of a file holds an image; without statistics, it is not known before it is opened."""
    if not _nulls(file, column):
        return [True] * _rows_in(file)
    return [cell is not None for cell in _stored(file, column)]


def _ids(
    rows: Sequence[Mapping[str, Any]], places: Sequence[tuple[Path, int]], columns: Mapping[str, str], path: Path
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
        what = f"the ids of the column {columns['id']!r} of {path} do not tell its images apart in each split"
        notice(f"{what}; numbers of rows are the ids, and id=... names another column")
    # Without an id that says so, copies of an image under two labels are two items.
    labels = [str(row.get(columns["label"])) if "label" in columns else "" for row in rows]
    keys = list(zip(images, labels, strict=True))
    first: dict[Any, int] = {}
    for k, key in enumerate(keys):
        first.setdefault(key, k)
    return [own[first[key]] for key in keys]


def _repeats(places: Sequence[tuple[Path, int]], column: str) -> bool:
    """Whether an image is there twice among the first rows of a file."""
    for file in dict.fromkeys(file for file, _ in places):
        seen = [_digest(cell) for cell in itertools.islice(_stored(file, column), LOOKED_AT) if cell is not None]
        if len(set(seen)) < len(seen):
            return True
    return False


def _contents(places: Sequence[tuple[Path, int]], column: str) -> list[bytes]:
    digests = {
        file: [b"" if cell is None else _digest(cell) for cell in _stored(file, column)]
        for file in dict.fromkeys(file for file, _ in places)
    }
    return [digests[file][k] for file, k in places]


def _digest(cell: bytes | str) -> bytes:
    return hashlib.blake2b(cell if isinstance(cell, bytes) else cell.encode(), digest_size=16).digest()


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
        return _beside(place[0], cell["path"])
    if not isinstance(content, bytes):
        raise OSError("the row holds no picture")
    return content


def _beside(file: Path, name: str) -> Path:
    return places_of({"": name}, file, base=file.parent, inside=file.parent)[""]


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
