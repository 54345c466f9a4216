"""What happens along an inversion, as figures."""

from collections.abc import Mapping, Sequence
from typing import cast

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.relevance import HasRelevance, Relevance
from xgap_analysis.metrics import bootstrap_interval, retrieval
from xgap_analysis.plots.style import GREY, in_legend, line_styles, open_axes, plain

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
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.2), layout="constrained")
    target, least = native.select(ids), 0.0
    base = retrieval(target, gallery, relevance)[metric]
    for (colour, style, marker), (title, run) in zip(line_styles(), runs.items(), strict=False):
        steps = sorted(run)
        scores = [retrieval(run[s], gallery, relevance)[metric] for s in steps]
        moved = [score - base if paired else score for score in scores]
        curve = [bootstrap_interval(values, groups=groups) for values in moved]
        cosine = [float((run[s].vectors * target.vectors).sum(dim=1).mean()) for s in steps]
        left.fill_between(steps, [c.low for c in curve], [c.high for c in curve], color=colour, alpha=0.15, lw=0)
        left.plot(steps, [c.mean for c in curve], marker=marker, ls=style, color=colour, ms=4, label=in_legend(title))
        right.plot(steps, cosine, marker=marker, ls=style, color=colour, ms=4, label=in_legend(title))
        least = min(least, *cosine)
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
            ax.set_xlim(left=min(steps) - 0.1)
    open_axes([left, right])
    return fig
