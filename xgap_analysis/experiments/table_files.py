"""Tables as files: every row for programs (.parquet, .csv), or the main rows for a paper (.tex, .md)."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.paths import results_folder
from xgap_analysis.core.writing import written_whole
from xgap_analysis.experiments.tables import as_markdown, main_results, main_rows

ROWS = ("dataset", "split", "comparison", "correction", "scorer", "metric")  # what a row of a printed table is about
FIRST = ("dataset", "comparison")  # said of each row, also where all are alike


def save_table(table: pd.DataFrame, path: Path | str) -> Path:
    """Write a table, whole or not at all, in the format of the file's ending.

    `.parquet` and `.csv` have every row and column (a CSV file holds lists as texts). `.tex` (with booktabs and
    multirow) and `.md` have the main rows of a study for a paper: datasets as groups of rows, models as columns, each
    value with its interval, and in bold the largest of several values of one comparison on a dataset.

    Args:
        table: from `Study.run()` or `Study.gaps()`.
        path: where; a bare file name goes to the results folder (`core.paths.results_folder`).

    Raises:
        XgapError: a place that cannot be written, another ending, or a `.tex` or `.md` file of a table without main
            rows.

    Example:
        >>> import xgap_analysis as xg
        >>> xg.save_table(xg.embedded_table("study").head(2), "table.parquet").name
        'table.parquet'
    """
    path = Path(path)
    check_table_file(path)
    bare = path.name == str(path)
    if bare:
        path = results_folder() / path
    try:
        with written_whole(path, "this table") as temporary:
            WRITERS[path.suffix](table, temporary)
    except XgapError as error:
        raise XgapError(f"{error}; XGAP_RESULTS names another folder for results") if bare else error from error
    return path


def check_table_file(path: Path) -> None:
    """Raise if a table cannot be written in the format of this file's ending."""
    if path.suffix not in WRITERS:
        raise XgapError(f"a table is written as {', '.join(WRITERS)}, and {str(path)!r} is none of them")


def printed(table: pd.DataFrame, bold: Callable[[str], str]) -> pd.DataFrame:
    """The main rows for a page: indexed by what they are about (what is the same in all rows is left out, but for the
    dataset and the comparison), a column for each model, values with intervals.

    Args:
        table: from `Study.run()`.
        bold: makes a text bold.

    Raises:
        XgapError: no main rows, as in a table of gaps or of training runs.
    """
    if not {"main", "model", *ROWS} <= set(table):
        raise XgapError("a page holds the main rows of a study; write other tables as .parquet or .csv")
    main, words = main_rows(table), pd.DataFrame(main_results(table))
    axes = [name for name in words if "." in name]
    kept = [n for n in (*ROWS[:-1], *axes, ROWS[-1]) if n in words and (n in FIRST or words[n].nunique() > 1)]
    rivals = main.groupby(["dataset", "split", "comparison", "metric"])["value"]
    is_best = (main["value"] == rivals.transform("max")) & (rivals.transform("count") > 1)
    cells = words["value"].mask(words["value"] == "", "–").where(~is_best, words["value"].map(bold))
    page = words[kept].assign(model=words["model"], cell=cells)
    wide = page.pivot_table(index=kept, columns="model", values="cell", aggfunc="; ".join, sort=False, fill_value="")
    return wide.rename_axis(columns=None)


def _as_tex(table: pd.DataFrame, path: Path) -> None:
    wide = printed(table, lambda text: f"\x01{text}\x02")  # marks that escaping leaves as they are
    named = wide.rename_axis(index=[name.replace("_", r"\_") for name in wide.index.names])
    page = named.style.format(escape="latex").format_index(escape="latex").format_index(escape="latex", axis=1)
    columns = "l" * wide.index.nlevels + "c" * wide.shape[1]
    text = page.to_latex(hrules=True, multirow_align="t", clines="skip-last;index", column_format=columns)
    path.write_text(text.replace("\x01", r"\textbf{").replace("\x02", "}"), encoding="utf-8")


def _as_markdown(table: pd.DataFrame, path: Path) -> None:
    wide = printed(table, lambda text: f"**{text}**").reset_index()
    path.write_text(as_markdown(wide.set_index(wide.columns[0])) + "\n", encoding="utf-8")


WRITERS: Mapping[str, Callable[[pd.DataFrame, Path], None]] = {
    ".parquet": lambda table, path: table.to_parquet(path),
    ".csv": lambda table, path: table.to_csv(path, index=False),
    ".tex": _as_tex,
    ".md": _as_markdown,
}
