"""Two modalities or more on a plane, as a figure."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes

from xgap_analysis.plots.style import BLUE, ORANGE, in_legend, line_styles, own_axes


def plane(
    images: np.ndarray,
    texts: np.ndarray,
    lines: Sequence[np.ndarray] = (),
    images_colour: np.ndarray | str = BLUE,
    texts_colour: np.ndarray | str = ORANGE,
    ax: Axes | None = None,
) -> Axes:
    """Images (dots) and texts (triangles) on the plane of a map, with lines between some of them.

    Args:
        images, texts: `[n, 2]` and `[m, 2]`, from a map of `xgap_analysis.plots.maps`.
        lines: points `[k, 2]` each, such as from an image to its captions, or the path of an inversion.
        images_colour, texts_colour: one colour, or one number a point (drawn from dark to bright).
        ax: where to draw; a new figure by default.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> ax = xg.plots.plane(np.zeros((2, 2)), np.ones((2, 2)))
        >>> len(ax.collections)
        2
    """
    ax = own_axes(ax, 6, 5)
    numbers = [c for c in (images_colour, texts_colour) if not isinstance(c, str)]
    low, high = (min(c.min() for c in numbers), max(c.max() for c in numbers)) if numbers else (None, None)
    for points, colour, marker, label in ((images, images_colour, ".", "image"), (texts, texts_colour, "^", "text")):
        drawn = {"c": colour, "vmin": low, "vmax": high, "cmap": "viridis"} if numbers else {"color": colour}
        shown = ax.scatter(points[:, 0], points[:, 1], s=16, marker=marker, alpha=0.7, lw=0, label=label, **drawn)
    if numbers:
        plt.colorbar(shown, ax=ax, label="cosine to the query")
    for line in lines:
        ax.plot(line[:, 0], line[:, 1], color="black", lw=1)
    ax.set(xticks=[], yticks=[])
    ax.legend(frameon=False)
    return ax


def modalities(
    places: Mapping[str, np.ndarray], chosen: Mapping[str, Sequence[int]] | None = None, ax: Axes | None = None
) -> Axes:
    """Any number of modalities on the plane of a map, with some items of each marked and joined.

    Args:
        places: modality to `[n, 2]`, from `plots.maps.plane_map(...).places`.
        chosen: modality to the rows of the items to mark, such as those of one concept; lines join their centres.
        ax: where to draw; a new figure by default.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> places = {name: np.full((4, 2), k) for k, name in enumerate(["image", "text", "audio"])}
        >>> len(xg.plots.modalities(places, {"image": [0], "text": [1], "audio": [2]}).lines)
        3
    """
    ax = own_axes(ax, 6, 5)
    marked = {name: np.asarray(places[name])[list(rows)] for name, rows in (chosen or {}).items() if len(rows)}
    for (colour, _, marker), (name, points) in zip(line_styles(), places.items(), strict=False):
        faint = 0.25 if marked else 0.6
        look: dict[str, Any] = {"color": colour, "marker": marker, "legend": False, "ax": ax}
        sns.scatterplot(x=points[:, 0], y=points[:, 1], s=12, alpha=faint, linewidth=0, label=in_legend(name), **look)
        if name in marked:
            look |= {"s": 60, "zorder": 3, "edgecolor": "black", "linewidth": 0.8}
            sns.scatterplot(x=marked[name][:, 0], y=marked[name][:, 1], **look)
    for line in joined(marked):
        ax.plot(line[:, 0], line[:, 1], color="black", lw=1, zorder=2)
    ax.set(xticks=[], yticks=[])
    for handle in ax.legend(frameon=False, markerscale=1.5).legend_handles:
        handle.set_alpha(1)  # type: ignore[union-attr]
    return ax


def joined(marked: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Lines `[2, 2]` between the centres of the marked points of every two modalities."""
    centres = [points.mean(axis=0) for points in marked.values()]
    return [np.stack([first, second]) for first, second in combinations(centres, 2)]
