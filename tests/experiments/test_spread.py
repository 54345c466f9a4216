"""The same recipe with several seeds: the spread follows from the runs, by the command too."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import xgap_analysis as xg
from xgap_analysis import cli
from xgap_analysis.experiments.recipes import Ablation
from xgap_analysis.experiments.spread import repeated, spread, spread_words

SHAPE = {"steps": 2, "batch": 4, "learning_rate": 1e-2, "warmup": 1, "augmentation": "none"}
SMALL = xg.Recipe(**SHAPE)


def colours(split: str, splits: dict[str, Any]) -> xg.Dataset:
    labels = range(6) if split == "train" else range(6, 10)
    images = [f"{label}/{take}" for label in labels for take in range(2)]
    texts = [f"{label}/text-{k}" for label in labels for k in range(2)]

    def image(item: str) -> Image.Image:
        label, take = map(int, item.split("/"))
        return Image.new("RGB", (64, 64), (label * 20, 200 - label * 20, 90 + 20 * take))

    return xg.Dataset(
        "colours",
        split,
        xg.Images(tuple(images), image, f"colours-{split}"),
        xg.Texts(tuple(texts), tuple(f"colour {item}" for item in texts)),
        labels={"colour": {item: item.split("/")[0] for item in (*images, *texts)}},
        splits=splits,
    )


@pytest.fixture(scope="module")
def data() -> xg.Dataset:
    splits: dict[str, Any] = {}
    splits |= {name: lambda name=name: colours(name, splits) for name in ("train", "test")}
    return colours("train", splits)


def test_the_spread_is_its_formula() -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"setting": setting, "seed": seed, "step": step, "quantity": quantity, "value": rng.normal()}
        for setting in "ab" for seed in range(5) for step in (0, 9) for quantity in ("I-T", "gap")
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    table.loc[(table["setting"] == "b") & (table["quantity"] == "gap") & (table["seed"] == 4), "value"] = math.nan
    found = spread(table).set_index(["setting", "quantity"])
    for (setting, quantity), row in found.iterrows():
        own = table[(table["setting"] == setting) & (table["quantity"] == quantity) & (table["step"] == 9)][
            "value"
        ].dropna()
        assert row["mean"] == pytest.approx(own.mean())
        assert row["of_two"] ** 2 == pytest.approx(2 * own.var())
        pairs = [(a - b) ** 2 for a in own for b in own]  # the mean square of the difference of two distinct runs
        assert row["of_two"] ** 2 == pytest.approx(sum(pairs) / (len(own) * (len(own) - 1)))
        assert (row["least"], row["greatest"], row["seeds"]) == (own.min(), own.max(), len(own))
    assert found.loc[("b", "gap"), "seeds"] == 4
    words = spread_words(spread(table))
    assert [row["setting"] for row in words] == ["a", "a", "b", "b"]


def test_one_seed_has_no_spread() -> None:
    one = pd.DataFrame([{"setting": "a", "seed": 0, "step": 1, "quantity": "I-T", "value": 0.5}])
    row = spread(one).iloc[0]
    assert row["mean"] == 0.5
    assert math.isnan(row["std"])
    assert math.isnan(row["low"])
    (words,) = spread_words(spread(one))
    assert "setting" not in words
    assert words["mean over seeds (95 %)"] == "0.500"


def test_recipes_become_settings_that_differ_in_all_but_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Ablation] = []
    monkeypatch.setattr("xgap_analysis.experiments.spread.ablate", lambda chosen, **how: seen.append(chosen))
    forms = {"hardest": "vse", "all": dataclasses.replace(xg.recipe("vse(negatives=all)"), seed=7)}
    repeated(forms, seeds=(3, 4), comparisons=("I-T",))
    (chosen,) = seen
    assert (chosen.seeds, chosen.checkpoints, chosen.comparisons) == ((3, 4), (1000,), ("I-T",))
    for name, negatives in (("hardest", "hardest"), ("all", "all")):
        made = dataclasses.replace(chosen.recipe, **chosen.settings[name], seed=3)
        assert made == dataclasses.replace(xg.recipe(f"vse(negatives={negatives})"), seed=3)
    with pytest.raises(xg.XgapError, match="as many updates, and these have other numbers: mod-x 1000, small 2"):
        repeated({"mod-x": "mod-x", "small": SMALL})


@pytest.mark.slow
def test_two_seeds_of_a_recipe_are_two_runs(data: xg.Dataset, tmp_path: Path) -> None:
    hinge = xg.Recipe({"ranking-margin(negatives=hardest, summed=True)": 1.0}, **SHAPE)
    how: dict[str, Any] = {"model": "tiny-untrained", "dataset": data, "folder": tmp_path, "progress": False}
    table = repeated(hinge, seeds=(0, 5), comparisons=("I-T",), **how)
    assert set(zip(table["setting"], table["seed"], strict=True)) == {("recipe", 0), ("recipe", 5)}
    assert set(table["step"]) == {2}
    found = spread(table).set_index("quantity")
    assert (found["seeds"] == 2).all()
    assert found.loc["modality_gap", "std"] > 0  # other batches, other weights


def test_the_command_prints_the_spread_and_refuses_what_is_of_one_run(
    data: xg.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Any] = []

    def stands_in(recipes: Any, **how: Any) -> pd.DataFrame:
        seen.append((recipes, how))
        rows = [{"setting": "vse", "seed": s, "step": 2, "quantity": "I-T", "value": s / 2} for s in how["seeds"]]
        return pd.DataFrame(rows)

    monkeypatch.setattr("xgap_analysis.experiments.spread.repeated", stands_in)
    out = tmp_path / "runs"
    command = ["train", "--recipe", "vse", "--out", str(out), "--steps", "2"]
    assert cli.main([*command, "--seeds", "0", "1", "--limit", "3", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["quantity"], row["mean"], row["least"], row["greatest"]) == ("I-T", 0.25, 0, 0.5)
    ((recipes, how),) = seen
    assert (recipes["vse"].steps, how["seeds"], how["limit"], how["folder"]) == (2, (0, 1), 3, out)
    assert pd.read_parquet(out / "runs.parquet")["value"].tolist() == [0, 0.5]
    assert cli.main([*command, "--seeds", "0", "1"]) == 0
    assert "0.250" in capsys.readouterr().out
    for more, message in (
        (["--seeds", "0", "1", "--seed", "3"], "--seed is of one run"),
        (["--seeds", "0", "1", "--eval-every", "1"], "--eval-every is of one run"),
        (["--limit", "3"], "--limit is for several runs"),
    ):
        assert cli.main([*command, *more]) == 2
        assert message in capsys.readouterr().err
