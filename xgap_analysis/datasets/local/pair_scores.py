"""Tables of pairs with people's scores: STS-B as it is published, and tables of one's own."""

import csv
import hashlib
import io
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xgap_analysis.core.errors import XgapError, notice
from xgap_analysis.core.table_values import caption_texts, id_text, is_missing, plain
from xgap_analysis.datasets.items import AnyItems, Texts
from xgap_analysis.datasets.local.encodings import decoded
from xgap_analysis.datasets.local.records import split_named
from xgap_analysis.datasets.local.rows import cleaned, row_of
from xgap_analysis.datasets.local.tables import columns_of, read_rows
from xgap_analysis.datasets.pair_scores import PairScores

ENDS = (  # names that the two columns of items usually have, the likelier first
    ("sentence1", "sentence2"),
    ("sentence_1", "sentence_2"),
    ("sentence_a", "sentence_b"),
    ("text1", "text2"),
    ("text_1", "text_2"),
    ("s1", "s2"),
    ("item1", "item2"),
    ("id1", "id2"),
    ("first", "second"),
)
SCORES = ("score", "similarity_score", "relatedness_score", "similarity", "label", "rating", "gold")
SPLITS = ("split", "set", "partition", "subset")
ORIGINAL = ("genre", "filename", "year", "id", "score", "sentence1", "sentence2")  # of sts-train.csv, without a header
BARE = ("sentence1", "sentence2", "score")  # of a file of three columns without a header
FORMS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
NO_SCORE = -1.0  # what GLUE writes for a test pair whose score is not published
Row = Mapping[str, Any]


def load_pair_scores(
    path: Path | str,
    *,
    first: str | None = None,
    second: str | None = None,
    score: str | None = None,
    split: str | None = None,
    items: AnyItems | tuple[AnyItems, AnyItems] | None = None,
) -> PairScores:
    r"""Pairs of texts with people's scores, from a table or a folder of tables with one for each split.

    The layouts in which STS-B is published are known: GLUE's `train.tsv` and `dev.tsv`, the original `sts-train.csv`
    (tab-separated, without a header), and the tables on the Hugging Face hub (Parquet, CSV, JSON lines). Quotation
    marks are characters in the first two. In a folder, the names of the files say the splits.

    Equal texts are one item, in all splits. A pair that has no score (empty, NaN, a word for these, or GLUE's -1: where
    -1 is the only negative score, and others exceed 1 or there is no other in its split) or lacks a text is left out,
    and counted in a warning.

    Args:
        path: a `.csv`, `.tsv`, `.txt`, `.jsonl`, `.json` or `.parquet` file, or a folder.
        first, second, score, split: names of the columns, where they are not the usual ones.
        items: where the cells are ids of items that are there already (`data.images`, or a set for each end), those.

    Returns:
        All pairs; `.split("test")` gives those of a split.

    Raises:
        XgapError: nothing there, a row that cannot be read, no columns of pairs and scores, or no pair with a score.

    Example:
        >>> import pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "animals.csv"
        >>> _ = file.write_text("sentence1,sentence2,score\na cat,the cat,4.8\na cat,a car,0.5\n")
        >>> pairs = load_pair_scores(file)
        >>> pairs.scores.tolist(), pairs.items.captions
        ([4.8, 0.5], ('a cat', 'the cat', 'a car'))
    """
    path = Path(path).expanduser()
    given = {"first": first, "second": second, "score": score, "split": split}
    read = _read_id if items is not None else _read_text
    found: list[_Pair] = []
    for named, file in _files(path):
        rows = _rows(file)
        columns = _columns(columns_of(rows), file, given)
        for k, row in enumerate(rows):
            cells = {part: row.get(column) for part, column in columns.items()}
            of = cells.get("split")
            ends = [row_of(file, k, read, cells[end]) for end in ("first", "second")]
            value = row_of(file, k, _number, cells.get("score"))
            own = split_named(str(of)) or id_text(of) if not is_missing(of) else named
            found.append(_Pair(ends[0], ends[1], value, own))
    kept = _scored(found, path)
    return _assembled(kept, path, items)


@dataclass(frozen=True)
class _Pair:
    first: str | None
    second: str | None
    score: float | None
    split: str | None


def _assembled(pairs: Sequence[_Pair], path: Path, items: AnyItems | tuple[AnyItems, AnyItems] | None) -> PairScores:
    """Pairs as they were read, with one item for each text."""
    ends: list[tuple[str, str]] = [(str(p.first), str(p.second)) for p in pairs]
    if items is None:
        captions = [text for texts in cleaned(ends, path) for text in texts]
        ids = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in captions]
        ends = list(zip(ids[::2], ids[1::2], strict=True))
        text_of = dict(zip(ids, captions, strict=True))
        items = Texts(tuple(text_of), tuple(text_of.values()))
    name = path.stem if path.is_file() else path.resolve().name
    splits: dict[str, PairScores] = {}

    def part(split: str, chosen: Sequence[int]) -> PairScores:
        first, second = ([ends[k][end] for k in chosen] for end in (0, 1))
        scores = np.array([pairs[k].score for k in chosen], dtype=np.float64)
        return PairScores(first, second, scores, _used(items, first, second), name, split, splits)

    names = dict.fromkeys(p.split for p in pairs)
    if None in names and len(names) > 1:
        lost = sum(p.split is None for p in pairs)
        notice(f"{lost} of {len(pairs)} pairs of {path} name no split; they are in the split 'all' alone")
    whole = part(next(iter(names)) or "all" if len(names) == 1 else "all", range(len(pairs)))
    for split in names:
        if split is not None:
            splits[split] = part(split, [k for k, p in enumerate(pairs) if p.split == split])
    return whole


