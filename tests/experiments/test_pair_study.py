"""Views of pairs side by side, against encode, invert and scipy by hand."""

import doctest
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets import Dataset
from xgap_analysis.datasets.items import Vectors
from xgap_analysis.datasets.pair_scores import PairScores
from xgap_analysis.experiments import pair_study
from xgap_analysis.experiments.pair_study import pair_table
from xgap_analysis.metrics import holm
from xgap_analysis.metrics.pair_scores import correlation_test
from xgap_analysis.models import Model
from xgap_analysis.views import Precomputed

STEPS = 3


@pytest.fixture(scope="module")
def tiny() -> Model:
    return xg.load_model("tiny", device="cpu")


@pytest.fixture(scope="module")
def emoji() -> Dataset:
    return xg.load_dataset("emoji").split("test").limit(20)


def by_subgroup(data: Dataset, n: int = 80, splits: Any = None) -> PairScores:
    """Names of emoji in pairs: 5 for one concept, 3 for one subgroup, 0 for others."""
    concept, subgroup = data.labels_of("concept"), data.labels_of("subgroup")
    rng, ids = np.random.default_rng(0), np.array(data.texts.ids)
    first = rng.choice(ids, n)
    near = [rng.choice([j for j in ids if subgroup[j] == subgroup[i]]) for i in first]
    second = np.where(rng.random(n) < 0.6, near, rng.choice(ids, n))
    scores = [
        5.0 if concept[a] == concept[b] else 3.0 if subgroup[a] == subgroup[b] else 0.0
        for a, b in zip(first, second, strict=True)
    ]
    return PairScores(tuple(first), tuple(second), scores, data.texts, "names", data.split_name, splits or {})


@pytest.fixture(scope="module")
def pairs(emoji: Dataset) -> PairScores:
    return by_subgroup(emoji)


