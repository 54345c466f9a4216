"""Inversion player: what happens to one query, step by step, as it is inverted."""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import ipywidgets
import pandas as pd

from xgap_analysis.core.errors import XgapError
from xgap_analysis.experiments import Evaluation
from xgap_analysis.experiments.hints import hints
from xgap_analysis.views.inversion.invert import STEPS
from xgap_analysis.widgets.cards import HINT, Card
from xgap_analysis.widgets.debounce import Debounced
from xgap_analysis.widgets.figures import figure_html
from xgap_analysis.widgets.finder import Finder
from xgap_analysis.widgets.items import Items, named, queries_of, shortened
from xgap_analysis.widgets.journey import BINS, Journey, make_journey
from xgap_analysis.widgets.panel import Panel
from xgap_analysis.widgets.rankings import Ranking, RankingRows
from xgap_analysis.widgets.scatter import EmbeddingMap
from xgap_analysis.widgets.slider import Slider
from xgap_analysis.widgets.style import BESIDE, BLUE, MAP, ORANGE, WRAP
from xgap_analysis.widgets.view_code import step_code

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METHODS = {"image": "OTI", "text": "OVI"}  # how the queries of a modality are inverted
OFFERED = 60  # search results in the list
PACE = 900  # milliseconds between the steps of the play button