def _used(
    items: AnyItems | tuple[AnyItems, AnyItems], first: Sequence[str], second: Sequence[str]
) -> AnyItems | tuple[AnyItems, AnyItems]:
    """The items that stand in pairs."""
    if isinstance(items, tuple):
        return _of(items[0], first), _of(items[1], second)
    return _of(items, [*first, *second])


def _of(items: AnyItems, ids: Sequence[str]) -> AnyItems:
    used = set(ids)  # an id without an item is reported by `PairScores`
    return items.select(i for i in items.ids if i in used)


def _scored(pairs: Sequence[_Pair], path: Path) -> list[_Pair]:
    """The pairs that have two items and a score; the others are counted in a warning."""
    unscored = _unscored(pairs)
    left = [p for k, p in enumerate(pairs) if None not in (p.first, p.second, p.score) and k not in unscored]
    if not left:
        raise XgapError(f"{path} has no pair of two items and a score ({len(pairs)} rows were read)")
    if len(left) < len(pairs):
        texts = sum(p.first is None or p.second is None for p in pairs)
        scores = sum(p.score is None or k in unscored for k, p in enumerate(pairs))
        shown = f" ({len(unscored)} of them -1, which is read as missing)" if unscored else ""
        lost = sorted({p.split for p in pairs if p.split is not None} - {p.split for p in left})
        gone = f"; split {', '.join(lost)} has no pair left" if lost else ""
        what = f"{scores} of {len(pairs)} pairs of {path} have no score{shown} and {texts} lack an item"
        notice(f"{what}; they are left out{gone}")
    return left


def _unscored(pairs: Sequence[_Pair]) -> set[int]:
    """The places of scores of -1 that stand for none."""
    scores = [p.score for p in pairs if p.score is not None]
    if any(score < 0 and score != NO_SCORE for score in scores):
        return set()  # a scale that goes below zero
    beyond = any(score > 1 for score in scores)  # -1 is no end of this scale
    others = {p.split for p in pairs if p.score not in (None, NO_SCORE)}
    return {k for k, p in enumerate(pairs) if p.score == NO_SCORE and (beyond or p.split not in others)}


def _read_text(cell: Any) -> str | None:
    texts = caption_texts(cell)
    if len(texts) > 1:
        raise XgapError(f"{str(cell)[:60]} are {len(texts)} texts, and either end of a pair is one")
    return texts[0] if texts else None


def _read_id(cell: Any) -> str | None:
    return None if is_missing(cell) else id_text(cell)


def _number(cell: Any) -> float | None:
    """A score as a number, None where it is missing."""
    cell = plain(cell)
    if is_missing(cell):
        return None
    try:
        if isinstance(cell, bool):
            raise TypeError
        value = float(cell)
    except (TypeError, ValueError):
        raise XgapError(f"a score is a number, not {str(cell)[:60]!r}; score=... names another column") from None
    if not math.isfinite(value):
        raise XgapError(f"a score is a finite number, not {cell!r}")
    return value


def _files(path: Path) -> list[tuple[str | None, Path]]:
    """Split (by its name) and file, of every table.

    Raises:
        XgapError: nothing there, several forms of one table, or several tables of one split.
    """
    if path.is_file() and path.suffix not in (*FORMS, ".txt"):
        raise XgapError(f"{path} is none of the forms that are read: {', '.join(FORMS)}, .txt (unpacked)")
    if path.is_file():
        return [(_split_in(path.name), path)]
    if not path.is_dir():
        raise XgapError(f"there is no file or folder {path}")
    inside = [(file, file.relative_to(path)) for file in sorted(path.rglob("*")) if file.suffix in FORMS]
    seen = [(file, place) for file, place in inside if not any(part.startswith(".") for part in place.parts)]
    if not seen:
        raise XgapError(f"{path} holds no table of pairs ({', '.join(FORMS)})")
    depth = min(len(place.parts) for _, place in seen)
    files = [(_split_in(str(place)), file) for file, place in seen if len(place.parts) == depth]
    if len(files) < len(seen):
        notice(f"{len(seen) - len(files)} tables in folders within {files[0][1].parent} are not read")
    if len({file.suffix for _, file in files}) > 1:
        raise XgapError(f"{path} holds tables of several forms ({', '.join(f.name for _, f in files)}); name one file")
    for split, several in itertools.groupby(sorted(files, key=lambda f: f[0] or ""), key=lambda f: f[0]):
        names = [file for _, file in several]
        if len({re.sub(r"\d+", "0", file.name) for file in names}) > 1:  # parts of one table differ in numbers alone
            what = f"split {split!r}" if split else "no split in their names"
            raise XgapError(f"{path} holds several tables of {what}: {', '.join(f.name for f in names)}; name one file")
    return files


