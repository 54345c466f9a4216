"""What somebody else's package brings, explorers show: a correction, a comparison, a scorer and a plot."""

import dataclasses
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes

import xgap_analysis as xg
from xgap_analysis import widgets
from xgap_analysis.corrections import CORRECTIONS
from xgap_analysis.scoring import SCORERS


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


@pytest.fixture
def euclidean() -> Any:
    """A scorer from outside: the negative distance, to a power."""

    @xg.register_scorer("euclidean")
    def score(query: torch.Tensor, gallery: torch.Tensor, *, power: float = 1.0) -> torch.Tensor:
        return -torch.cdist(query, gallery).pow(power)

    yield "euclidean"
    SCORERS.remove("euclidean")


def test_the_explorer_shows_a_scorer_of_ones_own_and_its_code_runs(
    evaluation: Any, euclidean: str, run_code: Any
) -> None:
    scorers = ["cosine", "euclidean(power=2.0)"]
    explorer = widgets.NeighbourExplorer(evaluation, ["I-I", OWN], query="i3", k=4, scorers=scorers)
    assert explorer.error == ""
    assert list(explorer.rankings) == [
        *("A · I-I · none", "B · I-I · none · euclidean(power=2.0)"),
        *("C · OTI-I mine · none", "D · OTI-I mine · none · euclidean(power=2.0)"),
    ]
    expected = evaluation.ranking("i3", OWN, k=4, scorer=scorers[1])
    assert (expected["score"] < 0).any()  # a distance, no cosine
    made = run_code(explorer.code(), evaluation=evaluation)
    for title, ranking in explorer.rankings.items():
        pd.testing.assert_frame_equal(made.loc[title], ranking.drop(columns="space"), check_names=False)
    pd.testing.assert_frame_equal(explorer.rankings["D · OTI-I mine · none · " + scorers[1]].iloc[:, :-1], expected)


def test_the_code_names_what_has_no_registered_name(evaluation: Any) -> None:
    def nearest(query: torch.Tensor, gallery: torch.Tensor) -> torch.Tensor:
        return query @ gallery.T

    explorer = widgets.NeighbourExplorer(evaluation, ["I-I"], scorers=[nearest])
    assert explorer.error == ""
    assert "# 'nearest' is a scorer without a name: register it with xg.register_scorer('nearest')" in explorer.code()


def test_a_cell_opens_the_neighbours_by_its_scorer(evaluation: Any, euclidean: str, run_code: Any) -> None:
    study = dataclasses.replace(evaluation.study, scorers=["cosine", "euclidean"])
    board = widgets.VariantBoard(study)
    board.run()
    rows = board.table()
    board._opened(rows[(rows["comparison"] == "OTI-I") & (rows["scorer"] == "euclidean")].iloc[0].to_dict())
    assert board.explorer is not None
    assert list(board.explorer.rankings) == ["A · I-I · none · euclidean", "B · OTI-I · none · euclidean"]
    board._pick["scorers"].value = ("euclidean",)
    pd.testing.assert_series_equal(run_code(board.code(), study=study)["value"], board.table()["value"])


def test_an_option_on_an_axis_has_lines_of_its_own(evaluation: Any, run_code: Any) -> None:
    study = dataclasses.replace(evaluation.study, axes={"oti.steps": [1, 3]})
    board = widgets.VariantBoard(study)
    board.run()
    assert board.error == ""
    assert [line[-1] for line in board._heat.order] == ["", "1.0", "3.0"]  # I-I has no steps
    pd.testing.assert_frame_equal(run_code(board.code(), study=study), board.table())


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
    before = board._drawn.value
    board._plot.value = "values"
    assert board.error == ""
    assert len(drawn[-1]) == 4
    assert board._drawn.value != before
