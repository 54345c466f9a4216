"""What happens along an inversion, as figures."""

from collections.abc import Mapping, Sequence
from typing import cast

import pandas as pd
from matplotlib.figure import Figure

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.relevance import HasRelevance, Relevance
from xgap_analysis.metrics import bootstrap_interval, retrieval
from xgap_analysis.plots.estimates import curves
from xgap_analysis.plots.style import GREY, open_axes, panels, plain

Snapshots = Mapping[int, Features]


def drift(
    snapshots: Snapshots | Mapping[str, Snapshots],
    gallery: Features,
    relevance: Relevance | HasRelevance,
    native: Features,
    metric: str = "ap",
    groups: Sequence[str] | None = None,
    log: bool = False,
    paired: bool = False,
) -> Figure:
    """Retrieval and cosine to the target along one inversion or several: what more steps do.

    Args:
        snapshots: number of updates to inverted features (`Inversion.snapshots`), or a title to each of several such
            mappings (numbers of tokens, seeds). Step 0, the random start, is drawn where it is there.
        gallery: native features that are searched.
        relevance: what counts as a hit.
        native: the features that were inverted; their own retrieval is the dashed line.
        metric: a column of `retrieval`.
        groups: a label for each query, resampled together in the interval (95 %).
        log: a logarithmic axis of steps (linear below 1, so that step 0 has a place).
        paired: draw differences from the native query and their paired intervals, which are far narrower than those
            of the means.

    Raises:
        XgapError: no snapshots.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(1, 1, (20, 4)), range(20), space="image", origin="image")
        >>> texts = xg.Features(random.normal(-1, 1, (20, 4)), range(20), space="text", origin="text")
        >>> labels = {str(i): str(i // 4) for i in range(20)}
        >>> relevance = xg.Relevance.from_labels(labels, labels)
        >>> figure = xg.plots.drift({1: texts, 2: images}, images, relevance, native=images)
        >>> len(figure.axes)
        2
    """
    several = isinstance(next(iter(snapshots), 0), str)
    runs = cast(Mapping[str, Snapshots], snapshots if several else {"inverted query": snapshots})
    if not all(runs.values()):
        raise XgapError("there are no snapshots to draw; give invert(..., snapshots=[1, 10, 150])")
    ids = next(iter(next(iter(runs.values())).values())).ids
    fig, ((left, right),) = panels(1, 2, 9.5, 3.2)
    target = native.select(ids)
    base = retrieval(target, gallery, relevance)[metric]
    rows = []
    for title, run in runs.items():
        for step in sorted(run):
            scores = retrieval(run[step], gallery, relevance)[metric]
            found = bootstrap_interval(scores - base if paired else scores, groups=groups)
            cosine = float((run[step].vectors * target.vectors).sum(dim=1).mean())
            rows.append({"run": title, "step": step, "cosine": cosine, **found.__dict__})
    table = pd.DataFrame(rows)
    curves(left, table, "step", "mean", "run", ends=("low", "high"))
    curves(right, table, "step", "cosine", "run")
    least = min(0.0, table["cosine"].min())
    if paired:
        left.axhline(0, color=GREY, ls="--", label="native query")
    else:
        level = bootstrap_interval(base, groups=groups)
        left.axhspan(level.low, level.high, color=GREY, alpha=0.12, lw=0)
        left.axhline(level.mean, color=GREY, ls="--", label="native query")
    of = f"difference in {metric}" if paired else f"mean {metric}"
    left.set(xlabel="inversion steps", ylabel=f"{plain(of)}, 95 % interval")
    right.set(xlabel="inversion steps", ylabel="cosine to the native feature", ylim=(least - 0.02, 1.02))
    left.legend(frameon=False, fontsize=9)
    for ax in (left, right):
        if log:
            ax.set_xscale("symlog", linthresh=1)
            ax.set_xlim(left=table["step"].min() - 0.1)
    open_axes([left, right])
    return fig
