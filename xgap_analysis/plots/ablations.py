"""What a setting of the training changes, as figures."""

from collections.abc import Sequence

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.metrics import seed_interval
from xgap_analysis.plots.estimates import points
from xgap_analysis.plots.style import BLUE, GREY, in_legend, line_styles, open_axes, own_axes, panels, plain


def over_settings(table: pd.DataFrame, quantities: Sequence[str], step: int | None = None) -> Figure:
    """Each quantity over the settings, a panel each: a ring for each seed, a dot and Student's 95 % interval for the
    mean over seeds. Differences have a line at zero.

    Args:
        table: of one ablation, from `Ablation.run`.
        quantities: as the table names them.
        step: the checkpoint; the last one of each run by default.

    Raises:
        XgapError: a quantity or a step that the table does not hold, or several ablations.

    Example:
        >>> import xgap_analysis as xg
        >>> table = xg.embedded_table("ablations")
        >>> figure = xg.plots.over_settings(table[table["ablation"] == "intra"], ["I-I", "modality_gap"])
        >>> len(figure.axes)
        2
    """
    if table["ablation"].nunique() > 1:
        raise XgapError("a figure shows one ablation; choose its rows first")
    chosen = _at(table, step)
    settings = list(dict.fromkeys(chosen["setting"]))
    columns = min(3, len(quantities))
    lines = -(-len(quantities) // columns)
    fig, axes = panels(lines, columns, 3.3 * columns, 2.5 * lines, sharex=True)
    for ax, quantity in zip(axes.flat, quantities, strict=False):
        rows = chosen[chosen["quantity"] == quantity]
        if rows.empty:
            raise unknown_name("quantity", quantity, chosen["quantity"].unique())
        over_seeds = [(name, *seed_interval(of["value"])) for name, of in rows.groupby("setting", sort=False)]
        means = pd.DataFrame(over_seeds, columns=["setting", "mean", "low", "high"])
        sns.stripplot(
            rows, x="setting", y="value", order=settings, jitter=False, size=5, color="white", edgecolor=GREY,
            linewidth=1, zorder=1, ax=ax,
        )  # fmt: skip
        points(ax, means, "setting", "mean", ("low", "high"), order=settings, orient="x", color=BLUE)
        if " - " in quantity:
            ax.axhline(0, color="black", lw=1)
        ax.set(xlabel="", ylabel="")
        ax.set_title(plain(quantity), fontsize=10)
        ax.set_xticks(range(len(settings)), [plain(name) for name in settings], fontsize=9)
    for ax in axes.flat[len(quantities) :]:
        ax.set_visible(False)
    fig.supxlabel(plain(table["ablation"].iloc[0]), fontsize=10)
    open_axes(axes.flat)
    return fig


def runs(table: pd.DataFrame, x: str, y: str, step: int | None = None, ax: Axes | None = None) -> Axes:
    """One quantity of each run over another: a mark per run, its shape and colour the ablation, its setting beside it.

    Args:
        table: from `Ablation.run`, of one ablation or several below each other.
        x, y: quantities.
        step: the checkpoint; the last one of each run by default.
        ax: where to draw; a new figure by default.

    Raises:
        XgapError: a quantity or a step that the table does not hold.

    Example:
        >>> import xgap_analysis as xg
        >>> ax = xg.plots.runs(xg.embedded_table("ablations"), "modality_gap", "I-I")
        >>> ax.get_xlabel()
        'modality_gap'
    """
    ax = own_axes(ax, 5, 3.5)
    wide = _at(table, step).pivot_table(
        index=["ablation", "setting", "seed"], columns="quantity", values="value", sort=False
    )
    for name in (x, y):
        if name not in wide:
            raise unknown_name("quantity", name, wide.columns)
    ablations = wide.index.get_level_values("ablation")
    for (colour, _, marker), name in zip(line_styles(), dict.fromkeys(ablations), strict=False):
        own = wide[ablations == name]
        look = {"s": 36, "color": colour, "marker": marker, "alpha": 0.8, "linewidth": 0, "label": in_legend(name)}
        sns.scatterplot(own, x=x, y=y, **look, legend=False, ax=ax)
        for setting, middle in own.groupby("setting", sort=False)[[x, y]].mean().iterrows():
            ax.annotate(
                plain(setting), tuple(middle), xytext=(5, 4), textcoords="offset points", fontsize=8, color=colour
            )
    if " - " in y:
        ax.axhline(0, color="black", lw=1)
    ax.set(xlabel=plain(x), ylabel=plain(y))
    ax.legend(frameon=False, fontsize=9)
    open_axes([ax])
    return ax


def _at(table: pd.DataFrame, step: int | None) -> pd.DataFrame:
    """The rows of one checkpoint, or of each run's last."""
    last = table.groupby(["ablation", "setting", "seed"])["step"].transform("max")
    chosen = table[table["step"] == (last if step is None else step)]
    if chosen.empty:
        raise XgapError(f"the table has no step {step}; it has: {', '.join(map(str, sorted(table['step'].unique())))}")
    return chosen
