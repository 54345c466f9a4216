"""How every figure looks: colours told apart by colour-blind readers, and axes without a box."""

from collections.abc import Iterable

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


def open_axes(axes: Iterable[Axes]) -> None:
    """Takes the lines away that close the box."""
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
