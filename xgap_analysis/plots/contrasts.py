"""What each setting of an ablation changes in one quantity, against what it changes in another."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from xgap_analysis.core.errors import unknown_name
from xgap_analysis.plots.style import GREY, by_sign, open_axes, panels, plain


def trade_offs(changes: pd.DataFrame, x: str, ys: Sequence[str]) -> Figure:
    """Changes of quantities over the change of another, a panel each and a dot a setting.

    The control is where both lines are zero. How to read it: a thick bar is Student's 95 % interval over seeds, a thin
    one the bootstrap over groups of queries. A setting at the right is better in x than the control, one above it has
    more of y; names stand in the order of y.

    Args:
        changes: from `experiments.contrasts.contrasts`.
        x, ys: quantities.

    Raises:
        XgapError: a quantity that the table does not hold.
    """
    known = set(changes["quantity"])
    for quantity in (x, *ys):
        if quantity not in known:
            raise unknown_name("quantity", quantity, known)
    fig, axes = panels(1, len(ys), 5.6 * len(ys), 4.4)
    across = changes[changes["quantity"] == x].set_index("setting")
    for ax, y in zip(axes.flat, ys, strict=True):
        up = changes[changes["quantity"] == y].set_index("setting").sort_values("change")
        at = across.loc[up.index]
        ax.axhline(0, color="black", lw=0.8)
        ax.axvline(0, color="black", lw=0.8)
        for low, high, width in (("queries_low", "queries_high", 0.8), ("low", "high", 2.4)):
            ax.hlines(up["change"], at[low], at[high], color=GREY, lw=width)
            ax.vlines(at["change"], up[low], up[high], color=GREY, lw=width)
        for place, (setting, value) in enumerate(up["change"].items()):
            ax.plot(at["change"][setting], value, "o", color=by_sign(value), ms=6, zorder=3)
            height = 0.5 if len(up) == 1 else place / (len(up) - 1)
            ax.annotate(
                plain(setting), (at["change"][setting], value), (1.04, height), textcoords="axes fraction",
                va="center", fontsize=9, arrowprops={"arrowstyle": "-", "color": GREY, "lw": 0.5},
            )  # fmt: skip
        ax.set(xlabel=f"{plain(x)}, change", ylabel=f"{plain(y)}, change")
    open_axes(axes.flat)
    return fig
