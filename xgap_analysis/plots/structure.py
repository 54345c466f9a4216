"""How alike several models see the same items, as figures."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from xgap_analysis.core.errors import unknown_name
from xgap_analysis.plots.style import own_axes, plain


def agreement(table: pd.DataFrame, metric: str = "linear_cka", ax: Axes | None = None) -> Axes:
    """One measure of agreement for each pair of models, as a square of numbers.

    Args:
        table: from `structure_table`; or the overlap of several rankings, from `stratified`.
        metric: one of its measures: `"linear_cka"`, `"mutual_knn"` or `"spearman"`; or `"overlap"`.
        ax: where to draw; a new figure by default.

    Raises:
        XgapError: another measure.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> x = np.random.default_rng(0).normal(size=(20, 4))
        >>> table = xg.metrics.structure_table({"one": x, "other": x}, k=3)
        >>> xg.plots.agreement(table, "mutual_knn").get_title()
        'mutual knn (n = 20)'
    """
    measures = [name for name in table.columns if name not in ("a", "b", "n")]
    if metric not in measures:
        raise unknown_name("measure of agreement", metric, measures)
    names = list(dict.fromkeys([*table["a"], *table["b"]]))
    square = np.eye(len(names))
    for a, b, value in zip(table["a"], table["b"], table[metric], strict=True):
        i, j = names.index(a), names.index(b)
        square[i, j] = square[j, i] = value
    ax = own_axes(ax, 0.8 * len(names) + 1.8, 0.6 * len(names) + 1.2)
    shown = [plain(name) for name in names]
    sns.heatmap(
        square, vmin=0, vmax=1, cmap="Blues", alpha=0.9, annot=True, fmt=".2f", annot_kws={"fontsize": 9}, cbar=False,
        linewidths=1, xticklabels=shown, yticklabels=shown, ax=ax,
    )  # fmt: skip
    plt.setp(ax.get_xticklabels(), rotation=30, ha="right", rotation_mode="anchor")
    plt.setp(ax.get_yticklabels(), rotation=0)
    ax.set_title(f"{metric.replace('_', ' ')} (n = {table['n'].iloc[0]})", fontsize=10)
    ax.tick_params(length=0)
    return ax