class InversionPlayer(Panel):
    """An inverted feature on its way: place on the map, loss, cosine, neighbours and similarities at each step.

    Args:
        evaluation: a model on a dataset, from `Study.evaluations()`; all its queries are inverted, once.
        steps: numbers of updates to look at; those beyond the inversion's end are left out, and its end is added.
        modality: of the queries: `"image"` (OTI) or `"text"` (OVI).
        query: id of the first query; the first of the dataset by default.
        k: neighbours in a row.

    Attributes:
        query: id of the query.
        step: the step on screen.
        cosine, loss: of the query at that step.
        rankings: title of a row to its ranking.

    Example:
        >>> import xgap_analysis as xg
        >>> (evaluation,) = xg.Study(["tiny"], ["emoji"], ["I-I"], limit=3, progress=False).evaluations()
        >>> from xgap_analysis import widgets
        >>> widgets.InversionPlayer(evaluation, steps=(0, 1)).name()
        'inversion-tiny-emoji-noto/1f92e-step=150'
    """

    def __init__(
        self,
        evaluation: Evaluation,
        steps: Sequence[int] = (0, 1, 2, 5, 10, 17, 25, 50, 75, 100, 150),
        modality: str = "image",
        query: str | None = None,
        k: int = 8,
    ) -> None:
        if modality not in METHODS:
            raise XgapError(f'modality is "image" (inverted by OTI) or "text" (by OVI), not {modality!r}')
        self.evaluation, self.items, self.modality = evaluation, Items(evaluation), modality
        last = evaluation.study.steps or STEPS["text" if modality == "image" else "image"]
        self.steps = sorted({*(s for s in steps if 0 <= s <= last), last})
        self._ids = queries_of(evaluation, modality)
        self.query, self.rankings = query or self._ids[0], dict[str, pd.DataFrame]()
        self.cosine = self.loss = float("nan")
        self._k = k
        self._journey: Journey | None = None
        self._shown = (self.query, self.steps[-1])
        self._map: EmbeddingMap | None = None

        self._finder = Finder(
            "find a query: words or id",
            "queries found",
            "(choose a query)",
            self._find,
            lambda item: self.choose(item or self.query),
            self.guarded,
            rows=5,
        )
        self._about = ipywidgets.HTML(layout={"width": "240px"})
        self._plot = ipywidgets.VBox(layout=MAP)
        self._chart = ipywidgets.HTML()
        self._rows = RankingRows(self.items, self._clicked)
        beside = ipywidgets.VBox([self._finder, self._about], layout=BESIDE)
        map_and_query = ipywidgets.HBox([self._plot, beside], layout=WRAP)
        super().__init__(
            f"Inversion player ({METHODS[modality]}) · {named(evaluation)}",
            [self._controls()],
            [map_and_query, self._chart, self._rows, ipywidgets.HTML(HINT)],
            hints=hints(evaluation),
        )
        self._finder.show()
        self.refresh()

    def _controls(self) -> ipywidgets.HBox:
        """The slider over the steps, and the button that plays them."""
        self._step = Slider(self.steps, self.steps[-1], "step", PACE, "420px")
        self._step.observe(Debounced(lambda _: self.refresh(), 0.1), "value")
        return ipywidgets.HBox([self._step], layout=WRAP)

    @property
    def step(self) -> int:
        """The step on screen."""
        return int(self._step.value)

    def choose(self, query: str) -> None:
        """Makes an item the query."""
        self.query = query
        self._finder.mark([query])
        self.refresh()

    def refresh(self) -> None:
        """Shows the query at the slider's step; inverts all queries first, if that has not been done."""
        query, step = self.query, self.step

        def work() -> tuple[Journey, dict[str, Ranking]]:
            import jscatter  # noqa: F401  its import takes seconds, which the progress bar covers

            journey = self._journey or make_journey(self.evaluation, self.modality, self.steps)
            self._journey = journey
            journey.histogram(step)
            return journey, journey.rankings(query, step, self._k)

        self.work(work, lambda made: self._show(query, step, *made))

    def _show(self, query: str, step: int, journey: Journey, rankings: dict[str, Ranking]) -> None:
        self.rankings = {title: ranking.head(self._k) for title, ranking in rankings.items()}
        self._shown = (query, step)
        self.cosine = journey.cosine(query, step)
        self.loss = 1 - self.cosine
        fresh = self._map is None
        if self._map is None:
            modalities = journey.modalities
            self._map = EmbeddingMap(journey.points, modalities, journey.extent(), self._pointed, height=300)
            self._map.colour_by_name(modalities, {"image": BLUE, "text": ORANGE})
        self._map.draw(journey.lines(query, step))
        self._map.select([journey.index(query)])
        if fresh:  # a plot that is on screen already would miss the lines of its first moment
            self._plot.children = [self._map]
        image = f"<img src='{self.items.thumbnail(query)}' alt=''><br>" if self.modality == "image" else ""
        self._about.value = (
            f"<div class='xgap-about'>{image}<b>query</b> {escape(self.items.words(query, self.modality))}<br>"
            f"step <b>{step}</b>: cosine <b>{self.cosine:.3f}</b>, loss <b>{self.loss:.3f}</b><br>"
            "black: its way so far; ✕: where it is; grey: to its target</div>"
        )
        alt = f"loss along the inversion and similarities at step {step}; cosine {self.cosine:.3f}"
        self._chart.value = figure_html(self.figure(), alt)
        self._rows.show(list(rankings.values()), self._k)

    def _pointed(self, indices: Sequence[int]) -> None:
        item = self._journey.item(indices[0]) if indices and self._journey is not None else None
        if item is not None and item != self.query and item in self._ids:
            self.choose(item)

    def _clicked(self, card: Card) -> None:
        if card.item in self._ids:
            self.choose(card.item)
        else:
            self.show_error(XgapError(f"{card.item!r} is in the gallery, but not among the queries of this dataset"))

    def _find(self, words: str) -> list[tuple[str, str]]:
        """Label and id of the queries that words find."""
        found = self.items.search(words, self._ids, self.modality)[:OFFERED]
        return [(shortened(self.items.words(item, self.modality), 60), item) for item in found]

    def code(self) -> str:
        """Python that gives the neighbours and the figure on screen."""
        return step_code(self.evaluation, self.modality, self.steps, *self._shown, self._k, BINS)

    def table(self) -> pd.DataFrame:
        """The rankings on screen, with the step, the cosine and the loss."""
        query, step = self._shown
        about = {"query": query, "step": step, "cosine": self.cosine, "loss": self.loss}
        return pd.concat([frame.assign(row=title, **about) for title, frame in self.rankings.items()])

    def figure(self) -> "Figure":
        """Loss and similarities at the step on screen."""
        from xgap_analysis.plots import inversion_step

        if self._journey is None:
            raise XgapError("nothing has been inverted yet")
        query, step = self._shown
        return inversion_step(self._journey.inversion, query, step, self._journey.histogram(step))

    def name(self) -> str:
        """inversion, model, dataset, query, step."""
        query, step = self._shown
        return f"inversion-{self.evaluation.model.name}-{self.evaluation.data.name}-{query}-step={step}"
