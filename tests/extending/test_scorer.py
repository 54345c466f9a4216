"""A scorer of one's own: in a study, on the command line, in an explorer, with sets of vectors."""

import pandas as pd
import pytest
import torch

import xgap_analysis as xg
from xgap_analysis import cli, widgets
from xgap_analysis.core.plugins import load_plugin


def test_it_is_used_where_scorers_are(plugin: str, small: list[str]) -> None:
    own = ["--plugin", plugin, "--comparisons", "I-I", "--scorers", "cosine", "distance(power=2.0)"]
    assert cli.main(["study", *small, *own]) == 0
    rows = xg.main_rows(pd.read_parquet("study.parquet")).set_index("scorer")["value"]
    assert rows["distance(power=2.0)"] == pytest.approx(rows["cosine"], abs=1e-6)  # on unit rows both rank alike


def test_it_takes_sets_of_vectors(plugin: str) -> None:
    load_plugin(plugin)
    sets = xg.TokenFeatures(torch.eye(3), [0, 2, 3], ["a", "b"], "image", "image")
    assert xg.score(sets, sets, scorer="first-token").tolist() == [[1, 0], [0, 1]]


def test_an_explorer_offers_it(plugin: str) -> None:
    load_plugin(plugin)
    data = xg.load_dataset("emoji").split("val").limit(3)
    board = widgets.VariantBoard(xg.Study(["tiny-untrained"], [data], ["I-I"], progress=False))
    assert "distance" in board.choices.names("scorers")
