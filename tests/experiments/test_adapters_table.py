"""The table of adapters: which are in it, on which budget, and what the shipped numbers must be whatever was found."""

from pathlib import Path

import numpy as np
import pytest

import xgap_analysis as xg
from xgap_analysis import Recipe
from xgap_analysis.core.registry import options_of
from xgap_analysis.experiments.ablations import ablate, changes
from xgap_analysis.experiments.contrasts import contrasts
from xgap_analysis.experiments.recipes import ABLATIONS, ADAPTERS, ablation, quick
from xgap_analysis.models.adaptation import ADAPTERS as REGISTERED

CHOSEN = ABLATIONS["adapters"]
OF_TEXT = ("grounded", "matching")  # text towers of their own, which cannot be inverted
KEY = ["setting", "seed", "step"]


def named(setting: str) -> str:
    """The registered name of a setting's adapter; nothing where it has none."""
    return str(ADAPTERS[setting].get("adapter", "")).partition("(")[0]


def test_every_adapter_that_needs_no_language_model_is_in_it() -> None:
    alone = {name for name in REGISTERED if "language" not in options_of(REGISTERED[name].build, 1)}
    assert {named(setting) for setting in ADAPTERS} - {""} == alone


def test_all_settings_see_the_same_data_for_as_many_steps() -> None:
    for name, own in ADAPTERS.items():
        recipe = Recipe(**{**vars(CHOSEN.recipe), **own})
        assert (recipe.n_views, recipe.n_captions, recipe.steps) == (1, 2, CHOSEN.checkpoints[-1]), name
        assert (recipe.batch, recipe.towers, recipe.augmentation) == (32, "both", "crop"), name
    plain = [own.get("objective") for name, own in ADAPTERS.items() if not name.endswith(", own")]
    assert plain == [None] * len(plain)  # CLIP's, as the common recipe has it


def test_what_turned_is_left_out_where_the_dimensions_are_others() -> None:
    model, data = xg.load_model("tiny-untrained"), xg.load_dataset("emoji").split("test").limit(4)
    there = changes(model, xg.adapted(model, "head"), data)
    assert {"rotation_image", "bend_text", "cka_image", "deviation"} <= there.keys()
    assert there["rotation_image"] == pytest.approx(0, abs=0.1)
    assert changes(model, xg.adapted(model, "matching(dim=7)"), data).keys() == {
        "cka_image", "knn_image", "cka_text", "knn_text",
    }  # fmt: skip


@pytest.mark.slow
def test_a_run_has_what_its_model_can_have(tmp_path: Path) -> None:
    """No inversion with a text tower of its own, and none before the last step; the base stays where it was."""
    settings = {"base": ADAPTERS["base"], "matching": {"adapter": "matching(dim=8, hidden=4)"}}
    table = ablate(quick(ablation("adapters", settings=settings, control="base")), folder=tmp_path, progress=False)
    held = {key: set(part["quantity"]) for key, part in table.groupby(["setting", "step"])}
    assert held["base", 2] - held["base", 0] == {"OTI-I", "OTI-I - I-I"}
    assert held["matching", 2] == held["matching", 0] == held["base", 0] - {
        "rotation_image", "rotation_text", "bend_image", "bend_text", "deviation",
    }  # fmt: skip
    assert not table.duplicated([*KEY, "quantity"]).any()
    value = table.set_index(["setting", "step", "quantity"])["value"]
    shared = sorted(held["base", 0])
    assert value["base", 2].loc[shared].equals(value["base", 0].loc[shared])
    assert value["matching", 2, "modality_gap"] != value["matching", 0, "modality_gap"]


# What the shipped table must hold


def test_the_shipped_table_has_every_run_once_and_what_each_model_can_have() -> None:
    table = xg.embedded_table("adapters")
    assert not table.duplicated([*KEY, "quantity"]).any()
    runs = table.groupby(KEY).size()
    seeds = sorted(set(table["seed"]))
    assert seeds == list(CHOSEN.seeds)[: len(seeds)]
    assert set(runs.index) == {(name, seed, step) for name in ADAPTERS for seed in seeds for step in CHOSEN.checkpoints}
    assert set(table["ablation"]) == {"adapters"}
    last = table[table["step"] == CHOSEN.checkpoints[-1]]
    for name, quantities in last.groupby("setting")["quantity"]:
        assert {"I-I", "T-T", "I-T", "T-I", "zero-shot", "modality_gap", "misalignment_image"} <= set(quantities), name
        assert ("OTI-I" in set(quantities)) == (named(str(name)) not in OF_TEXT), name


def test_in_the_shipped_table_the_base_and_what_starts_as_it_are_the_base() -> None:
    table = xg.embedded_table("adapters").set_index(["setting", "step", "quantity", "seed"])["value"].sort_index()
    start = table["base", 0].unstack()
    after = table["base", CHOSEN.checkpoints[-1]].unstack().loc[start.index]
    assert after.equals(start)
    assert np.ptp(start.to_numpy(), axis=1).max() < 1e-9  # whatever the seed
    for name in ("head", "CLIP-MoE"):
        assert np.abs(table[name, 0].unstack().loc[start.index] - start).to_numpy().max() < 0.05, name
    moved = contrasts(xg.embedded_table("adapters"), "base", ["modality_gap"]).set_index("setting")["change"]
    assert (moved.abs() > 0).all()  # all but the base were trained


def test_what_notebook_9_says_of_it_is_in_the_table() -> None:
    changes = contrasts(xg.embedded_table("adapters"), "base").set_index(["quantity", "setting"])
    images, between, gap = (changes.loc[name] for name in ("misalignment_image", "I-T", "modality_gap"))
    assert not (images["queries_high"] < 0).any()
    beside = ["head", "CLIP-MoE", "Long-CLIP", "Long-CLIP, own", "MaPLe"]
    assert (between.loc[beside, "change"].abs() < 0.02).all()
    assert (between.loc[beside, ["queries_low", "queries_high"]].prod(axis=1) < 0).all()  # zero is between
    assert between.loc["CLIP", "queries_low"] < between.loc["CLIP", "change"] < 0
    table = xg.embedded_table("adapters").query("quantity == 'modality_gap' and step == 40")
    wide = table.pivot(index="seed", columns="setting", values="value")
    assert len(wide) == 2
    assert (wide["CLIP"] > wide["base"]).all()
    for name in ("grounded", "matching"):
        assert gap.loc[name, "value"] > 2 * gap.loc[name, "control"]
        assert abs(changes.loc[("I-I", name), "change"]) < 0.05
    assert gap.loc["VDR", "change"] < 0
    assert changes.loc[("I-I", "VDR"), "queries_high"] < 0
    gain = changes.loc["OTI-I - I-I"]
    lexical = gain.index.str.startswith(("VDR", "LexVLA"))
    assert (gain.loc[lexical, "queries_high"] < 0).all()
    assert (gain.loc[lexical, "p_adjusted"] < 0.05).all()
    assert (gain.loc[~lexical, "p_adjusted"] > 0.05).all()
