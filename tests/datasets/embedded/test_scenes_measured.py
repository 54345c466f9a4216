"""The measured tables of `emoji-scenes`: known values on the oracle, and a card that has what the command wrote."""

import importlib.util
import json
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis.core.paths import data_root

ROOT = data_root() / "scenes"
CARD = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def measure() -> ModuleType:
    spec = importlib.util.spec_from_file_location("measure_of_scenes", ROOT / "measure.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def oracle() -> xg.Model:
    return xg.load_model("oracle")


def values(rows: object) -> dict[tuple[str, str], float]:
    """Value by measure and way; each stands once."""
    table = pd.DataFrame(list(rows)).set_index(["measure", "by"])  # type: ignore[call-overload]
    assert table.index.is_unique
    assert (table["low"] <= table["value"] + 1e-12).all()
    assert (table["value"] <= table["high"] + 1e-12).all()
    return table["value"].to_dict()


def test_the_card_has_the_tables_of_the_results(measure: ModuleType) -> None:
    results = pd.read_csv(ROOT / "results.csv")
    assert list(results.columns) == measure.COLUMNS
    assert not results.duplicated(["model", "table", "split", "measure", "by"]).any()
    for table in ("scenes", "pairs", "composed", "documents"):
        made = measure.card_table(results, table)
        assert f"{measure.START.format(table)}\n{made}\n{measure.END.format(table)}" in CARD
        assert made.count("\n") > 10


def test_the_card_has_the_counts_of_the_files() -> None:
    order = json.loads((data_root() / "emoji" / "pictures.json").read_text())
    concepts = json.loads((data_root() / "emoji" / "concepts.json").read_text())
    colours = json.loads((ROOT / "colours.json").read_text())
    words = {"red", "yellow", "green", "blue", "purple", "black", "white"}
    letters = [(c, x) for artist, own in colours.items() for c, x in zip(order[artist], own, strict=True)]
    named = [x for c, x in letters if words & set(concepts[c]["name"].lower().replace(":", " ").split())]
    with_colour = sum(x not in ".x" for _, x in letters)
    assert f"({with_colour:,} of {len(letters):,} drawings)" in CARD.replace("\n", " ")
    agree = sum(x not in ".x" for x in named)
    assert f"{len(named)} drawings have one of these words in their names; for {agree} the" in CARD.replace("\n", " ")
    assert sum(x == "x" for x in named) == len(named) - agree
    short = [own["split"] for own in concepts.values() if len(own["name"].split()) <= 2]
    counts = f"({short.count('train')} training concepts, {short.count('test')} of test)"
    assert counts in CARD.replace("\n", " ")


def test_shuffled_controls_are_at_chance_and_regions_are_far_above_the_whole() -> None:
    """What the data card claims of `tiny`, whatever model lies under that name."""
    results = pd.read_csv(ROOT / "results.csv")
    tiny = results[results["model"] == "tiny"]
    control = tiny[tiny["measure"].str.contains("shuffled")]
    assert len(control) == 6
    assert (control["low"] <= control["chance"]).all()
    assert (control["value"] < 3 * control["chance"]).all()
    seen = tiny[(tiny["split"] == "seen") & (tiny["measure"] == "caption to scene, R@1")].set_index("by")
    assert seen.loc["regions, maximum per sub-caption", "low"] > seen.loc["whole image, list caption", "high"]


def test_captions_and_scenes_on_the_oracle(measure: ModuleType, oracle: xg.Model) -> None:
    data = xg.load_dataset("emoji-scenes").split("val").limit(40)
    found = values([*measure.retrieval_rows(oracle, data), *measure.region_rows(oracle, data)])
    for by in ("whole image, list caption", "regions, maximum per sub-caption", "patches, maximum per sub-caption"):
        assert found["caption to scene, R@1", by] == 1
    assert found["caption to scene, shuffled control, R@1", "regions, maximum per sub-caption"] < 0.2
    style = values(measure.retrieval_rows(xg.load_model("oracle(artist=3)"), data))
    assert style["scene to a scene of its artist, R@1", "mean of regions"] > 0.9  # but for an artist's only scene
    assert found["sub-caption to a region of its concept, R@1", "region"] == 1


def test_single_things_on_the_oracle(measure: ModuleType, oracle: xg.Model) -> None:
    found = values(measure.single_rows(oracle, xg.load_dataset("emoji-scenes:single").split("test")))
    assert {value for (name, _), value in found.items() if name.endswith("R@1")} == {1.0}


def test_pairs_on_the_oracle(measure: ModuleType) -> None:
    data = xg.load_dataset("emoji-scenes:attributes").split("test")
    blind, seeing = (
        values(measure.pair_rows(xg.load_model(name), data, "attributes"))
        for name in ("oracle", "oracle(size=0.5, colour=0.5)")
    )
    by = "regions, maximum per sub-caption"
    assert blind["replaced size: group score", by] == 0
    assert seeing["replaced size: group score", by] == 1
    assert blind["replaced colour: own caption above the other", by] == pytest.approx(
        0.5, abs=0.15
    )  # ties, to rounding
    assert seeing["replaced colour: own caption above the other", by] == 1


def test_composed_queries_on_the_oracle(measure: ModuleType, oracle: xg.Model) -> None:
    found = values(measure.composed_rows(oracle, xg.load_dataset("emoji-scenes:composed").split("seen")))
    assert found["composed, R@1", "part replaced, maximum per part"] == 1
    assert found["composed, R@1", "reference alone"] < 1
    assert found["composed, AP", "mean of regions + new - old"] > found["composed, AP", "mean of regions alone"]


def test_documents_on_the_oracle(measure: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SCENES", 60)
    found = values(measure.document_rows(xg.load_model("oracle(g=2)"), "emoji-scenes", "seen", (0, 50, 100)))
    lengths = np.array([found["length of the mean of sections", f"{share} % texts"] for share in (0, 50, 100)])
    assert lengths[1] < lengths[0]
    assert lengths[1] < lengths[2]  # a mean of images and texts lies between them
    assert found["caption to document, R@1", "100 % texts"] > 0.95  # a document of fewer sections may be nearer
    assert found["texts in the first 10 documents", "50 % texts"] > 0.7
    assert found["texts in the first 10 documents", "50 % texts, centred"] < 0.65
    assert found["caption to section, R@1", "100 % texts"] == 1


def test_what_the_card_says_of_documents_is_in_the_table() -> None:
    results = pd.read_csv(ROOT / "results.csv")
    own = results[(results["table"] == "documents") & (results["model"] == "tiny")]
    of = own.set_index(["split", "measure", "by"])
    for split in ("seen", "test"):
        for share in (25, 50, 75):
            raw, centred = (
                of.loc[split, "texts in the first 10 documents", f"{share} % texts{how}"] for how in ("", ", centred")
            )
            assert raw["low"] > raw["chance"]  # the share of texts in all documents
            if share < 75:
                assert centred["high"] < raw["low"]
            else:  # hardly anything to take away
                assert raw["low"] <= centred["value"] <= raw["high"]
        for share in (0, 25, 50, 75, 100):
            raw, centred = (
                of.loc[split, "caption to document, R@1", f"{share} % texts{how}"] for how in ("", ", centred")
            )
            assert raw["low"] <= centred["value"] <= raw["high"]
            stages = [
                of.loc[split, f"caption to section{s}, R@1", f"{share} % texts"]
                for s in ("", " of the first 10 documents")
            ]
            assert stages[1]["value"] <= stages[0]["value"]
