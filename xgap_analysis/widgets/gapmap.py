"""Gap map: images and texts on one plane, moved along the gap, with the numbers that follow."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np
import pandas as pd

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.features import Features
from xgap_analysis.core.relevance import Relevance
from xgap_analysis.experiments import Evaluation
from xgap_analysis.plots.maps import METHODS, PlaneMap, cosines, gap_numbers, move_sides, partners, plane_map
from xgap_analysis.widgets.debounce import Debounced
from xgap_analysis.widgets.items import Items, shortened
from xgap_analysis.widgets.panel import Panel
from xgap_analysis.widgets.recreate import evaluation_code
from xgap_analysis.widgets.scatter import EmbeddingMap
from xgap_analysis.widgets.style import BLUE, CLASSES, GREY, ORANGE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FAR = (-0.5, 1.5)  # how far the slider moves the sides
OFFERED = 60  # search results in the list
SIDES = {"image": BLUE, "text": ORANGE}
TITLES = {
    "modality_gap": "modality gap",
    "zero_shot_top1": "zero-shot top-1",
    "ap_image_to_text": "I-T mean AP",
    "ap_text_to_image": "T-I mean AP",
}


@dataclass(frozen=True, eq=False)
class _Scene:
    """What the map shows: the plane, the sides after the move, their places and the numbers."""

    plane: PlaneMap
    lambda_: float
    images: Features
    texts: Features
    points: np.ndarray
    numbers: Mapping[str, float]


class GapMap(Panel):
    """Images and texts on one plane, PCA or UMAP, fitted once.

    Clicking a point (or choosing it in the list) joins it to what answers it on the other side; the panel beside the
    map shows what the pointer is on. The slider moves the two sides along the vector between their means, as the
    correction `gap-shift` does, fitted on what is shown.

    Args:
        evaluation: a model on a data set, from `Study.evaluations()`.
        method: `"pca"` or `"umap"`.
        colour: `"modality"`, `"similarity"` (to the selected item), or the name of a level of labels.
        lambda_: where the slider starts; 0 moves nothing.

    Attributes:
        selected: (space, id) of the selected item, or None.
        numbers: the metrics at the slider's place.
    """

    def __init__(
        self, evaluation: Evaluation, method: str = "pca", colour: str = "modality", lambda_: float = 0.0
    ) -> None:
        self.evaluation, self.items = evaluation, Items(evaluation)
        colours = ["modality", "similarity", *evaluation.data.labels]
        if method not in METHODS:
            raise unknown_name("map", method, METHODS)
        if colour not in colours:
            raise unknown_name("colour", colour, colours)
        if not FAR[0] <= lambda_ <= FAR[1]:
            raise XgapError(f"lambda_ lies between {FAR[0]} and {FAR[1]} here, not at {lambda_}")
        self.numbers: Mapping[str, float] = {}
        self._scene: _Scene | None = None
        self._native: tuple[Features, Features] | None = None
        self._map: EmbeddingMap | None = None
        self._index: int | None = None
        self._first_numbers: Mapping[str, float] = {}

        self._method = ipywidgets.Dropdown(options=METHODS, value=method, description="map", layout={"width": "160px"})
        self._colour = ipywidgets.Dropdown(
            options=colours, value=colour, description="colour by", layout={"width": "210px"}
        )
        self._lambda = ipywidgets.FloatSlider(
            lambda_, min=FAR[0], max=FAR[1], step=0.1, description="gap shift λ", continuous_update=False
        )
        self._lambda.layout.width = "330px"
        self._method.style.description_width = "40px"
        self._search = ipywidgets.Text(placeholder="find an item: words or id", layout={"width": "240px"})
        self._list = ipywidgets.Select(options=[], rows=6, layout={"width": "240px"})
        self._about = ipywidgets.HTML(layout={"width": "240px"})
        self._table = ipywidgets.HTML()
        self._plot = ipywidgets.VBox(layout={"width": "570px"})
        side = ipywidgets.VBox([self._table, self._search, self._list, self._about], layout={"padding": "0 0 0 12px"})
        super().__init__(
            f"Gap map · {evaluation.model.name} on {evaluation.data.name} ({evaluation.data.split_name})",
            [
                ipywidgets.HBox([self._method, self._colour, self._lambda]),
                ipywidgets.HBox([self._plot, side]),
            ],
        )
        move = Debounced(lambda _: self.refresh(), 0.1)
        for control in (self._method, self._lambda):
            control.observe(move, "value")
        self._colour.observe(lambda _: self.guarded(self._paint), "value")
        self._search.observe(Debounced(lambda change: self.guarded(lambda: self._find(change["new"]))), "value")
        self._list.observe(lambda change: self.guarded(lambda: self._chosen(change["new"])), "value")
        self._hover = Debounced(lambda index: self.guarded(lambda: self._tell(index)), 0.05)
        self.refresh()

    @property
    def selected(self) -> tuple[str, str] | None:
        """Space and id of the selected item."""
        return None if self._index is None else self._item(self._index)

    def refresh(self) -> None:
        """Places the two sides anew: after another map or another shift."""
        method, lambda_ = self._method.value, float(self._lambda.value)

        def work() -> tuple[_Scene, _Scene | None]:
            import jscatter  # noqa: F401  its import takes seconds, which the progress bar covers

            first = self._place(method, 0.0) if self._map is None and lambda_ else None
            return self._place(method, lambda_), first

        def done(made: tuple[_Scene, _Scene | None]) -> None:
            scene, first = made
            if not self._first_numbers:
                self._first_numbers = (first or scene).numbers
            self._show(scene)

        self.work(work, done)

    def select(self, space: str, item: str) -> None:
        """Selects an item, as a click on its point does.

        Raises:
            XgapError: an item that is not on the map.
        """
        if self._native is None:
            raise XgapError("the map is still being made; select an item when it stands")
        images, texts = self._native
        ids = images.ids if space == "image" else texts.ids
        if item not in ids:
            raise XgapError(f"no {space} of id {item!r} is on this map")
        self._chosen(ids.index(item) + (0 if space == "image" else len(images)))

    def _place(self, method: str, lambda_: float) -> _Scene:
        evaluation = self.evaluation
        images, texts = evaluation.view("image", "all"), evaluation.view("text", "all")
        self._native = images, texts
        plane = plane_map(images, texts, method)
        classes = self._known(lambda: evaluation.view("text", "classes"))
        moved = move_sides(lambda_, images, texts, *([classes] if classes is not None else []))
        # The native places are known already; UMAP would only come near them.
        places = [plane.place(side) for side in moved[:2]] if lambda_ else [plane.images, plane.texts]
        labels = self._known(lambda: evaluation.labels)
        named = moved[2] if len(moved) > 2 else None
        pairs = self._known(lambda: evaluation.pairs(moved[0], moved[1]))
        queries = (evaluation.view("image", "queries").ids, evaluation.view("text", "queries").ids)
        numbers = gap_numbers(moved[0], moved[1], self._relevance(), named, labels, pairs, queries)
        return _Scene(plane, lambda_, moved[0], moved[1], np.concatenate(places), numbers)

    def _relevance(self) -> Relevance | None:
        return self._known(lambda: self.evaluation.data.relevance(self.evaluation.study.level))

    @staticmethod
    def _known(ask: Any) -> Any:
        """What the data set knows, or None where it has no such labels."""
        try:
            return ask()
        except XgapError:
            return None

    def _show(self, scene: _Scene) -> None:
        images, texts = scene.images, scene.texts
        fresh = self._map is None or self._scene is None or self._scene.plane is not scene.plane
        if self._map is not None and not fresh:
            self._map.move(scene.points)
        else:
            extent = [scene.plane.images, scene.plane.texts]
            if scene.plane.method == "pca" and self._native is not None:
                extent += [scene.plane.place(side) for at in FAR for side in move_sides(at, *self._native)]
            sides = ["image"] * len(images) + ["text"] * len(texts)
            self._map = EmbeddingMap(scene.points, sides, np.concatenate(extent), self._clicked, self._hover)
            if not self._list.options:
                self._find("")
        self._scene, self.numbers = scene, scene.numbers
        self._paint()
        self._join()
        if fresh:  # a plot that is on screen already would miss the colours of its first moment
            self._map.select(self._index)
            self._plot.children = [self._map]
        self._table.value = _numbers_table(self._first_numbers, self.numbers, scene.lambda_)
        self._tell(None)

    def _item(self, index: int) -> tuple[str, str]:
        assert self._native is not None
        images, texts = self._native
        return ("image", images.ids[index]) if index < len(images) else ("text", texts.ids[index - len(images)])

    def _clicked(self, index: int | None) -> None:
        if index != self._index:
            self.guarded(lambda: self._chosen(index))

    def _chosen(self, index: int | None) -> None:
        if index == self._index or self._map is None:
            return
        self._index = index
        self._map.select(index)
        if self._colour.value == "similarity":
            self._paint()
        self._join()
        self._tell(index)

    def _partners(self, index: int) -> list[int]:
        """The points that answer a point, on the other side."""
        relevance = self._relevance()
        if relevance is None or self._native is None:
            return []
        space, item = self._item(index)
        images, texts = self._native
        others, offset = (texts, len(images)) if space == "image" else (images, 0)
        return [offset + row for row in partners(item, others, relevance)]

    def _lines(self) -> list[np.ndarray]:
        if self._index is None or self._scene is None:
            return []
        points = self._scene.points
        return [points[[self._index, other]] for other in self._partners(self._index)]

    def _join(self) -> None:
        if self._map is not None:
            self._map.draw([(line, "#000000") for line in self._lines()])

    def _paint(self) -> None:
        if self._scene is None or self._map is None or self._native is None:
            return
        by = self._colour.value
        if by == "similarity" and self._index is None:
            self._index = 0
            self._map.select(0)
        images, texts = self._native
        if by == "similarity":
            self._map.colour_by_value(self._similarity(), f"cosine to {self._item(self._index or 0)[1]}")
        elif by == "modality":
            self._map.colour_by_name(["image"] * len(images) + ["text"] * len(texts), SIDES)
        else:
            labels = self.evaluation.data.labels[by]
            names = [labels.get(item, "no label") for item in (*images.ids, *texts.ids)]
            most = [name for name, _ in Counter(n for n in names if n != "no label").most_common(len(CLASSES))]
            colours = dict(zip(most, CLASSES, strict=False)) | {"others": GREY}
            self._map.colour_by_name([name if name in colours else "others" for name in names], colours)

    def _similarity(self) -> np.ndarray:
        assert self._scene is not None and self._index is not None
        images, texts = self._scene.images, self._scene.texts
        space, item = self._item(self._index)
        return cosines((images if space == "image" else texts).select([item]), images, texts)

    def _tell(self, index: int | None) -> None:
        """Says what a point is: the one under the pointer, or else the selected one."""
        index = self._index if index is None else index
        if index is None or self._scene is None:
            self._about.value = "<div class='xgap-about'>Point at a dot, or click it to join it to its pairs.</div>"
            return
        space, item = self._item(index)
        picture = f"<img src='{self.items.thumbnail(item)}' alt=''><br>" if space == "image" else ""
        pairs = len(self._partners(index)) if index == self._index else None
        joined = "" if pairs is None else f"<br>joined to {pairs} {'texts' if space == 'image' else 'images'}"
        self._about.value = (
            f"<div class='xgap-about'>{picture}<b>{space}</b> {escape(self.items.words(item, space))}{joined}</div>"
        )

    def _find(self, words: str) -> None:
        if self._native is None:
            return
        images, texts = self._native
        found = [
            (f"{space}: {shortened(self.items.words(item, space), 60)}", index + offset)
            for space, side, offset in (("text", texts, len(images)), ("image", images, 0))
            for item, index in self._matches(words, side, space)
        ]
        self._list.options = [("(none selected)" if found else "(nothing found)", None), *found]

    def _matches(self, words: str, side: Features, space: str) -> list[tuple[str, int]]:
        row = {item: i for i, item in enumerate(side.ids)}
        return [(item, row[item]) for item in self.items.search(words, side.ids, space)[: OFFERED // 2]]

    def code(self) -> str:
        """Python that gives the map and the numbers on screen."""
        scene = self._stands()
        with_classes = "zero_shot_top1" in self.numbers
        named = "*classes, evaluation.labels" if with_classes else "None, None"
        paired = self._known(self.evaluation.pairs) is not None
        pairs = "evaluation.pairs(images, texts)" if paired else "None"
        answers = (
            f"evaluation.data.relevance({self.evaluation.study.level!r})" if self._relevance() is not None else "None"
        )
        return "\n".join(
            [
                "import xgap_analysis as xg",
                "from xgap_analysis import maps, plots",
                "",
                evaluation_code(self.evaluation, ["I-T"], ["none"]),
                'sides = [evaluation.view("image", "all"), evaluation.view("text", "all")]',
                f"plane = maps.plane_map(*sides, {scene.plane.method!r})",
                *(['sides.append(evaluation.view("text", "classes"))'] if with_classes else []),
                f"images, texts, *classes = maps.move_sides({scene.lambda_!r}, *sides)",
                "plots.plane(plane.place(images), plane.place(texts))",
                'queries = [evaluation.view(space, "queries").ids for space in ("image", "text")]',
                f"pairs = {pairs}",
                f"maps.gap_numbers(images, texts, {answers}, {named}, pairs, queries)",
            ]
        )

    def _stands(self) -> _Scene:
        if self._scene is None:
            raise XgapError("the map is still being made")
        return self._scene

    def table(self) -> pd.DataFrame:
        """One row a point: item, space, place on the plane, and the slider's place."""
        scene = self._stands()
        items = [self._item(index) for index in range(len(scene.points))]
        frame = pd.DataFrame(items, columns=["space", "item"])
        frame[["x", "y"]] = scene.points
        return frame.assign(method=scene.plane.method, lambda_=scene.lambda_, **self.numbers)

    def figure(self) -> "Figure":
        """The map on screen as a figure; points are coloured by modality, or by similarity where that is shown."""
        from xgap_analysis.plots import plane
        from xgap_analysis.plots.style import plain

        scene = self._stands()
        n, points = len(scene.images), scene.points
        colours: dict[str, Any] = {}
        if self._colour.value == "similarity":
            values = self._similarity()
            colours = {"images_colour": values[:n], "texts_colour": values[n:]}
        axes = plane(points[:n], points[n:], self._lines(), **colours)
        axes.set_title(f"{plain(self.evaluation.model.name)}, λ = {scene.lambda_:g}", fontsize=10)
        return axes.get_figure(root=True)  # type: ignore[return-value]

    def name(self) -> str:
        """gapmap, model, data set, map, shift."""
        scene = self._stands()
        model, data = self.evaluation.model.name, self.evaluation.data.name
        return f"gapmap-{model}-{data}-{scene.plane.method}-lambda={scene.lambda_:g}"


def _numbers_table(first: Mapping[str, float], now: Mapping[str, float], lambda_: float) -> str:
    rows = "".join(
        f"<tr><td>{TITLES[name]}</td><td>{first.get(name, np.nan):.3f}</td><td><b>{value:.3f}</b></td></tr>"
        for name, value in now.items()
    )
    head = f"<tr><td></td><td>λ = 0</td><td><b>λ = {lambda_:g}</b></td></tr>"
    return f"<table class='xgap-numbers'>{head}{rows}</table>"
