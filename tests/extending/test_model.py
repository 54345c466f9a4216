"""A model of one's own by name: in a study, on the command line, with options."""

import json

import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis import cli
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.plugins import load_plugin


def test_it_is_used_where_models_are(plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["--plugin", plugin, "--models", "colours", "colours(power=2.0)", "--split", "val", "--limit", "3"]
    assert cli.main(["study", *own, "--comparisons", "I-I", "--out", "study.parquet"]) == 0
    rows = xg.main_rows(pd.read_parquet("study.parquet")).set_index("model")["value"]
    assert set(rows.index) == {"colours", "colours(power=2.0)"}
    assert rows.between(0, 1).all()
    capsys.readouterr()
    assert cli.main(["models", "--json"]) == 0
    listed = {row["model"]: row for row in json.loads(capsys.readouterr().out)}
    assert listed["colours"]["description"] == "The mean colour of an image."


def test_what_is_wrong_is_one_sentence(plugin: str) -> None:
    load_plugin(plugin)
    with pytest.raises(XgapError, match="unknown option of colours 'pover'; nearest names: power"):
        xg.load_model("colours(pover=2)")
    with pytest.raises(XgapError, match="unknown model 'colour'; nearest names: colours"):
        xg.load_model("colour")
    with pytest.raises(XgapError, match="has no parameter precision"):
        xg.load_model("colours", precision="bf16")
    with pytest.raises(XgapError, match="takes options by name"):
        xg.load_model("colours(image)")
    with pytest.raises(XgapError, match="one word"):
        xg.register_model("my/colours")
    with pytest.raises(XgapError, match="model 'three' must be a function, not 3"):
        xg.register_model("three")(3)  # type: ignore[arg-type]
    xg.register_model("nothing")(lambda: 3)
    with pytest.raises(XgapError, match="gave int; it gives a Model, or an object with encode"):
        xg.load_model("nothing")
