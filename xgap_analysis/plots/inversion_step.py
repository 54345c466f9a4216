"""Where an inversion stands after some steps, as a figure."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from xgap_analysis.plots.similarity import same_and_different
from xgap_analysis.plots.style import BLUE, GREY, open_axes, panels
from xgap_analysis.views.inversion.invert import Inversion


def inversion_step(inversion: Inversion, item: str, step: int, histogram: pd.DataFrame) -> Figure:
    """Loss of one item along its inversion with the step marked, and the similarities of all items after that step.

    Args:
        inversion: with the loss `[steps, n]`; the mean over its items is the dashed line.
        item: id of the item.
        step: number of updates that are over.
        histogram: from `similarity_histograms` of the snapshot of that step against the gallery.
    """
    fig, ((left, right),) = panels(1, 2, 8.4, 2.5)
    loss = inversion.loss.cpu().numpy()
    own = loss[:, list(inversion.features.ids).index(item)]
    steps = np.arange(len(loss))
    left.plot(steps, own, color=BLUE, label="this query")
    left.plot(steps, loss.mean(axis=1), color=GREY, ls="--", label="mean of all")
    left.axvline(step, color="black", lw=1)
    if step < len(own):
        left.plot(step, own[step], "o", color=BLUE)
    left.set(xlabel="step", ylabel="loss (1 − cosine)")
    left.legend(frameon=False, fontsize=8)
    same_and_different(right, histogram)
    right.set(xlabel=f"cosine to the gallery, step {step}", ylabel="density of pairs")
    right.legend(frameon=False, fontsize=8)
    open_axes([left])
    return fig
