"""A view of one's own: in a study, on the command line, in an explorer."""

import json

import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis import cli, widgets
from xgap_analysis.core.plugins import load_plugin


def test_it_is_used_where_views_are(plugin: str, small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    own = ["--plugin", plugin, "--comparisons", "I-I", "noisy-I", "--axes", "noisy.sigma=0.0,5.0"]
    assert cli.main(["study", *small, *own]) == 0
    rows = xg.main_rows(pd.read_parquet("study.parquet")).set_index(["comparison", "noisy.sigma"])["value"]
    assert rows["noisy-I", 0.0] == pytest.approx(rows.xs("I-I", level=0).iloc[0], abs=1e-6)
    assert rows["noisy-I", 5.0] < rows["noisy-I", 0.0]
    capsys.readouterr()
    assert cli.main(["views", "--json"]) == 0
    listed = {row["view"]: row for row in json.loads(capsys.readouterr().out)}
    assert listed["noisy"]["about"] == "Image features with Gaussian noise."


def test_an_explorer_shows_it(plugin: str) -> None:
    load_plugin(plugin)
    data = xg.load_dataset("emoji").split("val").limit(3)
    evaluation = next(xg.Study(["tiny-untrained"], [data], ["I-I", "noisy-I"], progress=False).evaluations())
    explorer = widgets.NeighbourExplorer(evaluation, ["I-I", "noisy-image"])
    assert explorer.error == ""
    assert any("noisy-image" in name for name in explorer.rankings)
