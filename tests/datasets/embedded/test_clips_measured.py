"""The measured table of `emoji-clips`: the command gives known values on the oracle, and the card has what it wrote."""

import importlib.util
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis.core.paths import data_root
from xgap_analysis.datasets import load_dataset

ROOT = data_root() / "clips"


@pytest.fixture(scope="module")
def measure() -> ModuleType:
    spec = importlib.util.spec_from_file_location("measure_of_clips", ROOT / "measure.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_card_has_the_table_of_the_results(measure: ModuleType) -> None:
    results = measure.read_results()
    table = measure.card_table(results)
    assert f"{measure.START}\n{table}\n{measure.END}" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert table.count("\n") > 20
    assert list(results.columns) == measure.COLUMNS
    assert {"train", "seen", "test"} == set(results["split"])
    assert (results["low"] <= results["value"]).all()
    assert (results["value"] <= results["high"]).all()


def test_chance_is_that_of_drawing_without_replacement(measure: ModuleType) -> None:
    assert measure.by_chance(1, 5, 400) == pytest.approx(5 / 400)
    assert measure.by_chance(2, 1, 400) == pytest.approx(2 / 400)
    rng = np.random.default_rng(0)
    drawn = [(rng.permutation(12)[:3] < 4).any() for _ in range(4000)]
    assert measure.by_chance(4, 3, 12) == pytest.approx(np.mean(drawn), abs=0.03)


def test_the_command_gives_the_known_values_on_the_oracle(measure: ModuleType) -> None:
    data = load_dataset("emoji-clips").split("val").limit(40)
    model = xg.load_model("oracle(motion=1)")
    frames = xg.tokens(model, data.items["video"], "frames", store=None, progress=False)
    made = pd.DataFrame([*measure.retrieval_rows(model, data, frames), *measure.frame_rows(model, data, frames)])
    assert set(made.columns) == set(measure.COLUMNS) - {"model", "split"}

    def value(name: str, scorer: str, n: str) -> float:
        own = made[(made["measure"] == name) & (made["scorer"] == scorer) & (made["n_events"] == n)]
        assert len(own) == 1
        return float(own["value"].iloc[0])

    for n in ("1", "2", "3", "all"):
        assert value("event to clip, R@1", "best frame", n) == 1
        mean = value("event to clip, R@1", "mean of frames", n)
        assert value("event to clip, R@1", "difference", n) == pytest.approx(1 - mean)
        assert value("event to any clip that shows it, R@5", "best frame", n) == 1
        assert value("shuffled control, R@5", "best frame", n) < 0.5
    for n in ("1", "2", "3"):
        assert value("best frame is of the event", "", n) == 1
    assert value("length of the mean frame", "", "1") == pytest.approx(1, abs=1e-6)
    assert value("length of the mean frame", "", "2") > value("length of the mean frame", "", "3")
    assert value("cuts found", "", "2") == value("cuts found", "", "3") == 1
    cuts = made[(made["measure"] == "cuts found") & (made["n_events"] == "3")]
    assert cuts["chance"].iloc[0] == pytest.approx(2 / 11)
