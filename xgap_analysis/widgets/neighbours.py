"""Neighbour explorer: what one query finds under several comparisons and corrections, side by side."""

from collections.abc import Sequence
from html import escape
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

import ipywidgets
import pandas as pd

from xgap_analysis.core.errors import XgapError
from xgap_analysis.corrections import CORRECTIONS, Correction, correction
from xgap_analysis.experiments import COMPARISONS, Comparison, Evaluation
from xgap_analysis.widgets.cards import HINT, Card, CardRow
from xgap_analysis.widgets.debounce import Debounced
from xgap_analysis.widgets.items import Items
from xgap_analysis.widgets.panel import Panel
from xgap_analysis.widgets.recreate import evaluation_code
from xgap_analysis.widgets.style import LABEL_WIDTH

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STRIP = 9  # queries offered at a time
LINKED = 100  # ranks to which an item is followed into the other rows
MOST_ROWS = 8


class NeighbourExplorer(Panel):
    """The neighbours of one query, a row for each comparison and correction.

    A card is framed and ticked where the item answers the query; below its score it says which rank the item has in
    the other rows. The whole caption is the card's tooltip; a click makes the item the query.

    Args:
        evaluation: a model on a data set, from `Study.evaluations()`.
        comparisons: names or `Comparison` objects, which all ask with the same modality.
        corrections: names or `Correction` objects; each is shown for each comparison.
        query: id of the first query; without one the first that may ask.
        k: neighbours in a row.

    Attributes:
        query: id of the query.
        rankings: title of a row to its ranking (columns `item`, `rank`, `score`, `hit`, `space`).
    """

    def __init__(
        self,
        evaluation: Evaluation,
        comparisons: Sequence[str | Comparison] = ("I-I", "OTI-I"),
        corrections: Sequence[str | Correction] = ("none",),
        query: str | None = None,
        k: int = 8,
    ) -> None:
        self.evaluation, self.items = evaluation, Items(evaluation)
        known = [*evaluation.study.comparisons, *comparisons]
        self._comparisons = COMPARISONS | {c.name: c for c in map(evaluation.study.comparison, known)}
        chosen = [c.name if isinstance(c, Comparison) else evaluation.study.comparison(c).name for c in comparisons]
        asking = {self._comparisons[name].query.modality for name in chosen}
        if len(asking) != 1:
            raise XgapError(
                "the comparisons of one explorer ask with the same modality: all with images, or with texts"
            )
        (self.space,) = asking
        by = [str(correction(c)) for c in corrections]
        self._by = {str(c): c for c in corrections if isinstance(c, Correction)}
        self._ids = evaluation.data.queries(self.space)
        if not self._ids:
            raise XgapError(
                f"data set {evaluation.data.name!r} ({evaluation.data.split_name}) has no {self.space}s to ask with"
            )
        self.query = query or self._ids[0]
        self.rankings: dict[str, pd.DataFrame] = {}
        self._shown = (self.query, k)
        self._rows: list[tuple[str, Comparison, str]] = []
        self._found: Sequence[str] = self._ids
        self._page = 0

        alike = [name for name, c in self._comparisons.items() if c.query.modality == self.space]
        offered = list(dict.fromkeys([*by, *CORRECTIONS]))
        self._pick_comparisons = ipywidgets.SelectMultiple(
            options=alike, value=chosen, rows=4, description="comparisons", layout={"width": "250px"}
        )
        self._pick_corrections = ipywidgets.SelectMultiple(
            options=offered, value=by, rows=4, description="corrections", layout={"width": "330px"}
        )
        self._k = ipywidgets.IntSlider(
            k, 1, max(12, k), description="neighbours", continuous_update=False, layout={"width": "290px"}
        )
        self._search = ipywidgets.Text(
            placeholder="words of a caption, a class or an id", description="find a query", layout={"width": "330px"}
        )
        for control in (self._search, self._pick_comparisons, self._pick_corrections):
            control.style.description_width = "90px"
        self._before = ipywidgets.Button(icon="chevron-left", tooltip="earlier queries", layout={"width": "36px"})
        self._after = ipywidgets.Button(icon="chevron-right", tooltip="later queries", layout={"width": "36px"})
        self._count = ipywidgets.Label()
        self._strip = CardRow(self.items, lambda card: self.choose(card.item), small=True)
        self._about = ipywidgets.HTML()
        self._body = ipywidgets.VBox()
        self._lines: list[tuple[ipywidgets.HTML, CardRow]] = []
        super().__init__(
            f"Neighbours · {evaluation.model.name} on {evaluation.data.name} ({evaluation.data.split_name})",
            [
                ipywidgets.HBox([self._search, self._before, self._after, self._count]),
                self._strip,
                ipywidgets.HBox([self._pick_comparisons, self._pick_corrections, self._k]),
                self._about,
                self._body,
                ipywidgets.HTML(HINT),
            ],
        )
        refresh = Debounced(lambda _: self.refresh(), 0.15)
        for control in (self._pick_comparisons, self._pick_corrections, self._k):
            control.observe(refresh, "value")
        self._search.observe(Debounced(lambda change: self.guarded(lambda: self._find(change["new"]))), "value")
        self._before.on_click(lambda _: self._turn(-1))
        self._after.on_click(lambda _: self._turn(1))
        self._turn(self._ids.index(self.query) // STRIP if self.query in self._ids else 0)
        self.refresh()

    def choose(self, query: str) -> None:
        """Makes an item the query."""
        self.query = query
        self.refresh()

    def refresh(self) -> None:
        """Asks anew with the query, the comparisons and the corrections that are chosen."""
        query, k, seed = self.query, int(self._k.value), self.evaluation.study.seeds[0]
        pairs = [(c, by) for c in self._pick_comparisons.value for by in self._pick_corrections.value]
        if not pairs or len(pairs) > MOST_ROWS:
            what = f"{len(pairs)} rows are asked for"
            self.show_error(XgapError(f"{what}; choose comparisons and corrections for 1 to {MOST_ROWS} of them"))
            return
        rows = [
            (f"{letter} · {name} · {by}", self._comparisons[name], by)
            for letter, (name, by) in zip(ascii_uppercase, pairs, strict=False)
        ]

        def work() -> list[pd.DataFrame]:
            depth = max(k, LINKED)
            return [self.evaluation.ranking(query, c, self._by.get(by, by), depth, seed) for _, c, by in rows]

        def done(rankings: list[pd.DataFrame]) -> None:
            self._rows = rows
            self._show(query, k, rankings)

        self.work(work, done)

    def _show(self, query: str, k: int, rankings: list[pd.DataFrame]) -> None:
        self._shown = (query, k)
        ranks = [dict(zip(frame["item"], frame["rank"], strict=True)) for frame in rankings]
        spaces = ["class" if c.task == "zero-shot" else c.gallery.modality for _, c, _ in self._rows]
        heads = [frame.head(k).assign(space=space) for frame, space in zip(rankings, spaces, strict=True)]
        self.rankings = {title: head for (title, _, _), head in zip(self._rows, heads, strict=True)}
        for _ in range(len(self._lines), len(heads)):
            label = ipywidgets.HTML(layout={"width": LABEL_WIDTH, "min_width": LABEL_WIDTH})
            self._lines.append((label, CardRow(self.items, self._clicked)))
        for number, ((label, row), head) in enumerate(zip(self._lines, heads, strict=False)):
            letter, name, by = self._rows[number][0].split(" · ", 2)
            found = f"{int(head['hit'].sum())} of {len(head)} hit"
            label.value = f"<div class='xgap-row'><b>{letter} · {escape(name)}</b><br>{escape(by)}<br>{found}</div>"
            others = [i for i, space in enumerate(spaces) if i != number and space == spaces[number]]
            row.show([self._card(line, spaces[number], others, ranks) for line in head.to_dict("records")])
        self._body.children = [ipywidgets.HBox(line) for line in self._lines[: len(heads)]]
        words = escape(self.items.words(query, self.space))
        picture = f"<img src='{self.items.thumbnail(query)}' alt=''> " if self.space == "image" else ""
        self._about.value = f"<div class='xgap-about xgap-beside'>{picture}<span><b>query</b> {words}</span></div>"
        self._show_strip()

    def _card(self, line: dict[str, Any], space: str, others: list[int], ranks: list[dict[str, int]]) -> Card:
        """A neighbour: its rank here, a tick, its score, and its ranks in the other rows."""
        elsewhere = " ".join(f"{ascii_uppercase[i]}{ranks[i].get(line['item'], f'>{LINKED}')}" for i in others)
        tick = "✓ " if line["hit"] else ""
        return Card(line["item"], space, f"{line['rank']} {tick}{line['score']:.2f}\n{elsewhere}".strip(), line["hit"])

    def _clicked(self, card: Card) -> None:
        if card.space == self.space and card.item in self._ids:
            self.choose(card.item)
        else:
            self.show_error(XgapError(f"{card.item!r} is a {card.space} that does not ask in these comparisons"))

    def _find(self, words: str) -> None:
        self._found, self._page = self.items.search(words, self._ids, self.space), 0
        self._show_strip()

    def _turn(self, pages: int) -> None:
        last = max(0, (len(self._found) - 1) // STRIP)
        self._page = min(max(self._page + pages, 0), last)
        self._show_strip()

    def _show_strip(self) -> None:
        first = self._page * STRIP
        shown = self._found[first : first + STRIP]
        self._strip.show([Card(item, self.space, chosen=item == self.query) for item in shown])
        self._count.value = f"{first + 1}–{first + len(shown)} of {len(self._found)}" if shown else "nothing found"
        self._before.disabled, self._after.disabled = first == 0, first + STRIP >= len(self._found)

    def code(self) -> str:
        """Python that gives the rankings on screen as one table."""
        comparisons = list(dict.fromkeys(self._given(c) for _, c, _ in self._rows))
        corrections = list(dict.fromkeys(by for _, _, by in self._rows))
        (query, k), seed = self._shown, self.evaluation.study.seeds[0]
        return "\n".join(
            [
                "import pandas as pd",
                "",
                "import xgap_analysis as xg",
                "",
                evaluation_code(self.evaluation, comparisons, corrections),
                f"rows = {[(title, c.name, by) for title, c, by in self._rows]!r}",
                "pd.concat(",
                "    {",
                f"        title: evaluation.ranking({query!r}, name, by, k={k}, seed={seed})",
                "        for title, name, by in rows",
                "    },",
                '    names=["row", "place"],',
                ")",
            ]
        )

    @staticmethod
    def _given(comparison: Comparison) -> str | Comparison:
        return comparison.name if COMPARISONS.get(comparison.name) == comparison else comparison

    def table(self) -> pd.DataFrame:
        """The rankings on screen, one below the other."""
        return pd.concat([frame.assign(query=self._shown[0], row=title) for title, frame in self.rankings.items()])

    def figure(self) -> "Figure":
        """The rankings on screen as pictures."""
        from xgap_analysis.plots import ranked

        query = self._shown[0]
        shown = [(item, frame["space"].iloc[0]) for frame in self.rankings.values() for item in frame["item"]]
        words = {item: self.items.words(item, space) for item, space in [*shown, (query, self.space)]}
        return ranked(query, self.space, self.rankings, self.evaluation.data.images, words)

    def name(self) -> str:
        """neighbours, model, data set, query."""
        return f"neighbours-{self.evaluation.model.name}-{self.evaluation.data.name}-{self._shown[0]}"
