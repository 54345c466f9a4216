"""A correction of one's own: in a study, on the command line, in an explorer."""

import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis import cli, widgets
from xgap_analysis.core.plugins import load_plugin


def test_it_is_used_where_corrections_are(plugin: str, small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    own = ["--plugin", plugin, "--comparisons", "I-I", "--corrections", "none", "drop-first", "drop-first(n=100)"]
    assert cli.main(["study", *small, *own]) == 0
    rows = xg.main_rows(pd.read_parquet("study.parquet")).set_index("correction")["value"]
    assert rows["drop-first"] == pytest.approx(rows["none"], abs=1e-6)
    assert rows["drop-first(n=100)"] != pytest.approx(rows["none"], abs=1e-6)
    capsys.readouterr()
    assert cli.main(["corrections"]) == 0
    assert "drop-first" in capsys.readouterr().out


def test_an_explorer_offers_it(plugin: str) -> None:
    load_plugin(plugin)
    data = xg.load_dataset("emoji").split("val").limit(3)
    board = widgets.VariantBoard(xg.Study(["tiny-untrained"], [data], ["I-I"], progress=False))
    assert "drop-first" in board.choices.names("corrections")
