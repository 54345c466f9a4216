"""Figures from tables and Features. Each function draws on Axes (or makes a Figure), returns it, and shows nothing."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xgap_analysis.datasets.records import Images
from xgap_analysis.errors import XgapError
from xgap_analysis.features import Features
from xgap_analysis.metrics import bootstrap_interval, retrieval
from xgap_analysis.metrics.retrieval import HasRelevance, Relevance

# Okabe and Ito's colours, told apart by colour-blind readers; a verdict is never told by colour alone.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#8A8A8A"
VERDICT_STYLE = {
    "supported": (GREEN, "o"),
    "contradicted": (RED, "X"),
    "higher": (BLUE, "^"),
    "lower": (ORANGE, "v"),
    "too small to tell": (GREY, "s"),
}


def differences(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Paired differences from the baseline with their 95 % intervals, one line a comparison.

    Args:
        table: rows of `Study.run()`; the main measure of each comparison is drawn.
        ax: where to draw; a new figure by default.
    """
    rows = table[table["main"] & table["difference"].notna()].iloc[::-1]
    if rows.empty:
        raise XgapError("the table holds no comparison with a baseline")
    ax = ax or plt.subplots(figsize=(7, 0.5 * len(rows) + 1.2), layout="constrained")[1]
    for height, row in enumerate(rows.to_dict("records")):
        colour, marker = VERDICT_STYLE[row["verdict"]]
        ax.plot([row["difference_low"], row["difference_high"]], [height, height], color=colour, lw=2)
        ax.plot(row["difference"], height, marker, color=colour, ms=8)
        ax.annotate(
            row["verdict"], (1.02, height), xycoords=("axes fraction", "data"), va="center", fontsize=9, color=colour
        )
    ax.axvline(0, color="black", lw=1)
    many_models, many_corrections = rows["model"].nunique() > 1, rows["correction"].nunique() > 1
    names = [
        f"{row['comparison']} − {row['baseline']}"
        + f" · {row['model']}" * many_models
        + f" · {row['correction']}" * many_corrections
        + f"\n{row['split']}" * (rows["split"].nunique() > 1)
        for row in rows.to_dict("records")
    ]
    ax.set_yticks(range(len(rows)), names)
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.set_xlabel("paired difference (mAP or top-1 accuracy), 95 % interval")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def neighbours(
    query_id: str,
    rankings: Mapping[str, tuple[Features, Features]],
    images: Images,
    relevance: Relevance | HasRelevance,
    k: int = 8,
) -> Figure:
    """The k nearest images of one query under several comparisons: a row of pictures each, hits framed and marked.

    Args:
        query_id: an id that every query side holds.
        rankings: a title to (query features, gallery features); the gallery holds images.
        images: opens the pictures.
        relevance: what counts as a hit.
        k: pictures a row.
    """
    fig, axes = plt.subplots(
        len(rankings), k + 1, figsize=(1.15 * (k + 1) + 1, 1.45 * len(rankings)), squeeze=False, layout="constrained"
    )
    bound_by = relevance if isinstance(relevance, Relevance) else relevance.relevance()
    for line, (title, (query, gallery)) in zip(axes, rankings.items(), strict=True):
        scores = (query.select([query_id]).vectors @ gallery.vectors.T)[0]
        bound = bound_by.bind([query_id], gallery.ids)
        hit, ignored = bound.grades(0, 1)[0] > 0, bound.ignored(0, 1)[0]
        order = [i for i in scores.argsort(descending=True, stable=True).tolist() if not ignored[i]][:k]
        line[0].imshow(images.opener(query_id))
        line[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=10)
        line[0].set_title("query", fontsize=8)
        for place, (ax, item) in enumerate(zip(line[1:], order, strict=False), start=1):
            ax.imshow(images.opener(gallery.ids[item]))
            mark = "✓" if hit[item] else ""
            ax.set_title(f"{place} {mark}  {scores[item]:.2f}", fontsize=8, color=GREEN if hit[item] else "black")
            for spine in ax.spines.values():
                spine.set(color=GREEN if hit[item] else "#CCCCCC", linewidth=3 if hit[item] else 1)
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
    for ax in axes[:, 0]:
        ax.spines[:].set_visible(False)
    return fig


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
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
    return fig


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
