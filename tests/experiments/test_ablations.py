"""Ablations: every run is trained and judged, and what is read off the table follows from the table."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from xgap_analysis import Dataset, Images, Recipe, Texts, XgapError, load_model
from xgap_analysis.experiments.ablations import (
    ablate,
    at_equal_quality,
    changes,
    over_seeds,
    relation,
    summary,
)
from xgap_analysis.experiments.contrasts import contrasts
from xgap_analysis.experiments.recipes import ABLATIONS, ablation, quick
from xgap_analysis.metrics import detectable_effect, seed_interval

SMALL = Recipe(steps=2, batch=6, image_views=2, learning_rate=1e-2, warmup=1)


def colours(split: str, splits: dict[str, Any]) -> Dataset:
    def drawing(item: str) -> Image.Image:
        label, take = map(int, item.split("/"))
        noise = np.random.default_rng(100 * label + take).integers(0, 60, (64, 64, 3))
        return Image.fromarray((noise + np.array([label * 16, 200 - label * 16, label * 11])).astype(np.uint8))

    labels = range(8) if split == "train" else range(8, 14)
    images = [f"{label}/{take}" for label in labels for take in range(2)]
    texts = [f"{label}/text-{k}" for label in labels for k in range(2)]
    of = {item: item.split("/")[0] for item in (*images, *texts)}
    return Dataset(
        name="colours",
        split_name=split,
        images=Images(tuple(images), drawing, f"colours-{split}"),
        texts=Texts(tuple(texts), tuple(f"colour {item}" for item in texts)),
        labels={"colour": of},
        class_names={"colour": {str(label): f"colour number {label}" for label in labels}},
        splits=splits,
    )


@pytest.fixture
def data() -> Dataset:
    splits: dict[str, Any] = {}
    splits |= {name: lambda name=name: colours(name, splits) for name in ("train", "test")}
    return colours("train", splits)


def test_every_run_is_evaluated_at_every_checkpoint(data: Dataset, tmp_path: Path) -> None:
    settings: dict[str, dict[str, Any]] = {
        "0": {"objective": {"clip": 1.0, "image-image": 0.0}},
        "1": {"objective": {"clip": 1.0, "image-image": 1.0}},
        "same as 0": {"objective": {"clip": 1.0}},
    }
    chosen: dict[str, Any] = {"model": "tiny-untrained", "dataset": data, "recipe": SMALL, "checkpoints": (0, 2)}
    chosen |= {"seeds": (3,), "last_limit": 0, "folder": tmp_path, "progress": False}
    table = ablate(settings, **chosen)
    assert not table.duplicated(["setting", "seed", "step", "quantity"]).any()
    assert table.groupby(["setting", "seed", "step"]).size().nunique() == 1
    assert set(table["seed"]) == {3}
    assert {"I-I", "OTI-I - I-I", "modality_gap", "misalignment_image", "rotation_text"} <= set(table["quantity"])
    value = table.set_index(["setting", "seed", "step", "quantity"])["value"]
    assert value["0", 3].equals(value["same as 0", 3])  # one run, by whichever name
    assert value["0", 3, 0].equals(value["1", 3, 0])  # one start
    assert value["0", 3, 0, "rotation_image"] == 0
    assert value["1", 3, 2, "rotation_image"] > 0
    assert value["0", 3, 2, "modality_gap"] != value["1", 3, 2, "modality_gap"]
    for row in table[table["quantity"].isin(["I-I", "OTI-I - I-I", "misalignment_image"])].to_dict("records"):
        assert np.average(row["by_group"], weights=row["group_sizes"]) == pytest.approx(row["value"], abs=1e-5)
        assert len(row["by_group"]) == 6  # labels
        assert row["n_queries"] == row["group_sizes"].sum()
    assert table["n_queries"].dtype.kind == "i"
    assert set(table.loc[table["quantity"] == "modality_gap", "n_queries"]) == {0}
    assert len(list(tmp_path.iterdir())) == 2
    pd.testing.assert_frame_equal(ablate(settings, **chosen), table)  # from what is there


def test_other_data_and_other_checkpoints_are_other_runs_and_other_numbers(data: Dataset, tmp_path: Path) -> None:
    settings = {"0": {"objective": {"clip": 1.0}}}
    chosen: dict[str, Any] = {"model": "tiny-untrained", "dataset": data, "recipe": SMALL, "checkpoints": (0, 2)}
    chosen |= {
        "seeds": (0,),
        "last_limit": 0,
        "folder": tmp_path,
        "progress": False,
        "device": "cpu",
    }  # the same to the bit
    ablate(settings, **chosen)

    def measured(**changed: Any) -> "pd.Series[float]":
        return ablate(settings, **{**chosen, **changed}).set_index(["step", "quantity"])["value"].sort_index()

    afresh = {"folder": tmp_path / "afresh"}
    pd.testing.assert_series_equal(measured(limit=3), measured(limit=3, **afresh))
    fewer = dataclasses.replace(
        data.limit(7), name="fewer colours", splits=data.splits | {"train": lambda: data.limit(7)}
    )
    pd.testing.assert_series_equal(measured(dataset=fewer), measured(dataset=fewer, **afresh))
    with pytest.warns(UserWarning, match="no checkpoint after 1 updates"):
        table = measured(checkpoints=(0, 1))
    assert set(table.index.get_level_values("step")) == {0, 1}


@pytest.mark.slow
def test_runs_in_several_processes_are_those_in_one(tmp_path: Path) -> None:
    chosen = quick(ablation({"CLIP": {}, "SLIP": {"objective": {"clip": 1.0, "image-image": 1.0}}}, last_limit=0))
    one, two = (
        ablate(chosen, folder=tmp_path / str(n), processes=n, progress=False)
        .set_index(["setting", "step", "quantity"])["value"]
        .sort_index()
        for n in (1, 2)
    )
    pd.testing.assert_series_equal(one, two, atol=1e-4)


def test_several_processes_need_the_name_of_the_dataset(data: Dataset) -> None:
    with pytest.raises(XgapError, match="by name or path"):
        ablate({"0": {}}, dataset=data, processes=2)


def test_the_named_ablations_are_the_two_of_the_debate() -> None:
    assert list(ABLATIONS["intra"].settings) == ["0", "0.25", "0.5", "1", "2"]
    assert list(ABLATIONS["temperature"].settings) == ["0.01", "0.03", "0.07", "0.2", "1", "learned"]
    with pytest.raises(XgapError, match="nearest names: temperature"):
        ablate("temperatur")
    with pytest.raises(XgapError, match="at least"):
        ablate("intra", seeds=())


def test_a_checkpoint_has_not_moved_from_itself() -> None:
    model = load_model("tiny-untrained")
    test = colours("test", {})
    told = changes(model, model, test)
    for name in ("image", "text"):
        assert told[f"rotation_{name}"] == pytest.approx(0, abs=1e-4)
        assert told[f"bend_{name}"] == pytest.approx(0, abs=1e-4)
        assert told[f"cka_{name}"] == pytest.approx(1)
        assert told[f"knn_{name}"] == 1
    assert told["deviation"] == pytest.approx(0, abs=1e-4)
    assert changes(model, load_model("tiny"), test)["cka_image"] < 0.99


def long(rows: list[tuple[str, int, int, str, float]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["setting", "seed", "step", "quantity", "value"])
    return frame.assign(ablation="a")


def test_over_seeds_is_students_interval() -> None:
    table = long([("x", seed, 1, "I-I", value) for seed, value in enumerate((0.1, 0.2, 0.6))])
    (row,) = over_seeds(table).to_dict("records")
    expected = stats.ttest_1samp([0.1, 0.2, 0.6], 0).confidence_interval(0.95)
    assert (row["value"], row["low"], row["high"], row["seeds"]) == pytest.approx((0.3, expected.low, expected.high, 3))


def test_a_summary_and_changes_are_of_the_last_step() -> None:
    rows = []
    for seed, (zero, one) in enumerate(((0.1, 0.2), (0.2, 0.35), (0.6, 0.65))):
        rows += [("0", seed, 5, "I-I", zero), ("1", seed, 5, "I-I", one), ("0", seed, 0, "I-I", 9.0)]
    table = long(rows)
    words = summary(table, ["I-I"], digits=2)
    mean, low, high = seed_interval([0.1, 0.2, 0.6])
    assert words.loc["I-I", "0"] == f"{mean:.2f} ({low:.2f}, {high:.2f})"
    assert list(words.columns) == ["0", "1"]
    (change,) = contrasts(table, "0", ["I-I"]).to_dict("records")
    each = np.array([0.1, 0.15, 0.05])
    assert (change["change"], change["low"], change["high"]) == pytest.approx(seed_interval(each))
    assert change["detectable"] == pytest.approx(detectable_effect(each))
    assert change["seeds"] == 3
    with pytest.raises(XgapError, match="unknown setting"):
        contrasts(table, "2", ["I-I"])
    with pytest.raises(XgapError, match="unknown quantity"):
        summary(table, ["I-T"])


def test_equal_quality_takes_each_run_where_it_is_as_good_as_the_worst_became() -> None:
    rows = []
    for setting, course in {"fast": (0.1, 0.3, 0.5), "slow": (0.1, 0.15, 0.28)}.items():
        for step, quality in enumerate(course):
            rows += [(setting, 0, step, "I-T", quality), (setting, 0, step, "gap", 10 * step + len(setting))]
    chosen = at_equal_quality(long(rows))
    assert dict(chosen[["setting", "step"]].drop_duplicates().to_numpy()) == {"fast": 1, "slow": 2}
    assert len(chosen) == 4
    chosen = at_equal_quality(long(rows), "I-T", control="fast")
    assert dict(chosen[["setting", "step"]].drop_duplicates().to_numpy()) == {"fast": 2, "slow": 2}
    start = [
        ("fast", 0, 0, "I-T", 0.5),
        *(row for row in rows if row[:3] != ("fast", 0, 0)),
        ("slow", 0, 3, "I-T", 0.3),
    ]
    chosen = at_equal_quality(long(start), "I-T", control="slow")
    assert dict(chosen[["setting", "step"]].drop_duplicates().to_numpy()) == {"fast": 1, "slow": 3}  # no start
    with pytest.raises(XgapError, match="unknown quantity"):
        at_equal_quality(long(rows), "I-I")
    with pytest.raises(XgapError, match="unknown setting"):
        at_equal_quality(long(rows), "I-T", control="none")


def test_a_relation_is_a_rank_correlation_whose_interval_draws_settings() -> None:
    draw = np.random.default_rng(0)
    rows = []
    for setting in range(8):
        for seed in range(3):
            gap = setting + 0.1 * draw.normal()
            rows += [(str(setting), seed, 1, "gap", gap), (str(setting), seed, 1, "benefit", gap**3)]
            rows.append((str(setting), seed, 1, "noise", draw.normal()))
    table = long(rows)
    told = relation(table, "gap", "benefit")
    assert told["rho"] == pytest.approx(1)
    assert (told["n"], told["n_settings"]) == (24, 8)
    noise = relation(table, "gap", "noise")
    wide = table.pivot(index=["setting", "seed"], columns="quantity", values="value")
    assert noise["rho"] == pytest.approx(stats.spearmanr(wide["gap"], wide["noise"]).statistic)
    assert noise["low"] < noise["rho"] < noise["high"]
    with pytest.raises(XgapError, match="unknown quantity"):
        relation(table, "gap", "gaps")
    with pytest.raises(XgapError, match="three runs"):
        relation(table[(table["setting"] == "1") & (table["seed"] < 2)], "gap", "noise")
    assert not math.isnan(told["low"])
