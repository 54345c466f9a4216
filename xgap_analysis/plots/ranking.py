"""What a query finds, as pictures."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from xgap_analysis.datasets.records import Images, Relevance
from xgap_analysis.features import Features
from xgap_analysis.metrics.retrieval import HasRelevance
from xgap_analysis.plots.style import GREEN


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
