"""What a query finds, as pictures."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from xgap_analysis.corrections import Sides
from xgap_analysis.datasets.records import Images, Relevance
from xgap_analysis.features import Features
from xgap_analysis.metrics import nearest_items
from xgap_analysis.metrics.retrieval import HasRelevance
from xgap_analysis.plots.style import GREEN


def neighbours(
    query_id: str,
    rankings: Mapping[str, tuple[Features, Features] | Sides],
    images: Images,
    relevance: Relevance | HasRelevance,
    k: int = 8,
) -> Figure:
    """The k nearest images of one query under several comparisons: a row of pictures each, hits framed and marked.

    Args:
        query_id: an id that every query side holds.
        rankings: a title to (query features, gallery features), or to `Bench.sides(...)`; the gallery holds images.
        images: opens the pictures.
        relevance: what counts as a hit.
        k: pictures a row.
    """
    fig, axes = plt.subplots(
        len(rankings), k + 1, figsize=(1.15 * (k + 1) + 1, 1.45 * len(rankings)), squeeze=False, layout="constrained"
    )
    for line, (title, pair) in zip(axes, rankings.items(), strict=True):
        sides = pair if isinstance(pair, Sides) else Sides(*pair)
        found = nearest_items(sides.query, sides.gallery, query_id, relevance, k, sides.normalise)
        line[0].imshow(images.opener(query_id))
        line[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=10)
        line[0].set_title("query", fontsize=8)
        for ax, near in zip(line[1:], found.itertuples(), strict=False):
            ax.imshow(images.opener(near.item))
            mark, colour, width = ("✓", GREEN, 3) if near.hit else ("", "black", 1)
            ax.set_title(f"{near.rank} {mark}  {near.score:.2f}", fontsize=8, color=colour)
            for spine in ax.spines.values():
                spine.set(color=GREEN if near.hit else "#CCCCCC", linewidth=width)
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
    for ax in axes[:, 0]:
        ax.spines[:].set_visible(False)
    return fig
