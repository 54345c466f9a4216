"""Result tables for the eye: the main measure of every comparison, each number with its interval."""

from collections.abc import Mapping, Sequence

import pandas as pd

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.paths import data_root
from xgap_analysis.experiments.axes import SETTINGS

EMBEDDED = {  # tables that are shipped: name to place
    "study": "models/study.parquet",
    "gaps": "models/gaps.parquet",
    "ablations": "ablations/results.parquet",
    "objectives": "objectives/results.parquet",
    "adapters": "adapters/results.parquet",
    "tiny-3": "spoken/together.parquet",
    "mixed": "mixed/results.csv",
    "type-one": "statistics/type_one.csv",
    "atlas": "atlas/results.parquet",
}
POWER = {"design_effect": ("design effect", 2), "detectable": ("smallest effect", None)}  # heading, digits
ABOUT = ("model", "dataset", "split", "comparison", "correction", "scorer", "metric")


def main_results(table: pd.DataFrame, digits: int = 3) -> list[dict[str, str]]:
    """The main rows of a study's table as words: what was compared, its value and its difference from the baseline.

    Args:
        table: from `Study.run()`, or several of them one below the other; columns that are missing are left out.
        digits: behind the decimal point.

    Returns:
        One mapping from heading to text for each row. Scores are in [0, 1]; intervals are 95 %; the difference is
        paired, from the comparison that `vs` names, with its p-value and Holm's over the family of the study;
        "transductive" marks a correction fitted on what is evaluated. `reason` says why a verdict is inconclusive, that
        a row is of a control, or why a cell could not be computed. "best" says which variant of a baseline is best, and
        which are tied with it; "smallest effect" is the difference that the test would have seen four times out of
        five. Where the table has figures of papers, they stand under "published", with their source, or with what keeps
        one from being compared.
    """
    main = table[table["main"].astype(bool)] if "main" in table else table
    noted = any(map(_words, main.get("published_note", ())))
    axes = [name for name in main if "." in name or (name in SETTINGS and main[name].nunique(dropna=False) > 1)]
    about = [name for name in (*ABOUT[:-1], *axes, ABOUT[-1]) if name in main]
    if "scorer" in about and set(main["scorer"]) == {"cosine"}:
        about.remove("scorer")
    printed = "published" in main and (noted or bool(main["published"].notna().any()))
    rows = []
    for row in main.to_dict("records"):
        words = {name: _cell(row[name]) for name in about}
        if row.get("transductive") is True and "correction" in words:
            words["correction"] += " (transductive)"
        words["value"] = _interval(row, "value", "low", "high", digits)
        words["difference"] = _interval(row, "difference", "difference_low", "difference_high", digits, sign="+")
        words["vs"] = str(row.get("baseline", "")) if words["difference"] else ""
        words["p"], words["p adjusted"] = (_number(row.get(name), 4) for name in ("p_value", "p_adjusted"))
        verdict, reason = row.get("verdict"), row.get("reason")
        words["verdict"] = _words(verdict)
        why = (_words(reason), "" if words["verdict"] else _cell(row.get("note", "")))
        words["reason"] = "; ".join(filter(None, why))
        words["queries"] = str(row.get("n_queries", ""))
        words["groups"] = _cell(row.get("n_groups", ""))
        for name, (heading, fixed) in POWER.items():
            if name in main:
                words[heading] = _number(row[name], fixed or digits)
        if "against_best" in main:
            words["best"] = _words(row["against_best"])
        if printed:
            words["published"] = _interval(row, "published", "", "", digits)
            words["source"] = _words(row["published_source"]) or _words(row.get("published_note"))
        rows.append(words)
    return rows


