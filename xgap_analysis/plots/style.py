"""How every figure looks: one style, colours that colour-blind readers distinguish, and axes without a box."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

# Okabe and Ito's colours; nothing is ever said by colour alone.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#8A8A8A"
HIGHER, LOWER, SAME = BLUE, ORANGE, "#F7F7F7"  # a difference by its sign, in every figure
VERDICT_MARKER = {"supported": "o", "contradicted": "X", "higher": "^", "lower": "v", "inconclusive": "s"}
_DASHES = ("", (4, 1.6), (6.4, 1.6, 1, 1.6), (1, 1.6), (7, 1.5))  # in line widths, as seaborn takes them
LINES = tuple(zip((BLUE, ORANGE, GREEN, RED, GREY), _DASHES, "o^sDv", strict=True))
_STYLE = {"axes.edgecolor": "#444444", "xtick.color": "#444444", "ytick.color": "#444444"}
_ONE_STYLED = threading.RLock()


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


@contextmanager
def house_style() -> Iterator[None]:
    """The style of axes that are made inside it. Afterwards everything is as it was: a user's own style is not ours.

    One thread at a time: the settings are those of the process, and explorers draw on several threads.
    """
    with _ONE_STYLED, sns.axes_style("ticks", _STYLE), sns.plotting_context("paper", font_scale=10 / 9.6):
        yield


def own_axes(ax: Axes | None, width: float, height: float) -> Axes:
    """The axes that were given, or those of a new figure of this size in inches."""
    return ax if ax is not None else panels(1, 1, width, height)[1][0, 0]


def panels(lines: int, columns: int, width: float, height: float, **how: Any) -> tuple[Figure, np.ndarray]:
    """A new figure of this size in inches, and its axes `[lines, columns]`."""
    with house_style():
        return plt.subplots(lines, columns, figsize=(width, height), layout="constrained", squeeze=False, **how)


def open_axes(axes: Iterable[Axes], left: bool = False) -> None:
    """Takes the lines away that close the box, and the left one too where it measures nothing."""
    for ax in axes:
        sns.despine(ax=ax, left=left)
