"""Neighbour explorer: what one query retrieves under several comparisons and corrections, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import product
from string import ascii_uppercase
from typing import TYPE_CHECKING

import ipywidgets
import pandas as pd
import traitlets

from xgap_analysis.core.errors import XgapError
from xgap_analysis.corrections import Correction, complete_corrections, correction
from xgap_analysis.corrections.protocol import Fit
from xgap_analysis.experiments import COMPARISONS, Comparison, Evaluation
from xgap_analysis.experiments.comparison import AnyComparison
from xgap_analysis.experiments.hints import hints
from xgap_analysis.scoring import COSINE, ScoreFunction, Scorer, scorer
from xgap_analysis.widgets.cards import HINT, Card
from xgap_analysis.widgets.debounce import Debounced
from xgap_analysis.widgets.finder import QueryStrip
from xgap_analysis.widgets.items import Items, named, queries_of
from xgap_analysis.widgets.panel import Panel
from xgap_analysis.widgets.rankings import LINKED, Ranking, RankingRows
from xgap_analysis.widgets.style import WRAP
from xgap_analysis.widgets.view_code import rankings_code

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ROWS = 8


@dataclass(frozen=True)
class Way:
    """One way to retrieve: a row of the explorer."""

    comparison: Comparison
    correction: Correction
    scorer: Scorer

    @property
    def about(self) -> str:
        """The correction, and the scorer where it is not the cosine."""
        return " · ".join([str(self.correction), *([str(self.scorer)] if self.scorer != COSINE else [])])

    @property
    def space(self) -> str:
        """Of what it retrieves: a modality, or `"class"`."""
        return "class" if self.comparison.task == "zero-shot" else self.comparison.gallery.modality

    def ranking(self, evaluation: Evaluation, query: str, depth: int) -> Ranking:
        """What the query retrieves this way."""
        seed = evaluation.study.seeds[0]
        frame = evaluation.ranking(query, self.comparison, self.correction, depth, seed, self.scorer)
        if "+" in self.space:  # a mixed gallery: each item is shown as what it is
            of = {i: m for m in self.space.split("+") for i in evaluation.data.items_of(m).ids}
            frame = frame.assign(space=[of[item] for item in frame["item"]])
        return Ranking(self.comparison.name, self.about, self.space, frame)


class NeighbourExplorer(Panel):
    """The neighbours of one query, a row for each comparison, correction and scorer.

    A card is framed and ticked where the item is relevant to the query; below its score it says which rank the item has
    in the other rows. The whole caption is the card's tooltip; a click makes the item the query.

    Args:
        evaluation: a model on a dataset, from `Study.evaluations()`.
        comparisons: names or `Comparison` objects, whose queries are all of one modality.
        corrections: names or `Correction` objects; each is shown for each comparison.
        query: id of the first query; the first of the dataset by default.
        k: neighbours in a row.
        scorers: names, `Scorer` objects or functions; each is shown for each comparison and correction.

    Attributes:
        query: id of the query; a trait, for `observe`.
        rankings: title of a row to its ranking (columns `item`, `rank`, `score`, `hit`, `space`).

    Example:
        >>> import xgap_analysis as xg
        >>> (evaluation,) = xg.Study(["tiny"], ["emoji"], ["I-I"], limit=2, progress=False).evaluations()
        >>> from xgap_analysis import widgets
        >>> explorer = widgets.NeighbourExplorer(evaluation, comparisons=["I-I"])
        >>> explorer.table().columns.tolist()
        ['item', 'rank', 'score', 'hit', 'space', 'query', 'row']
    """

    query = traitlets.Unicode()

    def __init__(
        self,
        evaluation: Evaluation,
        comparisons: Sequence[AnyComparison] = ("I-I", "OTI-I"),
        corrections: Sequence[str | Correction | Fit] = ("none",),
        query: str | None = None,
        k: int = 8,
        scorers: Sequence[str | Scorer | ScoreFunction] = (COSINE,),
    ) -> None:
        self.evaluation, self.items = evaluation, Items(evaluation)
        chosen = [evaluation.study.comparison(c) for c in comparisons]
        self.space = _one_modality(chosen)
        self._ids = queries_of(evaluation, self.space)
        known = [*COMPARISONS.values(), *map(evaluation.study.comparison, evaluation.study.comparisons), *chosen]
        self._comparisons = {c.name: c for c in known if c.query.modality == self.space}
        self._corrections = {str(c): c for c in map(correction, corrections)}
        self._scorers = [scorer(s) for s in scorers]
        self.query = query or self._ids[0]
        self.rankings: dict[str, pd.DataFrame] = {}
        self._shown = (self.query, k)
        self._ways: list[Way] = []
        self._strip = QueryStrip(self.items, self._ids, self.space, self.choose, self.guarded)
        self._about = ipywidgets.HTML()
        self._rows = RankingRows(self.items, self._clicked)
        controls = self._controls([c.name for c in chosen], k)
        super().__init__(
            f"Neighbours · {named(evaluation)}",
            [self._strip, controls],
            [self._about, self._rows, ipywidgets.HTML(HINT)],
            hints=hints(evaluation),
        )
        self._strip.turn_to(self.query)
        self.refresh()

    def _controls(self, comparisons: Sequence[str], k: int) -> ipywidgets.HBox:
        """Comparisons and corrections to choose from, and the number of neighbours."""
        offered = list(dict.fromkeys([*self._corrections, *complete_corrections()]))
        self._pick_comparisons = ipywidgets.SelectMultiple(
            options=list(self._comparisons),
            value=comparisons,
            rows=4,
            description="comparisons",
            layout={"width": "250px"},
        )
        self._pick_corrections = ipywidgets.SelectMultiple(
            options=offered, value=list(self._corrections), rows=4, description="corrections", layout={"width": "330px"}
        )
        self._k = ipywidgets.BoundedIntText(
            k, min=1, max=max(12, k), description="neighbours", layout={"width": "160px"}
        )
        for picker in (self._pick_comparisons, self._pick_corrections, self._k):
            picker.style.description_width = "90px"
        controls = (self._pick_comparisons, self._pick_corrections, self._k)
        refresh = Debounced(lambda _: self.refresh(), 0.15)
        for control in controls:
            control.observe(refresh, "value")
        return ipywidgets.HBox(controls, layout=WRAP)

    def offers(self, item: str) -> bool:
        """Whether an item is one of the queries."""
        return item in self._ids

    def choose(self, query: str) -> None:
        """Makes an item the query."""
        self.query = query
        self.refresh()

    def refresh(self) -> None:
        """Retrieves anew, by the comparisons and the corrections that are chosen."""
        query, k = self.query, int(self._k.value)
        chosen = list(product(self._pick_comparisons.value, self._pick_corrections.value, self._scorers))
        if not chosen or len(chosen) > MOST_ROWS:
            what = f"this choice has {len(chosen)} rows"
            self.show_error(XgapError(f"{what}; choose comparisons and corrections for 1 to {MOST_ROWS} of them"))
            return
        ways = [Way(self._comparisons[c], self._corrections.get(by) or correction(by), s) for c, by, s in chosen]

        def work() -> list[Ranking]:
            return [way.ranking(self.evaluation, query, max(k, LINKED)) for way in ways]

        def done(rankings: list[Ranking]) -> None:
            self._ways, self._shown = ways, (query, k)
            self._show(query, k, rankings)

        self.work(work, done)

    def _show(self, query: str, k: int, rankings: list[Ranking]) -> None:
        self.rankings = {title: r.head(k) for title, r in zip(self._titles(), rankings, strict=True)}
        self._rows.show(rankings, k)
        words = escape(self.items.words(query, self.space))
        image = f"<img src='{self.items.thumbnail(query)}' alt=''> " if self.space == "image" else ""
        self._about.value = f"<div class='xgap-about xgap-beside'>{image}<span><b>query</b> {words}</span></div>"
        self._strip.mark(query)

    def _titles(self) -> list[str]:
        lettered = zip(ascii_uppercase, self._ways, strict=False)
        return [f"{letter} · {way.comparison.name} · {way.about}" for letter, way in lettered]

    def _clicked(self, card: Card) -> None:
        if card.space == self.space and self.offers(card.item):
            self.choose(card.item)
        else:
            self.show_error(XgapError(f"{card.item!r} is a {card.space} that is not among the queries"))

    def code(self) -> str:
        """Python that gives the rankings on screen as one table."""
        ways = [(way.comparison, way.correction, way.scorer) for way in self._ways]
        return rankings_code(self.evaluation, dict(zip(self._titles(), ways, strict=True)), *self._shown)

    def table(self) -> pd.DataFrame:
        """The rankings on screen, one below the other."""
        return pd.concat([frame.assign(query=self._shown[0], row=title) for title, frame in self.rankings.items()])

    def figure(self) -> "Figure":
        """The rankings on screen, as images and captions."""
        from xgap_analysis.plots import ranked

        query = self._shown[0]
        shown = [pair for frame in self.rankings.values() for pair in zip(frame["item"], frame["space"], strict=True)]
        words = {item: self.items.words(item, space) for item, space in [*shown, (query, self.space)]}
        return ranked(query, self.space, self.rankings, self.evaluation.data.images, words)

    def name(self) -> str:
        """neighbours, model, dataset, query."""
        return f"neighbours-{self.evaluation.model.name}-{self.evaluation.data.name}-{self._shown[0]}"


def _one_modality(comparisons: Sequence[Comparison]) -> str:
    """The modality of the queries.

    Raises:
        XgapError: none, or several.
    """
    found = {c.query.modality for c in comparisons}
    if len(found) != 1:
        given = " and ".join(sorted(found)) or "none"
        raise XgapError(f"the queries of one explorer are of the same modality; those of these comparisons: {given}")
    return found.pop()