def _split_in(name: str) -> str | None:
    words = re.split(r"[-_./\\]", name)
    return next((split for word in words if (split := split_named(word))), None)


def _rows(file: Path) -> Sequence[Row]:
    """The rows of a table; those of the published layouts, which quote nothing or have no header, as they are."""
    if file.suffix == ".parquet":
        return _parquet_rows(file)
    if file.suffix not in (".csv", ".tsv", ".txt"):
        return read_rows(file)
    text, known = decoded(file.read_bytes())
    if not known:
        raise XgapError(f"{file} is not UTF-8 text; save it as UTF-8")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    top = next((k for k, line in enumerate(lines) if line.strip()), 0)
    cells = lines[top].split("\t")
    names = [cell.strip().lower() for cell in cells]
    if {"genre", *ENDS[0]} <= set(names):
        return _unquoted(lines, top + 1, names, file)
    if len(cells) >= len(ORIGINAL) and _is_number(cells[ORIGINAL.index("score")]):
        return _unquoted(lines, top, ORIGINAL, file)
    bare = next(csv.reader([lines[top][: csv.field_size_limit()]], skipinitialspace=True), [])
    if len(bare) == len(BARE) and _is_number(bare[BARE.index("score")]):
        return _without_header("\n".join(lines), file)
    return read_rows(file)


def _unquoted(lines: Sequence[str], start: int, names: Sequence[str], file: Path) -> list[Row]:
    """The rows of a tab-separated table in which quotation marks are characters."""
    rows: list[Row] = []
    for number, line in enumerate(lines[start:], start=start + 1):
        cells = line.split("\t")
        more = len(cells) > len(names) and names is not ORIGINAL  # the original may give a source behind a row
        if line.strip() and (more or len(cells) < len(names)):
            raise XgapError(f"line {number} of {file} has {len(cells)} cells, and a row has {len(names)}")
        if line.strip():
            rows.append(dict(zip(names, cells, strict=False)))
    if not rows:
        raise XgapError(f"{file} has no rows")
    return rows


def _without_header(text: str, file: Path) -> list[Row]:
    """The rows of a table of two texts and a score, separated by commas."""
    reader = csv.reader(io.StringIO(text), skipinitialspace=True, strict=True)
    rows: list[Row] = []
    try:
        for cells in reader:
            if cells and len(cells) != len(BARE):
                what = f"the row that ends on line {reader.line_num} of {file} has {len(cells)} cells"
                raise XgapError(f"{what}, and a row has {len(BARE)} ({', '.join(BARE)})")
            if cells:
                rows.append(dict(zip(BARE, cells, strict=True)))
    except csv.Error as error:
        raise XgapError(f"line {reader.line_num} of {file} cannot be read: {error}") from error
    return rows


def _parquet_rows(file: Path) -> list[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: list[Row] = pq.read_table(file).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise XgapError(f"{file} cannot be read: {str(error).splitlines()[0]}") from error
    if not rows:
        raise XgapError(f"{file} has no rows")
    return rows


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _columns(names: Sequence[str], file: Path, given: Mapping[str, str | None]) -> dict[str, str]:
    """Part of a pair to the name of its column; a table may lack the column of scores, or of splits.

    Raises:
        XgapError: a given name that no column has, or no two columns of items.
    """
    lower = {name.lower(): name for name in reversed(names)}
    usual = [ends for ends in ENDS if set(ends) <= set(lower)]
    found: dict[str, str | None] = dict(zip(("first", "second"), usual[0], strict=True)) if usual else {}
    found["score"] = next((name for name in SCORES if name in lower), None)
    found["split"] = next((name for name in SPLITS if name in lower), None)
    columns = {part: lower[name] for part, name in found.items() if name is not None}
    for part, name in given.items():
        if name is not None and name not in names:
            raise XgapError(f"{file} has no column {name!r} ({part}); it has: {', '.join(names)}")
        if name is not None:
            columns[part] = name
    if not {"first", "second"} <= set(columns):
        what = f"no two columns of {file} look like the items of pairs (it has: {', '.join(names)})"
        raise XgapError(f"{what}; name them, as in load_pair_scores(path, first=..., second=..., score=...)")
    scores = [lower[name] for name in SCORES if name in lower]
    if len(scores) > 1 and given["score"] is None:
        what = f"{file} has several columns that look like scores ({', '.join(scores)})"
        notice(f"{what}; {scores[0]!r} is read, and score=... names another")
    if "score" not in columns:
        notice(f"{file} has no column of scores (it has: {', '.join(names)}); score=... names it")
    return columns
