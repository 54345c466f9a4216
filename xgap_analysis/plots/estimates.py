"""Curves, points and densities of numbers that were computed before: seaborn draws them, and estimates nothing anew."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from xgap_analysis.core.errors import XgapError
from xgap_analysis.plots.style import in_legend, line_styles

Ends = tuple[str, str]  # the columns of an interval
MARKS: dict[str, Any] = {"markersize": 6, "markeredgewidth": 0, "err_kws": {"linewidth": 2}}


def curves(
    ax: Axes, table: pd.DataFrame, x: str, y: str, by: str, ends: Ends | None = None, marked: bool = True
) -> None:
    """A line over x for each value of a column, in the order of the table, with its name for the legend.

    Args:
        ax: where to draw.
        table: one row for each point; rows without a value or a place are left out.
        x, y, by: columns.
        ends: the columns between which a band lies.
        marked: each point has a mark.
    """
    rows = table[table[[x, y]].notna().all(axis=1)].assign(**{by: lambda of: of[by].astype(str)})
    if rows.empty:
        return
    names, drawn = list(dict.fromkeys(rows[by])), len(ax.lines)
    look = dict(zip(names, line_styles(), strict=False))
    sns.lineplot(
        _with_ends(rows.sort_values(x, kind="stable"), y, ends), x=x, y=y, hue=by, style=by, hue_order=names,
        style_order=names, sort=False, legend=False,  # without orders, lines are drawn by who has the first place
        palette={name: colour for name, (colour, _, _) in look.items()},
        dashes={name: dashes for name, (_, dashes, _) in look.items()},
        markers={name: marker for name, (_, _, marker) in look.items()} if marked else False,
        linewidth=1.5, markersize=4.5, markeredgewidth=0, err_kws={"alpha": 0.15, "linewidth": 0},
        **_given(ends), ax=ax,
    )  # fmt: skip
    for line, name in zip(ax.lines[drawn:], names, strict=True):
        line.set_label(in_legend(name))


def points(
    ax: Axes,
    table: pd.DataFrame,
    x: str,
    y: str,
    ends: Ends,
    by: str | None = None,
    order: Sequence[str] | None = None,
    orient: str = "y",
    **look: Any,
) -> None:
    """A mark with its interval for each row of a table.

    Args:
        ax: where to draw.
        table: one row for each mark; rows without a value are left out.
        x, y: columns, one of the values and one of the places.
        ends: the columns of the interval's ends.
        by: the column that marks are distinguished by; they stand beside each other, with their names for the legend.
        order: of places that are names; without it they are numbers.
        orient: the axis of the places, `"x"` or `"y"`.
        look: of the marks, where `by` does not determine it.
    """
    value = x if orient == "y" else y
    rows = table[table[value].notna()]
    drawn, names = len(ax.lines), []
    if by is not None:
        rows = rows.assign(**{by: rows[by].astype(str)})
        names = list(dict.fromkeys(rows[by]))
        styles = [style for _, style in zip(names, line_styles(), strict=False)]
        look |= {"palette": [colour for colour, _, _ in styles], "markers": [marker for _, _, marker in styles]}
        look |= {"hue_order": names, "dodge": 0.7 * (len(names) - 1) / len(names) if len(names) > 1 else False}
    sns.pointplot(
        _with_ends(rows, value, ends), x=x, y=y, hue=by, order=order, native_scale=order is None, orient=orient,
        legend=False, linestyle="none", **{**MARKS, **look}, **_given(ends), ax=ax,
    )  # fmt: skip
    marks = [line for line in ax.lines[drawn:] if line.get_marker() not in ("None", "")]
    for line, name in zip(marks, names, strict=False):
        line.set_label(in_legend(name))


def density(ax: Axes, heights: pd.Series, colour: str, line: Any, alpha: float, label: str) -> None:
    """The outline of a histogram of integral 1, indexed by the centres of equal bins."""
    centres = heights.index.to_numpy(float)
    edges = np.append(centres, 2 * centres[-1] - centres[-2]) - (centres[1] - centres[0]) / 2
    sns.histplot(
        pd.DataFrame({"x": centres, "height": heights.to_numpy()}), x="x", weights="height", bins=list(edges),
        stat="density", element="poly", color=colour, alpha=alpha, linestyle=line, linewidth=1.5, label=label, ax=ax,
    )  # fmt: skip


def _with_ends(rows: pd.DataFrame, value: str, ends: Ends | None) -> pd.DataFrame:
    """Each row three times: with the value, and with the two ends of its interval (or the value where it has none)."""
    if ends is None:
        return rows
    others = [rows.assign(**{value: rows[end].fillna(rows[value])}) for end in ends]
    return pd.concat([rows, *others], ignore_index=True)


def _given(ends: Ends | None) -> dict[str, Any]:
    """How seaborn estimates a value and its interval from these three: it takes them as they are."""
    if ends is None:
        return {"estimator": None, "errorbar": None}
    return {"estimator": _value, "errorbar": lambda three: tuple(three.iloc[1:])}


def _value(three: pd.Series) -> float:
    if len(three) != 3:
        raise XgapError("the table holds several values in one place of the figure; choose their rows first")
    return float(three.iloc[0])
