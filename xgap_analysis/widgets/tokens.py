"""Token explorer: which token pairs made the score of a query and a gallery item."""

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

import ipywidgets
import pandas as pd

from xgap_analysis.core.errors import XgapError
from xgap_analysis.experiments import Comparison, Evaluation
from xgap_analysis.experiments.comparison import AnyComparison
from xgap_analysis.experiments.hints import hints
from xgap_analysis.scoring import ScoreFunction, Scorer, TokenPairs, scorer, token_pairs
from xgap_analysis.views import VIEWS, DescribedItem, described
from xgap_analysis.widgets.figures import figure_html
from xgap_analysis.widgets.finder import QueryStrip
from xgap_analysis.widgets.items import Items, named, queries_of
from xgap_analysis.widgets.panel import Panel
from xgap_analysis.widgets.rankings import Ranking, RankingRows
from xgap_analysis.widgets.style import WRAP
from xgap_analysis.widgets.view_code import tokens_code

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCORERS = ("late_interaction", "late_interaction(inner=mean, outer=mean)", "pooled(weights=uniform)", "pooled")
OF_TOWERS = {"image": "patches", "text": "words"}  # the views of a tower's own tokens
HINT = (
    "<div class='xgap-hint'>colour: similarity of two tokens · dot: what the pair adds to the score, hollow where it "
    "takes away · ✓ relevant to the query · a click on a card opens its token pairs</div>"
)


