"""Two modalities on a plane, as a figure."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from xgap_analysis.plots.style import BLUE, ORANGE


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
    ax = ax or plt.subplots(figsize=(6, 5), layout="constrained")[1]
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
