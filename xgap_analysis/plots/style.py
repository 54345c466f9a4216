"""How every figure looks: colours told apart by colour-blind readers, and axes without a box."""

from collections.abc import Iterable, Iterator
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

# Okabe and Ito's colours; nothing is ever told by colour alone.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#8A8A8A"
VERDICT_STYLE = {
    "supported": (GREEN, "o"),
    "contradicted": (RED, "X"),
    "higher": (BLUE, "^"),
    "lower": (ORANGE, "v"),
    "too small to tell": (GREY, "s"),
}
LINES = tuple(zip((BLUE, ORANGE, GREEN, RED, GREY), ("-", "--", "-.", ":", (0, (5, 1))), "o^sDv", strict=True))


def line_styles() -> Iterator[tuple[str, Any, str]]:
    """Colour, dashes and marker of one line after the other, without end."""
    return cycle(LINES)


def own_axes(ax: Axes | None, width: float, height: float) -> Axes:
    """The axes that were given, or those of a new figure of this size in inches."""
    return ax if ax is not None else plt.subplots(figsize=(width, height), layout="constrained")[1]


def open_axes(axes: Iterable[Axes]) -> None:
    """Takes the lines away that close the box."""
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
