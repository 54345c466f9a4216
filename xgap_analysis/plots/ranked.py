"""The rankings of one query, as images or captions, also after corrections that change similarities."""

import textwrap
from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.items import Images
from xgap_analysis.plots.style import GREEN, plain


def ranked(
    query: str,
    query_space: str,
    rankings: Mapping[str, pd.DataFrame],
    images: Images,
    words: Mapping[str, str] | None = None,
) -> Figure:
    """What one query finds under several comparisons or corrections: a row each, hits framed and ticked.

    Args:
        query: id of the query.
        query_space: `"image"`, or anything else for a text.
        rankings: title to a frame of `Evaluation.ranking`; where it has a column `space`, only items of space `"image"`
            are images.
        images: opens the images.
        words: id to the text shown for an item that is not an image; its id by default.

    Example:
        >>> import xgap_analysis as xg
        >>> (evaluation,) = xg.Study(["tiny"], ["emoji"], ["I-I"], limit=3, progress=False).evaluations()
        >>> query = evaluation.scores("I-I").index[0]
        >>> rankings = {"I-I": evaluation.ranking(query, "I-I", k=3).assign(space="image")}
        >>> len(xg.plots.ranked(query, "image", rankings, evaluation.data.images).axes) > 0
        True
    """
    if not rankings or not all(len(frame) for frame in rankings.values()):
        raise XgapError("there is no ranking to draw")
    words, columns = words or {}, max(len(frame) for frame in rankings.values())
    fig, axes = plt.subplots(
        len(rankings), columns + 1, figsize=(1.15 * (columns + 1) + 1, 1.5 * len(rankings)), squeeze=False
    )
    fig.set_layout_engine("constrained")
    for line, (title, frame) in zip(axes, rankings.items(), strict=True):
        _item(line[0], query, query_space, images, words)
        line[0].set_ylabel(plain(title), rotation=0, ha="right", va="center", fontsize=10)
        line[0].set_title("query", fontsize=8)
        line[0].spines[:].set_visible(False)
        for ax in line[len(frame) + 1 :]:
            ax.set_axis_off()
        for ax, row in zip(line[1:], frame.to_dict("records"), strict=False):
            _item(ax, row["item"], row.get("space", "image"), images, words)
            colour, width = (GREEN, 3) if row["hit"] else ("#CCCCCC", 1)
            ax.set_title(
                f"{row['rank']} {'✓' if row['hit'] else ''}  {row['score']:.2f}",
                fontsize=8,
                color=GREEN if row["hit"] else "black",
            )
            for spine in ax.spines.values():
                spine.set(color=colour, linewidth=width)
    return fig


def _item(ax: Axes, item: str, space: str, images: Images, words: Mapping[str, str]) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    if space == "image":
        ax.imshow(images.opener(item))
        return
    text = textwrap.fill(textwrap.shorten(words.get(item, item), 70, placeholder="…"), 14)
    # Dollar signs of a caption are no formula.
    ax.text(0.5, 0.5, text, ha="center", va="center", fontsize=7, transform=ax.transAxes, parse_math=False)
