"""A gap map and explorers of neighbours that follow one another, in the kernel."""

import dataclasses
from typing import Any

import ipywidgets
import numpy as np
import pytest

import xgap_analysis as xg
from xgap_analysis.experiments.evaluation import Evaluation
from xgap_analysis.widgets import GapMap, NeighbourExplorer, link


def click(gapmap: GapMap, *indices: int) -> None:
    """What the plot's own script does at a click on a point, or at the end of a lasso."""
    assert gapmap._map is not None
    gapmap._map._plot.selection = np.array(indices, dtype="uint32")


@pytest.fixture
def three(evaluation: Evaluation) -> tuple[GapMap, NeighbourExplorer, NeighbourExplorer]:
    """The map, and one explorer each of images and of texts."""
    made = GapMap(evaluation), NeighbourExplorer(evaluation, ["I-I", "I-T"]), NeighbourExplorer(evaluation, ["T-T"])
    box = link(*made)
    assert isinstance(box, ipywidgets.VBox)
    assert box.children == made
    return made


def test_a_click_on_a_point_shows_its_neighbours(three: Any, evaluation: Evaluation) -> None:
    gapmap, images, texts = three
    click(gapmap, 3)
    assert (images.query, texts.query) == ("i3", "t0")
    expected = evaluation.ranking("i3", "I-T", k=8)
    assert images.rankings["B · I-T · none"]["item"].tolist() == expected["item"].tolist()
    click(gapmap, 12 + 7)
    assert (images.query, texts.query) == ("i3", "t7")
    click(gapmap, 1, 2, 14)  # a lasso
    assert (images.query, texts.query) == ("i3", "t7")
    assert gapmap.selected == [("image", "i1"), ("image", "i2"), ("text", "t2")]


def test_a_query_is_selected_on_the_map(three: Any) -> None:
    gapmap, images, texts = three
    received: list[Any] = []
    gapmap.observe(lambda change: received.append(change["new"]), "selected")
    row = images._rows.lines[0][1]
    wanted = row.cards[2].item
    row._buttons[2].click()
    assert images.query == wanted
    assert gapmap.selected == [("image", wanted)]
    assert gapmap._map._plot.selection.tolist() == [int(wanted[1:])]
    texts._strip.row._buttons[5].click()
    assert gapmap.selected == [("text", "t5")]
    assert received == [[("image", wanted)], [("text", "t5")]]  # once each: neither calls the other back


def test_a_point_that_is_no_query_changes_nothing(evaluation: Evaluation) -> None:
    some = dataclasses.replace(evaluation, data=dataclasses.replace(evaluation.data, query_ids={"image": ["i1", "i2"]}))
    gapmap, images = GapMap(some), NeighbourExplorer(some, ["I-I"])
    link(gapmap, images)
    click(gapmap, 5)
    assert gapmap.selected == [("image", "i5")]
    assert (images.query, images.error, gapmap.error) == ("i1", "", "")


def test_mistakes_are_one_sentence(evaluation: Evaluation, make_dataset: Any, other_model: Any) -> None:
    gapmap = GapMap(evaluation)
    with pytest.raises(xg.XgapError, match="give one at least"):
        link(gapmap)
    (other,) = xg.Study([other_model], [make_dataset()], ["I-I"], progress=False).evaluations()
    with pytest.raises(xg.XgapError, match=r"the map shows random-0 on small \(test\), the explorer random-1 on small"):
        link(gapmap, NeighbourExplorer(other, ["I-I"]))
