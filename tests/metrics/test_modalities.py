"""The gap table of any number of modalities: each measure as its own function gives it, and intervals that cover."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.metrics.modalities import MEASURES

RANDOM = np.random.default_rng(0)


def three(n: int = 24, d: int = 12, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    shared = random.normal(size=(n, d))
    moved = {"image": 0.7, "text": -0.2, "audio": 0.1}
    return {name: shared + random.normal(size=(n, d)) * 0.8 + by for name, by in moved.items()}


def values(table: pd.DataFrame) -> pd.DataFrame:
    return table.pivot(index=["x", "y"], columns="measure", values="value")


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_there_is_a_row_for_each_pair_and_measure_in_the_order_given() -> None:
    table = xg.gap_table(three(), resamples=20)
    assert table.columns.tolist() == ["x", "y", "measure", "value", "low", "high", "level", "n_x", "n_y", "n_groups"]
    pairs = list(dict.fromkeys(zip(table["x"], table["y"], strict=True)))
    assert pairs == [("image", "text"), ("image", "audio"), ("text", "audio")]
    assert table["measure"].tolist() == list(MEASURES) * 3
    assert set(table["n_groups"]) == {24}


def test_each_measure_is_what_its_own_function_gives() -> None:
    sets = three()
    found = values(xg.gap_table(sets, resamples=5))
    for (x, y), row in found.iterrows():
        a, b = sets[x], sets[y]
        report = xg.gap_report(a, b).iloc[0]
        for name in ("modality_gap", "rmg", "separability", "cone_x", "cone_y", "cross_cosine"):
            assert row[name] == pytest.approx(report[name], abs=1e-7), name
        means = unit(a).mean(axis=0), unit(b).mean(axis=0)
        assert row["mean_cosine"] == pytest.approx(float(np.mean(unit(a) @ unit(b).T)), abs=1e-7)
        lengths = np.linalg.norm(means[0]) * np.linalg.norm(means[1])
        assert row["centroid_cosine"] == pytest.approx(float(means[0] @ means[1] / lengths), abs=1e-7)
        there, back = (xg.retrieval(q, g, (list(range(24)), list(range(24))))["ap"].mean() for q, g in ((a, b), (b, a)))
        assert (row["ap_x_to_y"], row["ap_y_to_x"]) == (pytest.approx(there), pytest.approx(back))
        assert row["ap"] == pytest.approx((there + back) / 2)


def test_the_squared_gap_is_both_cones_less_twice_the_mean_cosine() -> None:
    found = values(xg.gap_table(three(17), resamples=5))
    cones = [((17 - 1) * found[name] + 1) / 17 for name in ("cone_x", "cone_y")]  # with each item beside itself
    assert np.allclose(found["modality_gap"] ** 2, cones[0] + cones[1] - 2 * found["mean_cosine"], atol=1e-6)


def test_items_of_one_label_are_pairs_and_a_label_counts_once() -> None:
    random = np.random.default_rng(1)
    labels = {f"i{k}": k % 5 for k in range(13)} | {f"t{k}": k % 6 for k in range(9)}  # label 5 in texts alone
    images = xg.Features(random.normal(size=(13, 6)), [f"i{k}" for k in range(13)], "image", "image")
    texts = xg.Features(random.normal(size=(9, 6)), [f"t{k}" for k in range(9)], "text", "text")
    found = values(xg.gap_table([images, texts], labels, resamples=5)).loc[("image", "text")]
    x, y = np.asarray(images, dtype=float), np.asarray(texts, dtype=float)
    each = [
        np.mean([x[i] @ y[t] for i in range(13) for t in range(9) if labels[f"i{i}"] == label == labels[f"t{t}"]])
        for label in range(5)
    ]
    assert found["cross_cosine"] == pytest.approx(float(np.mean(each)), abs=1e-7)
    match, intra = (1 - np.mean(each)) / 2, (1 - (xg.metrics.cone(images) + xg.metrics.cone(texts)) / 2) / 2
    assert found["rmg"] == pytest.approx(match / (match + intra), abs=1e-7)


def test_a_resample_equals_the_naive_one_for_groups_of_several_sizes() -> None:
    """Two copies of a group are no pair of it, and the other sums are those of the rows as they were drawn."""
    random = np.random.default_rng(2)
    sets = {name: unit(random.normal(size=(8, 5))) for name in ("a", "b")}
    groups = ["p", "p", "p", "q", "q", "r", "s", "s"]
    table = xg.gap_table(sets, groups=groups, resamples=9, seed=5).set_index("measure")
    weights = np.random.default_rng(5).multinomial(4, np.full(4, 1 / 4), size=9)
    drawn_values = {"cone_x": [], "modality_gap": [], "mean_cosine": [], "centroid_cosine": []}
    for row in weights:
        drawn = [(name, copy) for name, times in zip("pqrs", row, strict=True) for copy in range(times)]
        rows = [(i, name, copy) for name, copy in drawn for i in range(8) if groups[i] == name]
        x, y = (sets[name][[i for i, _, _ in rows]] for name in ("a", "b"))
        pairs = list(itertools.product(range(len(rows)), repeat=2))
        apart = [(j, k) for j, k in pairs if rows[j][1] != rows[k][1]]
        inside = [(j, k) for j, k in pairs if rows[j][1:] == rows[k][1:] and j != k]
        if not inside or not apart:  # such a draw has no value
            continue
        within, between = np.mean([x[j] @ x[k] for j, k in inside]), np.mean([x[j] @ x[k] for j, k in apart])
        drawn_values["cone_x"].append(
            (10 * within + 46 * between) / 56
        )  # of 8 7 pairs, 3 2 within p, 2 1 within q and s each
        xx, yy, xy = (np.mean([f[j] @ g[k] for j, k in apart]) for f, g in ((x, x), (y, y), (x, y)))
        drawn_values["modality_gap"].append(max(xx + yy - 2 * xy, 0) ** 0.5)
        drawn_values["mean_cosine"].append(xy)
        if xx * yy > 0:
            drawn_values["centroid_cosine"].append(np.clip(xy / (xx * yy) ** 0.5, -1, 1))
    for measure, values_of in drawn_values.items():
        found = table.loc[measure, ["low", "high"]].tolist()
        assert found == pytest.approx(np.quantile(values_of, [0.025, 0.975]).tolist(), abs=1e-6), measure


def test_intervals_cover_the_gap_of_the_population_where_plain_ones_do_not() -> None:
    """40 items of 64 dimensions, 30 tables: a percentile interval of the norm would miss it nearly always."""
    covered, plain = 0, 0
    for seed in range(30):
        random = np.random.default_rng(seed)
        # Rows (c, s z) with c^2 + s^2 = 1 and z on the sphere are unit, and their means are (c, 0).
        sets = []
        for c in (0.8, 0.6):
            z = unit(random.normal(size=(40, 63)))
            sets.append(np.concatenate([np.full((40, 1), c), math.sqrt(1 - c * c) * z], axis=1))
        row = xg.gap_table(sets, resamples=100).set_index("measure").loc["modality_gap"]
        covered += row["low"] <= 0.2 + 1e-6 and row["high"] >= 0.2 - 1e-6
        plain += row["value"] <= 0.21
    assert covered >= 25
    assert plain == 0  # the distance itself is about 0.25 here


@pytest.mark.parametrize("g", [0.3, 0.7])
def test_on_the_oracle_all_gaps_have_the_values_that_its_formula_gives(g: float) -> None:
    """One image, one text and one recording of each concept: closed forms of `models.oracle`."""
    data = xg.load_dataset("emoji-spoken").split("test").limit(40)
    model, concept = xg.load_model(f"oracle(g={g})"), data.labels_of()
    items = {
        "image": data.images.select(i for i in data.images.ids if i.startswith("noto/")),
        "text": data.texts,
        "audio": data.items_of("audio").select(i for i in data.items_of("audio").ids if i.startswith("rms/")),
    }
    sets = {name: xg.encode(model, own, store=None, progress=False) for name, own in items.items()}
    n = len(sets["text"])
    assert {len(f) for f in sets.values()} == {n}
    table = xg.gap_table(sets, concept, resamples=100).set_index(["x", "y", "measure"]).sort_index()
    a, b = (1.09 + g * g) ** -0.5, (1 + g * g) ** -0.5
    exact = {
        ("image", "text"): ((a - b) ** 2 / n + 0.09 * a * a + g * g * (a * a + b * b)) ** 0.5,
        ("image", "audio"): (2 * 0.09 * a * a + 2 * g * g * a * a) ** 0.5,
        ("text", "audio"): ((a - b) ** 2 / n + 0.09 * a * a + g * g * (a * a + b * b)) ** 0.5,
    }
    cones = {"image": (0.09 + g * g) * a * a, "audio": (0.09 + g * g) * a * a, "text": g * g * b * b}
    own = {"image": a, "audio": a, "text": b}
    for (x, y), gap in exact.items():
        row = table["value"].xs((x, y))
        assert row["modality_gap"] == pytest.approx(gap, abs=1e-5)
        assert row["cross_cosine"] == pytest.approx(own[x] * own[y], abs=1e-5)
        assert row["mean_cosine"] == pytest.approx(own[x] * own[y] / n, abs=1e-5)
        assert (row["cone_x"], row["cone_y"]) == (pytest.approx(cones[x], abs=1e-5), pytest.approx(cones[y], abs=1e-5))
        assert row["ap"] == row["separability"] == 1
        interval = table.loc[(x, y, "modality_gap")]
        # All concepts of the world have the same place, so that its gap is known without an error: that without noise.
        world = math.sqrt(gap**2 - ((own[x] - own[y]) ** 2) / n)
        assert interval["low"] - 1e-5 <= world <= interval["high"] + 1e-5


def test_the_order_of_modalities_changes_no_number_but_the_names_of_columns() -> None:
    sets = three()
    first = values(xg.gap_table(sets, resamples=5)).loc[("image", "text")]
    turned = values(xg.gap_table({name: sets[name] for name in ("text", "image")}, resamples=5)).loc[("text", "image")]
    swapped = {"cone_x": "cone_y", "cone_y": "cone_x", "ap_x_to_y": "ap_y_to_x", "ap_y_to_x": "ap_x_to_y"}
    for name in set(MEASURES) - {"separability"}:  # whose folds are drawn in the order of the rows
        assert first[name] == pytest.approx(turned[swapped.get(name, name)], abs=1e-9), name


def test_where_no_label_is_in_both_the_gap_stays_and_measures_of_pairs_are_nan() -> None:
    sets = [xg.Features(RANDOM.normal(size=(6, 4)), [f"{m}{k}" for k in range(6)], m, m) for m in ("image", "text")]
    row = values(xg.gap_table(sets, resamples=5)).iloc[0]
    assert row["modality_gap"] > 0
    assert row[["cross_cosine", "rmg", "ap"]].isna().all()


def test_an_item_without_a_label_has_no_pair_and_counts_in_the_means() -> None:
    sets = three(10)
    labels = {str(k): k for k in range(8)} | {"8": None, "9": float("nan")}
    some, all_ = (values(xg.gap_table(sets, of, resamples=5)).loc[("image", "text")] for of in (labels, None))
    assert some["modality_gap"] == pytest.approx(all_["modality_gap"])
    first = {name: unit(rows)[:8] for name, rows in sets.items()}
    assert some["cross_cosine"] == pytest.approx(float((first["image"] * first["text"]).sum(axis=1).mean()), abs=1e-6)


@pytest.mark.parametrize(
    ("sets", "options", "sentence"),
    [
        ([np.eye(3)], {}, "two modalities or more, not 1"),
        ([np.eye(3), np.eye(4)], {}, "3 dimensions and b 4"),
        ([np.eye(3), np.eye(3)[:2]], {}, "rows without ids are paired by their number"),
        ([np.eye(3), np.eye(3)], {"level": 1.5}, "level lies between 0 and 1"),
        ([np.eye(3), np.eye(3)], {"labels": [1, 1, 2], "groups": ["p", "q", "q"]}, "label '1' lie in two groups"),
        ([xg.Features(np.eye(2), "ab", "image", "image")] * 2, {}, "two of the modalities are called 'image'"),
    ],
)
def test_a_mistake_is_one_sentence(sets: list, options: dict, sentence: str) -> None:
    with pytest.raises(XgapError, match=sentence) as raised:
        xg.gap_table(sets, **options)
    assert "\n" not in str(raised.value)


def ranked(gap: dict[tuple[str, str], float], ap: dict[tuple[str, str], float], **about: str) -> pd.DataFrame:
    rows = [
        {**about, "x": x, "y": y, "measure": name, "value": of[x, y]}
        for x, y in gap
        for name, of in (("modality_gap", gap), ("ap", ap))
    ]
    return pd.DataFrame(rows)


PAIRS = list(itertools.combinations("abcd", 2))


def test_rank_correlation_equals_scipys_and_its_p_value_counts_the_orders() -> None:
    from scipy.stats import spearmanr

    random = np.random.default_rng(3)
    gap, ap = (dict(zip(PAIRS, random.uniform(size=6), strict=True)) for _ in range(2))
    row = xg.metrics.gap_ranks(ranked(gap, ap)).iloc[0]
    found = spearmanr(list(gap.values()), list(ap.values())).statistic
    assert row["spearman"] == pytest.approx(found)
    both = ap | {(y, x): value for (x, y), value in ap.items()}
    drawn = []
    for order in itertools.permutations("abcd"):
        to = dict(zip("abcd", order, strict=True))
        drawn.append(spearmanr(list(gap.values()), [both[to[x], to[y]] for x, y in PAIRS]).statistic)
    assert row["p_value"] == pytest.approx(np.mean(np.abs(drawn) >= abs(found) - 1e-9))
    assert (row["n_pairs"], row["n_tables"]) == (6, 1)


def test_several_models_are_ranked_each_by_itself() -> None:
    """A model that is better everywhere makes no correlation, and four that agree are no four independent findings."""
    gap = dict(zip(PAIRS, range(6), strict=True))
    tables = [
        ranked(
            {pair: value + 10 * k for pair, value in gap.items()},
            {pair: -value + 100 * k for pair, value in gap.items()},
            model=f"m{k}",
        )
        for k in range(4)
    ]
    row = xg.metrics.gap_ranks(pd.concat(tables)).iloc[0]
    assert row["spearman"] == pytest.approx(-1)
    assert row["p_value"] == pytest.approx(xg.metrics.gap_ranks(tables[0]).iloc[0]["p_value"])
    assert row["p_value"] >= 1 / 24
    assert (row["n_pairs"], row["n_tables"]) == (24, 4)


def test_models_that_share_their_modalities_are_reassigned_together() -> None:
    """Where pairs differ in gap and in retrieval for reasons of their own in all models, p is not small."""
    p_values = []
    for seed in range(120):
        random = np.random.default_rng(seed)
        gap, ap = (dict(zip(PAIRS, random.normal(size=6), strict=True)) for _ in range(2))
        tables = []
        for k in range(6):
            own = [{pair: value + 0.1 * random.normal() for pair, value in of.items()} for of in (gap, ap)]
            tables.append(ranked(*own, model=f"m{k}"))
        p_values.append(xg.metrics.gap_ranks(pd.concat(tables)).iloc[0]["p_value"])
    assert np.mean(np.array(p_values) <= 0.05) < 0.12


def test_a_model_without_one_modality_is_reassigned_with_the_others() -> None:
    gap = dict(zip(PAIRS, range(6), strict=True))
    few = {pair: value for pair, value in gap.items() if "d" not in pair}
    tables = [ranked(of, {pair: -value for pair, value in of.items()}, model=str(len(of))) for of in (gap, few)]
    row = xg.metrics.gap_ranks(pd.concat(tables)).iloc[0]
    assert (row["spearman"], row["n_pairs"]) == (pytest.approx(-1), 9)
    assert 1 / 24 - 1e-9 <= row["p_value"] < 1 / 3


def test_with_three_modalities_no_p_value_is_small_and_with_two_there_is_no_correlation() -> None:
    found = xg.metrics.gap_ranks(xg.gap_table(three(), resamples=5))
    assert (found["p_value"].dropna() >= 1 / 3 - 1e-9).all()
    assert "cone" in set(found["measure"])
    with pytest.raises(XgapError, match="needs three modalities"):
        xg.metrics.gap_ranks(xg.gap_table(list(three().values())[:2], resamples=5))
    with pytest.raises(XgapError, match="measure"):
        xg.metrics.gap_ranks(pd.DataFrame({"x": []}))
