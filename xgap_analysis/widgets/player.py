"""Inversion player: what happens to one query, step by step, as it crosses the gap."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

import ipywidgets
import numpy as np
import pandas as pd

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.experiments import Evaluation
from xgap_analysis.metrics import nearest_items, similarity_histograms
from xgap_analysis.plots.maps import PlaneMap, plane_map
from xgap_analysis.views.inversion.invert import STEPS, Inversion
from xgap_analysis.widgets.cards import HINT, Card, CardRow
from xgap_analysis.widgets.debounce import Debounced
from xgap_analysis.widgets.items import Items, shortened
from xgap_analysis.widgets.panel import Panel
from xgap_analysis.widgets.pictures import picture_html
from xgap_analysis.widgets.recreate import evaluation_code
from xgap_analysis.widgets.scatter import EmbeddingMap
from xgap_analysis.widgets.style import BLUE, GREY, LABEL_WIDTH, ORANGE, RED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OFFERED = 60  # search results in the list
LINKED = 100  # ranks to which an item is followed into the other row
BINS = 80  # of the similarities in [-1, 1]
PACE = 900  # milliseconds between the steps of the play button
CROSS = 0.02  # half the size of the travelling mark, as a share of the map


@dataclass(eq=False)
class _Run:
    """A finished inversion and what is asked of it."""

    native: Features
    gallery: Features
    inversion: Inversion
    plane: PlaneMap
    paths: np.ndarray  # [steps, n, 2]
    histograms: dict[int, pd.DataFrame] = field(default_factory=dict)


class InversionPlayer(Panel):
    """An inverted feature on its way: place on the map, loss, cosine, neighbours and similarities at each step.

    Args:
        evaluation: a model on a data set, from `Study.evaluations()`; all its queries are inverted, once.
        steps: numbers of updates to look at; those beyond the inversion's end are left out, and its end is added.
        side: `"image"` (OTI) or `"text"` (OVI): the modality of the queries.
        query: id of the first query; without one the first that may ask.
        k: neighbours in a row.

    Attributes:
        query: id of the query.
        step: the step on screen.
        cosine, loss: of the query at that step.
        rankings: title of a row to its ranking.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        steps: Sequence[int] = (0, 1, 2, 5, 10, 17, 25, 50, 75, 100, 150),
        side: str = "image",
        query: str | None = None,
        k: int = 8,
    ) -> None:
        if side not in ("image", "text"):
            raise XgapError(f'side is "image" (its features are inverted by OTI) or "text" (OVI), not {side!r}')
        self.evaluation, self.items, self.side = evaluation, Items(evaluation), side
        last = evaluation.study.steps or STEPS["text" if side == "image" else "image"]
        self.steps = sorted({*(s for s in steps if 0 <= s <= last), last})
        self._ids = evaluation.data.queries(side)
        if not self._ids:
            raise XgapError(
                f"data set {evaluation.data.name!r} ({evaluation.data.split_name}) has no {side}s to invert"
            )
        self.query, self.rankings = query or self._ids[0], dict[str, pd.DataFrame]()
        self.cosine = self.loss = float("nan")
        self._k = k
        self._run: _Run | None = None
        self._shown = (self.query, self.steps[-1])
        self._map: EmbeddingMap | None = None

        self._play = ipywidgets.Play(
            value=len(self.steps) - 1, min=0, max=len(self.steps) - 1, interval=PACE, description="play the steps"
        )
        self._step = ipywidgets.SelectionSlider(
            options=self.steps, value=self.steps[-1], description="step", continuous_update=False
        )
        self._step.layout.width = "420px"
        ipywidgets.jslink((self._step, "index"), (self._play, "value"))
        self._search = ipywidgets.Text(placeholder="find a query: words or id", layout={"width": "240px"})
        self._list = ipywidgets.Select(options=[], rows=5, layout={"width": "240px"})
        self._about = ipywidgets.HTML(layout={"width": "240px"})
        self._plot = ipywidgets.VBox(layout={"width": "570px"})
        self._chart = ipywidgets.HTML()
        self._lines = [
            (
                ipywidgets.HTML(layout={"width": LABEL_WIDTH, "min_width": LABEL_WIDTH}),
                CardRow(self.items, self._clicked),
            )
            for _ in range(2)
        ]
        self._rows = ipywidgets.VBox([ipywidgets.HBox(line) for line in self._lines])
        beside = ipywidgets.VBox([self._search, self._list, self._about], layout={"padding": "0 0 0 12px"})
        method = "OTI" if side == "image" else "OVI"
        named = f"{evaluation.data.name} ({evaluation.data.split_name})"
        super().__init__(
            f"Inversion player ({method}) · {evaluation.model.name} on {named}",
            [
                ipywidgets.HBox([self._play, self._step]),
                ipywidgets.HBox([self._plot, beside]),
                self._chart,
                self._rows,
                ipywidgets.HTML(HINT),
            ],
        )
        self._find("")
        self._step.observe(Debounced(lambda _: self.refresh(), 0.1), "value")
        self._search.observe(Debounced(lambda change: self.guarded(lambda: self._find(change["new"]))), "value")
        self._list.observe(lambda change: self.choose(change["new"] or self.query), "value")
        self.refresh()

    @property
    def step(self) -> int:
        """The step on screen."""
        return int(self._step.value)

    def choose(self, query: str) -> None:
        """Makes an item the query."""
        self.query = query
        self.refresh()

    def refresh(self) -> None:
        """Shows the query at the slider's step; inverts all queries first, if that has not been done."""
        query, step = self.query, self.step

        def work() -> tuple[_Run, dict[str, pd.DataFrame]]:
            run = self._run or self._invert()
            self._run = run
            relevance = self.evaluation.data.relevance(self.evaluation.study.level)
            snapshot = run.inversion.snapshots[step]
            if step not in run.histograms:
                run.histograms[step] = similarity_histograms(snapshot, run.gallery, relevance, bins=BINS)
            sides = {"native": run.native, f"step {step}": snapshot}
            return run, {
                title: nearest_items(side, run.gallery, query, relevance, max(self._k, LINKED)).assign(space=self.side)
                for title, side in sides.items()
            }

        self.work(work, lambda made: self._show(query, step, *made))

    def _invert(self) -> _Run:
        import jscatter  # noqa: F401  its import takes seconds, which the progress bar covers

        evaluation, side = self.evaluation, self.side
        native, gallery = evaluation.view(side, "queries"), evaluation.view(side, "gallery")
        inversion = evaluation.inversion(native, evaluation.study.seeds[0], self.steps)
        plane = plane_map(evaluation.view("image", "all"), evaluation.view("text", "all"))
        paths = np.stack([plane.place(inversion.snapshots[step]) for step in self.steps])
        return _Run(native, gallery, inversion, plane, paths)

    def _show(self, query: str, step: int, run: _Run, rankings: dict[str, pd.DataFrame]) -> None:
        self.rankings = {title: frame.head(self._k) for title, frame in rankings.items()}
        self._shown = (query, step)
        asked = run.native.ids.index(query)
        at = self.steps.index(step)
        snapshot = run.inversion.snapshots[step].vectors[asked]
        self.cosine = float(snapshot @ run.native.vectors[asked])
        self.loss = 1 - self.cosine
        fresh = self._map is None
        if self._map is None:
            sides = ["image"] * len(run.plane.images) + ["text"] * len(run.plane.texts)
            points = np.concatenate([run.plane.images, run.plane.texts])
            extent = np.concatenate([points, run.paths.reshape(-1, 2)])
            self._map = EmbeddingMap(points, sides, extent, self._pointed, height=300)
            self._map.colour_by_name(sides, {"image": BLUE, "text": ORANGE})
        self._travel(run, asked, at)
        if fresh:  # a plot that is on screen already would miss the lines of its first moment
            self._plot.children = [self._map]
        picture = f"<img src='{self.items.thumbnail(query)}' alt=''><br>" if self.side == "image" else ""
        self._about.value = (
            f"<div class='xgap-about'>{picture}<b>query</b> {escape(self.items.words(query, self.side))}<br>"
            f"step <b>{step}</b>: cosine <b>{self.cosine:.3f}</b>, loss <b>{self.loss:.3f}</b><br>"
            "black: its way so far; ✕: where it is; grey: to its target</div>"
        )
        alt = f"loss along the inversion and similarities at step {step}; cosine {self.cosine:.3f}"
        self._chart.value = picture_html(self.figure(), alt)
        ranks = [dict(zip(frame["item"], frame["rank"], strict=True)) for frame in rankings.values()]
        for number, ((label, row), (title, frame)) in enumerate(zip(self._lines, self.rankings.items(), strict=True)):
            found = f"{int(frame['hit'].sum())} of {len(frame)} hit"
            label.value = f"<div class='xgap-row'><b>{'AB'[number]} · {escape(title)}</b><br>{found}</div>"
            other = ranks[1 - number]
            row.show(
                [
                    Card(
                        line["item"],
                        self.side,
                        f"{line['rank']} {'✓ ' if line['hit'] else ''}{line['score']:.2f}\n"
                        f"{'BA'[number]}{other.get(line['item'], f'>{LINKED}')}",
                        line["hit"],
                    )
                    for line in frame.to_dict("records")
                ]
            )

    def _travel(self, run: _Run, asked: int, at: int) -> None:
        assert self._map is not None
        path = run.paths[: at + 1, asked]
        offset, ids = self._target(run)
        index = offset + ids.index(self._shown[0])
        target = np.concatenate([run.plane.images, run.plane.texts])[index]
        half = CROSS * (run.paths.reshape(-1, 2).max(axis=0) - run.paths.reshape(-1, 2).min(axis=0)).max()
        here = path[-1]
        cross = [np.stack([here - half * d, here + half * d]) for d in (np.array([1, 1]), np.array([1, -1]))]
        way = [(path, "#000000")] if len(path) > 1 else []
        self._map.draw([(np.stack([here, target]), GREY), *way, *((line, RED) for line in cross)])
        self._map.select(index)

    def _target(self, run: _Run) -> tuple[int, tuple[str, ...]]:
        """Where the queries' side starts on the map, and its ids."""
        offset = 0 if self.side == "image" else len(run.plane.images)
        return offset, tuple(self.evaluation.view(self.side, "all").ids)

    def _pointed(self, index: int | None) -> None:
        if index is None or self._run is None:
            return
        offset, ids = self._target(self._run)
        if 0 <= index - offset < len(ids):
            item = ids[index - offset]
            if item != self.query and item in self._ids:
                self.choose(item)

    def _clicked(self, card: Card) -> None:
        if card.item in self._ids:
            self.choose(card.item)
        else:
            self.show_error(XgapError(f"{card.item!r} is searched but does not ask in this data set"))

    def _find(self, words: str) -> None:
        found = self.items.search(words, self._ids, self.side)[:OFFERED]
        offered = [(shortened(self.items.words(item, self.side), 60), item) for item in found]
        self._list.options = [("(choose a query)" if found else "(nothing found)", ""), *offered]

    def code(self) -> str:
        """Python that gives the neighbours and the figure on screen."""
        (query, step), seed = self._shown, self.evaluation.study.seeds[0]
        return "\n".join(
            [
                "import xgap_analysis as xg",
                "from xgap_analysis import plots",
                "from xgap_analysis.metrics import nearest_items",
                "",
                evaluation_code(self.evaluation, ["OTI-I" if self.side == "image" else "OVI-T"], ["none"]),
                f'native, gallery = (evaluation.view({self.side!r}, part) for part in ("queries", "gallery"))',
                f"inversion = evaluation.inversion(native, seed={seed}, snapshots={self.steps})",
                f"relevance = evaluation.data.relevance({self.evaluation.study.level!r})",
                f"snapshot = inversion.snapshots[{step}]",
                f"histogram = xg.similarity_histograms(snapshot, gallery, relevance, bins={BINS})",
                f"plots.inversion_step(inversion, {query!r}, {step}, histogram)",
                f"nearest_items(snapshot, gallery, {query!r}, relevance, k={self._k})",
            ]
        )

    def table(self) -> pd.DataFrame:
        """The rankings on screen, with the step, the cosine and the loss."""
        query, step = self._shown
        about = {"query": query, "step": step, "cosine": self.cosine, "loss": self.loss}
        return pd.concat([frame.assign(row=title, **about) for title, frame in self.rankings.items()])

    def figure(self) -> "Figure":
        """Loss and similarities at the step on screen."""
        from xgap_analysis.plots import inversion_step

        if self._run is None:
            raise XgapError("nothing has been inverted yet")
        query, step = self._shown
        return inversion_step(self._run.inversion, query, step, self._run.histograms[step])

    def name(self) -> str:
        """inversion, model, data set, query, step."""
        query, step = self._shown
        return f"inversion-{self.evaluation.model.name}-{self.evaluation.data.name}-{query}-step={step}"
