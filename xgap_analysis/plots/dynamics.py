"""What happens along an inversion, as figures."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from xgap_analysis.datasets.records import Relevance
from xgap_analysis.features import Features
from xgap_analysis.metrics import bootstrap_interval, retrieval
from xgap_analysis.metrics.retrieval import HasRelevance
from xgap_analysis.plots.style import BLUE, GREY, ORANGE, open_axes


def drift(
    snapshots: Mapping[int, Features],
    gallery: Features,
    relevance: Relevance | HasRelevance,
    native: Features,
    metric: str = "ap",
    groups: Sequence[str] | None = None,
) -> Figure:
    """Retrieval and cosine to the target along an inversion: what more steps do.

    Args:
        snapshots: number of updates to inverted features (`Inversion.snapshots`).
        gallery: native features that are searched.
        relevance: what counts as a hit.
        native: the features that were inverted; their own retrieval is the dashed line.
        metric: a column of `retrieval`.
        groups: a label for each query, resampled together in the interval (95 %).
    """
    steps = sorted(snapshots)
    ids = snapshots[steps[0]].ids
    target = native.select(ids)
    curve = [bootstrap_interval(retrieval(snapshots[s], gallery, relevance)[metric], groups=groups) for s in steps]
    cosine = [float((snapshots[s].vectors * target.vectors).sum(dim=1).mean()) for s in steps]
    base = bootstrap_interval(retrieval(target, gallery, relevance)[metric], groups=groups)
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.2), layout="constrained")
    left.fill_between(steps, [c.low for c in curve], [c.high for c in curve], color=BLUE, alpha=0.2, lw=0)
    left.plot(steps, [c.mean for c in curve], "o-", color=BLUE, label="inverted query")
    left.axhspan(base.low, base.high, color=GREY, alpha=0.15, lw=0)
    left.axhline(base.mean, color=GREY, ls="--", label="native query")
    left.set(xlabel="inversion steps", ylabel=f"mean {metric}")
    left.legend(frameon=False)
    right.plot(steps, cosine, "o-", color=ORANGE)
    right.set(xlabel="inversion steps", ylabel="cosine to the native feature", ylim=(min(0, *cosine) - 0.02, 1.02))
    open_axes([left, right])
    return fig
