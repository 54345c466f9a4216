"""One file of columns, Parquet or Arrow: what its columns are, and the images in its rows, read with pyarrow alone."""

import itertools
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from xgap_analysis.core.errors import XgapError, notice
from xgap_analysis.datasets.images import HEAD, is_image_file, looks_like_image
from xgap_analysis.datasets.local.columns import USUAL


def schema_of(file: Path) -> Any:
    """The columns of a file and their types."""
    import pyarrow.parquet as pq

    return pq.read_schema(file) if file.suffix == ".parquet" else _mapped(file).schema


@lru_cache(maxsize=256)
def _mapped(file: Path) -> Any:
    """A file that `save_to_disk` wrote, mapped into memory: its rows are read when they are needed."""
    import pyarrow as pa

    return pa.ipc.open_stream(pa.memory_map(str(file))).read_all()


def read_columns(file: Path, names: Sequence[str]) -> Any:
    """These columns of a file, as a table of pyarrow's."""
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


def image_column(file: Path) -> str | None:
    """The column whose values are images, where its name does not say it; None where the names are to decide.

    Raises:
        XgapError: several such, and no usual name among them.
    """
    import pyarrow as pa

    schema = schema_of(file)
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
            what = "several images per row" if name in lists else "bytes that no image begins with"
            notice(f"the column {name!r} of {file} holds {what}; it is not read")
    return stored[0] if stored else None


def _begins_as_image(file: Path, column: str) -> bool:
    cells = (cell for cell in itertools.islice(image_cells(file, column), 100) if cell is not None)
    return any(
        is_image_file(cell) if isinstance(cell, str) else looks_like_image(cell[:HEAD], brief=True) for cell in cells
    )


def image_cells(file: Path, column: str) -> Iterator[Any]:
    """What each row of a file holds of its image, or the path that it names in its place; one batch in memory."""
    import pyarrow.parquet as pq

    if file.suffix == ".parquet":
        with pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches(batch_size=64, columns=[column]):
                yield from _contents(batch.column(0))
        return
    for chunk in _mapped(file)[column].chunks:
        for start in range(0, len(chunk), 64):
            yield from _contents(chunk.slice(start, 64))


def _contents(cells: Any) -> Iterator[Any]:
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
    name = f"{column}.bytes" if _kind(schema_of(file).field(column).type) == "both" else column
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


def path_cells(file: Path, column: str) -> list[Any] | None:
    """What names the images outside the file; None where the file holds the images themselves."""
    field = schema_of(file).field(column)
    kind = _kind(field.type)
    if kind == "path":
        return list(read_columns(file, [column])[column].to_pylist())
    if kind == "both" and _nulls(file, column) == _rows_in(file) and field.type.get_field_index("path") >= 0:
        return list(image_cells(file, column))
    if not kind:
        raise XgapError(f"column {column!r} of {file} holds {field.type}, not paths or images")
    return None


def rows_with_images(file: Path, column: str) -> list[bool]:
    """Whether each row of a file holds an image; without statistics, it is not known before it is opened."""
    if not _nulls(file, column):
        return [True] * _rows_in(file)
    return [cell is not None for cell in image_cells(file, column)]


def class_names(metadata: Mapping[bytes, bytes]) -> dict[str, Sequence[str]]:
    """Column to the names of its numbered labels, as Hugging Face keeps them beside the schema."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {column: about["names"] for column, about in features.items() if "names" in about}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def cell_at(file: Path, row: int, column: str) -> Any:
    """One cell of a file; of a Parquet file, the group of rows around it is read and kept for the next ones."""
    if file.suffix != ".parquet":
        return _mapped(file)[column][row].as_py()
    group = 0
    for size in _group_sizes(file):
        if row < size:
            break
        row, group = row - size, group + 1
    with _READING:  # decoding threads need rows of one group, which is to be read once
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
