"""Items as buttons: an image or a caption each, so that a neighbour can be clicked or reached by keyboard."""

import secrets
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ipywidgets

from xgap_analysis.widgets.items import Items, shortened
from xgap_analysis.widgets.style import SHOWN

SHORT = 60  # characters of a caption on a card; the whole is its tooltip
SIZES = {  # (small, an image) -> width and height in pixels
    (False, True): (84, 112),
    (False, False): (124, 112),
    (True, True): (76, 76),
    (True, False): (124, 76),
}
LINE, FRAME = 15, 8  # pixels of a line of words, and of borders and padding
LETTER = 6.5  # pixels of a letter, with room to spare
HINT = "<div class='xgap-hint'>✓ relevant to the query · B2 on a card: rank 2 in row B</div>"


@dataclass(frozen=True)
class Card:
    """One item of a row.

    Args:
        item: its id.
        space: `"image"`, `"text"` or `"class"`.
        words: what stands under the image, plain text.
        hit: it is relevant to the query: framed, and the words hold a tick.
        chosen: it is the query itself.
    """

    item: str
    space: str
    words: str = ""
    hit: bool = False
    chosen: bool = False


class CardRow(ipywidgets.HBox):
    """A row of cards. The buttons are made once and change what they show.

    Args:
        items: images and words.
        on_click: called with the card that was clicked.
        small: without a line of words.
    """

    def __init__(self, items: Items, on_click: Callable[[Card], None], small: bool = False) -> None:
        self._items, self._on_click, self._small = items, on_click, small
        self._name = f"xgap-{secrets.token_hex(4)}"  # no other row of the page has it, not even one of a kernel before
        self._styles = ipywidgets.HTML(layout={"display": "none"})
        self._buttons: list[ipywidgets.Button] = []
        self._layouts = {
            has_image: ipywidgets.Layout(width=f"{width}px", height=f"{height}px")
            for (of_small, has_image), (width, height) in SIZES.items()
            if of_small is small
        }
        self.cards: Sequence[Card] = ()
        super().__init__([self._styles])
        self.layout.flex_flow = "row wrap"

    def show(self, cards: Sequence[Card]) -> None:
        """Shows these cards instead."""
        self.cards = tuple(cards)
        for place in range(len(self._buttons), len(cards)):
            self._buttons.append(self._button(place))
        self._fit()
        rules = []
        for place, (button, card) in enumerate(zip(self._buttons, cards, strict=False)):
            has_image = self._items.has_image(card.item, card.space)
            words, below = self._items.words(card.item, card.space), self._below(card)
            classes = {"xgap-hit": card.hit, "xgap-chosen": card.chosen, "xgap-words": not has_image}
            with button.hold_sync():  # one message a card
                button.description = "" if self._small and has_image else below
                button.tooltip = words
                button.layout = self._layouts[has_image]
                button._dom_classes = self._classes(place) + tuple(name for name, on in classes.items() if on)
            if has_image:
                rules.append(f".{self._name}-{place} {{ background-image: url({self._items.thumbnail(card.item)}); }}")
        # The images of a row are one style sheet: a button cannot hold an image itself.
        self._styles.value = f"<style>{' '.join(rules)}</style>"
        self.children = [self._styles, *self._buttons[: len(cards)]]

    def _below(self, card: Card) -> str:
        """What is written on a card."""
        said = (
            ""
            if self._items.has_image(card.item, card.space)
            else shortened(self._items.words(card.item, card.space), SHORT)
        )
        return "\n".join(filter(None, [card.words, said]))

    def _fit(self) -> None:
        """Makes the cards as high as the longest words need: many rows give many ranks."""
        if self._small:
            return
        for has_image, layout in self._layouts.items():
            width, least = SIZES[False, has_image]
            letters = int((width - FRAME) / LETTER)
            shown = [
                self._below(card) for card in self.cards if self._items.has_image(card.item, card.space) is has_image
            ]
            lines = max((sum(_lines(part, letters) for part in words.split("\n")) for words in shown), default=0)
            top = SHOWN + 8 if has_image else 4
            layout.height = f"{max(least, top + LINE * lines + FRAME)}px"

    def _classes(self, place: int) -> tuple[str, ...]:
        return ("xgap-card", f"{self._name}-{place}", *(["xgap-small"] if self._small else []))

    def _button(self, place: int) -> ipywidgets.Button:
        button = ipywidgets.Button()
        button.on_click(lambda _: self._on_click(self.cards[place]))
        return button


def _lines(words: str, letters: int) -> int:
    """Into how many lines of so many letters words are broken."""
    return len(textwrap.wrap(words, letters)) or 1
