"""Which token pairs made a score, as a figure: the pairs, and what each token adds where it stands in its item."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle

from xgap_analysis.core.errors import XgapError
from xgap_analysis.plots.style import BLUE, RED, differences_map, plain
from xgap_analysis.scoring import TokenPairs
from xgap_analysis.views.described import DescribedItem

MOST_NAMES = 40  # of an axis; beyond them every second, third, ... is written
WRITTEN = 10  # rows and columns up to which each similarity is written
WRAP, LONG = 26, 48  # characters of a line, and of a name
LARGEST = 110  # area of the dot of the largest contribution, in points squared


def token_pairs(
    pairs: TokenPairs, query: DescribedItem | None = None, gallery: DescribedItem | None = None, title: str = ""
) -> Figure:
    """The similarities of all token pairs of a query and a gallery item, and what they add to the score.

    In the middle, a cell's colour is the similarity of a pair, and its dot what the pair adds to the score (by area;
    hollow and red where it takes away). Beside it, each item with what each of its tokens adds: over the places of
    patches and regions, under frames, or behind words.

    Args:
        pairs: from `xg.token_pairs`.
        query, gallery: what the tokens are, from `views.described`; tokens have numbers where it is left out.
        title: above the pairs; the score stands beside it.

    Raises:
        XgapError: another number of names than of tokens.
    """
    similar, adds = (np.asarray(of, dtype=float) for of in (pairs.similarities, pairs.contributions))
    items = [of or _numbered(n) for of, n in zip((query, gallery), similar.shape, strict=True)]
    for of, n, role in zip(items, similar.shape, ("query", "gallery item"), strict=True):
        if len(of.names) != n:
            raise XgapError(f"the {role} has {n} tokens and {len(of.names)} names; describe it with its own view")
    fig = plt.figure(figsize=(12, 4.6), layout="constrained")
    panels: Any = fig.subfigures(1, 3, width_ratios=[1, 1.7, 1])
    left, middle, right = panels
    totals = adds.sum(axis=1), adds.sum(axis=0)
    _item(left, items[0], totals[0], "query")
    _item(right, items[1], totals[1], "gallery item")
    _matrix(middle.subplots(), similar, adds, items, f"{title}   score {pairs.score:.3f}".strip())
    return fig


def _numbered(n: int) -> DescribedItem:
    return DescribedItem("", [f"token {i}" for i in range(1, n + 1)])


def _matrix(ax: Axes, similar: np.ndarray, adds: np.ndarray, items: Sequence[DescribedItem], title: str) -> None:
    bound = max(float(abs(similar).max()), 1e-9)
    shown = ax.imshow(similar, cmap=differences_map(), vmin=-bound, vmax=bound, aspect="auto")
    row, column = np.nonzero(abs(adds) > 1e-9)
    size = LARGEST * abs(adds[row, column]) / max(float(abs(adds).max()), 1e-9)
    lost = adds[row, column] < 0
    small = max(similar.shape) <= WRITTEN
    lift = 0.22 if small else 0.0  # of the dot above the number
    for of, fill, edge in ((~lost, "black", "black"), (lost, "none", RED)):
        ax.scatter(column[of], row[of] - lift, s=size[of], facecolors=fill, edgecolors=edge, zorder=3)
    if small:
        for (i, j), value in np.ndenumerate(similar):
            colour = "white" if value > 0.75 * bound else "black"
            ax.text(j, i + lift, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
    _names(ax.set_yticks, items[0].names)
    _names(ax.set_xticks, items[1].names, rotation=45, ha="right", rotation_mode="anchor")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(plain(title), fontsize=10)
    ax.set_ylabel("query tokens")
    ax.set_xlabel("gallery tokens")
    ax.figure.colorbar(shown, ax=ax, label="similarity (colour); contribution (dot)", shrink=0.8)


def _names(set_ticks: object, names: Sequence[str], **how: object) -> None:
    step = math.ceil(len(names) / MOST_NAMES)
    places = range(0, len(names), step)
    size = 8 if len(names) <= 20 else 6
    set_ticks(places, [plain(_short(names[i])) for i in places], fontsize=size, **how)  # type: ignore[operator]


def _short(name: str) -> str:
    return textwrap.shorten(name, LONG // 2, placeholder="…") or name[: LONG // 2]


def _item(at: SubFigure, item: DescribedItem, adds: np.ndarray, role: str) -> None:
    """An item with what each of its tokens adds to the score, over or beside it."""
    at.suptitle(plain(f"{role} {item.item}".strip()), fontsize=9)
    bound = max(float(abs(adds).max()), 1e-9)
    norm = Normalize(-bound, bound)
    if item.images:
        _frames(at, item, adds, norm)
        return
    ax = at.subplots()
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    if item.image is None:
        _written(ax, item.names, adds, norm)
        return
    ax.imshow(item.image)
    width, height = item.image.size
    crowded = len(item.boxes) > WRITTEN
    for box, added in zip(item.boxes, adds, strict=False):
        corner = box[0] * width - 0.5, box[1] * height - 0.5
        sizes = (box[2] - box[0]) * width, (box[3] - box[1]) * height
        colour = differences_map()(norm(added))
        ax.add_patch(Rectangle(corner, *sizes, fc=colour, alpha=0.65 * abs(added) / bound, lw=0))
        ax.add_patch(Rectangle(corner, *sizes, fc="none", ec="#999999" if crowded else BLUE, lw=0.5 if crowded else 1))
        if not crowded or abs(added) >= 0.5 * bound:
            middle = corner[0] + sizes[0] / 2, corner[1] + sizes[1] / 2
            ax.text(*middle, f"{added:.2f}", ha="center", va="center", fontsize=7, bbox=_label())


def _label() -> dict[str, object]:
    return {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1}


def _written(ax: Axes, names: Sequence[str], adds: np.ndarray, norm: Normalize) -> None:
    """Names below each other, each behind what it adds, the colour behind it; of many, those that add most."""
    shown = sorted(np.argsort(-abs(adds), kind="stable")[:MOST_NAMES])
    for line, (name, added) in enumerate((names[i], adds[i]) for i in shown):
        words = textwrap.fill(textwrap.shorten(name, LONG, placeholder="…") or name[:LONG], WRAP)
        colour = differences_map()(norm(added))
        y = 1 - (line + 0.5) / len(shown)
        size = 9 if len(shown) <= 12 else 6
        text = f"{added:+.2f}  {words}"
        box = {"facecolor": colour, "edgecolor": "none", "pad": 2}
        dark = "white" if norm(added) > 0.87 else "black"
        ax.text(
            0.02, y, text, va="center", fontsize=size, transform=ax.transAxes, bbox=box, color=dark, parse_math=False
        )


def _frames(at: SubFigure, item: DescribedItem, adds: np.ndarray, norm: Normalize) -> None:
    columns = math.ceil(math.sqrt(len(item.images)))
    axes = np.atleast_1d(at.subplots(math.ceil(len(item.images) / columns), columns)).flatten()
    for ax in axes[len(item.images) :]:
        ax.set_axis_off()
    for ax, image, name, added in zip(axes, item.images, item.names, adds, strict=False):
        ax.imshow(image)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_title(plain(_short(name)), fontsize=6, pad=2)
        ax.set_xlabel(f"{added:+.2f}", fontsize=7, labelpad=1)
        for spine in ax.spines.values():
            spine.set(color=differences_map()(norm(added)), linewidth=3)
