"""Variant board, in the kernel."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import ipywidgets
import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis.core.progress import Cancelled
from xgap_analysis.widgets import VariantBoard
from xgap_analysis.widgets.heat import cell_tooltip, cell_words


@pytest.fixture
def study(
    model: Any, other_model: Any, make_dataset: Any, xgap_home: Path, monkeypatch: pytest.MonkeyPatch
) -> xg.Study:
    monkeypatch.setenv("XGAP_RESULTS", str(xgap_home / "results"))
    return xg.Study(
        [model, other_model], [make_dataset()], ["I-I", "OTI-I"], ["none", "center"], steps=3, progress=False
    )


def cells(board: VariantBoard) -> list[ipywidgets.Button]:
    lines = [line for line in board._heat.children if isinstance(line, ipywidgets.HBox)]
    return [cell for line in lines for cell in line.children if "xgap-cell" in cell._dom_classes]


def heading(board: VariantBoard, name: str) -> ipywidgets.Button:
    return next(b for b in board._heat.children[0].children if b.description.startswith(name))


def test_run_shows_the_studys_table(study: xg.Study) -> None:
    board = VariantBoard(study)
    assert "press run" in board._heat.children[0].value
    board._run.click()
    assert board.error == ""
    expected = xg.main_rows(study.run())
    pd.testing.assert_frame_equal(board.table(), expected)
    assert [cell.description for cell in cells(board)] == [
        cell_words(row)
        for line in board._heat.order
        for row in expected.to_dict("records")
        if (row["model"], row["correction"]) == (line[0], line[3])
    ]
    assert "<img src='data:image/png" in board._drawn.value


def test_headings_sort_up_down_and_back(study: xg.Study) -> None:
    board = VariantBoard(study, study.run())
    given = board._heat.order
    rows = board.table()
    value = {
        (row["model"], row["correction"]): row["value"]
        for row in rows[rows["comparison"] == "OTI-I"].to_dict("records")
    }
    heading(board, "OTI-I").click()
    down = [value[line[0], line[3]] for line in board._heat.order]
    assert down == sorted(down, reverse=True)
    heading(board, "OTI-I").click()
    up = [value[line[0], line[3]] for line in board._heat.order]
    assert up == sorted(up)
    board._heat.sort("")
    assert board._heat.order == given


def test_a_heading_that_is_pressed_stays_and_so_keeps_the_focus(study: xg.Study) -> None:
    board = VariantBoard(study, study.run())
    header, pressed = board._heat.children[0], heading(board, "OTI-I")
    pressed.click()
    assert board._heat.children[0] is header
    assert heading(board, "OTI-I") is pressed
    assert pressed.description == "OTI-I ▼"
    board._pick["comparisons"].value = ("I-I",)
    assert [button.description for button in header.children] == ["model · correction", "I-I"]


def test_a_cell_opens_the_neighbours_behind_it(study: xg.Study) -> None:
    board = VariantBoard(study, study.run())
    cell = next(c for c in cells(board) if "OTI-I · center · random-1" in c.tooltip)
    cell.click()
    assert board.error == ""
    assert board.explorer is not None
    assert board.explorer.evaluation.model.name == "random-1"
    assert [title.split(" · ", 1)[1] for title in board.explorer.rankings] == [
        *("I-I · none", "I-I · center", "OTI-I · none", "OTI-I · center")
    ]


def test_the_choice_filters_and_names_that_lack_are_reported(study: xg.Study) -> None:
    board = VariantBoard(study, study.run())
    board._pick["models"].value = ("random-1",)
    assert set(board.table()["model"]) == {"random-1"}
    board._pick["comparisons"].value = ("I-I",)
    assert len(cells(board)) == 2
    board._pick["models"].value = ()
    board.run()
    assert board.error == "choose at least one of the models"


def test_what_is_finished_stays_when_it_is_cancelled(study: xg.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    board = VariantBoard(study)
    evaluation = board._evaluation

    def stop_at_the_second(chosen: Any) -> Any:
        if chosen["models"] == ["random-1"]:
            raise Cancelled
        return evaluation(chosen)

    monkeypatch.setattr(board, "_evaluation", stop_at_the_second)
    board.run()
    assert board.error.startswith("Cancelled")
    assert set(board.table()["model"]) == {"random-0"}
    assert len(cells(board)) == 4
    monkeypatch.setattr(board, "_evaluation", evaluation)
    board.run()
    assert set(board.table()["model"]) == {"random-0", "random-1"}


def test_one_model_that_fails_does_not_end_the_others(study: xg.Study) -> None:
    import dataclasses

    board = VariantBoard(dataclasses.replace(study, models=[study.models[0], "no-such-model"]))
    board.run()
    assert "no-such-model" in board.error
    assert set(board.table()["model"]) == {"random-0"}


def test_a_cell_that_cannot_be_computed_says_why() -> None:
    row = {"value": float("nan"), "note": "the tower has no <linear> projection"}
    assert cell_words(row) == "n/a"
    assert cell_tooltip(row) == "the tower has no <linear> projection"


def test_its_code_gives_the_same_table(study: xg.Study, run_code: Any) -> None:
    board = VariantBoard(study, study.run())
    board._pick["comparisons"].value = ("I-I",)
    board.run()
    board._pick["models"].value = ("random-1",)
    assert "plots.differences" in board.code()
    made = run_code(board.code(), study=study)
    pd.testing.assert_frame_equal(made, board.table())


def test_its_code_needs_names_only_where_names_are_enough(run_code: Any) -> None:
    study = xg.Study(["tiny-untrained"], ["emoji"], ["I-I", "zero-shot"], limit=3, progress=False)
    board = VariantBoard(study)
    board.run()
    assert "study" not in board.code().replace("xg.Study", "")
    pd.testing.assert_frame_equal(run_code(board.code()), board.table())


def test_save_writes_the_table_on_screen(study: xg.Study, xgap_home: Path) -> None:
    board = VariantBoard(study, study.run())
    board._save_button.click()
    assert board.error == ""
    (file,) = (xgap_home / "results").glob("*.parquet")
    assert len(pd.read_parquet(file)) == 8
    empty = VariantBoard(study)
    empty._save_button.click()
    assert empty.error == "there is nothing to show yet; press run first"


def test_learned_scorers_are_offered_where_they_can_be_fitted(study: xg.Study, make_dataset: Any) -> None:
    from xgap_analysis.widgets.choices import Choices

    assert study.fit_split in make_dataset().splits
    offered = Choices.of(study).names("scorers")
    assert {"cosine", "x_pool", "glscl"} <= set(offered)
    assert not {"sprc", "grain", "rerank"} & set(offered), "they need more than queries and gallery items"
    none = dataclasses.replace(study, fit_split="nowhere")
    assert "x_pool" not in Choices.of(none).names("scorers")


def test_a_grid_of_several_models_has_a_line_for_each_and_its_code_runs(study: xg.Study, run_code: Any) -> None:
    board = VariantBoard(study, study.run())
    board._plot.value = "grid"
    assert board.error == ""
    assert "<img src='data:image/png" in board._drawn.value
    (axes,) = board.figure().axes
    expected = [f"{model} · {by}" for model in ("random-0", "random-1") for by in ("none", "center")]
    assert [label.get_text() for label in axes.get_yticklabels()] == expected
    assert "by=['model', 'correction']" in board.code()
    pd.testing.assert_frame_equal(run_code(board.code(), study=study), board.table())
    board._pick["models"].value = ("random-1",)
    assert [label.get_text() for label in board.figure().axes[0].get_yticklabels()] == ["none", "center"]
    assert "by=['correction']" in board.code()
    import matplotlib.pyplot as plt

    plt.close("all")


def test_a_figure_that_cannot_be_drawn_takes_the_old_one_away(study: xg.Study) -> None:
    def refuses(table: pd.DataFrame) -> Any:
        raise xg.XgapError("this figure needs three models")

    board = VariantBoard(study, study.run(), plots={"mine": refuses})
    assert "<img" in board._drawn.value
    board._plot.value = "mine"
    assert board.error == "this figure needs three models"
    assert board._drawn.value == ""
    board._plot.value = "differences"
    assert board.error == ""
    assert "<img" in board._drawn.value


def test_progress_and_errors_stand_above_what_they_are_about(study: xg.Study) -> None:
    board = VariantBoard(study, study.run())
    children = list(board.children)
    shown = [children.index(part) for part in (board._jobs, board._error, board._heat, board._drawn)]
    assert shown == sorted(shown)
    empty = VariantBoard(study)
    empty._save_button.click()
    assert empty._error in empty._answer.children  # where the button is


def test_a_cell_marks_the_best_and_what_is_tied_with_it() -> None:
    about = {"comparison": "I-I", "correction": "none", "model": "m", "dataset": "d", "split": "test", "metric": "ap"}
    row = {**about, "value": 0.5, "low": 0.4, "high": 0.6, "n_queries": 9, "difference": math.nan, "note": ""}
    tested = {"difference": 0.02, "difference_low": -0.01, "difference_high": 0.05, "p_value": 0.2, "p_adjusted": 0.4}
    tested |= {"n_groups": 20, "baseline": "I-I", "family_size": 2, "verdict": "inconclusive", "reason": "wide"}
    assert cell_words({**row, "against_best": "best"}).endswith("baseline ★")
    assert cell_words(row).endswith("baseline")  # of a table without the column
    assert "☆" in cell_words({**row, **tested, "against_best": "tied"})
    assert not {"★", "☆"} & set(cell_words({**row, **tested, "against_best": "lower"}))
    said = cell_tooltip({**row, **tested, "against_best": "lower", "detectable": 0.043})
    assert "smallest effect that would have been seen: 0.0430" in said
    assert "below the best variant" in said
    assert "best variant" not in cell_tooltip({**row, **tested, "against_best": math.nan})
