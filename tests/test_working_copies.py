"""`make lab` opens copies: edits stay, what nobody has edited follows its notebook, and git sees nothing."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "notebooks"))
from working_copies import update  # noqa: E402


def change(file: Path, source: str | None = None, output: str | None = None) -> None:
    """Another source, or an output, of the first code cell, as JupyterLab saves it."""
    notebook = nbformat.read(file, as_version=4)
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    if source is not None:
        cell.source = source
    if output is not None:
        cell.outputs, cell.execution_count = [nbformat.v4.new_output("stream", text=output)], 1
        notebook.metadata.language_info["version"] = "3.13.1"
    nbformat.write(notebook, file)


def first(file: Path) -> nbformat.NotebookNode:
    return next(cell for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "code")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two of the notebooks, and their copies."""
    (tmp_path / "notebooks").mkdir()
    for file in sorted((ROOT / "notebooks").glob("0[01]*.ipynb")):
        shutil.copy(file, tmp_path / "notebooks")
    assert list(update(tmp_path / "lab", tmp_path / "notebooks")) == []
    return tmp_path / "notebooks", tmp_path / "lab"


def test_a_copy_has_the_cells_of_its_notebook_and_keeps_what_was_run(folders: tuple[Path, Path]) -> None:
    source, target = folders
    names = sorted(file.name for file in source.iterdir())
    assert sorted(file.name for file in target.iterdir()) == names
    assert nbformat.read(target / names[0], as_version=4).cells == nbformat.read(source / names[0], as_version=4).cells
    change(target / names[0], output="3 images")
    assert list(update(target, source)) == []
    assert first(target / names[0]).outputs


def test_a_copy_follows_unless_it_was_edited(folders: tuple[Path, Path]) -> None:
    source, target = folders
    one, two = sorted(file.name for file in source.iterdir())
    change(target / one, output="old")
    change(target / two, source="MODEL = 'mine'")
    for name in (one, two):
        change(source / name, source="MODEL = 'new'")
    (said,) = update(target, source)
    assert str(target / two) in said
    assert "has your changes and is kept" in said
    assert first(target / one).source == "MODEL = 'new'"
    assert not first(target / one).outputs
    assert first(target / two).source == "MODEL = 'mine'"
    (target / one).write_text("{ not JSON", encoding="utf-8")
    said = list(update(target, source))
    assert len(said) == 2
    assert (target / one).read_text(encoding="utf-8") == "{ not JSON"


def test_a_copy_that_is_no_notebook_any_more_is_kept(folders: tuple[Path, Path]) -> None:
    source, target = folders
    name = sorted(file.name for file in source.iterdir())[0]
    broken = json.loads((target / name).read_text(encoding="utf-8"))
    del broken["cells"]
    (target / name).write_text(json.dumps(broken), encoding="utf-8")
    change(source / name, source="MODEL = 'new'")
    (said,) = update(target, source)
    assert "has your changes and is kept" in said
    assert json.loads((target / name).read_text(encoding="utf-8")) == broken


def test_a_copy_that_is_cut_off_is_written_again(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = folders
    name = sorted(file.name for file in source.iterdir())[0]
    change(source / name, source="MODEL = 'new'")

    def cut_off(notebook: nbformat.NotebookNode, file: Path) -> None:
        file.write_text(nbformat.writes(notebook)[:100], encoding="utf-8")
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(nbformat, "write", cut_off)
        with pytest.raises(OSError, match="no space left"):
            list(update(target, source))
    assert list(update(target, source)) == []
    assert first(target / name).source == "MODEL = 'new'"


def test_where_nothing_can_be_written_there_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "lab").write_text("mine", encoding="utf-8")
    script = [sys.executable, str(ROOT / "notebooks" / "working_copies.py"), str(tmp_path / "lab")]
    made = subprocess.run(script, capture_output=True, text=True, check=False)
    assert made.returncode == 1
    assert made.stderr.startswith(f"copies of the notebooks cannot be written to {tmp_path / 'lab'}: ")
    assert made.stderr.count("\n") == 1
    assert (tmp_path / "lab").read_text(encoding="utf-8") == "mine"


def test_make_lab_opens_copies_that_git_ignores() -> None:
    made = subprocess.run(["make", "-n", "lab"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "notebooks/working_copies.py lab" in made
    assert "/lab/tree/lab/00_quickstart.ipynb" in made
    assert (
        subprocess.run(["git", "check-ignore", "-q", "lab/00_quickstart.ipynb"], cwd=ROOT, check=False).returncode == 0
    )
