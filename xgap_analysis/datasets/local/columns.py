"""Which column of a table is what: images, captions, labels, splits, ids."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xgap_analysis.core.errors import XgapError, notice
from xgap_analysis.core.table_values import is_missing
from xgap_analysis.datasets.images import is_image_file
from xgap_analysis.datasets.local.tables import Row, check_distinct

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


def find_columns(names: Iterable[str], path: Path, **given: str | None) -> dict[str, str]:
    """Part of a record to the name of its column; parts without a column are left out.

    A given name may be that of a part of the objects in a column: `"sentences.raw"`.

    Raises:
        XgapError: a given name that no column has, a name that two columns have, or no column of images or captions.
    """
    names = list(names)
    check_distinct(names, path)
    found = {}
    for part in USUAL:
        wanted = given.get(part)
        if wanted is not None and column_in(wanted, names) is None:
            raise XgapError(f"{path} has no column {wanted!r} ({part}); it has: {', '.join(names)}")
        column = wanted or usual_column(part, names, path)
        if column is not None:
            found[part] = column
    if "image" not in found and "caption" not in found:
        what = f"no column of {path} looks like images or captions (it has: {', '.join(names)})"
        raise XgapError(f"{what}; name them, as in load_dataset(path, image=..., caption=...)")
    return found


def usual_column(part: str, names: Sequence[str], path: Path) -> str | None:
    """The column that has a usual name of a part, the likelier first; where the choice matters, it is said."""
    fitting = [name for word in USUAL[part] for name in names if name.lower() == word]
    if len(fitting) > 1 and part in ("caption", "label", "split"):
        what = f"{path} has several columns that look like a {part} ({', '.join(fitting)})"
        notice(f"{what}; {fitting[0]!r} is read, and {part}=... names another")
    return next(iter(fitting), None)


def column_in(wanted: str, names: Sequence[str]) -> str | None:
    """The column that a name means: itself, or what stands before the first dot."""
    return next((name for name in (wanted, wanted.partition(".")[0]) if name in names), None)


def tell_unread_images(rows: Sequence[Row], names: Iterable[str], columns: Mapping[str, str], path: Path) -> None:
    """Give notice where a column without a usual name for images has names of image files."""
    if "image" in columns:
        return
    read = set(columns.values())
    firsts = {name: next((row[name] for row in rows if not is_missing(row.get(name))), None) for name in names}
    looks = [n for n, cell in firsts.items() if n not in read and isinstance(cell, str) and is_image_file(cell)]
    if looks:
        what = f"{path} is read as texts alone, and its column {looks[0]!r} holds names of image files"
        notice(f"{what}; image={looks[0]!r} reads them")


def cell_of(row: Row, columns: Mapping[str, str], part: str) -> Any:
    """A cell's value, None where the column or the value is missing."""
    if part not in columns:
        return None
    name = columns[part]
    value = row.get(name)
    if name not in row and "." in name:
        first, *inner = name.split(".")
        value = row.get(first)
        for key in inner:
            value = _part_of(value, key)
    return value.strip() or None if isinstance(value, str) else value


def _part_of(value: Any, key: str) -> Any:
    if isinstance(value, list):
        return [_part_of(one, key) for one in value]
    return value.get(key) if isinstance(value, Mapping) else None
