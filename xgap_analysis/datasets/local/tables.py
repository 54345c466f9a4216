"""Tables in text (CSV, TSV, JSON, JSON lines) and in Parquet, as rows; what cannot be read is named by its line."""

import codecs
import csv
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from xgap_analysis.core.errors import XgapError, notice

SEPARATORS = ",\t;|"
ENCODINGS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16", codecs.BOM_UTF8: "utf-8-sig"}  # by mark
Row = Mapping[str, Any]


def read_rows(path: Path) -> list[Row]:
    """The rows of a table as mappings from column to value.

    Raises:
        XgapError: no such file, another format, no rows, a line that cannot be read (it is named), or a column name
            that is there twice.
    """
    if not path.is_file():
        raise XgapError(f"there is no file {path}")
    rows = _from_parquet(path) if path.suffix == ".parquet" else _from_text(path)
    wrong = next((row for row in rows if not isinstance(row, dict)), None)
    if wrong is not None:
        raise XgapError(f"{path} must hold one object of columns for each row, not {str(wrong)[:40]!r}")
    if not rows:
        raise XgapError(f"{path} has no rows")
    return rows


def _from_parquet(path: Path) -> list[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_table(path).to_pylist())
    except (OSError, pa.ArrowException) as error:
        raise XgapError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error


def _from_text(path: Path) -> list[Any]:
    text = _decoded(path)
    if path.suffix in (".csv", ".tsv", ".txt"):
        return list(_separated(text, path))
    if path.suffix == ".json":
        rows = _parsed(text, f"{path}")
        return rows if isinstance(rows, list) else [rows]
    lines = enumerate(text.split("\n"), start=1)  # a caption may hold what splitlines() takes for the end of a line
    return [_parsed(line, f"line {number} of {path}") for number, line in lines if line.strip()]


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
