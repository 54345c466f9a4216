"""Two modalities on the sphere and the gap between them, as figures."""

from collections.abc import Mapping
from typing import cast

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.corrections import correction
from xgap_analysis.metrics import modality_gap, variance_along_gap
from xgap_analysis.metrics.gap import paired
from xgap_analysis.plots.estimates import curves
from xgap_analysis.plots.style import BLUE, GREY, in_legend, line_styles, open_axes, own_axes, panels, plain


def gap_map(x: Features, y: Features, pairs: int = 60, ax: Axes | None = None) -> Axes:
    """Two modalities in the plane of most of their common variance (PCA), with some pairs joined.

    The axes' labels say how much of the variance the plane shows: on a real sphere that is little, so two points may
    lie together here and far apart there.

    Args:
        x, y: images and texts `[n, d]`, pairs by id (see `Evaluation.pairs`).
        pairs: how many of them are joined by a line, evenly chosen.
        ax: where to draw; a new figure by default.

    Raises:
        XgapError: no pairs.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(1, 1, (20, 4)), range(20), space="image", origin="image")
        >>> texts = xg.Features(random.normal(-1, 1, (20, 4)), range(20), space="text", origin="text")
        >>> ax = xg.plots.gap_map(images, texts, pairs=5)
        >>> len(ax.collections) >= 2  # images and texts
        True
    """
    x, y = paired(x, y)
    both = np.concatenate([x.vectors.cpu().double().numpy(), y.vectors.cpu().double().numpy()])
    both -= both.mean(axis=0)
    _, spread, axes = np.linalg.svd(both, full_matrices=False)
    share = spread**2 / (spread**2).sum()
    places = both @ axes[:2].T
    ends = np.stack([places[: len(x)], places[len(x) :]], axis=1)
    ax = own_axes(ax, 4.6, 4.2)
    chosen = np.unique(np.linspace(0, len(x) - 1, min(pairs, len(x))).astype(int))
    ax.add_collection(LineCollection(list(ends[chosen]), colors=GREY, linewidths=0.5, alpha=0.5, zorder=1))
    modalities = zip(line_styles(), (x.space, y.space), ends.swapaxes(0, 1), strict=False)
    for (colour, _, marker), name, end in modalities:
        look = {"s": 9, "color": colour, "marker": marker, "alpha": 0.5, "linewidth": 0, "label": in_legend(name)}
        sns.scatterplot(x=end[:, 0], y=end[:, 1], **look, legend=False, ax=ax)
    ax.set_xlabel(f"first component ({share[0]:.0%} of the variance)")
    ax.set_ylabel(f"second component ({share[1]:.0%})")
    ax.set_aspect("equal", adjustable="datalim")
    ax.legend(frameon=False, markerscale=2)
    open_axes([ax])
    return ax


def gap_share(pairs: Mapping[str, tuple[Features, Features]], ax: Axes | None = None) -> Axes:
    """Share of the variance of images and texts together that lies along the gap, one bar per model or a correction.

    Args:
        pairs: title to (image features, text features).
        ax: where to draw; a new figure by default.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(1, 1, (20, 4)), range(20), space="image", origin="image")
        >>> texts = xg.Features(random.normal(-1, 1, (20, 4)), range(20), space="text", origin="text")
        >>> ax = xg.plots.gap_share({"mine": (images, texts)})
        >>> len(ax.patches)
        1
    """
    ax = own_axes(ax, 5, 0.4 * len(pairs) + 1)
    shares = [variance_along_gap(x, y) for x, y in pairs.values()]
    sns.barplot(x=shares, y=[plain(name) for name in pairs], orient="y", color=BLUE, saturation=1, errorbar=None, ax=ax)
    for bars in ax.containers[-1:]:
        ax.bar_label(cast(BarContainer, bars), fmt="%.2f", padding=3)
    ax.set(xlabel="share of variance along the gap", xlim=(0, 1.1 * max(shares)))
    open_axes([ax])
    return ax


def shift_curve(table: pd.DataFrame, moved: Mapping[float, tuple[Features, Features]]) -> Figure:
    """The effect of moving images and texts along the gap: scores with 95 % intervals, and the remaining gap.

    Args:
        table: rows of `Study.run()` with corrections `gap-shift(lambda_=...)`; one line per comparison.
        moved: lambda to (image features, text features) after the shift.

    Raises:
        XgapError: a table without such a correction.
    """
    rows = table[table["main"]]
    lambdas = [correction(name).options.get("lambda_") for name in rows["correction"]]
    rows = rows.assign(lambda_=lambdas).dropna(subset=["lambda_", "value"]).sort_values("lambda_", kind="stable")
    if rows.empty:
        raise XgapError('the table holds no correction like "gap-shift(lambda_=0.25)"')
    fig, ((left, right),) = panels(1, 2, 9.5, 3.2, width_ratios=(3, 2))
    curves(left, rows, "lambda_", "value", "comparison", ends=("low", "high"))
    left.set(xlabel="lambda", ylabel="mAP or accuracy, 95 % interval", ylim=(0, None))
    left.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    remaining = pd.DataFrame(
        {"lambda_": list(moved), "gap": [modality_gap(*pair) for pair in moved.values()], "of": ""}
    )
    curves(right, remaining, "lambda_", "gap", "of")
    right.set(xlabel="lambda", ylabel="modality gap", ylim=(0, None))
    for ax in (left, right):
        ax.axvline(0, color=GREY, lw=0.8, ls=":")
    open_axes([left, right])
    return fig
