"""How similar pairs are, as figures."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xgap_analysis.core.errors import unknown_name
from xgap_analysis.plots.estimates import density
from xgap_analysis.plots.style import BLUE, ORANGE, in_legend, line_styles, open_axes, own_axes, panels, plain


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
    fig, axes = panels(1, len(histograms), 3.4 * len(histograms), 2.8, sharex=sharex)
    ranges = []
    for ax, (title, frame) in zip(axes[0], histograms.items(), strict=True):
        overlap = frame.min(axis=1).sum() / frame.max(axis=1).sum()
        same_and_different(ax, frame)
        ax.set(title=f"{plain(title)}   overlap {overlap:.2f}", xlabel="cosine", ylabel="")
        ax.set_ylim(0, 1.3 * frame.to_numpy().max())
        ranges.append(ax.get_xlim())
    if sharex:  # else the last panel's range would be that of all
        axes[0][0].set_xlim(min(low for low, _ in ranges), max(high for _, high in ranges))
    axes[0][0].set_ylabel("density of pairs")
    axes[0][0].legend(frameon=False, loc="upper left", ncols=2)
    return fig


def same_and_different(ax: Axes, frame: pd.DataFrame) -> None:
    """The densities of same-class and different-class pairs, on the part of the axis where there are any."""
    for column, colour, line in (("same", BLUE, "-"), ("different", ORANGE, "--")):
        density(ax, frame[column], colour, line, alpha=0.25, label=f"{column} class")
    used = np.flatnonzero(frame.max(axis=1) > 0)
    ax.set_xlim(frame.index[used[0]] - 0.02, frame.index[used[-1]] + 0.02)
    ax.set_yticks([])
    open_axes([ax], left=True)


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
        >>> len(ax.collections) > 0
        True
    """
    if pairs not in ("all", "same", "different"):
        raise unknown_name("kind of pairs", pairs, ["all", "same", "different"])
    ax = own_axes(ax, 6, 2.8)
    low, high, top = 1.0, -1.0, 0.0
    for (colour, dashes, _), (title, frame) in zip(line_styles(), histograms.items(), strict=False):
        if pairs == "all":
            n_same, n_different = frame.attrs["n_same"], frame.attrs["n_different"]
            heights = (frame["same"] * n_same + frame["different"] * n_different) / (n_same + n_different)
        else:
            heights = frame[pairs]
        mean = float((heights.index * heights).sum() / heights.sum())
        density(
            ax,
            heights,
            colour,
            (0, dashes) if dashes else "-",
            alpha=0.15,
            label=in_legend(f"{title}: mean {mean:.2f}"),
        )
        used = heights.index[heights > 0]
        low, high, top = min(low, used[0]), max(high, used[-1]), max(top, heights.max())
    room = 1.1 + 0.13 * len(histograms)  # above the curves, for the legend
    ax.set(xlabel="cosine", yticks=[], xlim=(low - 0.02, high + 0.02), ylim=(0, room * top))
    ax.set_ylabel({"all": "density of pairs"}.get(pairs, f"density of {pairs}-class pairs"))
    ax.legend(frameon=False, loc="upper left", fontsize=9)
    open_axes([ax], left=True)
    return ax
