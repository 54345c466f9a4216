"""Rankings of one query, one below the other: a row of cards each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from string import ascii_uppercase
from typing import Any

import ipywidgets
import pandas as pd

from xgap_analysis.widgets.cards import Card, CardRow
from xgap_analysis.widgets.items import Items
from xgap_analysis.widgets.style import LABEL_WIDTH

LINKED = 100  # ranks to which an item is followed into the other rows


@dataclass(frozen=True, eq=False)
class Ranking:
    """The ranking of the query in one row.

    Args:
        title: what retrieves, such as a comparison.
        about: a second line, such as a correction.
        space: `"image"`, `"text"` or `"class"`, of the items; `"image+text"` of a mixed gallery.
        frame: columns `item`, `rank`, `score` and `hit`, and `space` where it differs from item to item; it may go
            deeper than what is shown.
    """

    title: str
    about: str
    space: str
    frame: pd.DataFrame

    def head(self, k: int) -> pd.DataFrame:
        """The k nearest, with their space."""
        head = self.frame.head(k)
        return head if "space" in head else head.assign(space=self.space)


class RankingRows(ipywidgets.VBox):
    """Rows of cards, each beside its letter and title. Widgets are made once and change what they show.

    Args:
        items: images and words.
        on_click: called with the card that was clicked.
    """

    def __init__(self, items: Items, on_click: Callable[[Card], None]) -> None:
        self._items, self._on_click = items, on_click
        self.lines: list[tuple[ipywidgets.HTML, CardRow]] = []
        self._boxes: list[ipywidgets.HBox] = []  # a new one would take the focus from a card that was pressed
        super().__init__()

    def show(self, rankings: Sequence[Ranking], k: int) -> None:
        """Shows the k nearest of these rankings instead."""
        for _ in range(len(self.lines), len(rankings)):
            label = ipywidgets.HTML(layout={"width": LABEL_WIDTH, "min_width": LABEL_WIDTH})
            self.lines.append((label, CardRow(self._items, self._on_click)))
            self._boxes.append(ipywidgets.HBox(self.lines[-1]))
        ranks = [dict(zip(r.frame["item"], r.frame["rank"], strict=True)) for r in rankings]
        for number, (ranking, (label, row)) in enumerate(zip(rankings, self.lines, strict=False)):
            head = ranking.head(k)
            about = f"{escape(ranking.about)}<br>" if ranking.about else ""
            found = f"{about}{int(head['hit'].sum())} of {len(head)} hit"
            title = f"{ascii_uppercase[number]} · {escape(ranking.title)}"
            label.value = f"<div class='xgap-row'><b>{title}</b><br>{found}</div>"
            others = {
                ascii_uppercase[i]: ranks[i]
                for i, other in enumerate(rankings)
                if i != number and other.space == ranking.space
            }
            row.show([_card(line, line["space"], others) for line in head.to_dict("records")])
        self.children = self._boxes[: len(rankings)]


def _card(line: dict[str, Any], space: str, others: dict[str, dict[str, int]]) -> Card:
    """A neighbour: its rank here, a tick, its score, and its ranks in the other rows."""
    elsewhere = " ".join(f"{letter}{ranks.get(line['item'], f'>{LINKED}')}" for letter, ranks in others.items())
    tick = "✓ " if line["hit"] else ""
    return Card(line["item"], space, f"{line['rank']} {tick}{line['score']:.2f}\n{elsewhere}".strip(), line["hit"])
