"""The report: notebooks run headless, their pages, figures and tables kept, an index before them."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import pytest
from nbformat import NotebookNode
from PIL import Image

from xgap_analysis import cli
from xgap_analysis.cli import page as page_module
from xgap_analysis.cli.notebook import is_code, read_notebook
from xgap_analysis.cli.page import Report, find_notebooks, make_report, render
from xgap_analysis.core.errors import XgapError

NASTY = "<img src=x onerror=alert(1)>"
STUDY = f"""
import os, sys, pandas as pd, matplotlib.pyplot as plt
plt.plot([1, 2]); plt.show()
plt.figure(); plt.plot([2, 1]); plt.show()
row = dict(model=MODEL, dataset=DATASET, comparison="I-I", correction={NASTY!r}, metric="ap", main=True,
           value=0.5, low=0.25, high=0.75, n_queries=3)
other = dict(row, comparison="OTI-I", value=0.625, baseline="I-I", difference=0.125, difference_low=0.0625,
             difference_high=0.25, verdict="supported")
folder = os.environ["XGAP_RESULTS"]
pd.DataFrame([row, other, dict(row, metric="hit_at_1", main=False)]).to_parquet(folder + "/study-a.parquet")
pd.DataFrame({{"x": [1]}}).to_parquet(folder + "/gaps.parquet")
"""
WIDGETS = """
import ipywidgets, os, sys
from tqdm.auto import tqdm
for _ in tqdm(range(3)): pass
display(ipywidgets.IntSlider(description="a slider"))
ipywidgets.interact(lambda x: print("moved to", x), x=3)  # prints into an output widget
print("ran by", sys.executable, "in", os.getcwd())
"""


def code(source: str, *tags: str) -> NotebookNode:
    return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)})


def write_notebook(path: Path, *cells: NotebookNode) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=list(cells)), path)
    return path


PARAMETERS = code('MODEL = "tiny"\nDATASET = "emoji"', "parameters")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two notebooks, what an earlier report left, and a foreign kernel of the usual name."""
    folder = tmp_path_factory.mktemp("checkout")
    question = nbformat.v4.new_markdown_cell(f"# What is `{NASTY}`?")
    write_notebook(folder / "notebooks" / "00_first.ipynb", question, PARAMETERS, code(STUDY))
    write_notebook(folder / "notebooks" / "01_second.ipynb", PARAMETERS, code(WIDGETS))
    for stale in ("figures/00_first-9.png", "tables/00_first/study-old.parquet"):
        (folder / "out" / stale).parent.mkdir(parents=True, exist_ok=True)
        (folder / "out" / stale).touch()
    kernel = folder / "jupyter" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text(json.dumps({"argv": ["false"], "display_name": "not this one", "language": "python"}))
    return folder


