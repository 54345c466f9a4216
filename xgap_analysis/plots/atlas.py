"""What published systems change, side by side."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from xgap_analysis.core.errors import XgapError
from xgap_analysis.plots.estimates import points
from xgap_analysis.plots.style import GREY, HIGHER, LOWER, open_axes, panels, plain

LINEAR = 0.01  # changes up to this size are on a linear scale, others on a logarithmic one
LINE = ("kind", "system", "setting")
HEADINGS = {
    "modality_gap": "gap",
    "misalignment_image": "misalignment\nof images",
    "misalignment_text": "misalignment\nof texts",
}


def atlas(table: pd.DataFrame) -> Figure:
    """Changes with their 95 % intervals: a line for each system, under the way it acts, and a panel for each quantity.

    Coloured and filled where there is a verdict, grey and open where the change is inconclusive; a small dot where a
    system does not act on a quantity, nothing where it does not define it. The scale is linear up to 0.01 and
    logarithmic beyond, the same in all panels. Less gap and misalignment is better, and more retrieval.

    Args:
        table: from `experiments.atlas.atlas`.

    Raises:
        XgapError: a table without a change.

    Example:
        >>> import xgap_analysis as xg
        >>> figure = xg.plots.atlas(xg.embedded_table("atlas"))
        >>> figure.axes[0].get_title()
        'gap'
    """
    if table["difference"].notna().sum() == 0:
        raise XgapError("the table holds no change to draw")
    lines = list(dict.fromkeys(zip(*(table[c] for c in LINE), strict=True)))
    kinds = list(dict.fromkeys(kind for kind, _, _ in lines))
    lines.sort(key=lambda line: kinds.index(line[0]))  # a kind may come from several tables
    heights = {line: -place - 1.4 * kinds.index(line[0]) for place, line in enumerate(lines)}
    quantities = list(dict.fromkeys(table["quantity"]))
    size = 1.5 * len(quantities) + 2.2, 0.2 * (len(lines) + 1.4 * len(kinds)) + 1
    fig, axes = panels(1, len(quantities), *size, sharex=True, sharey=True)
    placed = table.assign(height=[heights[line] for line in zip(*(table[c] for c in LINE), strict=True)])
    for ax, quantity in zip(axes.flat, quantities, strict=True):
        _marks(ax, placed[placed["quantity"] == quantity])
        ax.set(xlabel="", ylabel="")
        ax.axvline(0, color="black", lw=0.8, zorder=0)
        ax.set_title(plain(HEADINGS.get(quantity, quantity)), fontsize=10)
    first = axes.flat[0]
    first.set_yticks(list(heights.values()), [plain(system) for _, system, _ in heights], fontsize=8.5)
    first.set_ylim(min(heights.values()) - 0.7, 1.6)
    for kind in kinds:
        top = max(height for line, height in heights.items() if line[0] == kind)
        first.annotate(
            plain(kind), (-0.03, top + 1.05), xycoords=("axes fraction", "data"), ha="right", va="center",
            fontsize=8.5, fontweight="bold",
        )  # fmt: skip
    _scale(first, table)
    for ax in axes.flat:
        ax.tick_params(axis="x", labelsize=7.5, rotation=90)
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="y", color="#F0F0F0", lw=0.8)
        ax.set_axisbelow(True)
    open_axes(axes.flat)
    fig.supxlabel("change, 95 % interval (filled: a verdict; open: inconclusive; small dot: not acted on)", fontsize=9)
    return fig


def _marks(ax: Axes, rows: pd.DataFrame) -> None:
    still = rows[rows["reason"] == "not acted on"]
    ax.plot(np.zeros(len(still)), still["height"], ".", color=GREY, ms=3)
    verdict = rows["verdict"].isin(["higher", "lower"])
    kinds = (
        (rows[verdict & (rows["difference"] >= 0)], HIGHER, HIGHER, 1.8),
        (rows[verdict & (rows["difference"] < 0)], LOWER, LOWER, 1.8),
        (rows[~verdict], GREY, "white", 1.0),
    )
    for part, colour, fill, width in kinds:
        look: dict[str, Any] = {"color": colour, "markerfacecolor": fill, "markersize": 4.5, "markeredgewidth": 1}
        points(ax, part, "difference", "height", ("low", "high"), **look, err_kws={"linewidth": width})


def _scale(ax: Axes, table: pd.DataFrame) -> None:
    ax.set_xscale("symlog", linthresh=LINEAR, linscale=0.7)
    furthest = float(np.nanmax(table[["low", "high", "difference"]].abs().to_numpy(float)))
    ax.set_xlim(-1.2 * furthest, 1.2 * furthest)
    ticks = [tick for tick in (0.01, 0.1, 1.0) if tick < 1.2 * furthest]
    ax.xaxis.set_major_locator(FixedLocator([-tick for tick in ticks[::-1]] + [0.0] + ticks))
    ax.xaxis.set_minor_locator(FixedLocator([]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:+g}" if x else "0"))
