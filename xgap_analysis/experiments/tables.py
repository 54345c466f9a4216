"""Result tables for the eye: the main measure of every comparison, each number with its interval."""

from collections.abc import Mapping, Sequence

import pandas as pd

ABOUT = ("model", "dataset", "split", "comparison", "correction", "tokens", "step", "metric")


def main_results(table: pd.DataFrame, digits: int = 3) -> list[dict[str, str]]:
    """The main rows of a study's table as words: what was compared, its value and its difference from the baseline.

    Args:
        table: from `Study.run()`, or several of them one below the other; columns that are missing are left out.
        digits: behind the decimal point.

    Returns:
        One mapping from heading to text for each row. Scores are in [0, 1]; intervals are 95 %; the difference is
        paired, from the comparison that `vs` names, with its p-value and Holm's over the family of the study;
        "transductive" marks a correction fitted on what is judged. `reason` says why a verdict is inconclusive, or
        that a row is of a control. A cell that could not be computed says why in place of a verdict. Where the table
        has figures of papers, they stand under "published", with their source, or with what keeps one from being
        compared.
    """
    main = table[table["main"].astype(bool)] if "main" in table else table
    found = [name for name in ABOUT if name in main]
    noted = any(map(_words, main.get("published_note", ())))
    printed = "published" in main and (noted or bool(main["published"].notna().any()))
    rows = []
    for row in main.to_dict("records"):
        words = {name: _cell(row[name]) for name in found}
        if row.get("transductive") is True and "correction" in words:
            words["correction"] += " (transductive)"
        words["value"] = _interval(row, "value", "low", "high", digits)
        words["difference"] = _interval(row, "difference", "difference_low", "difference_high", digits, sign="+")
        words["vs"] = str(row.get("baseline", "")) if words["difference"] else ""
        words["p"], words["p adjusted"] = (_p_value(row.get(name)) for name in ("p_value", "p_adjusted"))
        verdict, reason = row.get("verdict"), row.get("reason")
        words["verdict"] = verdict if isinstance(verdict, str) else _cell(row.get("note", ""))
        words["reason"] = reason if isinstance(reason, str) else ""
        words["queries"] = str(row.get("n_queries", ""))
        words["groups"] = _cell(row.get("n_groups", ""))
        if printed:
            words["published"] = _interval(row, "published", "", "", digits)
            words["source"] = _words(row["published_source"]) or _words(row.get("published_note"))
        rows.append(words)
    return rows


def summary(table: pd.DataFrame, digits: int = 3) -> pd.DataFrame:
    """The main rows of a study's table for reading: one row a comparison, each number with its interval.

    What is the same in all rows (the model, the data set, ...) is left out.

    Args:
        table: from `Study.run()`, or several of them one below the other.
        digits: behind the decimal point.

    Returns:
        Words, indexed by comparison; see `main_results` for the columns.
    """
    rows = pd.DataFrame(main_results(table, digits))
    told = [name for name in ABOUT if name in rows and name != "comparison" and rows[name].nunique() < 2]
    return rows.drop(columns=told).set_index("comparison") if "comparison" in rows else rows.drop(columns=told)


def as_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as aligned columns under their headings; the headings are those of the first row."""
    if not rows:
        return "(nothing)"
    lines = [list(rows[0]), *([_cell(row[name]) for name in rows[0]] for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def _interval(row: Mapping[str, object], middle: str, low: str, high: str, digits: int, sign: str = "") -> str:
    numbers = [row.get(name) for name in (middle, low, high)]
    words = ["" if x is None or pd.isna(x) else f"{x:{sign}.{digits}f}" for x in numbers]
    return "{} [{}, {}]".format(*words) if all(words) else words[0]


def _words(value: object) -> str:
    return value if isinstance(value, str) else ""  # tables without the column, below others that have it


def _p_value(value: object) -> str:
    return "" if value is None or pd.isna(value) else f"{value:.4f}"


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return ""
    if isinstance(value, float) and value.is_integer():  # a count, in a column that lacks some
        return str(int(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(str(value).split())
