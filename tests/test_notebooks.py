"""Every notebook is committed clean and runs top to bottom on the embedded default."""

import re
from pathlib import Path

import nbformat
import pytest

from xgap_analysis.report import make_report

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
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


def test_it_opens_with_a_question_and_ends_with_what_to_try_next(file: Path) -> None:
    cells = nbformat.read(file, as_version=4).cells
    assert cells[0].cell_type == "markdown"
    assert "?" in cells[0].source
    assert "try next" in cells[-1].source.lower()


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_it_runs_top_to_bottom(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XGAP_HOME", str(tmp_path / "home"))
    # The way of `make report`: a cell that raises is an error that names it.
    made = make_report([file], tmp_path / "report", timeout=1200, progress=False)
    assert made.index.exists()
    assert made.pages[0].figures
    assert re.findall(r"\w+Warning: .*", made.pages[0].file.read_text(encoding="utf-8")) == []
