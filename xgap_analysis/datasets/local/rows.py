"""Rows of a table as records: the rows of one image joined, and every cell read by the rule for its column."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from xgap_analysis.core.errors import XgapError, notice
from xgap_analysis.core.table_values import caption_texts, clean_text, id_text, image_path, is_missing, label_text
from xgap_analysis.datasets.local.columns import cell_of
from xgap_analysis.datasets.local.records import Record, split_named
from xgap_analysis.datasets.local.tables import Row


def without_several_labels(
    rows: Sequence[Row], columns: dict[str, str], path: Path, label_column: str | None
) -> dict[str, str]:
    """The columns, less that of labels where a cell holds several; where the user named it, `to_records` refuses."""
    if "label" not in columns or label_column is not None:
        return columns
    try:
        for row in rows:
            label_text(cell_of(row, columns, "label"))
    except XgapError as error:
        what = f"the column {columns['label']!r} of {path} is left out, so that there are no classes"
        notice(f"{what}: {error}, in a column that label=... names")
        return {part: column for part, column in columns.items() if part != "label"}
    return columns


def to_records(
    rows: Sequence[Row],
    columns: Mapping[str, str],
    path: Path,
    class_names: Sequence[str] = (),
    embedded: bool = False,
) -> tuple[list[Record], dict[str, str]]:
    """Rows as records, those of one image joined, and the file of each image by id.

    Args:
        rows: with paths as images.
        columns: from `find_columns`.
        path: the table, for messages and ids.
        class_names: of numbered labels.
        embedded: images are in the rows themselves, and rows of one id are of one image.

    Raises:
        XgapError: an image with two labels or two splits, or a cell that is none of what its column is for.
    """
    images = [
        None if embedded else row_of(path, k, _file, cell_of(row, columns, "image")) for k, row in enumerate(rows)
    ]
    cells = [cell_of(row, columns, "id") for row in rows]
    ids = [None if is_missing(cell) else row_of(path, k, id_text, cell) for k, cell in enumerate(cells)]
    keys: list[Any]
    if embedded:
        keys = ids
    elif any(a is not None for a in images):
        distinct = len(set(images)) == len(set(ids)) == len({*zip(images, ids, strict=True)})
        keys = ids if distinct and None not in ids else images
        none = next((k for k, key in enumerate(keys) if key is None), None)
        if none is not None:
            raise XgapError(f"row {none + 1} of {path} has no image ({images.count(None)} such of {len(rows)} rows)")
    else:
        if "image" in columns:
            notice(f"the column {columns['image']!r} of {path} names no image in any row; it is read as texts alone")
        whole = None not in ids and len(set(ids)) == len(ids)
        keys = ids if whole else list(range(len(rows)))
    groups: dict[str, list[int]] = {}
    for k, key in enumerate(keys):
        groups.setdefault(str(key), []).append(k)
    known: dict[str, list[str | None]] = {"label": [], "split": []}
    readers: dict[str, Callable[[Any], str | None]] = {
        "label": partial(label_text, names=class_names),
        "split": split_text,
    }
    captions: list[list[str]] = []
    for key, members in groups.items():
        for part, read in readers.items():
            found = (row_of(path, k, read, cell_of(rows[k], columns, part)) for k in members)
            values = sorted({value for value in found if value is not None})
            if len(values) > 1:
                raise XgapError(f"{path} gives {key!r} more than one {part}: {', '.join(values)}")
            known[part].append(values[0] if values else None)
        captions.append(
            [c for k in members for c in row_of(path, k, caption_texts, cell_of(rows[k], columns, "caption"))]
        )
    notice_missing(rows, columns, path, known | {"caption": [c or None for c in captions]}, "items")
    records = [
        Record(key, clean, label, split, has_image=embedded or images[groups[key][0]] is not None)
        for key, clean, label, split in zip(
            groups, cleaned(captions, path), known["label"], known["split"], strict=True
        )
    ]
    files = {key: file for key, members in groups.items() if (file := images[members[0]]) is not None}
    return records, files


def row_of(path: Path, k: int, read: Callable[[Any], Any], cell: Any) -> Any:
    """What a reader makes of a cell; the row stands in its error."""
    try:
        return read(cell)
    except XgapError as error:
        raise XgapError(f"row {k + 1} of {path}: {error}") from error


def _file(cell: Any) -> str | None:
    """The path of an image in one of its spellings, since `./1.jpg` and `1.jpg` are one image."""
    file = image_path(cell)
    return file if file is None else file.removeprefix("./")


def split_text(cell: Any) -> str | None:
    """The split that a cell names, under the name that it has here; None where it is missing."""
    if is_missing(cell):
        return None
    return split_named(id_text(cell)) or id_text(cell)


def notice_missing(
    rows: Sequence[Row], columns: Mapping[str, str], path: Path, found: Mapping[str, Sequence[Any]], what: str
) -> None:
    """Count, in a warning for each part that has a column, the items that lack it."""
    for part, values in found.items():
        lacking = sum(value is None for value in values)
        if part not in columns or not lacking:
            continue
        words = (cell_of(row, columns, part) for row in rows)
        written = next((w for w in words if (isinstance(w, str) and is_missing(w)) or str(w) in ("-1", "-1.0")), None)
        shown = f" (such as {written!r}, which is read as missing)" if written is not None else ""
        ends = {
            "label": "they belong to no class",
            "split": "they are in the split 'all' alone",
            "caption": "no text belongs to them",
        }
        notice(f"{lacking} of {len(values)} {what} of {path} have no {part}{shown}; {ends[part]}")


def cleaned(captions: Sequence[Sequence[str]], where: object) -> list[list[str]]:
    """Captions that can be written as UTF-8; how many were not is said."""
    clean = [[clean_text(text) for text in texts] for texts in captions]
    broken = sum(a != b for x, y in zip(captions, clean, strict=True) for a, b in zip(x, y, strict=True))
    if broken:
        what = f"{broken} of {sum(map(len, clean))} captions of {where} hold half of a character"
        notice(f"{what} (cut in an emoji, say); U+FFFD stands for it")
    return clean