@pytest.fixture(scope="module")
def made(folder: Path) -> Report:
    notebooks = sorted((folder / "notebooks").glob("*.ipynb"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
        patch.setenv("MPLBACKEND", "agg")
        return make_report(notebooks, folder / "out", parameters={"MODEL": f"my {NASTY}"}, progress=False)


def test_results_are_the_rows_of_every_study(made: Report, folder: Path) -> None:
    table = pd.read_parquet(folder / "out" / "results.parquet")
    assert made.results == folder / "out" / "results.parquet"
    assert table["notebook"].tolist() == ["00_first"] * 3
    assert table["value"].tolist() == [0.5, 0.625, 0.5]
    assert set(table["model"]) == {f"my {NASTY}"}
    assert set(table["dataset"]) == {"emoji"}
    assert [file.name for file in made.pages[0].tables] == ["gaps.parquet", "study-a.parquet"]


def test_figures_are_images_under_the_name_of_their_notebook(made: Report, folder: Path) -> None:
    names = sorted(file.name for file in (folder / "out" / "figures").iterdir())
    assert names == ["00_first-1.png", "00_first-2.png"]
    for name in names:
        assert Image.open(io.BytesIO((folder / "out" / "figures" / name).read_bytes())).width > 100


def test_the_index_links_what_there_is_and_escapes_what_it_shows(made: Report, folder: Path) -> None:
    index = made.index.read_text()
    links = set(re.findall(r'(?:href|src)="([^"]+)"', index))
    assert {"pages/00_first.html", "pages/01_second.html", "figures/00_first-2.png", "results.parquet"} <= links
    assert [link for link in links if not (folder / "out" / link).is_file()] == []
    assert "<img src=x" not in index
    assert (
        index.count("&lt;img src=x onerror=alert(1)&gt;") >= 4
    )  # a title, a caption, a parameter, a name in the table
    assert "<td>0.500 [0.250, 0.750]</td>" in index
    assert re.search(r"<td>\+0\.125 \[\+0\.062, \+0\.250\]</td><td>I-I</td>(<td></td>)*<td>supported</td>", index)
    assert index.count("<tr>") == 3  # the heading and the two main rows


def test_pages_fetch_nothing_and_show_what_stands_still(made: Report, folder: Path) -> None:
    for page in made.pages:
        assert re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(?!data:)', page.file.read_text()) == []
    second = made.pages[1].file.read_text()
    assert "(interactive: open the notebook in JupyterLab to use it)" in second
    assert "3/3" not in second
    assert f"ran by {sys.executable} in {folder / 'notebooks'}" in second


def test_the_executed_notebooks_are_kept_with_their_outputs(made: Report, folder: Path) -> None:
    first = nbformat.read(folder / "out" / "notebooks" / "00_first.ipynb", as_version=4)
    assert [output.output_type for cell in first.cells[2:] for output in cell.outputs].count("display_data") == 2
    second = (folder / "out" / "notebooks" / "01_second.ipynb").read_text()
    assert "vnd.jupyter.widget-view" not in second


def test_formulas_bring_the_one_script_they_need() -> None:
    with_formula = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("$x^2$")])
    assert re.search(r'<script[^>]+src="[^"]*mathjax', render(with_formula, "x"), re.IGNORECASE)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("\n1 / 0", "code cell 2 (1 / 0): ZeroDivisionError: division by zero"),
        ("import os; os._exit(1)", "its kernel died"),
        ("import time; time.sleep(600)", "it took more than 5 seconds"),
    ],
)
def test_a_notebook_that_fails_is_named_with_its_cell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, said: str
) -> None:
    notebook = write_notebook(tmp_path / "bad.ipynb", PARAMETERS, code(source), code("'after'"))
    out = tmp_path / "out"
    assert cli.main(["report", "--notebooks", str(notebook), "--out", str(out), "--timeout", "5"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("xgap: error: notebook bad.ipynb, code cell 2 (")
    assert said in line
    assert str(out / "pages" / "bad.html") in line
    assert (out / "pages" / "bad.html").is_file()
    assert not (out / "index.html").exists()
    assert list((out / "notebooks").iterdir()) == []


def test_the_command_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notebook = write_notebook(tmp_path / "good.ipynb", PARAMETERS, code(STUDY))
    args = ["report", "--notebooks", str(notebook), "--out", str(tmp_path / "out"), "--dataset", "emoji"]
    assert cli.main(args) == 0
    said = capsys.readouterr()
    assert re.search(r"\+0\.125 \[\+0\.062, \+0\.250\]  I-I  +supported", said.out)
    assert str(tmp_path / "out" / "index.html") in said.out
    assert said.err == ""  # no bar in a log file


def test_what_is_no_notebook_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(page_module, "__file__", str(tmp_path / "installed" / "report.py"))
    with pytest.raises(XgapError, match="no notebooks here"):
        find_notebooks()
    mine = write_notebook(tmp_path / "notebooks" / "b.ipynb", code("1"))
    first = write_notebook(tmp_path / "notebooks" / "a.ipynb", code("1"))
    assert [file.resolve() for file in find_notebooks()] == [first, mine]
    with pytest.raises(XgapError, match="is not a notebook"):
        find_notebooks([tmp_path])
    with pytest.raises(XgapError, match="two notebooks are named 'a'"):
        find_notebooks([first, write_notebook(tmp_path / "x" / "a.ipynb")])
    with pytest.raises(XgapError, match="no cell with the tag 'parameters', so it takes no MODEL"):
        make_report([mine], tmp_path / "out", parameters={"MODEL": "x"})
    mine.write_text("{}")
    with pytest.raises(XgapError, match=r"b\.ipynb cannot be read as a notebook"):
        make_report([mine], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_wrong_names_are_reported_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notebook = write_notebook(tmp_path / "n.ipynb", PARAMETERS)
    args = ["report", "--notebooks", str(notebook), "--out", str(tmp_path / "out")]
    for option, name in (("--model", "tiny-untraind"), ("--dataset", "emojy")):
        assert cli.main([*args, option, name]) == 2
        assert f"{name!r}; nearest names" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_an_interruption_ends_the_kernel_and_exits_with_130(tmp_path: Path) -> None:
    started = tmp_path / "started"
    source = f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    notebook = write_notebook(tmp_path / "long.ipynb", code(source))
    root = Path(page_module.__file__).parent.parent.parent
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))}
    command = "import sys; from xgap_analysis.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", command, "report", "--notebooks", str(notebook), "--out", str(tmp_path / "out")],
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )
    while not (started.exists() and started.read_text()):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert "xgap: stopped" in err
    assert "Traceback" not in err
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


def test_papermill_runs_the_same_notebook(tmp_path: Path) -> None:
    file = write_notebook(tmp_path / "small.ipynb", PARAMETERS, code("print(MODEL, DATASET)"))
    given = ["-p", "MODEL", "tiny-intra", "-p", "DATASET", "emoji-clips"]
    command = [sys.executable, "-m", "papermill", "--kernel", "python3", "--language", "python", "--no-progress-bar"]
    subprocess.run([*command, str(file), str(tmp_path / "out.ipynb"), *given], check=True, capture_output=True)
    executed = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert executed.cells[2].outputs[0].text == "tiny-intra emoji-clips\n"
    ours = read_notebook(file, {"MODEL": "tiny-intra", "DATASET": "emoji-clips"})
    assert [cell.source for cell in ours.cells] == [cell.source for cell in executed.cells]


@pytest.mark.parametrize("file", find_notebooks(()), ids=lambda file: file.stem)
def test_papermill_sets_the_parameters_of_every_notebook(file: Path, tmp_path: Path) -> None:
    papermill.execute_notebook(file, tmp_path / "out.ipynb", {"MODEL": "m", "DATASET": "d"}, prepare_only=True)
    cells = [cell.source for cell in nbformat.read(tmp_path / "out.ipynb", as_version=4).cells if is_code(cell)]
    assert cells[1] == '# Parameters\nMODEL = "m"\nDATASET = "d"\n'
