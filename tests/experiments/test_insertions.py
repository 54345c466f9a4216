"""Inserted attributes on embedded scenes: a model that reads them, and the table."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis.datasets.insertions import Described, described, perturb
from xgap_analysis.experiments.insertions import falsified, image_cosines, insertion_table

SCENES = Path(__file__).parents[2] / "data" / "scenes"


def test_false_attributes_are_of_the_same_kind_and_never_true() -> None:
    rows = described(xg.load_dataset("emoji-scenes").split("val").texts)[:60]
    for row, false in zip(rows, falsified(rows), strict=True):
        for own, other in zip(row.attributes, false.attributes, strict=True):
            assert own != other
            assert ({own, other} == {"large", "small"}) or not {own, other} & {"large", "small"}
    assert falsified(rows, seed=1) != falsified(rows) == falsified(rows)
    kind = ("blue", "red", "black")
    named = [Described(f"{k}", "i", "a blue heart", ["blue heart"], ["red"]) for k in range(30)]
    assert {row.attributes[0] for row in falsified(named, [kind])} == {"black"}  # a blue heart is no "blue blue heart"
    assert falsified([Described("t", "i", "a blue heart", ["blue heart"], ["red"])], [kind[:2]])[0].attributes == [
        "blue"
    ]
    with pytest.raises(xg.XgapError, match="attribute 'furry' of caption 't' is of no kind"):
        falsified([Described("t", "i", "a bear", ["bear"], ["furry"])])


@pytest.fixture(scope="module")
def data() -> xg.Dataset:
    """Twelve scenes to evaluate, twenty to fit on."""
    val = xg.load_dataset("emoji-scenes").split("val")
    return replace(val.limit(12), splits={"train": lambda: val.limit(20)})


@pytest.mark.filterwarnings("ignore:.*captions are longer than")
def test_the_table_equals_its_parts_by_another_way(data: xg.Dataset) -> None:
    model = xg.load_model("tiny")
    table = insertion_table(model, data, ["least-like"], ["none", "center"], both=False)
    assert table["correction"].unique().tolist() == ["none", "center"]
    assert (table["changed"] == 1).all()
    rows = described(data.texts)
    said = perturb(rows, "least-like", image_cosines=image_cosines(model, data.images))
    tokenize = model.towers["text"].tokenize.silent
    words = tokenize.tokenizer(list(said), add_special_tokens=True).input_ids
    kept = [k for k, ids in enumerate(words) if len(ids) <= 16]  # a changed caption is the longer one
    assert 0 < len(kept) < len(rows)
    assert (table["cut"] == len(rows) - len(kept)).all()
    images = xg.encode(model, data.images, progress=False).vectors.double().numpy()
    place = {item: k for k, item in enumerate(data.images.ids)}
    own = [place[rows[k].image] for k in kept]
    texts = {}
    for name, captions in (("before", [row.text for row in rows]), ("after", said)):
        found = xg.encode(model, xg.Texts([rows[k].id for k in kept], [captions[k] for k in kept]), progress=False)
        texts[name] = found.vectors.double().numpy()
    raw = table[table["correction"] == "none"].set_index("quantity")
    for name, vectors in texts.items():
        scores = vectors @ images.T
        ranks = [1 + int((row > row[k]).sum()) for row, k in zip(scores, own, strict=True)]
        assert raw.loc["mrr", name] == pytest.approx(np.mean(1 / np.array(ranks)))
        assert raw.loc["I-T", name] == pytest.approx(
            np.mean([row[k] for row, k in zip(scores, own, strict=True)]), abs=1e-6
        )
    assert raw.loc["T-T", "after"] == pytest.approx((texts["before"] * texts["after"]).sum(1).mean(), abs=1e-6)


@pytest.mark.filterwarnings("ignore:.*captions are longer than")
def test_a_correction_of_scores_is_refused(data: xg.Dataset) -> None:
    with pytest.raises(xg.XgapError, match="changes scores and gives no features"):
        insertion_table("tiny", data, ["random"], ["sinkhorn"], both=False)


def test_the_words_of_the_data_card_follow_from_the_committed_table() -> None:
    table = pd.read_csv(SCENES / "insertions.csv")
    raw = table[table["correction"] == "none"]
    word = raw.set_index(["images", "split", "attributes", "pick", "quantity"])["verdict"]
    true = raw[(raw["attributes"] == "true")]
    assert (true.loc[true["quantity"] == "I-T beyond movement", "verdict"] == "higher").all()
    for quantity in ("mrr", "I-T"):
        assert word["regions", "seen", "true", "random", quantity] == "supported"
        assert word["regions", "test", "true", "random", quantity] == "inconclusive"
        assert word["regions", "seen", "false", "random", quantity] == "supported"
    assert word["regions", "test", "false", "random", "I-T"] == "supported"
    (fall,) = (
        raw[(raw["images"] == "regions") & (raw["split"] == "test") & (raw["attributes"] == "false")]
        .query("quantity == 'mrr'")
        .to_dict("records")
    )
    assert fall["high"] < 0
    assert (fall["verdict"], fall["reason"]) == ("inconclusive", "adjusted p not below 0.05")
    for split in ("seen", "test"):
        assert word["regions", split, "false", "random", "I-T beyond movement"] == "inconclusive"
        for quantity in ("mrr", "I-T", "I-T over others"):
            assert word["regions", split, "true after false", "random", quantity] == "higher"
    whole = true[(true["images"] != "regions") & (true["quantity"] == "mrr")]
    assert whole["verdict"].eq("inconclusive").all()
    assert (whole["before"] < 0.25).all()


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script that wrote the committed table."""
    spec = importlib.util.spec_from_file_location("insertions_of_scenes", SCENES / "insertions.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_the_table_of_the_data_card_is_the_committed_one(script: ModuleType) -> None:
    card = (SCENES / "README.md").read_text(encoding="utf-8")
    made = script.card(pd.read_csv(SCENES / "insertions.csv"))
    assert f"{script.START}\n{made}\n{script.END}" in card


@pytest.mark.filterwarnings("ignore:.*captions are longer than")
def test_committed_rows_are_those_that_the_package_computes_today(script: ModuleType) -> None:
    """Of regions of the split `test`, native: values, intervals, and p-values of the test that stands in the docs."""
    of_regions, rows = script.of_regions(xg.load_dataset("emoji-scenes:single").split("test"))
    made = insertion_table("tiny", of_regions, script.PICKS[:1], rows=rows)
    table = pd.read_csv(SCENES / "insertions.csv")
    kept = table[(table["images"] == "regions") & (table["split"] == "test") & (table["correction"] == "none")]
    key = ["attributes", "pick", "quantity"]
    numbers = ["before", "after", "change", "low", "high", "p_value", "p_adjusted", "n", "effective_groups"]
    made, kept = (part.set_index(key)[numbers] for part in (made, kept))
    pd.testing.assert_frame_equal(made, kept, check_dtype=False, atol=2e-3, rtol=0)
