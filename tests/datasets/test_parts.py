"""Parts of items: selection, order, and what is refused."""

import pytest

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets import Items, Parts, Texts

PARTS = Parts(
    Texts(["p0", "p1", "p2", "p3"], ["a bear", "a kite", "a cup", "a dog"]),
    ["a", "a", "b", "c"],
    {"place": [0, 1, 0, 0]},
)


def items() -> Items:
    return Items(["a", "b", "c"], str.upper, "1", "page", {"sentences": PARTS})


def test_the_parts_follow_the_order_of_their_items() -> None:
    own = PARTS.of(["b", "a"])
    assert tuple(own.items.ids) == ("p2", "p0", "p1")
    assert own.owners == ("b", "a", "a")
    assert own.columns == {"place": (0, 0, 1)}
    assert own.places == {"b": range(0, 1), "a": range(1, 3)}


def test_items_keep_their_parts_when_they_are_selected() -> None:
    own = items().select(["c", "a"]).parts_of("sentences")
    assert tuple(own.items.ids) == ("p3", "p0", "p1")
    assert own.modality == "text"
    texts = Texts(["a", "b"], ["x", "y"], {"sentences": PARTS}).select(["b"])
    assert tuple(texts.parts_of("sentences").items.ids) == ("p2",)


def test_a_table_has_one_row_per_part() -> None:
    table = PARTS.table()
    assert list(table.index) == ["p0", "p1", "p2", "p3"]
    assert list(table["owner"]) == ["a", "a", "b", "c"]
    assert list(table["place"]) == [0, 1, 0, 0]


def test_what_does_not_fit_is_refused() -> None:
    texts = PARTS.items
    with pytest.raises(XgapError, match="4 parts have 1 owners"):
        Parts(texts, ["a"])
    with pytest.raises(XgapError, match="4 parts have 2 box"):
        Parts(texts, ["a", "a", "b", "c"], {"box": [1, 2]})
    with pytest.raises(XgapError, match="'a' stand apart"):
        Parts(texts, ["a", "b", "a", "c"])
    with pytest.raises(XgapError, match="1 items have no parts here, the first is 'd'"):
        PARTS.of(["a", "d"])
    with pytest.raises(XgapError, match="unknown parts of page items: 'sentense'; nearest names: sentences"):
        items().parts_of("sentense")


def test_items_of_which_none_has_parts_are_named() -> None:
    none = Parts(Texts([], []), [], {"section": []})
    assert none.places == {}
    with pytest.raises(XgapError, match="1 items have no parts here, the first is 'a'"):
        none.of(["a"])
    assert len(none.of([])) == 0
