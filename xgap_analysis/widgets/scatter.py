"""The embedding map: points of several modalities, by size and colour, with lines between some of them."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import ipywidgets
import numpy as np

Line = tuple[np.ndarray, str]  # points [k, 2] and a colour
SIZES = {"image": 5, "text": 9}  # of other modalities, in between
BETWEEN = 7
FAINT = 2  # size of a point of no class: many large grey ones would cover the others
STEPS = (FAINT, SIZES["image"], BETWEEN, SIZES["text"])  # from small to large
MARGIN = 0.08


class EmbeddingMap(ipywidgets.VBox):
    """A jupyter-scatter plot and its legend.

    Args:
        points: `[n, 2]`.
        modalities: of each point: texts are drawn largest, images smallest.
        extent: points `[m, 2]` that shall stay in sight whatever moves.
        on_select: called with the indices of the points that were clicked or lassoed.
        on_hover: called with the index of the point under the pointer, or None.
        height: pixels.
    """

    def __init__(
        self,
        points: np.ndarray,
        modalities: Sequence[str],
        extent: np.ndarray,
        on_select: Callable[[Sequence[int]], None],
        on_hover: Callable[[int | None], None] | None = None,
        height: int = 400,
    ) -> None:
        from jscatter import Scatter  # its import takes seconds

        low, high = extent.min(axis=0), extent.max(axis=0)
        pad = MARGIN * np.maximum(high - low, 1e-6)
        self._scales = dict(
            zip(("x_scale", "y_scale"), map(tuple, np.stack([low - pad, high + pad], axis=1)), strict=True)
        )
        self._of_modality = np.array(
            [STEPS.index(SIZES.get(modality, BETWEEN)) for modality in modalities], dtype=float
        )
        self._scatter = Scatter(
            x=points[:, 0],
            y=points[:, 1],
            **_sizes(self._of_modality),
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
        self._steps = self._of_modality
        self._plot = self._scatter.widget
        self._legend = ipywidgets.HTML()
        self._plot.observe(lambda change: on_select(_indices(change["new"])), "selection")
        if on_hover is not None:
            self._plot.observe(lambda change: on_hover(change["new"]), "hovering")
        super().__init__([self._plot, self._legend])

    @contextmanager
    def together(self) -> Iterator[None]:
        """Changes inside are drawn together: a plot on screen leaves out what comes while it draws."""
        with self._plot.hold_sync():
            yield
            # A new colour says that no point moved; where one did, pointer and lasso would look at its old place.
            self._plot.non_spatial_points_update = False

    def move(self, points: np.ndarray) -> None:
        """Moves the points to other places."""
        self._scatter.xy(points[:, 0], points[:, 1], animate=False, **self._scales)

    def colour_by_name(self, names: Sequence[str], colours: Mapping[str, str], faint: Collection[str] = ()) -> None:
        """Colours each point by a name; those of a faint name are small."""
        present = {name: colour for name, colour in colours.items() if name in set(names)}
        with self.together():
            self._scatter.color(by=np.array(names, dtype=object), map=present)
            self._resize(np.where(np.isin(names, list(faint)), STEPS.index(FAINT), self._of_modality))
        self._legend.value = _legend(present)

    def colour_by_value(self, values: np.ndarray, title: str) -> None:
        """Colours each point by a number, dark to bright."""
        low, high = float(values.min()), float(values.max())
        with self.together():
            self._scatter.color(by=values.astype(float), map="viridis", norm=(low, high))
            self._resize(self._of_modality)
        ramp = "linear-gradient(to right, #440154, #31688E, #35B779, #FDE725)"
        self._legend.value = (
            f"<div class='xgap-about'>{escape(title)}: {low:.2f} <span style='display:inline-block; width:120px; "
            f"height:10px; background:{ramp}'></span> {high:.2f} · large dots: texts</div>"
        )

    def _resize(self, steps: np.ndarray) -> None:
        if not np.array_equal(steps, self._steps):
            self._steps = steps
            sizes = _sizes(steps)
            self._scatter.size(by=sizes["size_by"], map=sizes["size_map"], norm=sizes["size_norm"])

    def draw(self, lines: Sequence[Line]) -> None:
        """Draws lines instead of those that are there."""
        from jscatter import Line as Stroke

        strokes = [
            Stroke([tuple(map(float, p)) for p in points], line_color=colour, line_width=2) for points, colour in lines
        ]
        self._scatter.annotations(strokes)

    def select(self, indices: Sequence[int]) -> None:
        """Marks points as selected."""
        self._scatter.selection(list(indices))


def _indices(selection: Any) -> list[int]:
    return [] if selection is None else [int(index) for index in selection]


def _sizes(steps: np.ndarray) -> dict[str, Any]:
    """Which of the sizes each point has, as jupyter-scatter reads it."""
    return {"size_by": steps, "size_map": list(STEPS), "size_norm": (0, len(STEPS) - 1)}


def _legend(colours: Mapping[str, str]) -> str:
    marks = (
        f"<span style='color:{colour}; font-size:16px'>●</span> {escape(name)}" for name, colour in colours.items()
    )
    return f"<div class='xgap-about'>{' &nbsp; '.join(marks)} · large dots: texts</div>"
