"""From outside the package: a recipe of one's own, and a term that reads tokens, in `xgap train`."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.extending.conftest import section
from xgap_analysis import cli

TRAIN = ["train", "--plugin", "my_file.py", "--model", "tiny-untrained", "--batch", "8", "--eval-split", "nothing"]


def test_a_recipe_goes_in_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_file.py").write_text(section("recipe"))
    how = ["--recipe", "my-recipe(margin=0.3)", "--steps", "1", "--out", "run", "--json"]
    assert cli.main([*TRAIN, *how]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["stage"] == 1
    assert row["loss"] == pytest.approx(row["clip"] + 5 * row["off-diagonal"], rel=1e-5)
    stages = json.loads(Path("run/run.json").read_text())["recipe"]["stages"]
    assert [stage["captions"] for stage in stages] == ["mix(p=0.5)"] * 2
    assert cli.main(["train", "--plugin", "my_file.py", "--list", "--json"]) == 0
    rows = {row["recipe"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["my-recipe"]["about"] == "The image tower learns classes, then both towers are trained together."


def test_a_term_reads_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_file.py").write_text(section("term of tokens"))
    terms = ["clip=1", "my-words(smooth=0.2)=0.5"]
    assert cli.main([*TRAIN, "--steps", "1", "--out", "run", "--objective", *terms, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["loss"] == pytest.approx(np.dot([row["clip"], row["my-words(smooth=0.2)"]], [1, 0.5]), rel=1e-5)
