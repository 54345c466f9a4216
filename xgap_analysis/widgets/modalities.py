"""Modality explorer: one concept as an image, a text, a sound, on one map with the gap between every two modalities."""

from collections.abc import Sequence
from html import escape
from itertools import cycle
from typing import TYPE_CHECKING

import ipywidgets
import pandas as pd

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.experiments import Evaluation
from xgap_analysis.experiments.hints import hints
from xgap_analysis.widgets.cards import HINT, Card
from xgap_analysis.widgets.concepts import SHOWN_GAPS, Concepts, make_concepts, names_of
from xgap_analysis.widgets.debounce import Debounced
from xgap_analysis.widgets.finder import Finder
from xgap_analysis.widgets.items import Items, named
from xgap_analysis.widgets.panel import Panel
from xgap_analysis.widgets.rankings import Ranking, RankingRows
from xgap_analysis.widgets.scatter import EmbeddingMap
from xgap_analysis.widgets.style import BESIDE, CLASSES, MAP, WRAP
from xgap_analysis.widgets.view_code import modalities_code

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OFFERED = 60  # labels that a search lists
HEIGHT = 380


class ModalityExplorer(Panel):
    """All modalities of a dataset on one plane; one label at a time is marked, joined and followed to its neighbours.

    Choose a label in the list, or click a point. Each row below the map has the nearest items of another modality to
    the label's first item of one; a click on a card chooses that item's label. The table beside the map has the gap of
    every pair of modalities with its 95 % interval over labels (`xg.gap_table`).

    Args:
        evaluation: a model on a dataset, from `Study.evaluations()`, or `study_of_features(...).evaluations()`.
        label: the first label; the first that several modalities have by default.
        method: `"pca"` or `"umap"`.
        k: neighbours in a row.

    Attributes:
        label: the chosen label.
        rankings: title of a row to its ranking (columns `item`, `rank`, `score`, `hit`, `space`).

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> from xgap_analysis import widgets
        >>> random = np.random.default_rng(0)
        >>> sets = {name: random.normal(size=(9, 4)) for name in ("image", "text", "audio")}
        >>> (evaluation,) = xg.study_of_features(sets, list("aabbccdde")).evaluations()
        >>> explorer = widgets.ModalityExplorer(evaluation, label="b")
        >>> list(explorer.rankings)[:2]
        ['image → text', 'image → audio']
    """

    def __init__(self, evaluation: Evaluation, label: str | None = None, method: str = "pca", k: int = 5) -> None:
        from xgap_analysis.plots.maps import OF_SEVERAL

        if method not in OF_SEVERAL:
            raise unknown_name("map", method, OF_SEVERAL)
        self.evaluation, self.items, self.label, self.k = evaluation, Items(evaluation), label, k
        self.rankings: dict[str, pd.DataFrame] = {}
        self._concepts: Concepts | None = None
        self._map: EmbeddingMap | None = None
        self._names: dict[str, str] = {}
        self._method = ipywidgets.Dropdown(
            options=OF_SEVERAL,
            value=method,
            description="map",
            layout={"width": "160px"},
            style={"description_width": "40px"},
        )
        self._finder = Finder(
            "find a label: words", "labels found", "(none chosen)", self._find, self._chosen, self.guarded, rows=8
        )
        self._gaps = ipywidgets.HTML()
        self._about = ipywidgets.HTML(layout={"max_width": "400px"})
        self._plot = ipywidgets.VBox(layout=MAP)
        self._rows = RankingRows(self.items, self._clicked_card)
        beside = ipywidgets.VBox([self._gaps, self._finder, self._about], layout=BESIDE)
        super().__init__(
            f"Modalities · {named(evaluation)}",
            [self._method],
            [ipywidgets.HBox([self._plot, beside], layout=WRAP), self._rows, ipywidgets.HTML(HINT)],
            hints=hints(evaluation),
        )
        self._hover = Debounced(lambda index: self.guarded(lambda: self._describe(index)), 0.05)
        self._method.observe(Debounced(lambda _: self.refresh(), 0.1), "value")
        self.refresh()

    def refresh(self) -> None:
        """Places all modalities anew, after another map."""
        method = self._method.value

        def work() -> Concepts:
            import jscatter  # noqa: F401  its import takes seconds, which the progress bar covers

            return make_concepts(self.evaluation, method)

        self.work(work, self._show)

    def choose(self, label: str) -> None:
        """Chooses a label.

        Raises:
            XgapError: a label that fewer than two modalities have items of.
        """
        concepts = self._made()
        if label not in concepts.labels:
            raise unknown_name("label of two modalities", label, concepts.labels)
        self.label = label
        self._finder.mark([label])
        self._mark(concepts.rankings(label, self.k))

    def _made(self) -> Concepts:
        if self._concepts is None:
            raise XgapError("the map is still being made")
        return self._concepts

    def _show(self, concepts: Concepts) -> None:
        self._concepts = concepts
        self._names = names_of(concepts.labels, self.evaluation)
        self._map = EmbeddingMap(
            concepts.points, concepts.modalities, concepts.points, self._clicked_point, self._hover, HEIGHT
        )
        self._map.colour_by_name(concepts.modalities, dict(zip(concepts.sets, cycle(CLASSES), strict=False)))
        self._gaps.value = _gap_table(concepts.gap_rows())
        self.choose(concepts.labels[0] if self.label is None else self.label)
        self._plot.children = [self._map]
        self._finder.show()

    def _mark(self, rankings: list[Ranking]) -> None:
        concepts, label = self._made(), str(self.label)
        self.rankings = {ranking.title: ranking.head(self.k) for ranking in rankings}
        self._rows.show(rankings, self.k)
        if self._map is not None:
            self._map.select(concepts.indices(label))
            self._map.draw([(line, "#000000") for line in concepts.lines(label)])
        self._describe(None)

    def _clicked_point(self, indices: Sequence[int]) -> None:
        if indices and self._concepts is not None:
            self._chosen(self._label_of(self._concepts.ids[indices[0]]))

    def _clicked_card(self, card: Card) -> None:
        self._chosen(self._label_of(card.item))

    def _label_of(self, item: str) -> str | None:
        label = self.evaluation.labels.get(item)
        return label if label in self._made().labels else None

    def _chosen(self, label: str | None) -> None:
        if label is not None and label != self.label:
            self.guarded(lambda: self.choose(label))

    def _describe(self, index: int | None) -> None:
        """Says what is under the pointer, or else which items the chosen label has."""
        concepts = self._made()
        if index is not None:
            modality, item = concepts.modalities[index], concepts.ids[index]
            self._about.value = self._line(modality, item, "")
            return
        lines = [f"<b>{escape(self._names.get(str(self.label), str(self.label)))}</b>"]
        for modality, rows in concepts.rows(str(self.label)).items():
            more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
            lines.append(self._line(modality, concepts.sets[modality].ids[rows[0]], more))
        self._about.value = f"<div class='xgap-about'>{'<br>'.join(lines)}</div>"

    def _line(self, modality: str, item: str, more: str) -> str:
        image = f"<img src='{self.items.thumbnail(item)}' alt=''> " if self.items.has_image(item, modality) else ""
        return f"{image}<b>{escape(modality)}</b> {escape(self.items.words(item, modality) + more)}"

    def _find(self, words: str) -> list[tuple[str, str]]:
        wanted = words.lower().split()
        found = [(name, label) for label, name in self._names.items() if all(w in name.lower() for w in wanted)]
        return found[:OFFERED]

    def code(self) -> str:
        """Python that gives the map and the gaps on screen."""
        return modalities_code(self.evaluation, self._made().plane.method, str(self.label))

    def table(self) -> pd.DataFrame:
        """The gap of every pair of modalities, with intervals."""
        return self._made().gaps

    def figure(self) -> "Figure":
        """The map on screen, with the chosen label marked."""
        from xgap_analysis.plots import modalities
        from xgap_analysis.plots.style import plain

        concepts = self._made()
        places = dict(zip(concepts.sets, concepts.plane.places, strict=True))
        axes = modalities(places, concepts.rows(str(self.label)))
        axes.set_title(plain(self._names.get(str(self.label), str(self.label))), fontsize=10)
        return axes.get_figure(root=True)  # type: ignore[return-value]

    def name(self) -> str:
        """modalities, model, dataset, map, label."""
        model, data = self.evaluation.model.name, self.evaluation.data.name
        return f"modalities-{model}-{data}-{self._made().plane.method}-{self.label}"


def _gap_table(gaps: pd.DataFrame) -> str:
    cells = gaps.set_index(["x", "y", "measure"])
    head = "".join(f"<td><b>{title}</b></td>" for title in SHOWN_GAPS.values())
    rows = []
    for x, y in dict.fromkeys(zip(gaps["x"], gaps["y"], strict=True)):
        of = (cells.loc[(x, y, measure)] for measure in SHOWN_GAPS)
        texts = (f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]" for row in of)
        rows.append(f"<tr><td>{escape(x)}-{escape(y)}</td>{''.join(f'<td>{text}</td>' for text in texts)}</tr>")
    return f"<table class='xgap-numbers'><tr><td></td>{head}</tr>{''.join(rows)}</table>"
