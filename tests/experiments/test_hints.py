"""What a user should know before the results: said of what is known by name, and of nothing else."""

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import xgap_analysis as xg
from xgap_analysis import widgets
from xgap_analysis.experiments.hints import hints

KNOWS = "'tiny' was trained on drawings (emoji and icons) alone"
FEW = "10 groups of queries (labels of 'class'), which are few"


@pytest.fixture
def photographs(tmp_path: Path) -> str:
    """A folder of ten classes with two images each."""
    for number in range(20):
        folder = tmp_path / "photographs" / f"class {number // 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (12 * number, 90, 255 - 12 * number)).save(folder / f"{number}.png")
    return str(tmp_path / "photographs")


def said_by(study: xg.Study) -> list[str]:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        study.run()
    assert {Path(w.filename).name for w in seen} <= {"test_hints.py"}  # the user's own line
    return [str(w.message) for w in seen]


def test_a_study_of_photographs_says_what_tiny_knows_and_that_the_groups_are_few(photographs: str) -> None:
    said = said_by(xg.Study(["tiny"], [photographs], ["I-I"], progress=False))
    assert len(said) == 2
    assert said[0].startswith(KNOWS)
    assert FEW in said[1]


def test_what_is_not_known_is_not_said(photographs: str, model: Any) -> None:
    (own,) = xg.Study([model], [photographs], ["I-I"], progress=False).evaluations()
    assert [FEW in hint for hint in hints(own)] == [True]
    (untrained,) = xg.Study(["tiny-untrained"], [photographs], ["I-I"], progress=False).evaluations()
    assert [FEW in hint for hint in hints(untrained)] == [True]
    for name in ("emoji", "emoji:de"):
        (embedded,) = xg.Study(["tiny"], [name], ["I-I"], limit=3, progress=False).evaluations()
        assert hints(embedded) == []
    many = {item: item for item in own.data.images.ids}
    (grouped,) = xg.Study(
        [model], [dataclasses.replace(own.data, labels={"each": many}, class_names={})], ["I-I"], progress=False
    ).evaluations()
    assert hints(grouped) == []


def test_the_command_line_and_the_explorers_say_it_too(
    photographs: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xgap_analysis.cli.command import main

    monkeypatch.chdir(tmp_path)
    arguments = ["study", "--models", "tiny", "--datasets", photographs, "--comparisons", "I-I"]
    assert main(arguments) == 0
    lines = capsys.readouterr().err.splitlines()
    assert sum(KNOWS in line for line in lines) == 1
    study = xg.Study(["tiny"], [photographs], ["I-I"], progress=False)
    (evaluation,) = study.evaluations()
    assert "was trained on drawings" in widgets.NeighbourExplorer(evaluation, ["I-I"])._heading.value
    board = widgets.VariantBoard(study)
    assert "was trained on drawings" not in board._heading.value
    board.run()
    assert "was trained on drawings" in board._heading.value
