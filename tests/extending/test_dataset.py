"""A dataset of one's own by name: in a study, on the command line, with options and a third modality."""

import json

import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis import cli
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.plugins import load_plugin
from xgap_analysis.datasets import DATASETS, modalities_of
from xgap_analysis.datasets.inventory import datasets


def test_it_is_used_where_datasets_are(plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["--plugin", plugin, "--models", "tiny-untrained", "--datasets", "squares", "squares(size=48)"]
    assert cli.main(["study", *own, "--comparisons", "I-I", "I-T", "--out", "study.parquet"]) == 0
    assert set(xg.main_rows(pd.read_parquet("study.parquet"))["comparison"]) == {"I-I", "I-T"}
    capsys.readouterr()
    assert cli.main(["datasets", "--json"]) == 0
    listed = {row["dataset"]: row for row in json.loads(capsys.readouterr().out)}
    assert listed["squares"]["about"] == "Squares in four colours."
    assert cli.main(["datasets", "squares", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["images"] == 8


def test_options_by_three_notations(plugin: str) -> None:
    load_plugin(plugin)
    sizes = [xg.load_dataset(name).images[0].size for name in ("squares", "squares(size=8)")]
    assert sizes == [(32, 32), (8, 8)]
    assert xg.load_dataset("squares", size=16).images[0].size == (16, 16)


def test_two_sets_of_options_have_two_names_in_tables(plugin: str) -> None:
    load_plugin(plugin)
    for name in ("squares", "squares(size=8)", "squares:8"):
        data = xg.load_dataset(name)
        assert [data.name, data.split("test").name, data.split("test").split("test").name] == [name] * 3
    assert xg.load_dataset("squares(size=32)").name == "squares"  # as it is without
    assert xg.load_dataset("squares", size=16).name == "squares"


def test_a_dataset_that_names_itself_keeps_its_name(plugin: str) -> None:
    load_plugin(plugin)
    assert xg.load_dataset("emoji:de").name == xg.load_dataset("emoji:de").split("test").name == "emoji:de"
    assert xg.load_dataset("emoji(language=de)").name == "emoji:de"
    for name in ("emoji", "emoji:", "emoji:en", "emoji(language=en)"):
        assert xg.load_dataset(name).name == xg.load_dataset(name).split("test").name == "emoji"


def test_the_listing_says_what_makes_items_relevant(plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    load_plugin(plugin)
    rows = {row["dataset"]: row["relevance"] for row in datasets()}
    label_sets = {name: xg.load_dataset(name).default_label_set for name in DATASETS if name.startswith("emoji")}
    assert {name: said.partition(";")[0] for name, said in rows.items() if name in label_sets} == {
        name: f"same {label_set}" for name, label_set in label_sets.items()
    }
    assert rows["squares"] == "by label"


@pytest.mark.parametrize("name", ["emoji", "emoji-scenes", "emoji-clips", "emoji-spoken", "emoji-m3", "emoji-pieces"])
def test_modalities_are_known_before_an_embedded_dataset_is_read(name: str) -> None:
    variants = ("", ":documents", ":twins") if name == "emoji-scenes" else ("",)
    assert {m for v in variants for m in xg.load_dataset(name + v).items} == set(modalities_of(name))


def test_what_is_wrong_is_one_sentence(plugin: str) -> None:
    load_plugin(plugin)
    with pytest.raises(XgapError, match="unknown option of squares 'sise'; nearest names: size"):
        xg.load_dataset("squares", sise=3)
    with pytest.raises(XgapError, match="unknown dataset 'square'; nearest names: squares"):
        xg.load_dataset("square")
    with pytest.raises(XgapError, match="one word"):
        xg.register_dataset("my squares")
    with pytest.raises(XgapError, match="there is a published dataset named 'oxford-pets' already"):
        xg.register_dataset("oxford-pets")
    with pytest.raises(XgapError, match="dataset 'four' must be a function, not 4"):
        xg.register_dataset("four")(4)  # type: ignore[arg-type]
    xg.register_dataset("nothing")(lambda: 4)
    with pytest.raises(XgapError, match="gave int; it gives a Dataset"):
        xg.load_dataset("nothing")
    with pytest.raises(XgapError, match="dataset 'nothing' has no variants"):
        xg.load_dataset("nothing:de")
