"""Result tables for the eye."""

import numpy as np
import pandas as pd

from xgap_analysis.experiments.tables import as_markdown, as_text, main_results, summary

ROW = {"model": "m", "comparison": "I-I", "correction": "none", "metric": "ap", "main": True, "baseline": "I-I"}


def test_numbers_stand_with_their_intervals() -> None:
    table = pd.DataFrame(
        [
            {**ROW, "value": 0.5, "low": 0.4, "high": 0.6, "n_queries": 7},
            {**ROW, "main": False, "value": 0.9, "low": 0.9, "high": 0.9, "n_queries": 7},
            {**ROW, "value": 0.25, "low": np.nan, "high": np.nan, "n_queries": 1, "difference": -0.25}
            | {"difference_low": -0.5, "difference_high": 0.125, "verdict": "inconclusive", "transductive": True}
            | {
                "p_value": 0.104,
                "p_adjusted": 0.184,
                "n_groups": 10,
                "reason": "10 effective groups, at least 20 needed",
            },
        ]
    )
    first, second = main_results(table)
    assert (first["value"], first["difference"], first["vs"], first["verdict"]) == ("0.500 [0.400, 0.600]", "", "", "")
    assert second["value"] == "0.250"
    assert (second["difference"], second["vs"]) == ("-0.250 [-0.500, +0.125]", "I-I")
    assert (second["p"], second["p adjusted"], second["groups"]) == ("0.1040", "0.1840", "10")
    assert (second["verdict"], second["reason"]) == ("inconclusive", "10 effective groups, at least 20 needed")
    assert second["correction"] == "none (transductive)"
    assert first.keys() == second.keys()


def test_a_table_of_something_else_is_shown_as_far_as_it_goes() -> None:
    assert main_results(pd.DataFrame({"model": ["m"], "value": [0.5]}))[0]["value"] == "0.500"
    assert main_results(pd.DataFrame()) == []


def test_a_summary_leaves_out_what_all_rows_share() -> None:
    numbers = {"value": 0.5, "low": 0.41234, "high": 0.6, "n_queries": 7}
    table = pd.DataFrame([{**ROW, **numbers}, {**ROW, **numbers, "comparison": "OTI-I", "metric": "other"}])
    shown = summary(table, digits=4)
    assert list(shown.index) == ["I-I", "OTI-I"]
    assert list(shown.columns) == [
        *("metric", "value", "difference", "vs", "p", "p adjusted", "verdict", "reason", "queries", "groups")
    ]
    assert shown.loc["I-I", "value"] == "0.5000 [0.4123, 0.6000]"
    assert len(summary(pd.DataFrame())) == 0


def test_columns_line_up() -> None:
    text = as_text([{"a": "long word", "b": True}, {"a": None, "b": "two\nlines"}])
    assert text.splitlines() == ["a          b", "long word  yes", "           two lines"]
    assert as_text([]) == "(nothing)"


def test_a_page_shows_words_with_their_index() -> None:
    words = pd.DataFrame({"I-T": ["0.5", "+0.1"], "gap": ["0.2", ""]}, index=pd.Index(["CLIP", "mine"], name="recipe"))
    lines = ["| recipe | I-T | gap |", "| --- | --- | --- |", "| CLIP | 0.5 | 0.2 |", "| mine | +0.1 |  |"]
    assert as_markdown(words).splitlines() == lines
