"""The one folder of results: of notebooks, explorers and the command line."""

from pathlib import Path

import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis.cli.planned import table_file
from xgap_analysis.core.paths import results_folder

ROOT = Path(__file__).parents[2]


def test_everything_in_a_checkout_goes_to_one_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XGAP_RESULTS", raising=False)
    for inside, expected in ((".", "results"), ("notebooks", "../results"), ("docs/how-to", "../../results")):
        monkeypatch.chdir(ROOT / inside)
        assert results_folder() == Path(expected)
        assert results_folder().resolve() == ROOT / "results"


def test_elsewhere_it_is_in_the_current_folder_or_where_the_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XGAP_RESULTS", raising=False)
    monkeypatch.chdir(tmp_path)
    assert results_folder() == Path("results")
    monkeypatch.setenv("XGAP_RESULTS", str(tmp_path / "mine"))
    assert results_folder() == tmp_path / "mine"


def test_a_table_of_a_notebook_and_one_of_the_command_line_lie_beside_one_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XGAP_RESULTS", "mine")
    saved = xg.save_table(pd.DataFrame({"value": [1.0]}), "study.parquet")
    assert table_file(None, overwrite=False) == saved.with_name("study-2.parquet")
