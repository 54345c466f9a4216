"""The README's Python runs as it stands, and its commands and links are real."""

import re
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis import cli
from xgap_analysis.cli.command import _parse

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ["README.md", "CONTRIBUTING.md", "docs/ARCHITECTURE.md", "docs/RESULTS.md"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.slow
def test_every_python_block_runs_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    python = blocks("python")
    assert python
    names: dict[str, Any] = {}
    for number, block in enumerate(python):
        exec(compile(block, f"README.md, Python block {number + 1}", "exec"), names)
    table: pd.DataFrame = names["table"]
    assert set(table["comparison"]) == {"I-I", "OTI-I"}
    assert set(table["oti.steps"].dropna()) == {10, 50}
    own = names["own"].run()
    main = own[own["main"]]
    assert set(main["comparison"]) == {"I-I", "mirror-I"}
    assert set(main["no-top.k"].dropna()) == {1, 4}
    assert main["value"].between(0, 1).all()
    mirrored, native = (names["own"].comparison(name).query for name in ("mirror-I", "I-I"))
    images = names["data"].images
    # A mirrored query leaves the image that it was made from out of its gallery.
    assert mirrored(names["model"], images).has_items_of(native(names["model"], images))


def test_every_command_is_one_that_parses() -> None:
    commands = [
        shlex.split(one, comments=True)
        for block in blocks("sh")
        for line in block.splitlines()
        for one in line.partition("#")[0].split(";")
    ]
    ours = [words for words in commands if words and words[0] == "xgap"]
    assert len(ours) >= 5
    assert [type(_parse(words[1:])) for words in ours] == [cli.COMMANDS[words[1]] for words in ours]
    makefile = (ROOT / "Makefile").read_text()
    for words in commands:
        if words and words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), words


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8"))
    gone = [link for link in links if "://" not in link and not (ROOT / page).parent.joinpath(link).exists()]
    assert gone == []


def test_it_is_a_screen_and_a_half() -> None:
    """So that it is read; what is longer has a page in docs."""
    assert len(TEXT.splitlines()) <= 115


@pytest.mark.filterwarnings("ignore:.*captions are longer")
def test_the_methods_of_contributing_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    methods, training, choice = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    code = f"import dataclasses, torch\nimport xgap_analysis as xg\n{methods}\n{training}"
    exec(compile(code, "CONTRIBUTING.md", "exec"), {})
    study = xg.Study(
        ["tiny-untrained"],
        ["emoji"],
        ["I-I", "noisy(sigma=0.0)-I"],
        ["none", "no-mean"],
        ["cosine", "euclidean"],
        split="val",
        limit=3,
        progress=False,
    )
    rows = xg.main_rows(study.run()).set_index(["comparison", "correction", "scorer"])["value"]
    assert len(rows) == 8
    # Without noise the view is the native one, and on unit rows the distance ranks as the cosine does.
    for by in ("none", "no-mean"):
        assert rows[:, by].tolist() == pytest.approx([rows["I-I", by, "cosine"]] * 4, abs=1e-6)
    recipe = xg.Recipe({"hinge(margin=0.1)": 1.0}, steps=1, batch=8, adapter="turn(bias=True)")
    made = xg.train("tiny-untrained", xg.load_dataset("emoji").split("val"), tmp_path / "run", recipe, progress=False)
    assert 0 < made.curve["hinge(margin=0.1)"].iloc[-1] < 2.1
    assert type(xg.load_model(made.last).image).__name__ == "InvertibleHeadTower"
    assert "xg.chosen(table" in choice  # the same call as in the README, where it runs
