"""What somebody else's package brings, explorers show: a correction, a comparison and a plot."""

import dataclasses
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.axes import Axes

import xgap_analysis as xg
from xgap_analysis import widgets
from xgap_analysis.corrections import CORRECTIONS


@pytest.fixture
def reversed_() -> Any:
    """A correction from outside: the dimensions in reverse order with every second sign changed on the text side."""

    @xg.register_correction("reversed")
    def fit(calibration: xg.Calibration, sign: int = -1) -> Any:
        def apply(features: xg.Features) -> xg.Features:
            vectors = features.vectors.clone()
            vectors[:, ::2] *= sign if features.space == "text" else 1
            return dataclasses.replace(features, vectors=vectors)

        return apply

    yield "reversed"
    CORRECTIONS.remove("reversed")


OWN = xg.Comparison("OTI-I mine", "fuse(image, oti, weight=0.25)", "image", baseline="I-I")


def values(table: pd.DataFrame) -> Axes:
    """A plot from outside."""
    ax = plt.subplots()[1]
    ax.barh(table["comparison"] + " " + table["correction"], table["value"])
    return ax


def test_the_explorer_shows_a_correction_and_a_comparison_of_ones_own(evaluation: Any, reversed_: str) -> None:
    explorer = widgets.NeighbourExplorer(evaluation, ["I-I", OWN], ["none", "reversed(sign=-1)"], query="i3")
    assert explorer.error == ""
    assert "reversed" in explorer._pick_corrections.options
    expected = evaluation.ranking("i3", OWN, "reversed(sign=-1)")
    shown = explorer.rankings["D · OTI-I mine · reversed(sign=-1)"].drop(columns="space")
    pd.testing.assert_frame_equal(shown, expected)
    assert "xg.Comparison('OTI-I mine', 'fuse(image, oti, weight=0.25)'" in widgets.recreate.comparison_code(OWN)


def test_the_board_shows_all_three(
    evaluation: Any, reversed_: str, run_code: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = dataclasses.replace(evaluation.study, comparisons=["I-I", OWN], corrections=["none", "reversed"])
    drawn: list[pd.DataFrame] = []

    def noted(table: pd.DataFrame) -> Axes:
        drawn.append(table)
        return values(table)

    board = widgets.VariantBoard(study, plots={"values": noted})
    board.run()
    assert board.error == ""
    assert set(board.table()["comparison"]) == {"I-I", "OTI-I mine"}
    assert set(board.table()["correction"]) == {"none", "reversed"}
    before = board._picture.value
    board._plot.value = "values"
    assert board.error == ""
    assert len(drawn[-1]) == 4
    assert board._picture.value != before
