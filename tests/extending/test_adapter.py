"""From outside the package: an adapter of one's own, in `xgap train`, in its lists, in `load_model` and in a study."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import xgap_analysis as xg
from tests.extending.conftest import section
from xgap_analysis import cli
from xgap_analysis.models import ADAPTERS
from xgap_analysis.models.trainable import load_trainable

OWN = section("adapter")
TRAIN = ["train", "--plugin", "my_file.py", "--model", "tiny-untrained", "--batch", "8", "--eval-split", "nothing"]


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the file."""
    monkeypatch.chdir(tmp_path)
    Path("my_file.py").write_text(OWN)


def test_an_own_adapter_is_trained_saved_and_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*TRAIN, "--out", "run", "--steps", "3", "--adapter", "my-gain(start=2.0)"]) == 0
    base, made = load_trainable("tiny-untrained", device="cpu").module.state_dict(), Path("run", "last")
    after = load_file(made / "open_clip_model.safetensors")
    assert [name for name in base if not torch.equal(base[name].cpu(), after[name])] == ["logit_scale"]
    assert json.loads((made / "adapter.json").read_text()) == {"adapter": "my-gain(start=2.0)"}
    factor = load_file(made / "adapter.safetensors")["image.factor"]
    assert 0 < (factor - 2).abs().max() < 0.1

    data = xg.load_dataset("emoji").split("test").limit(4)
    plain, trained = (xg.load_model(name, device="cpu") for name in ("tiny-untrained", "run/last"))
    images, native = (xg.encode(model, data.images, store=None, progress=False) for model in (trained, plain))
    expected = torch.nn.functional.normalize(native.vectors * factor, dim=1)
    torch.testing.assert_close(images.vectors, expected, atol=1e-5, rtol=0)
    texts = [xg.encode(model, data.texts, store=None, progress=False).vectors for model in (trained, plain)]
    torch.testing.assert_close(*texts, atol=1e-6, rtol=0)
    assert trained.fingerprint != plain.fingerprint
    assert xg.adapted(plain, "my-gain(start=2.0)").fingerprint != trained.fingerprint

    study = ["study", "--plugin", "my_file.py", "--models", "run/last", "--split", "test", "--limit", "4"]
    assert cli.main([*study, "--comparisons", "I-I", "OTI-I", "--steps", "2", "--json"]) == 0
    ADAPTERS.remove("my-gain")
    with pytest.raises(xg.XgapError, match=r"adapter.json names an adapter that is not known here, register it first"):
        xg.load_model("run/last")


def test_it_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["adapters", "--json"]) == 0
    assert "my-gain" not in capsys.readouterr().out
    assert cli.main(["adapters", "--plugin", "my_file.py"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("my-gain")]
    assert "start=1.0" in line
    assert "A factor for each dimension of an image." in line


@pytest.mark.parametrize(
    ("adapter", "sentence"),
    [
        ("my-gian", "unknown adapter 'my-gian'; nearest names: my-gain"),
        ("my-gain(strat=1)", "unknown option of my-gain 'strat'; nearest names: start"),
        ("my-gain(1.0)", "an adapter takes options by name: my-gain(option=value)"),
        ("my-gain(start=-1.0)", "adapter my-gain(start=-1.0) says that it starts as the base, but it changes image"),
    ],
)
def test_a_mistake_is_one_sentence(adapter: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*TRAIN, "--out", "run", "--adapter", adapter]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("xgap: error: ")
    assert sentence in line


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("xg.register_adapter('taken')(7)", "failed in line 2: adapter 'taken' must be a function, not 7"),
        ("xg.register_adapter('head')(lambda dims: {})", "there is an adapter named 'head' already"),
        ("xg.register_adapter('taken', place='end')", "an adapter enters at head, positions, tokens, mlp, tower, not"),
    ],
)
def test_a_registration_that_makes_no_sense_is_one_sentence(
    text: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("my_file.py").write_text(f"import xgap_analysis as xg\n{text}\n")
    assert cli.main([*TRAIN, "--out", "run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line