@pytest.fixture(scope="module")
def table(tiny: Model, pairs: PairScores, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    store = xg.Store(tmp_path_factory.mktemp("store"))
    return pair_table(tiny, pairs, steps=STEPS, seeds=(1, 2), store=store, progress=False)


def rows(table: pd.DataFrame, comparison: str, metric: str = "spearman", correction: str = "none") -> dict[Any, Any]:
    chosen = (table["comparison"] == comparison) & (table["metric"] == metric) & (table["correction"] == correction)
    (row,) = table[chosen].to_dict("records")
    return row


def cosines(pairs: PairScores, first: xg.Features, second: xg.Features) -> np.ndarray:
    x, y = first.select(dict.fromkeys(pairs.first)), second.select(dict.fromkeys(pairs.second))
    of_x, of_y = (dict(zip(f.ids, f.vectors.double().numpy(), strict=True)) for f in (x, y))
    return np.array([of_x[a] @ of_y[b] for a, b in zip(pairs.first, pairs.second, strict=True)], dtype=np.float32)


def test_the_table_is_encode_invert_and_scipy_by_hand(tiny: Model, pairs: PairScores, table: pd.DataFrame) -> None:
    text = xg.encode(tiny, pairs.items, progress=False)
    inverted = [xg.invert(tiny, text, steps=STEPS, seed=seed, progress=False).features for seed in (1, 2)]
    native = cosines(pairs, text, text)
    scores = {
        "T-T": [native],
        "OVI-T": [cosines(pairs, ovi, text) for ovi in inverted],
        "OVI-OVI": [cosines(pairs, ovi, ovi) for ovi in inverted],
    }
    for name, of_seeds in scores.items():
        for metric, oracle in (("spearman", stats.spearmanr), ("pearson", stats.pearsonr)):
            row = rows(table, name, metric)
            found = [oracle(of, pairs.scores)[0] for of in of_seeds]
            assert row["value"] == pytest.approx(np.mean(found), abs=2e-3), (name, metric)  # of other rounding of steps
            assert row["low"] <= row["value"] <= row["high"]
            assert (row["n_pairs"], row["n_groups"], row["seeds"]) == (80, len(set(pairs.groups)), len(of_seeds))
            assert np.isnan(row["seed_spread"]) == (name == "T-T")
            if name != "T-T":
                test = correlation_test(native, np.stack(of_seeds), pairs.scores, method=metric, groups=pairs.groups)
                assert row["difference"] == pytest.approx(test.difference, abs=2e-3)
                assert row["p_value"] == pytest.approx(test.p_value, abs=0.03)
    assert rows(table, "T-T")["value"] > 0.3  # the embedded model knows which names are near


def test_the_rows_have_the_columns_of_a_study_and_one_family_of_tests(
    tiny: Model, emoji: Dataset, table: pd.DataFrame
) -> None:
    study = xg.Study([tiny], [emoji], ["T-T"], progress=False).run()
    of_queries = {"n_queries", "n_unanswerable", "n_gallery", "icc", "design_effect", "detectable", "against_best"}
    assert set(study) - set(table) == of_queries
    assert set(table) - set(study) == {"n_pairs", "of_pairs"}
    main = table[table["main"]]
    assert main["metric"].tolist() == ["spearman"] * 3
    tested = main["p_value"].notna()
    assert main["baseline"].tolist() == ["T-T"] * 3
    assert tested.tolist() == [False, True, True]
    assert main["p_adjusted"][tested].tolist() == pytest.approx(holm(main["p_value"][tested]).tolist())
    assert set(main["family_size"][tested]) == {2}
    assert table["p_adjusted"][~table["main"]].isna().all()
    assert set(table["verdict"].dropna()) <= {"higher", "lower", "inconclusive"}  # no claim is made of pair scores
    assert set(table["of_pairs"]) == {table["of_pairs"][0]}


def test_corrections_are_fitted_on_the_split_that_is_given_or_on_that_of_the_pairs(
    tiny: Model, pairs: PairScores, emoji: Dataset
) -> None:
    train = xg.load_dataset("emoji").split("train").limit(10)
    by = ["none", "center", "inverted-softmax"]
    table = pair_table(tiny, pairs, ["T-T"], by, fit_data=train, progress=False)
    assert table[table["main"]]["correction"].tolist() == by
    assert table[table["main"]]["fitted_on"].tolist() == ["", "train[10]", "train[10]"]
    assert not table["transductive"].any()
    text, mean = (xg.encode(tiny, of.texts, progress=False).vectors.double() for of in (emoji, train))
    centred = xg.Features(text - mean.mean(0), emoji.texts.ids, "text", "text")
    expected = stats.spearmanr(cosines(pairs, centred, centred), pairs.scores)[0]
    assert rows(table, "T-T", correction="center")["value"] == pytest.approx(expected, abs=1e-3)
    assert rows(table, "T-T", correction="center")["difference"] != 0
    own = by_subgroup(emoji, splits={"train": by_subgroup(train)})
    again = pair_table(tiny, own, ["T-T"], ["none", "center"], progress=False)
    assert set(again["fitted_on"]) == {"", "train[10]"}
    assert rows(again, "T-T", correction="center")["value"] == pytest.approx(expected, abs=1e-3)
    seen = pair_table(tiny, by_subgroup(emoji, splits={"train": pairs}), ["T-T"], ["center"], progress=False)
    assert seen["transductive"].all()


def test_axes_are_columns(tiny: Model, pairs: PairScores) -> None:
    table = pair_table(tiny, pairs, ["T-T", "OVI-T"], axes={"ovi.steps": [1, STEPS]}, progress=False)
    main = table[table["main"]]
    assert main["comparison"].tolist() == ["T-T", "OVI-T", "OVI-T"]
    assert main["ovi.steps"].tolist()[1:] == [1, STEPS]


def test_any_two_views_of_items_of_two_modalities() -> None:
    rng = np.random.default_rng(1)
    ids = [f"i{k}" for k in range(12)]
    vectors = rng.normal(size=(2, 12, 6))
    sound, film = (Vectors(xg.Features(x, ids, m, m)) for x, m in zip(vectors, ("audio", "video"), strict=True))
    first, second = (tuple(rng.choice(ids, 40)) for _ in range(2))
    pairs = PairScores(first, second, rng.normal(size=40), (sound, film), "clips")
    expected = stats.spearmanr(cosines(pairs, sound.features, film.features), pairs.scores)[0]
    table = pair_table(Precomputed("own"), pairs, ["audio-video", "video-audio"], progress=False)
    assert rows(table, "audio-video")["value"] == pytest.approx(expected)
    refused = rows(table, "video-audio")
    assert refused["note"] == "the pairs are of audio and video items, which comparison video-audio does not compare"
    assert np.isnan(refused["value"])
    assert refused["n_pairs"] == 0


def test_what_cannot_be_computed_is_reported(tiny: Model, pairs: PairScores) -> None:
    for comparison in ("I-I", "OTI-T", "zero-shot"):
        with pytest.raises(XgapError, match=f"the pairs are of text items, which comparison {comparison} does not"):
            pair_table(tiny, pairs, [comparison], progress=False)
    with pytest.raises(XgapError, match="fitted on the split 'train', which dataset 'names' does not have"):
        pair_table(tiny, pairs, ["T-T"], ["center"], progress=False)
    with pytest.raises(XgapError, match="unknown comparison 'OVIT'"):
        pair_table(tiny, pairs, ["OVIT"], progress=False)
    same = PairScores(pairs.first[:5], pairs.second[:5], [1] * 5, pairs.items)
    with pytest.raises(XgapError, match="all people's scores are 1, so that no correlation is defined"):
        pair_table(tiny, same, ["T-T"], progress=False)


def test_the_example_runs() -> None:
    assert doctest.testmod(pair_study).failed == 0