def summary(table: pd.DataFrame, digits: int = 3) -> pd.DataFrame:
    """The main rows of a study's table for reading: one row per comparison, each number with its interval.

    What is the same in all rows (the model, the dataset, ...) is left out.

    Args:
        table: from `Study.run()`, or several of them one below the other; or from `gap_table`.
        digits: behind the decimal point.

    Returns:
        Words, indexed by comparison; see `main_results` for the columns. Of a gap table, indexed by measure, with a
        column for each pair of modalities.

    Example:
        >>> import xgap_analysis as xg
        >>> table = xg.embedded_table("study")
        >>> xg.summary(table[table["model"] == "tiny"]).columns.tolist()[:5]
        ['split', 'metric', 'value', 'difference', 'vs']
    """
    if {"x", "y", "measure"} <= set(table):
        return _gap_summary(table, digits)
    rows = pd.DataFrame(main_results(table, digits))
    alike = [name for name in ABOUT if name in rows and name != "comparison" and rows[name].nunique() < 2]
    return rows.drop(columns=alike).set_index("comparison") if "comparison" in rows else rows.drop(columns=alike)


def _gap_summary(table: pd.DataFrame, digits: int) -> pd.DataFrame:
    """One row per measure and one column per pair of modalities."""
    differing = [name for name in ABOUT if name in table and table[name].nunique() > 1]
    words = [_interval(row, "value", "low", "high", digits) for row in table.to_dict("records")]
    named = table.assign(pair=table["x"] + "-" + table["y"], words=words)
    wide = named.pivot(index=[*differing, "measure"], columns="pair", values="words")
    order = named.set_index([*differing, "measure"]).index.unique()
    return wide.loc[order, list(dict.fromkeys(named["pair"]))].rename_axis(columns=None)


def as_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as aligned columns under their headings; the headings are those of the first row."""
    if not rows:
        return "(nothing)"
    lines = [list(rows[0]), *([_cell(row[name]) for name in rows[0]] for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def as_markdown(words: pd.DataFrame) -> str:
    """A table of words, with its index, as a page in Markdown shows it."""
    head = [str(words.index.name or ""), *map(str, words.columns)]
    lines = [head, ["---"] * len(head), *([str(name), *map(_cell, row)] for name, *row in words.itertuples())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _interval(row: Mapping[str, object], middle: str, low: str, high: str, digits: int, sign: str = "") -> str:
    numbers = [row.get(name) for name in (middle, low, high)]
    words = [_number(x, digits, sign) for x in numbers]
    return "{} [{}, {}]".format(*words) if all(words) else words[0]


def _words(value: object) -> str:
    return value if isinstance(value, str) else ""  # tables without the column, below others that have it


def _number(value: object, digits: int, sign: str = "") -> str:
    return "" if value is None or pd.isna(value) else f"{value:{sign}.{digits}f}"


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return ""
    if isinstance(value, float) and value.is_integer():  # a count, in a column that lacks some
        return str(int(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(str(value).split())


def main_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of each comparison's main measure only.

    Example:
        >>> import xgap_analysis as xg
        >>> rows = xg.main_rows(xg.embedded_table("study"))
        >>> bool(rows["main"].all())  # one metric per comparison: the one that verdicts are about
        True
    """
    return table[table["main"].astype(bool)].reset_index(drop=True)


def embedded_table(name: str) -> pd.DataFrame:
    """A table that is shipped with the embedded default, as the script beside it wrote it.

    Args:
        name: `"study"` (every comparison of the embedded models on all held-out concepts; columns of `Study.run`),
            `"gaps"` (their geometry), or, with one row per number (see `experiments.ablations`), `"ablations"`,
            `"objectives"` and `"adapters"` (the settings of `xgap study --table objectives` and `adapters`),
            `"tiny-3"` (three modalities trained together); `"mixed"` (images and texts in one ranking), `"type-one"`
            (how often our tests find a difference where there is none), or `"atlas"` (what each published system
            changes; columns of `experiments.atlas.atlas`).

    Raises:
        XgapError: an unknown table, or an installation without it.

    Example:
        >>> import xgap_analysis as xg
        >>> table = xg.embedded_table("study")
        >>> sorted(table["model"].unique())[:3]
        ['tiny', 'tiny-intra', 'tiny-nogap']
    """
    if name not in EMBEDDED:
        raise unknown_name("embedded table", name, EMBEDDED)
    path = data_root() / EMBEDDED[name]
    if not path.exists():
        raise XgapError(f"{path} is missing; restore it from the repository, or run the script beside it")
    return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
