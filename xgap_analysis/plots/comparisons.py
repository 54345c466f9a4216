"""What a study found, as a figure."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from xgap_analysis.errors import XgapError
from xgap_analysis.plots.style import VERDICT_STYLE, open_axes


def differences(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Paired differences from the baseline with their 95 % intervals, one line a comparison.

    Args:
        table: rows of `Study.run()`; the main measure of each comparison is drawn.
        ax: where to draw; a new figure by default.
    """
    rows = table[table["main"] & table["difference"].notna()].iloc[::-1]
    if rows.empty:
        raise XgapError("the table holds no comparison with a baseline")
    ax = ax or plt.subplots(figsize=(7, 0.5 * len(rows) + 1.2), layout="constrained")[1]
    for height, row in enumerate(rows.to_dict("records")):
        colour, marker = VERDICT_STYLE[row["verdict"]]
        ax.plot([row["difference_low"], row["difference_high"]], [height, height], color=colour, lw=2)
        ax.plot(row["difference"], height, marker, color=colour, ms=8)
        ax.annotate(
            row["verdict"], (1.02, height), xycoords=("axes fraction", "data"), va="center", fontsize=9, color=colour
        )
    ax.axvline(0, color="black", lw=1)
    many_models, many_corrections = rows["model"].nunique() > 1, rows["correction"].nunique() > 1
    names = [
        f"{row['comparison']} − {row['baseline']}"
        + f" · {row['model']}" * many_models
        + f" · {row['correction']}" * many_corrections
        + f"\n{row['split']}" * (rows["split"].nunique() > 1)
        for row in rows.to_dict("records")
    ]
    ax.set_yticks(range(len(rows)), names)
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.set_xlabel("paired difference (mAP or top-1 accuracy), 95 % interval")
    open_axes([ax])
    return ax


def grid(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Comparisons x corrections of one model: each cell's paired difference from the uncorrected baseline, times 100.

    Bold where Holm's adjusted p-value is below 0.05; a dagger marks a correction fitted on what is judged, and "n/a" a
    cell that could not be computed.

    Args:
        table: rows of `Study.run()` of one model, data set and split.
        ax: where to draw; a new figure by default.
    """
    rows = table[table["main"]]
    comparisons, corrections = list(rows["comparison"].unique()), list(rows["correction"].unique())
    if rows.duplicated(["comparison", "correction"]).any():
        raise XgapError("a grid shows one model, data set and split; choose the rows of one first")
    cells = {(row["comparison"], row["correction"]): row for row in rows.to_dict("records")}
    values = [[cells[c, k]["difference"] * 100 for c in comparisons] for k in corrections]
    bound = max((abs(x) for line in values for x in line if x == x), default=1.0)
    size = (0.85 * len(comparisons) + 2.5, 0.34 * len(corrections) + 1)
    ax = ax or plt.subplots(figsize=size, layout="constrained")[1]
    ax.imshow(values, cmap="PuOr_r", vmin=-bound, vmax=bound, aspect="auto", alpha=0.8)
    for y, correction in enumerate(corrections):
        for x, comparison in enumerate(comparisons):
            row = cells[comparison, correction]
            difference = row["difference"] * 100
            words = f"{difference:+.1f}" if difference == difference else ("n/a" if row["note"] else "base")
            weight = "bold" if row["p_adjusted"] < 0.05 else "normal"
            dark = "white" if abs(difference) > 0.75 * bound else "black"
            ax.text(x, y, words, ha="center", va="center", fontsize=8, fontweight=weight, color=dark)
    seen = {row["correction"] for row in rows.to_dict("records") if row["transductive"]}
    ax.set_yticks(range(len(corrections)), [f"{name} †" if name in seen else name for name in corrections], fontsize=8)
    ax.set_xticks(range(len(comparisons)), comparisons, rotation=30, ha="right", fontsize=9)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax
