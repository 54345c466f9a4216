"""`--plugin FILE` and `--axes`: methods of one's own, and several values of an option, on the command line."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis import cli
from xgap_analysis.cli.study import parsed_axes
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.plugins import load_plugin

OWN = '''
from dataclasses import replace

import torch

import xgap_analysis as xg


@xg.register_view("my-noise", modality="image")
def noise(model, items, *, sigma: float = 0.1, seed: int = 42, store=None):
    """Image features with Gaussian noise."""
    features = xg.encode(model, items, store=store, progress=False)
    drawn = torch.randn(features.vectors.shape, generator=torch.Generator().manual_seed(seed))
    return replace(features, vectors=features.vectors + sigma * drawn)


@xg.register_scorer("my-distance")
def distance(query, gallery, *, power: float = 1.0):
    """The negative Euclidean distance, to a power."""
    return -torch.cdist(query, gallery).pow(power)


@xg.register_correction("my-identity")
def identity(calibration):
    """Features as they are."""
    return lambda features: features
'''
SMALL = ["--models", "tiny-untrained", "--split", "val", "--limit", "3", "--out", "study.parquet"]


@pytest.fixture(autouse=True)
def no_plugin_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder, and an import path that is afterwards as it was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("XGAP_DEBUG", raising=False)
    yield
    for name in [name for name in sys.modules if name.startswith("xgap_plugin_") or name == "beside_the_plugin"]:
        del sys.modules[name]


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "my_file.py").write_text(OWN)
    return "my_file.py"


def test_a_view_a_scorer_and_a_correction_of_ones_own_are_in_a_study(own: str) -> None:
    comparisons = ["--comparisons", "I-I", "my-noise(sigma=0.0)-image"]
    methods = ["--scorers", "cosine", "my-distance", "--corrections", "none", "my-identity"]
    assert cli.main(["study", *SMALL, "--plugin", own, *comparisons, *methods]) == 0
    rows = xg.main_rows(pd.read_parquet("study.parquet"))
    assert set(rows["comparison"]) == {"I-I", "my-noise(sigma=0.0)-image"}
    assert set(rows["scorer"]) == {"cosine", "my-distance"}
    assert set(rows["correction"]) == {"none", "my-identity"}
    assert len(rows) == 8
    assert rows["value"].tolist() == pytest.approx([rows["value"][0]] * 8, abs=1e-6)  # each ranks as the cosine does


@pytest.mark.parametrize(
    ("command", "name"), [("views", "my-noise"), ("scorers", "my-distance"), ("corrections", "my-identity")]
)
def test_the_lists_hold_what_a_plug_in_registers(
    own: str, command: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([command, "--json"]) == 0
    assert name not in capsys.readouterr().out
    assert cli.main([command, "--plugin", own]) == 0
    assert name in capsys.readouterr().out


def test_several_plug_ins_and_modules_beside_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "beside_the_plugin.py").write_text('NAME = "my-second"\n')
    scorer = "import xgap_analysis as xg\n{}\nxg.register_scorer({})(lambda q, g: q @ g.T)\n"
    (tmp_path / "one.py").write_text(scorer.format("", '"my-first"'))
    (folder / "one.py").write_text(scorer.format("from beside_the_plugin import NAME", "NAME"))
    assert cli.main(["scorers", "--plugin", "one.py", "--plugin", "other/one.py", "--json"]) == 0
    names = {row["scorer"] for row in json.loads(capsys.readouterr().out)}
    assert {"my-first", "my-second"} <= names


@pytest.mark.parametrize(
    "command",
    ["encode", "invert", "study", "train", "report", "views", "scorers", "corrections", "objectives", "adapters"],
)
def test_each_command_runs_the_plug_in_before_anything_else(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong.py").write_text("x = 1\nraise ValueError('the plug-in ran')\n")
    out = ["--out", "run"] if command == "train" else []
    assert cli.main([command, *out, "--plugin", "wrong.py"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "xgap: error: plug-in 'wrong.py' failed in line 2: ValueError: the plug-in ran\n"


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("missing.py", None, "plug-in 'missing.py' cannot be loaded: there is no such file"),
        ("table.csv", "a,b", "plug-in 'table.csv' cannot be loaded: it is not a .py file"),
        ("syntax.py", "x = 1\ndef f(:\n", "plug-in 'syntax.py' failed in line 2: SyntaxError"),
        ("needs.py", "import no_such_module_at_all", "failed in line 1: ModuleNotFoundError: No module named"),
        ("leaves.py", "import sys\nsys.exit(3)", "failed in line 2: SystemExit: 3"),
        ("empty.py", "assert False", "plug-in 'empty.py' failed in line 1: AssertionError"),
        (
            "taken.py",
            "import xgap_analysis as xg\nxg.register_scorer('cosine')(lambda q, g: q @ g.T)",
            "failed in line 2: there is a scorer named 'cosine' already",
        ),
        (
            "nothing.py",
            "import xgap_analysis as xg\nxg.register_scorer('seven')(7)",
            "failed in line 2: scorer 'seven' must be a function, not 7",
        ),
    ],
)
def test_a_plug_in_that_cannot_be_loaded_is_one_sentence(
    name: str, text: str | None, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    assert cli.main(["scorers", "--plugin", name]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("xgap: error: ")
    assert sentence in line


@pytest.mark.filterwarnings("always:.*is replaced by its new definition")
def test_a_plug_in_that_is_loaded_again_replaces_what_it_registered(own: str) -> None:
    load_plugin(own)
    with pytest.warns(UserWarning, match="'my-distance' is replaced by its new definition"):
        load_plugin(own)
    other = Path("copy.py")
    other.write_text(OWN)
    with pytest.raises(XgapError, match="there is a view named 'my-noise' already"):
        load_plugin(other)


def test_a_new_process_knows_the_plug_in(own: str) -> None:
    code = "import sys; from xgap_analysis.cli import main; sys.exit(main())"
    root = Path(cli.__file__).parent.parent.parent
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))}
    done = subprocess.run(
        [sys.executable, "-c", code, "scorers", "--plugin", own], capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"my-distance +vectors +power=1.0 +The negative Euclidean distance, to a power\.", done.stdout)


@pytest.mark.slow
def test_the_notebooks_of_a_report_know_the_plug_in(own: str, tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.v4.new_code_cell("import xgap_analysis as xg\nprint(xg.scorer('my-distance(power=2.0)'))")
    ]
    nbformat.write(notebook, tmp_path / "own.ipynb")
    assert cli.main(["report", "--notebooks", "own.ipynb", "--out", "report", "--plugin", own]) == 0
    assert "my-distance(power=2.0)" in (tmp_path / "report" / "pages" / "own.html").read_text()
    assert f"plug-ins = {own}" in (tmp_path / "report" / "index.html").read_text()


@pytest.mark.parametrize(
    ("given", "axes"),
    [
        (["oti.steps=10,50,150"], {"oti.steps": [10, 50, 150]}),
        (["isoclip.k_top=0, 8", "split=val,test"], {"isoclip.k_top": [0, 8], "split": ["val", "test"]}),
        (["pca-text.rank=None,32"], {"pca-text.rank": [None, 32]}),
        (["gap-shift.lambda_=0.25"], {"gap-shift.lambda_": [0.25]}),
        (["a.b=(1, 2),[3],'x,y'"], {"a.b": [(1, 2), [3], "x,y"]}),
        (["checkpoint=run/step-1,run/last"], {"checkpoint": ["run/step-1", "run/last"]}),
    ],
)
def test_axes_are_read_as_literals_or_words(given: Sequence[str], axes: Mapping[str, list[Any]]) -> None:
    assert parsed_axes(given) == axes


def test_axes_of_views_corrections_scorers_and_settings_are_columns(
    own: str, capsys: pytest.CaptureFixture[str]
) -> None:
    axes = ["my-noise.sigma=0.0,0.5", "my-distance.power=1.0,2.0", "split=val,test"]
    args = ["--comparisons", "I-I", "my-noise-image", "--scorers", "my-distance", "--axes", *axes]
    assert cli.main(["study", *SMALL, "--plugin", own, *args]) == 0
    expected = xg.Study(
        ["tiny-untrained"],
        ["emoji"],
        ["I-I", "my-noise-image"],
        scorers=["my-distance"],
        axes={"my-noise.sigma": [0.0, 0.5], "my-distance.power": [1.0, 2.0], "split": ["val", "test"]},
        limit=3,
        progress=False,
    ).run()
    pd.testing.assert_frame_equal(pd.read_parquet("study.parquet"), expected, check_dtype=False)
    assert {"my-noise.sigma", "my-distance.power"} <= set(capsys.readouterr().out.splitlines()[0].split())


def test_axes_and_scorers_hold_for_features_too(own: str) -> None:
    import numpy as np

    vectors = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    for name in ("audio", "video"):
        np.save(f"{name}.npy", vectors)
    pd.DataFrame({"label": list("aabbcc")}).to_csv("labels.csv", index=False)
    args = ["--features", "audio.npy", "video.npy", "--labels", "labels.csv", "--out", "study.parquet"]
    more = ["--plugin", own, "--scorers", "my-distance", "--axes", "my-distance.power=1.0,2.0"]
    assert cli.main(["study", *args, *more]) == 0
    table = pd.read_parquet("study.parquet")
    assert set(table["my-distance.power"]) == {1.0, 2.0}


def test_a_learned_scorer_is_fitted_to_the_rows_marked_train(capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    vectors = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")
    for name in ("audio", "video"):
        np.save(f"{name}.npy", vectors)
    marked = pd.DataFrame({"label": list("abcabcabcabc"), "split": ["test"] * 6 + ["train"] * 6})
    marked.to_csv("labels.csv", index=False)
    args = ["--features", "audio.npy", "video.npy", "--labels", "labels.csv", "--out", "study.parquet", "--overwrite"]
    more = ["--comparisons", "audio-video", "--scorers", "cosine"]
    assert cli.main(["study", *args, *more, "x_pool(epochs=1)"]) == 0
    rows = xg.main_rows(pd.read_parquet("study.parquet")).set_index("scorer")
    assert rows.fitted_on.to_dict() == {"cosine": "", "x_pool(epochs=1)": "calibration"}
    assert rows.value.notna().all()
    assert rows.loc["x_pool(epochs=1)", "note"] == ""
    capsys.readouterr()
    marked.drop(columns="split").to_csv("labels.csv", index=False)
    assert cli.main(["study", *args, *more[:-1], "x_pool(epochs=1)"]) == 2
    assert "is fitted on the split 'train', which dataset" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("axis", "sentence"),
    [
        ("oti.steps", "an axis is written name=value,value, such as oti.steps=10,50,150, not 'oti.steps'"),
        ("oti.steps=", "an axis is written name=value,value"),
        ("=10", "an axis is written name=value,value"),
        ("oti.steps=10,,50", "check brackets, commas and quotes"),
        ("otti.steps=10", "unknown axis (a setting, or name.option) 'otti'; nearest names: oti"),
        ("split=val,tst", "it has: train, val, test, seen"),
    ],
)
def test_a_mistaken_axis_is_one_sentence(axis: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["study", *SMALL, "--comparisons", "OTI-I", "--axes", axis]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("xgap: error: ")
    assert sentence in line


def test_an_axis_that_is_given_twice_is_refused() -> None:
    with pytest.raises(XgapError, match=r"axis 'oti\.steps' is given twice"):
        parsed_axes(["oti.steps=10", "oti.steps=20"])
