"""From outside the package: objectives of one's own, in `xgap train`, in its lists and in Python."""

import json
from pathlib import Path

import numpy as np
import pytest

import xgap_analysis as xg
from tests.extending.conftest import section
from xgap_analysis import cli

OWN = section("objective")
NAMES = ("my-hinge", "my-still", "my-classes")
TRAIN = ["train", "--plugin", "my_file.py", "--model", "tiny-untrained", "--batch", "8", "--eval-split", "nothing"]


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the file."""
    monkeypatch.chdir(tmp_path)
    Path("my_file.py").write_text(OWN)


def test_own_objectives_are_terms_of_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    terms = ["my-hinge(margin=0.1)=0.5", "my-still=2", "my-classes(smoothing=0.1)"]
    assert cli.main([*TRAIN, "--out", "run", "--steps", "1", "--objective", "clip=1", *terms, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    parts = [row["clip"], row["my-hinge(margin=0.1)"], row["my-still"], row["my-classes(smoothing=0.1)"]]
    assert row["loss"] == pytest.approx(np.dot(parts, [1, 0.5, 2, 1]), rel=1e-5)
    assert row["my-still"] == pytest.approx(0, abs=1e-6)  # the first step is computed before any update
    assert xg.load_model("run/last").weights_digest != xg.load_model("tiny-untrained").weights_digest
    weights = json.loads(Path("run/run.json").read_text())["recipe"]["objective"]
    assert weights == {
        "clip": 1,
        "my-hinge(margin=0.1)": 0.5,
        "my-still": 2,
        "my-classes(smoothing=0.1)": 1,
    }


def test_a_weight_of_zero_changes_nothing_to_the_bit(capsys: pytest.CaptureFixture[str]) -> None:
    for out, more in (("without", []), ("with", ["my-hinge=0", "my-classes=0"])):
        how = ["--steps", "2", "--device", "cpu", "--objective", "clip", *more]  # sums on a GPU vary in their last bits
        assert cli.main([*TRAIN, "--out", out, *how]) == 0
    files = [Path(out, "last", "open_clip_model.safetensors").read_bytes() for out in ("without", "with")]
    assert files[0] == files[1]


def test_they_are_listed_with_options_and_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["objectives", "--json"]) == 0
    assert "my-hinge" not in capsys.readouterr().out
    assert cli.main(["objectives", "--plugin", "my_file.py", "--json"]) == 0
    rows = {row["objective"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["my-hinge"]["options"] == {"margin": 0.2}
    assert rows["my-still"]["needs"] == "1 image, 1 caption, teacher"
    assert (rows["my-classes"]["trains"], rows["my-classes"]["needs"]) == (True, "1 caption")


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        (["my-hing"], "unknown objective 'my-hing'; nearest names: my-hinge"),
        (["my-hinge(margn=1)"], "unknown option of my-hinge 'margn'; nearest names: margin"),
        (["my-hinge=much"], "a term of the objective is written name=weight, not 'my-hinge=much'"),
        (["=1"], "a term of the objective is written name=weight, not '=1'"),
        (["my-hinge=1", "my-hinge=2"], "term 'my-hinge' is in the objective twice"),
        (["my-classes"], 'this objective looks at no image; train with towers="text"'),
    ],
)
def test_a_mistake_is_one_sentence(terms: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*TRAIN, "--out", "run", "--objective", *terms]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("xgap: error: ")
    assert sentence in line


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("xg.register_objective('taken')(7)", "failed in line 2: objective 'taken' must be a function, not 7"),
        ("xg.register_objective('clip')(lambda b: b.images.sum())", "there is an objective named 'clip' already"),
        ("xg.register_objective('taken', needs=xg.Needs(tokens=True))", "unexpected keyword argument 'tokens'"),
    ],
)
def test_a_registration_that_makes_no_sense_is_one_sentence(
    text: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("my_file.py").write_text(f"import xgap_analysis as xg\n{text}\n")
    assert cli.main([*TRAIN, "--out", "run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line
