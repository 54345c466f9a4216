"""How every figure looks: colours that colour-blind readers distinguish, and axes without a box."""

from collections.abc import Iterable, Iterator
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

# Okabe and Ito's colours; nothing is ever said by colour alone.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#8A8A8A"
HIGHER, LOWER, SAME = BLUE, ORANGE, "#F7F7F7"  # a difference by its sign, in every figure
VERDICT_MARKER = {"supported": "o", "contradicted": "X", "higher": "^", "lower": "v", "inconclusive": "s"}
LINES = tuple(zip((BLUE, ORANGE, GREEN, RED, GREY), ("-", "--", "-.", ":", (0, (5, 1))), "o^sDv", strict=True))


def by_sign(difference: float) -> str:
    """The colour of a difference."""
    return LOWER if difference < 0 else HIGHER


def differences_map() -> LinearSegmentedColormap:
    """The colours of differences, from the lowest over none to the highest."""
    return LinearSegmentedColormap.from_list("differences", [LOWER, SAME, HIGHER])


def plain(name: object) -> str:
    """A name as matplotlib shows it letter by letter: dollar signs make no formula.

    Names of classes, datasets, models and files are the user's, and may hold anything.
    """
    return str(name).replace("$", r"\$")


def in_legend(name: object) -> str:
    """A name as a legend shows it: matplotlib leaves out labels that are empty or begin with an underscore."""
    shown = plain(name)
    return f" {shown}" if not shown or shown.startswith("_") else shown


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
