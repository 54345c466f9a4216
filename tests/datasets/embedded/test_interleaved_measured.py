"""The measured table of sound among frames: known values on the oracle, and a card that has what the command wrote."""

import importlib.util
from types import ModuleType

import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis.core.paths import data_root

ROOT = data_root() / "spoken"
CARD = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = pd.read_csv(ROOT / "interleaved.csv")


@pytest.fixture(scope="module")
def measure() -> ModuleType:
    spec = importlib.util.spec_from_file_location("interleaved_measured", ROOT / "interleaved.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_card_has_the_table_of_the_results(measure: ModuleType) -> None:
    assert list(RESULTS.columns) == measure.COLUMNS
    assert not RESULTS.duplicated(["split", "measure", "by"]).any()
    assert f"<!-- INTERLEAVED -->\n{measure.card_table(RESULTS)}<!-- /INTERLEAVED -->" in CARD


def test_what_the_card_says_is_in_the_table(measure: ModuleType) -> None:
    of = RESULTS.set_index(["split", "measure", "by"]).sort_index()
    for split in measure.SPLITS:
        gaps = of.loc[(split, "gap to the captions of clips")]["value"]
        assert gaps.idxmin() in ("50 % sound", "60 % sound")
        recall = of.loc[(split, "event to clip, R@5")]
        for alone in ("0 % sound", "100 % sound"):
            assert recall.loc["50 % sound", "low"] > recall.loc[alone, "value"]
        cuts = of.loc[(split, "cuts found")]
        assert cuts.loc["sound", "value"] == 1
        assert cuts.loc["frames", "low"] > 0.8 > cuts.loc["even spans", "high"]


def test_on_the_oracle_all_cuts_are_found(measure: ModuleType) -> None:
    rows = pd.DataFrame(measure.rows_of(xg.load_model("oracle"), "test", 16)).set_index(["measure", "by"])["value"]
    for name in ("frames", "sound"):
        assert rows["cuts found", name] == rows["mAP at IoU .5 to .9", name] == 1
    assert rows["mAP at IoU .5 to .9", "even spans"] < 1
    gaps = [rows["gap to the captions of clips", f"{rate} % sound"] for rate in (0, 50, 100)]
    assert gaps[1] < min(gaps[0], gaps[2])  # a mean of two cones lies between them, and nearer to a third