class TokenExplorer(Panel):
    """What each pair of tokens adds to a score: over patches, regions and frames, and behind words and captions.

    The query's ranking stands below; a click on a card opens that item's token pairs.

    Args:
        evaluation: a model on a dataset, from `Study.evaluations()`.
        comparisons: by name (`"captions-regions"`), as pairs of views or as `Comparison` objects; by default those of
            all views with several vectors per item that the dataset and the model have.
        scorers: names, `Scorer` objects or functions; those that `xg.token_pairs` reads.
        query: id of the first query; the first of the dataset by default.
        item: id of the first gallery item; the best of the ranking by default.
        k: gallery items in the ranking.

    Attributes:
        query, item: ids of the query and of the gallery item on screen.
        pairs: their `TokenPairs`; None where there are none to show.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        comparisons: Sequence[AnyComparison] | None = None,
        scorers: Sequence[str | Scorer | ScoreFunction] = SCORERS,
        query: str = "",
        item: str = "",
        k: int = 8,
    ) -> None:
        self.items, self.evaluation, self._k = Items(evaluation), evaluation, k
        offered = offered_comparisons(evaluation) if comparisons is None else comparisons
        self._comparisons = {c.name: c for c in map(evaluation.study.comparison, offered)}
        self._scorers = {str(s): s for s in map(scorer, scorers)}
        if not self._comparisons or not self._scorers:
            raise XgapError("a token explorer shows a comparison and a scorer; give one of each at least")
        self.query, self.item = query, item
        self.pairs: TokenPairs | None = None
        self._shown: tuple[Comparison, Scorer, tuple[DescribedItem, DescribedItem]] | None = None
        self._pick = ipywidgets.Dropdown(options=list(self._comparisons), description="comparison")
        self._by = ipywidgets.Dropdown(options=list(self._scorers), description="scorer", layout={"width": "430px"})
        self._queries, self._drawn = ipywidgets.VBox(), ipywidgets.HTML()
        self._rows = RankingRows(self.items, lambda card: self.show_item(card.item))
        controls = ipywidgets.HBox([self._pick, self._by], layout=WRAP)
        super().__init__(
            f"Tokens · {named(evaluation)}",
            [controls, self._queries],
            [self._drawn, self._rows, ipywidgets.HTML(HINT)],
            hints=hints(evaluation),
        )
        self._pick.observe(lambda _: self.guarded(lambda: self._compare()), "value")
        self._by.observe(lambda _: self.refresh(), "value")
        self.guarded(lambda: self._compare(query, item))

    def choose(self, query: str) -> None:
        """Makes an item the query, and shows the best of its ranking."""
        self.query, self.item = query, ""
        self.refresh()

    def show_item(self, item: str) -> None:
        """Shows the token pairs of the query and this gallery item."""
        self.item = item
        self.refresh()

    def _compare(self, query: str = "", item: str = "") -> None:
        """Offers the queries of the comparison that is chosen."""
        modality = self._comparisons[self._pick.value].query.modality
        ids = queries_of(self.evaluation, modality)
        same = query or (self.query if self.query in ids else "")
        self.query, self.item = same or ids[0], item
        self._strip = QueryStrip(self.items, ids, modality, self.choose, self.guarded)
        self._queries.children = [self._strip]
        self._strip.turn_to(self.query)
        self.refresh()

    def refresh(self) -> None:
        """Ranks and scores anew, by the comparison and the scorer that are chosen."""
        comparison, by = self._comparisons[self._pick.value], self._scorers[self._by.value]
        query, item, evaluation = self.query, self.item, self.evaluation

        def work() -> tuple[pd.DataFrame, str, TokenPairs, tuple[DescribedItem, DescribedItem]]:
            ranking = evaluation.ranking(query, comparison, k=self._k, scorer=by)
            chosen, pair = item or str(ranking["item"].iloc[0]), evaluation.pair(comparison, scorer=by)
            pairs = token_pairs(pair.query.select([query]), pair.gallery.select([chosen]), pair.scorer)
            parts = ("all", "classes" if comparison.task == "zero-shot" else "all")
            tokens_of = zip(comparison.views, parts, (query, chosen), pairs.similarities.shape, strict=True)
            model = evaluation.model
            looks = [described(model, evaluation.items(v.modality, part), i, v, n) for v, part, i, n in tokens_of]
            return ranking, chosen, pairs, (looks[0], looks[1])

        def done(made: tuple[pd.DataFrame, str, TokenPairs, tuple[DescribedItem, DescribedItem]]) -> None:
            ranking, self.item, self.pairs, looks = made
            self._shown = comparison, by, looks
            self._drawn.value = figure_html(self.figure(), f"token pairs of {query} and {self.item}", dpi=80)
            space = "class" if comparison.task == "zero-shot" else comparison.gallery.modality
            self._rows.show([Ranking(comparison.name, str(by), space, ranking)], self._k)
            self._strip.mark(query)

        self.work(work, done)

    def _on_screen(self) -> tuple[TokenPairs, Comparison, Scorer, tuple[DescribedItem, DescribedItem]]:
        if self.pairs is None or self._shown is None:
            raise XgapError("there is nothing to show yet; choose a query and a scorer of token pairs")
        return self.pairs, *self._shown

    def code(self) -> str:
        """Python that gives the token pairs on screen, and their figure."""
        _, comparison, by, looks = self._on_screen()
        return tokens_code(self.evaluation, comparison, by, *(of.item for of in looks))

    def table(self) -> pd.DataFrame:
        """The token pairs on screen, one row each."""
        pairs, _, _, looks = self._on_screen()
        return pairs.table(*(of.names for of in looks))

    def figure(self) -> "Figure":
        """The token pairs on screen, with both items."""
        from xgap_analysis import plots

        pairs, comparison, by, looks = self._on_screen()
        return plots.token_pairs(pairs, *looks, title=f"{comparison.name} · {by}")

    def name(self) -> str:
        """tokens, model, dataset, comparison, query, item."""
        _, comparison, by, looks = self._on_screen()
        about = [self.evaluation.model.name, self.evaluation.data.name, comparison.name, by.name]
        return "-".join(["tokens", *about, *(of.item for of in looks)])


def offered_comparisons(evaluation: Evaluation) -> list[AnyComparison]:
    """The comparisons of the views that an evaluation has, with several vectors for the query or the gallery item.

    A text as query and an image or a video as gallery item come first, and parts before a tower's own tokens.

    Raises:
        XgapError: neither parts nor towers that give tokens.
    """
    towers = getattr(evaluation.model, "towers", {})
    views: list[tuple[str, str, int]] = []  # name, modality, place
    for modality, items in evaluation.data.items.items():
        parts = [p for p in getattr(items, "parts", {}) if p in VIEWS and VIEWS[p].modality == modality]
        views += [(part, modality, 0) for part in parts]
        if modality in OF_TOWERS and hasattr(towers.get(modality), "hidden"):
            views.append((OF_TOWERS[modality], modality, 1))
        if modality in towers:
            views.append((modality, modality, 2))
    pairs = [(q, g) for q, g in product(views, views) if min(q[2], g[2]) < 2]
    if not pairs:
        name = evaluation.data.name
        what = f"neither {name!r} has parts nor {evaluation.model.name!r} a tower that gives several vectors per item"
        raise XgapError(f"{what}; see xg.tokens and Items.parts")
    pairs.sort(key=lambda pair: (pair[0][1] == pair[1][1], pair[0][1] != "text", pair[0][2] + pair[1][2]))
    return [f"{q[0]}-{g[0]}" for q, g in pairs]
