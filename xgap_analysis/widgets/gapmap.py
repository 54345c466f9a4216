"""Gap map: images and texts on one plane, moved along the gap, with the numbers that follow."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import ipywidgets
import pandas as pd
import traitlets

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.experiments import Evaluation
from xgap_analysis.experiments.hints import hints
from xgap_analysis.widgets.debounce import Debounced
from xgap_analysis.widgets.finder import Finder
from xgap_analysis.widgets.items import Items, named
from xgap_analysis.widgets.numbers import Numbers
from xgap_analysis.widgets.panel import Panel
from xgap_analysis.widgets.points import axes_words, found_points, points_html, scene_figure
from xgap_analysis.widgets.scatter import EmbeddingMap
from xgap_analysis.widgets.scene import FAR, OTHERS, Scene, make_scene
from xgap_analysis.widgets.slider import Slider
from xgap_analysis.widgets.style import BESIDE, BLUE, MAP, ORANGE, WRAP
from xgap_analysis.widgets.view_code import map_code

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHIFTS = [round(FAR[0] + k / 10, 1) for k in range(round(10 * (FAR[1] - FAR[0])) + 1)]  # what the slider offers
COLOURS = {"image": BLUE, "text": ORANGE}


class MapControls(ipywidgets.HBox):
    """The map's method, its colours, and the slider that moves images and texts.

    Raises:
        XgapError: an unknown method or colour, or a move beyond the slider.
    """

    def __init__(self, colours: Sequence[str], method: str, colour: str, lambda_: float) -> None:
        from xgap_analysis.plots.maps import METHODS

        if method not in METHODS:
            raise unknown_name("map", method, METHODS)
        if colour not in colours:
            raise unknown_name("colour", colour, colours)
        if not FAR[0] <= lambda_ <= FAR[1]:
            raise XgapError(f"lambda_ lies between {FAR[0]} and {FAR[1]} here, not at {lambda_}")
        self.method = ipywidgets.Dropdown(options=METHODS, value=method, description="map", layout={"width": "160px"})
        self.colour = ipywidgets.Dropdown(
            options=colours, value=colour, description="colour by", layout={"width": "210px"}
        )
        self.shift = Slider(sorted({*SHIFTS, lambda_}), lambda_, "gap shift λ")
        self.method.style.description_width = "40px"
        super().__init__([self.method, self.colour, self.shift], layout=WRAP)


class GapMap(Panel):
    """Images and texts on one plane, fitted once: along the gap, or by PCA or UMAP.

    Clicking a point (or choosing it in the list) joins it to the items of the other modality that are relevant to it;
    the lasso (the second button beside the map) selects several, and so do Shift and the arrow keys in the list. The
    panel beside the map shows what the pointer is on, or what is selected; the saved table marks it. The slider moves
    images and texts along the vector between their means, as the correction `gap-shift` does, fitted on what is shown.
    `link` joins the map to explorers of neighbours.

    Args:
        evaluation: a model on a dataset, from `Study.evaluations()`.
        method: `"gap"` (x along the gap, y the first principal component of the rest), `"pca"` or `"umap"`.
        colour: `"modality"`, `"similarity"` (to the selected item), or the name of a label set.
        lambda_: where the slider starts; 0 moves nothing.

    Attributes:
        selected: (modality, id) of each selected item; a trait, for `observe`.
        numbers: the metrics at the slider's place.

    Example:
        >>> import xgap_analysis as xg
        >>> (evaluation,) = xg.Study(["tiny"], ["emoji"], ["I-I"], limit=3, progress=False).evaluations()
        >>> from xgap_analysis import widgets
        >>> widgets.GapMap(evaluation).name()
        'gapmap-tiny-emoji-gap-lambda=0'
    """

    selected: "traitlets.List[tuple[str, str]]" = traitlets.List()

    def __init__(
        self, evaluation: Evaluation, method: str = "gap", colour: str = "modality", lambda_: float = 0.0
    ) -> None:
        self.evaluation, self.items = evaluation, Items(evaluation)
        colours = ["modality", "similarity", *evaluation.data.labels]
        self._controls = MapControls(colours, method, colour, lambda_)
        self._scene: Scene | None = None
        self._map: EmbeddingMap | None = None
        self._chosen: list[int] = []  # points
        self._finder = Finder(
            "find an item: words or id",
            "items found",
            "(none selected)",
            self._find,
            self._choose,
            self.guarded,
            rows=6,
            several=True,
        )
        self._about = ipywidgets.HTML(layout={"width": "240px"})
        self._table = Numbers()
        self._plot = ipywidgets.VBox(layout=MAP)
        self._axes = ipywidgets.HTML()
        beside = ipywidgets.VBox([self._table, self._finder, self._about], layout=BESIDE)
        super().__init__(
            f"Gap map · {named(evaluation)}",
            [self._controls],
            [ipywidgets.HBox([self._plot, beside], layout=WRAP), self._axes],
            hints=hints(evaluation),
        )
        move = Debounced(lambda _: self.refresh(), 0.1)
        for control in (self._controls.method, self._controls.shift):
            control.observe(move, "value")
        self._controls.colour.observe(lambda _: self.guarded(self._paint), "value")
        self._count = Debounced(self._count_at_rest, 0.4)
        self._hover = Debounced(lambda index: self.guarded(lambda: self._describe(index)), 0.05)
        self.refresh()

    @property
    def numbers(self) -> Mapping[str, float]:
        """The metrics at the slider's place."""
        return {} if self._scene is None else self._scene.numbers

    @property
    def made(self) -> bool:
        """Whether there is a map yet."""
        return self._scene is not None

    def refresh(self) -> None:
        """Places images and texts anew, after another map or another shift, then computes the numbers."""
        method, lambda_ = self._controls.method.value, float(self._controls.shift.value)
        if not self._jobs.running and self._on_screen == (method, lambda_):
            return

        def work() -> Scene:
            import jscatter  # noqa: F401  its import takes seconds, which the progress bar covers

            return make_scene(self.evaluation, method, lambda_)

        def done(scene: Scene) -> None:
            self._show(scene)
            self._count(scene)

        self.work(work, done)

    def _count_at_rest(self, scene: Scene) -> None:
        """Computes the numbers of a map that is still on screen, which a slider in motion does not wait for."""
        if scene is not self._scene or self._jobs.running:
            return
        self.work_on(lambda: self._table.compute(scene), lambda numbers: self._table.show(scene.lambda_, numbers))

    @property
    def _on_screen(self) -> tuple[str, float] | None:
        """Method and move of the map on screen."""
        return None if self._scene is None else (self._scene.plane.method, self._scene.lambda_)

    def show_error(self, error: Exception) -> None:
        """Shows an error; the controls say again what is on screen, as the map that was wanted has not been made."""
        super().show_error(error)
        if self._on_screen is not None and not self._jobs.running:
            if self._on_screen != (self._controls.method.value, self._controls.shift.value):
                self._count(self._scene)  # whose numbers may have been left for the map that was wanted
            self._controls.method.value, self._controls.shift.value = self._on_screen

    def select(self, modality: str, item: str) -> None:
        """Selects an item, as a click on its point does.

        Raises:
            XgapError: an item that is not on the map.
        """
        self._choose([self._made().index(modality, item)])

    def _made(self) -> Scene:
        if self._scene is None:
            raise XgapError("the map is still being made")
        return self._scene

    def _show(self, scene: Scene) -> None:
        fresh = self._map is None or self._scene is None or self._scene.plane is not scene.plane
        self._scene = scene
        if self._map is None or fresh:
            self._map = EmbeddingMap(scene.points, scene.modalities, scene.extent(), self._clicked, self._hover)
        with self._map.together():
            if not fresh:
                self._map.move(scene.points)
            self._paint()
            self._join()
        if not self._finder.entries.options:
            self._finder.show()
        if fresh:  # a plot that is on screen already would miss the colours of its first moment
            self._map.select(self._chosen)
            self._plot.children = [self._map]
        self._table.show(scene.lambda_)
        self._describe(None)
        self._axes.value = f"<div class='xgap-about'>{axes_words(scene)}</div>"

    def _clicked(self, indices: Sequence[int]) -> None:
        if list(indices) != self._chosen:
            self.guarded(lambda: self._choose(indices))

    def _choose(self, indices: Sequence[int]) -> None:
        if list(indices) == self._chosen or self._map is None:
            return
        self._mark(indices)
        if self._controls.colour.value == "similarity":
            self._paint()
        self._join()
        self._describe(None)

    def _mark(self, indices: Sequence[int]) -> None:
        if self._map is not None:
            self._chosen = list(indices)
            self._map.select(indices)
            self._finder.mark(indices)
            self.selected = [self._made().item(index) for index in indices]

    def _join(self) -> None:
        if self._map is not None and self._scene is not None:
            self._map.draw([(line, "#000000") for line in self._scene.lines(self._chosen)])

    def _paint(self) -> None:
        if self._scene is None or self._map is None:
            return
        by, scene = self._controls.colour.value, self._scene
        if by == "similarity":
            if not self._chosen:
                self._mark([0])
            first = self._chosen[0]
            self._map.colour_by_value(scene.similarity(first), f"cosine to {scene.item(first)[1]}")
        elif by == "modality":
            self._map.colour_by_name(scene.modalities, COLOURS)
        else:
            self._map.colour_by_name(*scene.classes(by), faint=[OTHERS])

    def _describe(self, index: int | None) -> None:
        """Says what a point is: the one under the pointer, or else what is selected."""
        if self._scene is not None:
            shown = self._chosen if index is None else [index]
            words = points_html(self._scene, self.items, shown, joined=shown == self._chosen)
            self._about.value = f"<div class='xgap-about'>{words}</div>"

    def _find(self, words: str) -> list[tuple[str, int]]:
        return [] if self._scene is None else found_points(self._scene, self.items, words)

    def code(self) -> str:
        """Python that gives the map and the numbers on screen."""
        scene = self._made()
        return map_code(
            self.evaluation,
            scene.plane.method,
            scene.lambda_,
            classes="zero_shot_top1" in scene.numbers,
            pairs=scene.has_pairs,
            relevance=scene.relevance is not None,
        )

    def table(self) -> pd.DataFrame:
        """One row per point: item, modality, place on the plane, the slider's place, and whether it is selected."""
        table = self._made().table()
        return table.assign(selected=table.index.isin(self._chosen))

    def figure(self) -> "Figure":
        """The map on screen as a figure; points are coloured by modality, or by similarity where that is shown."""
        return scene_figure(self._made(), self._chosen, by_similarity=self._controls.colour.value == "similarity")

    def name(self) -> str:
        """gapmap, model, dataset, map, shift."""
        scene = self._made()
        model, data = self.evaluation.model.name, self.evaluation.data.name
        return f"gapmap-{model}-{data}-{scene.plane.method}-lambda={scene.lambda_:g}"
