"""The embedding map: points of several modalities, by size and colour, with lines between some of them."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import ipywidgets
import numpy as np

Line = tuple[np.ndarray, str]  # points [k, 2] and a colour
SIZES = {"image": 5, "text": 9}  # of other modalities, in between
BETWEEN = 7
MARGIN = 0.08


class EmbeddingMap(ipywidgets.VBox):
    """A jupyter-scatter plot and its legend.

    Args:
        points: `[n, 2]`.
        modalities: of each point: texts are drawn largest, images smallest.
        extent: points `[m, 2]` that shall stay in sight whatever moves.
        on_select: called with the index of the point that was clicked, or None.
        on_hover: called with the index of the point under the pointer, or None.
        height: pixels.
    """

    def __init__(
        self,
        points: np.ndarray,
        modalities: Sequence[str],
        extent: np.ndarray,
        on_select: Callable[[int | None], None],
        on_hover: Callable[[int | None], None] | None = None,
        height: int = 400,
    ) -> None:
        from jscatter import Scatter  # its import takes seconds

        low, high = extent.min(axis=0), extent.max(axis=0)
        pad = MARGIN * np.maximum(high - low, 1e-6)
        self._scales = dict(
            zip(("x_scale", "y_scale"), map(tuple, np.stack([low - pad, high + pad], axis=1)), strict=True)
        )
        self._scatter = Scatter(
            x=points[:, 0],
            y=points[:, 1],
            size_by=np.array([SIZES.get(modality, BETWEEN) for modality in modalities], dtype=float),
            size_map=[SIZES["image"], SIZES["text"]],
            size_norm=(SIZES["image"], SIZES["text"]),
            opacity=0.7,
            opacity_by=None,
            opacity_unselected=0.9,
            color_selected="#000000",
            axes=False,
            tooltip=False,
            legend=False,
            height=height,
            **self._scales,
        )
        self._plot = self._scatter.widget
        self._legend = ipywidgets.HTML()
        self._plot.observe(lambda change: on_select(_only(change["new"])), "selection")
        if on_hover is not None:
            self._plot.observe(lambda change: on_hover(change["new"]), "hovering")
        super().__init__([self._plot, self._legend])

    def move(self, points: np.ndarray) -> None:
        """Moves the points to other places."""
        self._scatter.xy(points[:, 0], points[:, 1], animate=False, **self._scales)

    def colour_by_name(self, names: Sequence[str], colours: Mapping[str, str]) -> None:
        """Colours each point by a name."""
        present = {name: colour for name, colour in colours.items() if name in set(names)}
        self._scatter.color(by=np.array(names, dtype=object), map=present)
        self._legend.value = _legend(present)

    def colour_by_value(self, values: np.ndarray, title: str) -> None:
        """Colours each point by a number, dark to bright."""
        low, high = float(values.min()), float(values.max())
        self._scatter.color(by=values.astype(float), map="viridis", norm=(low, high))
        ramp = "linear-gradient(to right, #440154, #31688E, #35B779, #FDE725)"
        self._legend.value = (
            f"<div class='xgap-about'>{escape(title)}: {low:.2f} <span style='display:inline-block; width:120px; "
            f"height:10px; background:{ramp}'></span> {high:.2f} · large dots: texts</div>"
        )

    def draw(self, lines: Sequence[Line]) -> None:
        """Draws lines instead of those that are there."""
        from jscatter import Line as Stroke

        strokes = [
            Stroke([tuple(map(float, p)) for p in points], line_color=colour, line_width=2) for points, colour in lines
        ]
        self._scatter.annotations(strokes)

    def select(self, index: int | None, *more: int) -> None:
        """Marks a point as the selected one, and more beside it."""
        self._scatter.selection([] if index is None else [index, *more])


def _only(selection: Any) -> int | None:
    return int(selection[0]) if selection is not None and len(selection) else None


def _legend(colours: Mapping[str, str]) -> str:
    marks = (
        f"<span style='color:{colour}; font-size:16px'>●</span> {escape(name)}" for name, colour in colours.items()
    )
    return f"<div class='xgap-about'>{' &nbsp; '.join(marks)} · large dots: texts</div>"
