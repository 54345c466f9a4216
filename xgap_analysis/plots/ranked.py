"""The rankings of one query, as images or captions, also after corrections that change similarities."""

import textwrap
from collections.abc import Callable, Mapping
from functools import cache, partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.items import Images
from xgap_analysis.plots.style import GREEN, plain

LABEL, CELL, SQUARE, HEAD, PAD = 1.7, (1.15, 1.5), 1.05, 0.3, 0.05  # inches: a row's title, an item, its square
PIXELS = 256  # of the longer edge of an image


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
    columns = 1 + max(len(frame) for frame in rankings.values())
    width, height = LABEL + CELL[0] * columns, CELL[1] * len(rankings)
    # One Axes in inches for all: an Axes for each item would take seconds to make, to lay out and to draw.
    fig = plt.figure(figsize=(width, height))
    fig.suppressComposite = True  # an SVG keeps each image as it is
    ax = fig.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    ax.set_axis_off()
    draw = partial(_item, ax, images=cache(partial(_small, images)), words=words or {})
    for line, (title, frame) in enumerate(rankings.items()):
        top = CELL[1] * line + HEAD
        name = "\n".join(textwrap.wrap(title, 20))
        ax.text(LABEL - PAD, top + SQUARE / 2, plain(name), ha="right", va="center", fontsize=10)
        draw((LABEL, top), query, query_space)
        ax.text(LABEL + SQUARE / 2, top - PAD, "query", ha="center", va="bottom", fontsize=8)
        for place, row in enumerate(frame.to_dict("records"), start=1):
            left = LABEL + CELL[0] * place
            draw((left, top), row["item"], row.get("space", "image"))
            colour, line_width = (GREEN, 3) if row["hit"] else ("#CCCCCC", 1)
            about = f"{row['rank']} {'✓' if row['hit'] else ''}  {row['score']:.2f}"
            written = GREEN if row["hit"] else "black"
            ax.text(left + SQUARE / 2, top - PAD, about, ha="center", va="bottom", fontsize=8, color=written)
            ax.add_patch(Rectangle((left, top), SQUARE, SQUARE, fill=False, edgecolor=colour, linewidth=line_width))
    return fig


def _small(images: Images, item: str) -> np.ndarray:
    """An image in the size that is printed."""
    small = images.opener(item).convert("RGB")
    small.thumbnail((PIXELS, PIXELS))
    return np.asarray(small)


def _item(
    ax: Axes,
    corner: tuple[float, float],
    item: str,
    space: str,
    images: Callable[[str], np.ndarray],
    words: Mapping[str, str],
) -> None:
    """An image, or the words of a text, in the square below and right of a corner."""
    left, top = corner
    if space == "image":
        pixels = images(item)
        high, wide = (SQUARE * n / max(pixels.shape[:2]) for n in pixels.shape[:2])
        left, top = left + (SQUARE - wide) / 2, top + (SQUARE - high) / 2
        ax.imshow(pixels, extent=(left, left + wide, top + high, top), aspect="auto")
        return
    text = textwrap.fill(textwrap.shorten(words.get(item, item), 70, placeholder="…"), 14)
    # Dollar signs of a caption are no formula.
    ax.text(left + SQUARE / 2, top + SQUARE / 2, text, ha="center", va="center", fontsize=7, parse_math=False)
