"""Finding an item among many: a list beside a plot, or a strip of cards above the rankings."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import ipywidgets

from xgap_analysis.widgets.cards import Card, CardRow
from xgap_analysis.widgets.debounce import Debounced
from xgap_analysis.widgets.items import Items
from xgap_analysis.widgets.style import WRAP

STRIP = 9  # queries offered at a time
Guarded = Callable[[Callable[[], Any]], None]  # calls a function and shows what it raises, as `Panel.guarded` does


class Finder(ipywidgets.VBox):
    """A field for words, and below it a list of what they find.

    Args:
        placeholder: what stands in the empty field.
        named: what the list holds, for screen readers.
        nothing: the list's first entry, which chooses nothing.
        find: words to the label and the value of each entry.
        on_choose: called with the value of the chosen entry, or None; if several can be, with the list of them.
        guarded: calls the two.
        rows: of the list.
        several: whether several entries can be chosen: Shift and the arrow keys extend the choice.
    """

    def __init__(
        self,
        placeholder: str,
        named: str,
        nothing: str,
        find: Callable[[str], Sequence[tuple[str, Any]]],
        on_choose: Callable[[Any], None],
        guarded: Guarded,
        rows: int,
        several: bool = False,
    ) -> None:
        self._nothing, self._find, self._on_choose = nothing, find, on_choose
        self._several, self._marked, self._marking = several, list[Any](), False
        self.field = ipywidgets.Text(placeholder=placeholder, layout={"width": "240px"})
        made = ipywidgets.SelectMultiple if several else ipywidgets.Select
        self.entries = made(options=[], rows=rows, description=named, layout={"width": "240px"})
        self.entries.add_class("xgap-unseen-name")
        super().__init__([self.field, self.entries])
        self.field.observe(Debounced(lambda change: guarded(lambda: self.show(change["new"]))), "value")
        self.entries.observe(lambda change: guarded(lambda: self._chosen(change["new"])), "value")

    def show(self, words: str = "") -> None:
        """Lists what these words find, and marks what is chosen already."""
        found = self._find(words)
        self._set([(self._nothing if found else "(nothing found)", None), *found])

    def mark(self, values: Iterable[Any]) -> None:
        """Marks what was chosen elsewhere, as far as it is listed."""
        self._marked = list(values)
        self._set(self.entries.options)

    def _set(self, options: Sequence[tuple[str, Any]]) -> None:
        """Sets entries and marks, which chooses nothing."""
        self._marking = True
        try:
            if tuple(options) != tuple(self.entries.options):
                self.entries.options = options
            marked = set(self._marked)
            listed = [value for _, value in options if value is not None and value in marked]
            self.entries.value = tuple(listed) if self._several else next(iter(listed), None)
        finally:
            self._marking = False

    def _chosen(self, value: Any) -> None:
        if self._marking:
            return
        self._marked = [one for one in (value if self._several else [value]) if one is not None]
        self._on_choose(self._marked if self._several else value)


class QueryStrip(ipywidgets.VBox):
    """Queries as small cards, a page at a time, and a field that narrows them by words.

    Args:
        items: images and words.
        ids: of the queries.
        space: their modality.
        on_choose: called with the id of a card that was clicked.
        guarded: calls the search.
    """

    def __init__(
        self, items: Items, ids: Sequence[str], space: str, on_choose: Callable[[str], None], guarded: Guarded
    ) -> None:
        self._items, self._ids, self._space = items, ids, space
        self._found, self._page, self._query = ids, 0, ""
        self.field = ipywidgets.Text(
            placeholder="words of a caption, a class or an id", description="find a query", layout={"width": "330px"}
        )
        self.field.style.description_width = "90px"
        self.before = ipywidgets.Button(icon="chevron-left", tooltip="earlier queries", layout={"width": "36px"})
        self.after = ipywidgets.Button(icon="chevron-right", tooltip="later queries", layout={"width": "36px"})
        self.count = ipywidgets.Label()
        self.row = CardRow(items, lambda card: on_choose(card.item), small=True)
        super().__init__([ipywidgets.HBox([self.field, self.before, self.after, self.count], layout=WRAP), self.row])
        self.field.observe(Debounced(lambda change: guarded(lambda: self._find(change["new"]))), "value")
        self.before.on_click(lambda _: self.turn(-1))
        self.after.on_click(lambda _: self.turn(1))

    def mark(self, query: str) -> None:
        """Marks the query, where its card is on screen."""
        self._query = query
        self.turn(0)

    def turn(self, pages: int) -> None:
        """Shows the cards some pages further, or back."""
        last = max(0, (len(self._found) - 1) // STRIP)
        self._page = min(max(self._page + pages, 0), last)
        first = self._page * STRIP
        shown = self._found[first : first + STRIP]
        self.row.show([Card(item, self._space, chosen=item == self._query) for item in shown])
        self.count.value = f"{first + 1}–{first + len(shown)} of {len(self._found)}" if shown else "nothing found"
        self.before.disabled, self.after.disabled = first == 0, first + STRIP >= len(self._found)

    def turn_to(self, query: str) -> None:
        """Marks the query on the page that holds it."""
        self._page = self._found.index(query) // STRIP if query in self._found else 0
        self.mark(query)

    def _find(self, words: str) -> None:
        self._found, self._page = self._items.search(words, self._ids, self._space), 0
        self.turn(0)
