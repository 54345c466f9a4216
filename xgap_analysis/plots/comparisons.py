"""What a study found, as a figure."""

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.plots.estimates import points
from xgap_analysis.plots.style import VERDICT_MARKER, by_sign, differences_map, open_axes, own_axes, plain


def differences(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Paired differences from the baseline with their 95 % intervals, one line per comparison.

    The colour is the sign of the difference; the mark, filled where the result is conclusive, is the verdict, which
    stands beside it with Holm's p-value and the number of groups. Controls carry no verdict.

    Args:
        table: rows of `Study.run()`; the main measure of each comparison is drawn.
        ax: where to draw; a new figure by default.

    Example:
        >>> import xgap_analysis as xg
        >>> table = xg.embedded_table("study")
        >>> table = table[(table["model"] == "tiny") & (table["split"] == "test")]
        >>> ax = xg.plots.differences(table)
        >>> ax.get_xlabel()
        'paired difference (mAP or top-1 accuracy), 95 % interval'
    """
    rows = table[table["main"] & table["difference_low"].notna()]  # a mean over datasets has no interval
    if rows.empty:
        raise XgapError("the table holds no comparison with a baseline")
    ax = own_axes(ax, 7, 0.42 * len(rows) + 1)
    looks = []
    for height, row in enumerate(rows.to_dict("records")):
        colour, concluded = by_sign(row["difference"]), isinstance(row["verdict"], str)
        word = row["verdict"] if concluded else row["reason"] if isinstance(row["reason"], str) else ""
        fill = colour if concluded and word != "inconclusive" else "white"
        looks.append((colour, VERDICT_MARKER.get(word, "D"), fill))
        said = f"{word} (p {row['p_adjusted']:.3f}, {row['n_groups']:.0f} groups)"
        ax.annotate(said, (1.02, height), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    placed, ends = rows.assign(height=range(len(rows))), ("difference_low", "difference_high")
    for colour, marker, fill in dict.fromkeys(looks):
        alike = placed[[look == (colour, marker, fill) for look in looks]]
        points(
            ax, alike, "difference", "height", ends, color=colour, marker=marker, markerfacecolor=fill, markersize=8,
            markeredgewidth=1,
        )  # fmt: skip
    ax.axvline(0, color="black", lw=1)
    many_models, many_corrections = rows["model"].nunique() > 1, rows["correction"].nunique() > 1
    names = [
        f"{row['comparison']} − {row['baseline']}"
        + f" · {row['model']}" * many_models
        + f" · {row['correction']}" * many_corrections
        + f"\n{row['split']}" * (rows["split"].nunique() > 1)
        for row in rows.to_dict("records")
    ]
    ax.set_yticks(range(len(rows)), [plain(name) for name in names])
    ax.set(ylim=(len(rows) - 0.4, -0.6), ylabel="")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set_xlabel("paired difference (mAP or top-1 accuracy), 95 % interval")
    open_axes([ax])
    return ax


def values(table: pd.DataFrame, by: str = "model", ax: Axes | None = None) -> Axes:
    """The main measure of each comparison with its 95 % interval: one row per comparison, one mark for each of `by`.

    Args:
        table: rows of `Study.run()`; cells without a value are left out.
        by: the column that marks distinguish: `"model"`, `"dataset"`, `"split"` or `"correction"`.
        ax: where to draw; a new figure by default.

    Raises:
        XgapError: no values, several in one place, or an unknown column.

    Example:
        >>> import xgap_analysis as xg
        >>> table = xg.embedded_table("study")
        >>> table = table[(table["model"] == "tiny") & (table["split"] == "test")]
        >>> ax = xg.plots.values(table)
        >>> len(ax.lines) + len(ax.collections) > 0
        True
    """
    rows = table[table["main"] & table["value"].notna()]
    if rows.empty:
        raise XgapError("the table holds no value to draw")
    _check_column(rows, by)
    if rows.duplicated(["comparison", by]).any():
        raise XgapError(f"the table holds several values of one comparison and {by}; choose their rows first")
    comparisons, names = list(rows["comparison"].unique()), list(rows[by].unique())
    ax = own_axes(ax, 7, 0.3 * len(comparisons) + 0.1 * len(names) * len(comparisons) + 1)
    points(ax, rows, "value", "comparison", ("low", "high"), by=by, order=comparisons)
    ax.set_yticks(range(len(comparisons)), [plain(name) for name in comparisons])
    ax.grid(axis="x", color="#EEEEEE")
    ax.set_axisbelow(True)
    ax.set(xlabel="mAP or top-1 accuracy, 95 % interval", ylabel="")
    if len(names) > 1:
        ax.legend(frameon=False, title=plain(by), loc="upper left", bbox_to_anchor=(1.01, 1))
    open_axes([ax])
    return ax


def grid(table: pd.DataFrame, by: str | Sequence[str] = "correction", ax: Axes | None = None) -> Axes:
    """Corrections (or models) x comparisons: each cell's paired difference from the uncorrected baseline.

    Bold where Holm's adjusted p-value is below 0.05; a dagger marks a correction fitted on what is evaluated, and "n/a"
    a cell that could not be computed.

    Args:
        table: rows of `Study.run()`, of one model, dataset and split, or of one correction of several models.
        by: what the rows of the grid are: `"correction"`, `"model"`, another column, or several columns
            (`["model", "correction"]`).
        ax: where to draw; a new figure by default.

    Raises:
        XgapError: several values for one cell, or an unknown column.

    Example:
        >>> import xgap_analysis as xg
        >>> table = xg.embedded_table("study")
        >>> table = table[(table["model"] == "tiny") & (table["split"] == "test")]
        >>> ax = xg.plots.grid(table[table["comparison"] != table["baseline"]], by="model")
        >>> len(ax.texts) > 0  # one number per cell
        True
    """
    rows = table[table["main"]]
    columns = [by] if isinstance(by, str) else list(by)
    for column in columns:
        _check_column(rows, column)
    rows = rows.assign(line=[_joined(names) for names in rows[columns].itertuples(index=False)])
    comparisons, lines = list(rows["comparison"].unique()), list(rows["line"].unique())
    if rows.duplicated(["comparison", "line"]).any():
        what = " and ".join(columns)
        raise XgapError(
            f"a grid by {what} shows one value per cell (one dataset and split, say); choose its rows first"
        )
    square = rows.pivot(index="line", columns="comparison", values="difference").loc[lines, comparisons].astype(float)
    bound = np.nanmax(square.abs().to_numpy(), initial=0.0) or 1.0
    seen = set(rows.loc[rows["transductive"].astype(bool), "line"])
    ax = own_axes(ax, 0.85 * len(comparisons) + 2.5, 0.34 * len(lines) + 1)
    sns.heatmap(
        square, vmin=-bound, vmax=bound, cmap=differences_map(), annot=True, fmt="+.3f", annot_kws={"fontsize": 8},
        cbar=False, linewidths=1, xticklabels=[plain(name) for name in comparisons],
        yticklabels=[plain(f"{name} †" if name in seen else name) for name in lines], ax=ax,
    )  # fmt: skip
    written = {text.get_position(): text for text in ax.texts}
    for row in rows.to_dict("records"):
        x, y = comparisons.index(row["comparison"]) + 0.5, lines.index(row["line"]) + 0.5
        if row["difference"] != row["difference"]:  # seaborn leaves such a cell empty
            words = "n/a" if row["note"] else "base"
            ax.text(x, y, words, ha="center", va="center", fontsize=8)
        elif row["p_adjusted"] < 0.05:
            written[x, y].set_fontweight("bold")
    plt.setp(ax.get_xticklabels(), rotation=30, ha="right", rotation_mode="anchor", fontsize=9)
    plt.setp(ax.get_yticklabels(), rotation=0, fontsize=8)
    ax.set(xlabel="", ylabel="")
    ax.tick_params(length=0)
    return ax


def _joined(names: Iterable[object]) -> str:
    """The names of a line, without those that it does not have, such as an option of other views."""
    return " · ".join(str(name) for name in names if not pd.isna(name))


def _check_column(rows: pd.DataFrame, name: str) -> None:
    if name not in rows:
        raise unknown_name("column of the table", name, list(rows.columns))
