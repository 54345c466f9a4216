"""How similar pairs are, as figures."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xgap_analysis.core.errors import unknown_name
from xgap_analysis.plots.style import BLUE, ORANGE, in_legend, line_styles, own_axes, plain


def densities(histograms: Mapping[str, pd.DataFrame], sharex: bool = True) -> Figure:
    """Similarity densities of same-class and different-class pairs, one panel per comparison.

    Args:
        histograms: a title to a frame of `similarity_histograms`.
        sharex: one similarity axis for all panels.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> vectors = np.array([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.1, 0.9]])
        >>> labels = ["cat", "dog", "cat", "dog"]
        >>> histograms = {"I-I": xg.similarity_histograms(vectors, vectors, labels, bins=8)}
        >>> figure = xg.plots.densities(histograms)
        >>> len(figure.axes)  # one panel per comparison
        1
    """
    fig, axes = plt.subplots(
        1, len(histograms), figsize=(3.4 * len(histograms), 2.8), sharex=sharex, squeeze=False, layout="constrained"
    )
    for ax, (title, frame) in zip(axes[0], histograms.items(), strict=True):
        density = frame.to_numpy()
        overlap = density.min(axis=1).sum() / density.max(axis=1).sum()
        for column, colour, style in (("same", BLUE, "-"), ("different", ORANGE, "--")):
            ax.fill_between(frame.index, frame[column], color=colour, alpha=0.25, lw=0)
            ax.plot(frame.index, frame[column], color=colour, ls=style, lw=1.5, label=f"{column} class")
        used = np.flatnonzero(density.max(axis=1) > 0)
        ax.set_xlim(frame.index[used[0]] - 0.02, frame.index[used[-1]] + 0.02)
        ax.set(
            title=f"{plain(title)}   overlap {overlap:.2f}", xlabel="cosine", yticks=[], ylim=(0, 1.3 * density.max())
        )
        ax.spines[["top", "right", "left"]].set_visible(False)
    axes[0][0].set_ylabel("density of pairs")
    axes[0][0].legend(frameon=False, loc="upper left", ncols=2)
    return fig


def cosines(histograms: Mapping[str, pd.DataFrame], pairs: str = "all", ax: Axes | None = None) -> Axes:
    """How similar the pairs of several comparisons are, on one axis: the density of each, and its mean in the legend.

    Args:
        histograms: a title to a frame of `similarity_histograms`.
        pairs: `"same"` (of one class), `"different"`, or `"all"`.
        ax: where to draw; a new figure by default.

    Raises:
        XgapError: another word for `pairs`.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> vectors = np.array([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.1, 0.9]])
        >>> labels = ["cat", "dog", "cat", "dog"]
        >>> histograms = {"I-I": xg.similarity_histograms(vectors, vectors, labels, bins=8)}
        >>> ax = xg.plots.cosines(histograms)
        >>> len(ax.lines) > 0
        True
    """
    if pairs not in ("all", "same", "different"):
        raise unknown_name("kind of pairs", pairs, ["all", "same", "different"])
    ax = own_axes(ax, 6, 2.8)
    low, high, top = 1.0, -1.0, 0.0
    for (colour, style, _), (title, frame) in zip(line_styles(), histograms.items(), strict=False):
        if pairs == "all":
            n_same, n_different = frame.attrs["n_same"], frame.attrs["n_different"]
            density = (frame["same"] * n_same + frame["different"] * n_different) / (n_same + n_different)
        else:
            density = frame[pairs]
        mean = float((density.index * density).sum() / density.sum())
        ax.fill_between(density.index, density, color=colour, alpha=0.15, lw=0)
        ax.plot(density.index, density, color=colour, ls=style, lw=1.5, label=in_legend(f"{title}: mean {mean:.2f}"))
        used = density.index[density > 0]
        low, high, top = min(low, used[0]), max(high, used[-1]), max(top, density.max())
    room = 1.1 + 0.13 * len(histograms)  # above the curves, for the legend
    ax.set(xlabel="cosine", yticks=[], xlim=(low - 0.02, high + 0.02), ylim=(0, room * top))
    ax.set_ylabel({"all": "density of pairs"}.get(pairs, f"density of {pairs}-class pairs"))
    ax.legend(frameon=False, loc="upper left", fontsize=9)
    ax.spines[["top", "right", "left"]].set_visible(False)
    return ax
