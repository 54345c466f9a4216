"""What settings change against a control: each number from an independent way to it, and what is refused."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from xgap_analysis import XgapError
from xgap_analysis.experiments.ablations import at_equal_quality, by_group
from xgap_analysis.experiments.contrasts import beside_zero, contrast_words, contrasts
from xgap_analysis.experiments.recipes import ABLATIONS, Ablation, ablation, quick
from xgap_analysis.metrics import holm, paired_test
from xgap_analysis.training import Recipe

SIZES = {"b": 3, "a": 1, "d": 5, "c": 2, "e": 4}  # of the groups, ragged
IDS = [f"{label}{k}" for label, n in SIZES.items() for k in range(n)]
LABELS = {item: item[0] for item in IDS}


def queries(setting: str, seed: int) -> "pd.Series[float]":
    draw = np.random.default_rng([ord(setting), seed])
    return pd.Series(draw.random(len(IDS)) + 0.3 * (ord(setting) - ord("x")), index=IDS)


def made(settings: str = "xyz", seeds: int = 3) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for setting in settings:
        for seed in range(seeds):
            values, key = queries(setting, seed), {"setting": setting, "seed": seed}
            rows.append({**key, "step": 5, "quantity": "I-T", "value": values.mean(), **by_group(values, LABELS)})
            rows.append({**key, "step": 5, "quantity": "gap", "value": 0.1 * ord(setting) + 0.01 * seed**2})
            rows.append({**key, "step": 0, "quantity": "I-T", "value": 9.0})  # the start does not count
    return pd.DataFrame(rows)


def test_values_in_groups_are_means_in_the_order_of_labels() -> None:
    values = pd.Series([1.0, 2.0, 6.0, np.nan, 5.0], index=["q", "r", "s", "t", "u"])
    found = by_group(values, {"q": "dog", "r": "cat", "s": "dog", "t": "ant"})
    assert found["by_group"].tolist() == [2.0, 3.5, 5.0]  # cat, dog, and u without a label
    assert found["group_sizes"].tolist() == [1, 2, 1]
    assert by_group(None, {}) == by_group(values[["t"]], {}) == {}


def test_changes_are_paired_by_seed_and_by_query() -> None:
    rows = contrasts(made(), "x", ["I-T", "gap"]).set_index(["quantity", "setting"])
    raw = []
    for setting in "yz":
        row = rows.loc[("I-T", setting)]
        apart = np.array([queries(setting, s).mean() - queries("x", s).mean() for s in range(3)])
        expected = stats.ttest_1samp(apart, 0).confidence_interval(0.95)
        assert (row["change"], row["low"], row["high"]) == pytest.approx((apart.mean(), expected.low, expected.high))
        # Groups are drawn in the order of their labels.
        mean = {name: (sum(queries(name, s) for s in range(3)) / 3).sort_index() for name in ("x", setting)}
        test = paired_test(mean["x"], mean[setting], groups=[LABELS[i] for i in mean["x"].index])
        found = row[["queries_low", "queries_high", "p_value", "n_groups", "seeds"]].tolist()
        assert found == pytest.approx([test.low, test.high, test.p_value, 5, 3], abs=1e-6)
        raw.append(test.p_value)
    assert rows.loc["I-T", "p_adjusted"].tolist() == pytest.approx(holm(raw).tolist())
    gap = rows.loc[("gap", "z")]
    assert gap["change"] == pytest.approx(0.2)
    assert np.isnan(gap["queries_low"])
    assert np.isnan(gap["p_adjusted"])
    assert gap["n_groups"] == 0
    assert rows["n_queries"].dtype.kind == "i"
    assert rows.loc["I-T", "n_queries"].tolist() == [len(LABELS)] * 2
    assert gap["n_queries"] == 0


def test_what_holds_has_every_interval_beside_zero() -> None:
    changes = pd.DataFrame(
        [
            ("both", 1, 2, 1, 2),
            ("seeds", 1, 2, -1, 2),
            ("queries", -1, 2, 1, 2),
            ("no queries", -2, -1, np.nan, np.nan),
        ],
        columns=["setting", "low", "high", "queries_low", "queries_high"],
    )
    one_seed = pd.DataFrame([("one", np.nan, np.nan, 1, 2)], columns=changes.columns)
    assert beside_zero(pd.concat([changes, one_seed]))["setting"].tolist() == ["both", "no queries"]


def test_words_hold_the_controls_values_and_the_others_changes() -> None:
    words = contrast_words(made(), "x", ["gap"], digits=1)
    assert words.index.tolist() == ["x", "y", "z"]
    assert words["gap"].tolist() == ["12.0", "+0.1 (+0.1, +0.1)", "+0.2 (+0.2, +0.2)"]
    assert contrast_words(made(), "x", ["gap"], over="queries", digits=1)["gap"].tolist() == ["12.0", "+0.1", "+0.2"]
    row = contrasts(made(), "x", ["I-T"]).iloc[0]
    text = contrast_words(made(), "x", ["I-T"], over="queries").loc["y", "I-T"]
    assert text == f"{row['change']:+.3f} ({row['queries_low']:+.3f}, {row['queries_high']:+.3f})"
    with pytest.raises(XgapError, match='"seeds" or over "queries"'):
        contrast_words(made(), "x", ["gap"], over="steps")


def test_what_cannot_be_compared_is_refused() -> None:
    table = made()
    with pytest.raises(XgapError, match="unknown setting 'w'"):
        contrasts(table, "w")
    with pytest.raises(XgapError, match="unknown quantity 'gaps'"):
        contrasts(table, "x", ["gaps"])
    fewer = queries("y", 0).iloc[:4]
    place = table[(table["setting"] == "y") & (table["seed"] == 0) & (table["step"] == 5)].index[0]
    for name, value in by_group(fewer, LABELS).items():
        table.at[place, name] = value
    with pytest.raises(XgapError, match="other queries than the control"):
        contrasts(table, "x", ["I-T"])


def test_a_quantity_that_a_setting_lacks_has_no_row() -> None:
    """Inversion of texts is measured at the last step alone, and a run at equal quality may stand at another."""
    table = made()
    without = table[~((table["setting"] == "y") & (table["quantity"] == "gap"))]
    assert contrasts(without, "x", ["gap"])["setting"].tolist() == ["z"]
    assert contrast_words(without, "x", ["gap", "I-T"]).loc["y", "gap"] == ""
    apart = table[~((table["setting"] == "y") & (table["seed"] > 0) | (table["setting"] == "z") & (table["seed"] < 3))]
    assert contrasts(apart[(apart["setting"] != "x") | (apart["seed"] > 0)], "x").empty


def test_at_equal_quality_leaves_out_a_seed_without_the_control() -> None:
    table = made()
    chosen = at_equal_quality(table[(table["setting"] != "x") | (table["seed"] > 0)], "I-T", control="x")
    assert set(chosen["seed"]) == {1, 2}


def test_every_recipe_is_one_that_trains_a_dual_encoder() -> None:
    chosen = ABLATIONS["objectives"]
    assert len(chosen.settings) >= 10
    for name, own in chosen.settings.items():
        recipe = Recipe(**{**vars(chosen.recipe), **own})
        assert (recipe.n_views, recipe.n_captions) == (2, 2), name  # the same data in all
        assert recipe.towers == "both"


def test_an_ablation_has_a_control_among_its_settings() -> None:
    with pytest.raises(XgapError, match="unknown setting 'c'"):
        Ablation({"clip": {}}, control="c")
    with pytest.raises(XgapError, match="at least"):
        ablation({})
    with pytest.raises(XgapError, match="nearest names: objectives"):
        ablation("objective")
    small = quick(ablation({"first": {}, "second": {}}, limit=50))
    assert (small.control, small.limit, small.recipe.steps, len(small.seeds)) == ("first", 6, 2, 1)
