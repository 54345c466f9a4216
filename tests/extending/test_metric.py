"""A metric of one's own: a column of a study and its main measure, from the command line."""

import pandas as pd

import xgap_analysis as xg
from xgap_analysis import cli


def test_it_is_used_where_metrics_are(plugin: str, small: list[str]) -> None:
    own = ["--plugin", plugin, "--comparisons", "T-I", "--metrics", "top-score(k=2)", "--main", "top-score(k=2)"]
    assert cli.main(["study", *small, *own]) == 0
    table = pd.read_parquet("study.parquet")
    assert "ap" in set(table["metric"])
    main = xg.main_rows(table)
    assert list(main["metric"]) == ["top-score(k=2)"]
    assert -1 <= main["value"].iloc[0] <= 1
