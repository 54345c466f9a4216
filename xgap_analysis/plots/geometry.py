"""The geometry behind the corrections, as figures."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from xgap_analysis.core.features import Features
from xgap_analysis.corrections import inter_modal_operator
from xgap_analysis.metrics import k_occurrence
from xgap_analysis.models.tower import Model
from xgap_analysis.plots.estimates import curves
from xgap_analysis.plots.style import GREY, open_axes, own_axes, plain


def spectrum(models: Mapping[str, Model], k_top: int = 0, k_bottom: int = 0, ax: Axes | None = None) -> Axes:
    """Singular values of the inter-modal operator, over the first, with the bands that IsoCLIP leaves out.

    Args:
        models: title to model.
        k_top, k_bottom: the bands' widths, shaded.
        ax: where to draw; a new figure by default.

    Example:
        >>> import xgap_analysis as xg
        >>> ax = xg.plots.spectrum({"tiny": xg.load_model("tiny")}, k_top=2, k_bottom=2)
        >>> len(ax.lines) > 0
        True
    """
    ax = own_axes(ax, 6, 3)
    parts = []
    for title, model in models.items():
        values = inter_modal_operator(model).singular_values.numpy()
        parts.append(pd.DataFrame({"index": np.arange(1, len(values) + 1), "value": values / values[0], "of": title}))
    curves(ax, pd.concat(parts), "index", "value", "of", marked=False)
    rank = max(map(len, parts))
    for start, stop in ((0, k_top), (rank - k_bottom, rank)):
        if stop > start:
            ax.axvspan(start + 0.5, stop + 0.5, color=GREY, alpha=0.2, lw=0)
    ax.set(xlabel="index", ylabel="singular value / first", ylim=(0, 1.03))
    ax.legend(frameon=False)
    open_axes([ax])
    return ax


def occurrences(pairs: Mapping[str, tuple[Features, Features]], k: int = 10, ax: Axes | None = None) -> Axes:
    """How often each gallery item is among the k nearest, in descending order: hubs to the left, orphans at zero.

    Args:
        pairs: title to (query features, gallery features), such as before and after a correction.
        k: size of a neighbourhood.
        ax: where to draw; a new figure by default.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(1, 1, (20, 4)), range(20), space="image", origin="image")
        >>> texts = xg.Features(random.normal(-1, 1, (20, 4)), range(20), space="text", origin="text")
        >>> ax = xg.plots.occurrences({"text to image": (texts, images)}, k=3)
        >>> len(ax.lines) > 0
        True
    """
    ax = own_axes(ax, 6, 3)
    parts = []
    for title, (query, gallery) in pairs.items():
        counts = k_occurrence(query, gallery, k).sort(descending=True).values.numpy()
        share, name = (np.arange(len(counts)) + 0.5) / len(counts), f"{title}: {np.mean(counts == 0):.0%} never found"
        parts.append(pd.DataFrame({"share": share, "count": counts, "of": name}))
    curves(ax, pd.concat(parts), "share", "count", "of", marked=False)
    ax.set(xlabel="share of the gallery, most frequent first", ylabel=f"times among the {k} nearest", yscale="symlog")
    ax.set_ylim(bottom=-0.3)
    ax.legend(frameon=False)
    open_axes([ax])
    return ax


def sweep_curve(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """The curve of an option on each of two splits, with 95 % intervals, and the value that the first split chose.

    Args:
        frame: from `chosen`; its `attrs["axis"]` names the option's column.
        ax: where to draw; a new figure by default.
    """
    ax = own_axes(ax, 6, 3)
    option = frame.attrs["axis"]
    curves(ax, frame, option, "difference", "split", ends=("difference_low", "difference_high"))
    ax.axvline(
        frame.loc[frame["chosen"], option].iloc[0],
        color=GREY,
        ls=":",
        label=plain(f"chosen on {frame['split'].iloc[0]}"),
    )
    ax.axhline(0, color="black", lw=1)
    ax.set(xlabel=plain(option), ylabel="difference from no correction")
    ax.legend(frameon=False)
    open_axes([ax])
    return ax
