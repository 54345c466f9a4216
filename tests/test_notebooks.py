"""Every notebook is committed clean and runs top to bottom, on the embedded default and on a table of one's own."""

import csv
import os
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from xgap_analysis import load_dataset
from xgap_analysis.cli.notebook import cells_of
from xgap_analysis.cli.page import make_report

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
HINTS = "|was trained on drawings|groups of queries"
pytestmark = pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)


def test_it_is_committed_without_outputs(file: Path) -> None:
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert [cell.source for cell in code if cell.outputs or cell.execution_count is not None] == []
    assert "widgets" not in notebook.metadata


def test_its_first_code_cell_holds_the_parameters(file: Path) -> None:
    notebook = nbformat.read(file, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert "parameters" in first.metadata.get("tags", [])
    assert {"MODEL", "DATASET"} <= set(re.findall(r"^(\w+) = ", first.source, flags=re.MULTILINE))


def test_its_first_code_cell_says_what_a_dataset_of_ones_own_needs(file: Path) -> None:
    notebook = nbformat.read(file, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code").source
    assert re.search(r"# It needs .*\bsplits?\b|if you have none: .*split test", first)


def test_it_opens_with_a_question_and_ends_with_what_to_try_next(file: Path) -> None:
    cells = nbformat.read(file, as_version=4).cells
    assert cells[0].cell_type == "markdown"
    assert "?" in cells[0].source
    assert "try next" in cells[-1].source.lower()


@pytest.fixture
def report(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A report on the notebook: the one that XGAP_REPORT names (`.ci/run` has just made it), or a new one."""
    given = os.environ.get("XGAP_REPORT")
    if given:
        assert cells_of(Path(given) / "notebooks" / file.name) == cells_of(file), "the report is of another notebook"
        return Path(given)
    monkeypatch.setenv("XGAP_HOME", str(tmp_path / "home"))
    # The way of `make report`: a cell that raises is an error that names it.
    return make_report([file], tmp_path / "report", timeout=1200, progress=False).index.parent


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_it_runs_top_to_bottom(file: Path, report: Path) -> None:
    assert list((report / "figures").glob(f"{file.stem}-*.png"))
    # Five of the 2,615 training captions are longer than `tiny` reads, which is said; and what `tiny` was trained on,
    # of the folder and the table that notebook 10 makes: no name says that they hold drawings. Nothing else is said.
    said = re.findall(r"\w+Warning: .*", (report / "pages" / f"{file.stem}.html").read_text(encoding="utf-8"))
    expected = r"captions are longer than the \d+ tokens" + (HINTS if file.stem.startswith("10") else "")
    assert [warning for warning in said if not re.search(expected, warning)] == []


SHORT: dict[str, Any] = {"LABELS": 6, "TEXT_LABELS": 3, "STEPS": 10}


@pytest.fixture(scope="module")
def own_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve labels, four images each in three splits, two captions an image, and no label set but the label."""
    folder = tmp_path_factory.mktemp("own")
    data = load_dataset("emoji").split("test").limit(12)
    label, words = data.labels_of(), data.class_names[data.default_label_set]
    seen: dict[str, int] = {}
    with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "caption", "label", "split"])
        for number, item in enumerate(data.images.ids):
            take = seen[label[item]] = seen.get(label[item], 0) + 1
            if take <= 4:
                data.images[number].save(folder / f"{number}.png")
                split = ("train", "test", "val", "test")[take - 1]
                name = words[label[item]]
                rows.writerows([f"{number}.png", caption, name, split] for caption in (name, f"a drawing of {name}"))
    return folder / "pairs.csv"


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_it_runs_on_a_table_of_ones_own(
    file: Path, own_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XGAP_HOME", str(tmp_path / "home"))
    own = {**SHORT, "DATASET": str(own_table)}
    if "FOLDER = None" in file.read_text("utf-8"):  # its table is a parameter of its own
        own = {**SHORT, "TABLE": str(own_table)}
    made = make_report([file], tmp_path / "report", parameters=own, timeout=1200, progress=False)
    assert made.pages[0].figures
