"""A table of images and captions, one row a pair: CSV, TSV, JSON lines."""

import codecs
import csv
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from xgap_analysis.core.cells import caption_texts, clean_text, id_text, image_path, is_missing, label_text
from xgap_analysis.core.errors import XgapError, notice
from xgap_analysis.datasets.contents import of_file
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.images import is_picture, open_picture
from xgap_analysis.datasets.local.assemble import Record, assemble, split_named

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
ENCODINGS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16", codecs.BOM_UTF8: "utf-8-sig"}  # by mark
Row = Mapping[str, Any]


def load_pairs(
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
    """Image-caption pairs in a `.csv`, `.tsv`, `.jsonl` or `.json` table (`.parquet`: see `load_arrow`).

    Rows of one image give it several captions, and so does a list of captions in one cell (as JSON, or as Python
    prints it) or an object that holds them (`{"raw": "a dog"}`). A table without images is a dataset of texts. What the
    splits and the levels of labels are, `assemble` says.

    Paths of images are relative to the table's folder and stay inside it, unless `images` names another one: a table
    from elsewhere then cannot have other files of yours read. A link inside the folder is followed wherever it points,
    since whoever put it there can write to the folder.

    Cells are missing where they are empty, null, NaN or a word for these (`MISSING_WORDS`), and so is the label -1;
    items without a label, a caption or a split are counted in a warning.

    Args:
        path: the table; its first row names the columns.
        image, caption, label, split, id: names of the columns, where they are not the usual ones (`USUAL`);
            `"sentences.raw"` is a part of the objects in a column. Ids are the paths of the images, or what the column
            `id` says where it tells the images apart.
        images: the folder of the images, where it is not the table's; paths are relative to it.
        train_share: see `assemble`.

    Raises:
        XgapError: no such file, a row that cannot be read, no column of images or captions, a column name that is there
            twice, a path that leaves the folder, or none of the images.
    """
    path = Path(path).expanduser()
    rows = read_rows(path)
    names = columns_of(rows)
    columns = find_columns(names, path, image=image, caption=caption, label=label, split=split, id=id)
    tell_unread_images(rows, names, columns, path)
    columns = without_several_labels(rows, columns, path, label)
    records, files = to_records(rows, columns, path)
    places = places_of(files, path, images, base=path.parent, inside=path.parent)
    check_any_there(places, path)
    return assemble(path.stem, records, partial(_open, places), partial(_content, places), train_share=train_share)


def _open(places: Mapping[str, Path], item: str) -> Image.Image:
    return open_picture(places[item])


def _content(places: Mapping[str, Path], item: str) -> str:
    return of_file(places[item])


def places_of(
    files: Mapping[str, str], table: Path, images: Path | str | None = None, *, base: Path, inside: Path
) -> dict[str, Path]:
    """Id to the file of its image.

    Args:
        files: id to path, as the table has it.
        table: for messages.
        images: the folder that the user names for the images; paths are relative to it, and stay inside it.
        base: what paths are relative to, where there is no such folder.
        inside: the folder that they stay inside then.

    Raises:
        XgapError: no such folder, an address in the web, or a path that leaves the folder.
    """
    root = inside if images is None else Path(images).expanduser()
    if not root.is_dir():
        raise XgapError(f"there is no folder {root} (images)")
    roots = (base,) if images is None else (root, base)  # base too, for `../img/1.jpg` where images names that folder
    start = os.path.normpath(root.absolute()).rstrip(os.sep) + os.sep
    places = {}
    for item, file in files.items():
        if re.match(r"[a-z]+://", file):
            raise XgapError(f"{table} names images by addresses in the web ({file}); fetch them and name their files")
        # Without `..`, also in what is opened later: behind a link, `..` leads elsewhere than it says.
        tried = (os.path.normpath(from_.absolute() / file) for from_ in roots)
        place = next((Path(place) for place in tried if place.startswith(start)), None)
        if place is None:
            what = f"{table} names the image {file!r}, which is outside the folder {root}"
            raise XgapError(
                f"{what}; where that is meant, name the folder that holds all images, as in load_dataset(path, "
                "images='/my/images'), or move the table there"
            )
        places[item] = place
    return places


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
        XgapError: no such file, another format, no rows, a line that cannot be read (it is named), or a column name
            that is there twice.
    """
    if not path.is_file():
        raise XgapError(f"there is no file {path}")
    text = _decoded(path)
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


def columns_of(rows: Iterable[Row]) -> list[str]:
    """The columns of a table: those of any row, since JSON leaves out what a row does not have."""
    return list(dict.fromkeys(name for row in rows for name in row))


def _decoded(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 with its mark (as Excel writes it), with plain line ends."""
    content = path.read_bytes()
    encoding = next((name for mark, name in ENCODINGS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise XgapError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _separated(text: str, path: Path) -> list[Row]:
    lines = text.split("\n")
    first = next((k for k, line in enumerate(lines) if line.strip()), 0)
    separator = max(SEPARATORS, key=lines[first].count)  # the first of them where the header is one word
    header, at = _cells_at(lines, first, separator, None, path)
    names = [name.strip() for name in header]
    check_distinct(names, path)
    rows: list[Row] = []
    loose, doubtful = [], []  # numbers of lines
    while at < len(lines):
        number = at + 1
        cells, after = _cells_at(lines, at, separator, len(names), path)
        if after < 0:
            loose.append(number)
        if after > number and any(len(_split(line, separator)) == len(names) for line in lines[number:after]):
            doubtful.append(number)
        at = abs(after)
        if not cells:
            continue
        if len(cells) > len(names):
            what = f"line {number} of {path} has more cells than the header has columns"
            raise XgapError(f"{what}; put captions that contain {separator!r} in quotes")
        rows.append(dict(itertools.zip_longest(names, cells)))
    if loose:
        what = f"{path} has a quotation mark that does not enclose its cell on {len(loose)} of its lines"
        notice(f"{what} (the first is line {loose[0]}); it is read as a character, and each of these lines as a row")
    if doubtful:
        what = (
            f"cells in quotation marks that go over lines which could be rows of their own: {len(doubtful)} in {path}"
        )
        notice(f"{what} (the first from line {doubtful[0]}); each is read as one cell: close or remove the mark if not")
    return rows


def _cells_at(lines: Sequence[str], at: int, separator: str, width: int | None, path: Path) -> tuple[list[str], int]:
    """The cells of the row that begins on a line, and the line after it: negative where a mark was read literally."""
    line = lines[at]
    if '"' not in line:
        return (_split(line, separator) if line.strip() else []), at + 1
    if len(line) > csv.field_size_limit():
        raise XgapError(f"line {at + 1} of {path} has {len(line)} characters, more than a row of captions can need")
    reads = partial(csv.reader, delimiter=separator, skipinitialspace=True)
    reader = reads((f"{lines[k]}\n" for k in range(at, len(lines))), strict=True)
    try:
        cells = next(reader)
    except csv.Error as error:
        cells, reason = [], str(error)
    else:
        if reader.line_num == 1 or width in (len(cells), None):
            return cells, at + reader.line_num
        reason = f"its cell would end on line {at + reader.line_num}"
    # Alone, the line may have spaces after a closing mark; else its marks are characters.
    trimmed = re.sub(rf'" +(?={re.escape(separator)}|$)', '"', line)
    try:
        closed = next(reads([trimmed], strict=True))
    except csv.Error:
        closed = []
    if len(closed) == width:
        return closed, at + 1
    alone = _split(line, separator) if len(_split(line, separator)) == width else None
    if alone is None:
        what = f"line {at + 1} of {path} opens a quotation mark that is not closed as it should be ({reason})"
        raise XgapError(f"{what}; close it, or write a mark that belongs to the text twice")
    return alone, -(at + 1)


def _split(line: str, separator: str) -> list[str]:
    return [cell.lstrip(" ") for cell in line.split(separator)]


def check_distinct(names: Sequence[str], path: Path) -> None:
    """Refuse a table two of whose columns have one name: which of them is meant, nobody can say."""
    twice = next((name for name, n in Counter(names).items() if n > 1 and name), None)
    if twice is not None:
        raise XgapError(f"{path} has more than one column {twice!r}; rename or remove all but one")


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=partial(_object, where))
    except json.JSONDecodeError as error:
        raise XgapError(f"{where} is not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise XgapError(f"{where} is not a row: it is nested too deeply") from error


def _object(where: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, n in Counter(name for name, _ in pairs).items() if n > 1)
        raise XgapError(f"{where} gives {twice!r} twice; keep one")
    return found


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
        asked = given.get(part)
        if asked is not None and column_in(asked, names) is None:
            raise XgapError(f"{path} has no column {asked!r} ({part}); it has: {', '.join(names)}")
        column = asked or usual_column(part, names, path)
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


def column_in(asked: str, names: Sequence[str]) -> str | None:
    """The column that a name means: itself, or what stands before the first dot."""
    return next((name for name in (asked, asked.partition(".")[0]) if name in names), None)


def tell_unread_images(rows: Sequence[Row], names: Iterable[str], columns: Mapping[str, str], path: Path) -> None:
    """Say where a column that no name tells to be images holds names of image files."""
    if "image" in columns:
        return
    read = set(columns.values())
    firsts = {name: next((row[name] for row in rows if not is_missing(row.get(name))), None) for name in names}
    looks = [n for n, cell in firsts.items() if n not in read and isinstance(cell, str) and is_picture(cell)]
    if looks:
        what = f"{path} is read as texts alone, and its column {looks[0]!r} holds names of image files"
        notice(f"{what}; image={looks[0]!r} reads them")


def without_several_labels(
    rows: Sequence[Row], columns: dict[str, str], path: Path, asked: str | None
) -> dict[str, str]:
    """The columns, less that of labels where a cell holds several; where the user named it, `to_records` refuses."""
    if "label" not in columns or asked is not None:
        return columns
    try:
        for row in rows:
            label_text(_cell(row, columns, "label"))
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
    asked = [None if embedded else row_of(path, k, _file, _cell(row, columns, "image")) for k, row in enumerate(rows)]
    cells = [_cell(row, columns, "id") for row in rows]
    ids = [None if is_missing(cell) else row_of(path, k, id_text, cell) for k, cell in enumerate(cells)]
    keys: list[Any]
    if embedded:
        keys = ids
    elif any(a is not None for a in asked):
        tell_apart = len(set(asked)) == len(set(ids)) == len({*zip(asked, ids, strict=True)})
        keys = ids if tell_apart and None not in ids else asked
        none = next((k for k, key in enumerate(keys) if key is None), None)
        if none is not None:
            raise XgapError(f"row {none + 1} of {path} names no image ({asked.count(None)} such of {len(rows)} rows)")
    else:
        if "image" in columns:
            notice(f"the column {columns['image']!r} of {path} names no image in any row; it is read as texts alone")
        whole = None not in ids and len(set(ids)) == len(ids)
        keys = ids if whole else list(range(len(rows)))
    groups: dict[str, list[int]] = {}
    for k, key in enumerate(keys):
        groups.setdefault(str(key), []).append(k)
    told: dict[str, list[str | None]] = {"label": [], "split": []}
    readers: dict[str, Callable[[Any], str | None]] = {
        "label": partial(label_text, names=class_names),
        "split": _split_text,
    }
    captions: list[list[str]] = []
    for key, members in groups.items():
        for part, read in readers.items():
            found = (row_of(path, k, read, _cell(rows[k], columns, part)) for k in members)
            values = sorted({value for value in found if value is not None})
            if len(values) > 1:
                raise XgapError(f"{path} gives {key!r} more than one {part}: {', '.join(values)}")
            told[part].append(values[0] if values else None)
        captions.append(
            [c for k in members for c in row_of(path, k, caption_texts, _cell(rows[k], columns, "caption"))]
        )
    tell_missing(rows, columns, path, told | {"caption": [c or None for c in captions]}, "items")
    records = [
        Record(key, clean, label, split, has_image=embedded or asked[groups[key][0]] is not None)
        for key, clean, label, split in zip(groups, cleaned(captions, path), told["label"], told["split"], strict=True)
    ]
    files = {key: file for key, members in groups.items() if (file := asked[members[0]]) is not None}
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


def _split_text(cell: Any) -> str | None:
    if is_missing(cell):
        return None
    return split_named(id_text(cell)) or id_text(cell)


def tell_missing(
    rows: Sequence[Row], columns: Mapping[str, str], path: Path, found: Mapping[str, Sequence[Any]], what: str
) -> None:
    """Count, in a warning for each part that has a column, the items that lack it."""
    for part, values in found.items():
        lacking = sum(value is None for value in values)
        if part not in columns or not lacking:
            continue
        words = (_cell(row, columns, part) for row in rows)
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


def _cell(row: Row, columns: Mapping[str, str], part: str) -> Any:
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


def read_labels(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Labels and splits by id, from the columns `label`, `split` and `id` (or their usual names) of a table.

    Without a column of ids, the rows have running numbers from 0, as those of a `.npy` file do. Missing labels (see
    `load_pairs`) are left out and counted in a warning.

    Raises:
        XgapError: a table that cannot be read, no column of labels, a cell of several labels, a missing id, or an id
            with two labels.
    """
    rows = _parquet_rows(path) if path.suffix == ".parquet" else read_rows(path)
    names = columns_of(rows)
    usual = {part: usual_column(part, names, path) for part in ("label", "split", "id")}
    columns = {part: column for part, column in usual.items() if column is not None}
    if "label" not in columns:
        raise XgapError(f"{path} has no column of labels; it has: {', '.join(names)}; call one of them label")
    told: dict[str, dict[str, str]] = {"label": {}, "split": {}}
    items = (
        [row_of(path, k, id_text, _cell(row, columns, "id")) for k, row in enumerate(rows)] if "id" in columns else []
    )
    found: dict[str, list[str | None]] = {"label": [], "split": []}
    for k, row in enumerate(rows):
        item = items[k] if items else str(k)
        for part, read in (("label", label_text), ("split", _split_text)):
            value = row_of(path, k, read, _cell(row, columns, part))
            found[part].append(value)
            if value is not None and told[part].setdefault(item, value) != value:
                raise XgapError(f"{path} gives {item!r} more than one {part}: {told[part][item]}, {value}")
    tell_missing(rows, columns, path, found, "rows")
    return told["label"], told["split"]


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
