"""How similar pairs are, as figures."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from xgap_analysis.plots.style import BLUE, ORANGE


def densities(histograms: Mapping[str, pd.DataFrame], sharex: bool = True) -> Figure:
    """Similarity densities of same-class and different-class pairs, one panel a comparison.

    Args:
        histograms: a title to a frame of `similarity_histograms`.
        sharex: one similarity axis for all panels.
    """
    fig, axes = plt.subplots(
        1, len(histograms), figsize=(3.4 * len(histograms), 2.8), sharex=sharex, squeeze=False, layout="constrained"
    )
    for ax, (title, frame) in zip(axes[0], histograms.items(), strict=True):
        density = frame.to_numpy()
        overlap = density.min(axis=1).sum() / density.max(axis=1).sum()
        for column, colour, style in (("same", BLUE, "-"), ("different", ORANGE, "--")):
            ax.fill_between(frame.index, frame[column], color=colour, alpha=0.25, lw=0)
            ax.plot(frame.index, frame[column], color=colour, ls=style, lw=1.5, label=column)
        used = np.flatnonzero(density.max(axis=1) > 0)
        ax.set_xlim(frame.index[used[0]] - 0.02, frame.index[used[-1]] + 0.02)
        ax.set(title=f"{title}   overlap {overlap:.2f}", xlabel="cosine", yticks=[])
        ax.spines[["top", "right", "left"]].set_visible(False)
    axes[0][0].set_ylabel("density of pairs")
    axes[0][0].legend(frameon=False, title="class")
    return fig
