"""The atlas: each number from an independent way to it, every published system accounted for, and what is refused."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import xgap_analysis as xg
from xgap_analysis import XgapError
from xgap_analysis.experiments.acting import ACTING, MEAN, TRAINED, WORLDS, Bench, few, shared_concepts
from xgap_analysis.experiments.atlas import (
    NOT_ACTED_ON,
    NOT_DEFINED,
    QUANTITIES,
    _with_verdicts,
    along_gap,
    atlas,
    atlas_words,
    left_out,
    rows_of,
    rows_of_trained,
)
from xgap_analysis.experiments.contrasts import contrasts
from xgap_analysis.experiments.evaluation import Evaluation
from xgap_analysis.experiments.systems import systems
from xgap_analysis.metrics import holm, modality_gap, paired_test

LABELS = 6


def acting(system: str, bench: Bench) -> pd.DataFrame:
    """The rows of one system."""
    (one,) = (one for one in ACTING if one.system == system)
    return pd.DataFrame(rows_of(one, bench)).set_index("quantity")


@pytest.fixture(scope="module")
def bench() -> Bench:
    """Six labels, and twelve to fit on."""
    return Bench(xg.load_model("tiny"), WORLDS["vectors"], quick=True)


def test_the_mean_along_the_gap_is_the_gap() -> None:
    draw = np.random.default_rng(0)
    x, y = (xg.Features(draw.normal(shift, 1, (7, 5)), "abcdefg", "image", "image") for shift in (0.3, -0.3))
    apart = np.asarray(x, dtype=float) - np.asarray(y, dtype=float)
    expected = apart @ (apart.mean(axis=0) / np.linalg.norm(apart.mean(axis=0)))
    found = along_gap(x, y)
    assert found.to_numpy() == pytest.approx(expected)
    assert found.mean() == pytest.approx(modality_gap(x, y), abs=1e-6)
    assert along_gap(x, x).tolist() == [0.0] * 7  # no gap, and no direction


def test_a_scorer_row_is_that_of_a_study() -> None:
    rows = acting("FILIP", Bench(xg.load_model("tiny"), WORLDS["parts"], limit=25))
    data = shared_concepts(xg.load_dataset("emoji-scenes").split("test").limit(25))
    compared = {"I-I": "regions-regions", "T-I": "captions-regions"}
    study = xg.Study(
        ["tiny"], [data], list(compared.values()), scorers=[MEAN, "late_interaction"], main="ap", progress=False
    )
    table = xg.main_rows(study.run()).set_index(["comparison", "scorer"])
    for quantity, comparison in compared.items():
        row, direct = rows.loc[quantity], table.loc[comparison, "late_interaction"]
        numbers = ["value", "difference", "difference_low", "difference_high", "p_value", "n_queries", "n_groups"]
        own = ["value", "difference", "low", "high", "p_value", "n_queries", "n_groups"]
        assert row[own].tolist() == pytest.approx(direct[numbers].tolist())
        assert row["baseline"] == pytest.approx(table.loc[comparison, MEAN]["value"])
    assert rows.loc["modality_gap", "reason"] == NOT_ACTED_ON  # a scorer moves no vector
    assert math.isnan(rows.loc["modality_gap", "difference"])


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    study = xg.Study(["tiny"], ["emoji"], ["T-T", "I-T"], ["none", "noise"], limit=LABELS, progress=False)
    (made,) = study.evaluations()
    return made


def test_a_correction_row_is_that_of_a_study(bench: Bench, evaluation: Evaluation) -> None:
    rows, table = acting("MacCap", bench), xg.main_rows(evaluation.table()).set_index(["comparison", "correction"])
    for quantity in ("T-T", "I-T"):
        direct = table.loc[quantity, "noise"][["value", "difference", "difference_low", "difference_high", "p_value"]]
        found = rows.loc[quantity, ["value", "difference", "low", "high", "p_value"]]
        assert found.tolist() == pytest.approx(direct.tolist())
    assert rows.loc["I-I", "reason"] == NOT_ACTED_ON  # noise is of texts
    gaps = evaluation.gaps().iloc[0]
    for quantity in ("modality_gap", "misalignment_image", "misalignment_text"):
        assert rows.loc[quantity, "baseline"] == pytest.approx(gaps[quantity], abs=1e-6)
    noisy = evaluation.fitted("noise")(evaluation.native("text", "all"))
    x, y = evaluation.pairs(texts=noisy)
    assert rows.loc["modality_gap", "value"] == pytest.approx(modality_gap(x, y), abs=1e-6)
    own = xg.misalignment(noisy, noisy, evaluation.data)["misalignment"]
    assert rows.loc["misalignment_text", "value"] == pytest.approx(own.mean())
    test = paired_test(along_gap(*evaluation.pairs()), along_gap(x, y), groups=[evaluation.labels[i] for i in x.ids])
    assert rows.loc["modality_gap", ["low", "high", "p_value"]].tolist() == [test.low, test.high, test.p_value]


def test_a_correction_of_scores_changes_misalignment_too(bench: Bench) -> None:
    rows, evaluation = acting("Balance Act (DBNorm)", bench), bench.evaluation
    texts = evaluation.native("text", "all")
    pair = evaluation.fitted("dual-inverted-softmax").apply(texts, texts)
    assert pair.normalise is not None
    scores = pair.normalise(texts.vectors @ texts.vectors.T).numpy().astype(float)
    values = []
    label = [evaluation.labels[i] for i in texts.ids]
    for q, row in enumerate(scores):
        same = [s for j, s in enumerate(row) if j != q and label[j] == label[q]]
        other = [s for j, s in enumerate(row) if label[j] != label[q]]
        if same:
            values.append(np.mean([(a < b) + 0.5 * (a == b) for a in same for b in other]))
    assert rows.loc["misalignment_text", "value"] == pytest.approx(np.mean(values))
    assert rows.loc["modality_gap", "reason"] == NOT_ACTED_ON


def test_rows_of_trained_models_are_contrasts_with_tests_over_seeds_for_the_gap() -> None:
    (runs,) = (one for one in TRAINED if one.table == "objectives")
    rows = rows_of_trained(runs).set_index(["setting", "quantity"])
    table = xg.embedded_table("objectives")
    direct = contrasts(table, "CLIP", ["I-I"]).set_index("setting").loc["Mod-X"]
    found = rows.loc["Mod-X", "I-I"]
    assert found[["baseline", "difference", "low", "high", "p_adjusted"]].tolist() == pytest.approx(
        direct[["control", "change", "low", "high", "p_adjusted"]].tolist()
    )
    last = table[(table["step"] == 60) & (table["quantity"] == "modality_gap")].pivot(
        index="seed", columns="setting", values="value"
    )
    others = last.drop(columns="CLIP").sub(last["CLIP"], axis=0)
    p = {name: stats.ttest_1samp(others[name], 0).pvalue for name in others}
    adjusted = dict(zip(p, holm(list(p.values())), strict=True))
    for setting in runs.systems:
        row = rows.loc[setting, "modality_gap"]
        assert row[["p_value", "p_adjusted"]].tolist() == pytest.approx([p[setting], adjusted[setting]])
        assert row["over"] == "seeds"
    assert rows["n_queries"].dtype.kind == "i"
    assert (rows.loc["Mod-X", "I-I"]["n_queries"], rows.loc["Mod-X", "modality_gap"]["n_queries"]) == (
        direct["n_queries"],
        0,
    )
    sure = rows[rows["verdict"] != "inconclusive"]
    assert len(sure)
    for ends in (("low", "high"), ("queries_low", "queries_high")):  # either interval lies beside zero, or is not there
        low, high = (sure[end] for end in ends)
        assert ((low > 0) | (high < 0) | low.isna()).all()


def test_one_seed_is_no_verdict() -> None:
    (runs,) = (one for one in TRAINED if one.table == "tiny-3")
    rows = rows_of_trained(runs)
    assert set(rows["quantity"]) == {"modality_gap", "I-T", "T-I"}
    assert set(rows["reason"]) == {"one seed"}
    assert set(rows["over"]) == {"queries"}


def test_tests_are_adjusted_over_the_systems_of_a_quantity() -> None:
    p = [0.001, 0.02, 0.04, math.nan]
    rows = [
        {"quantity": q, "p_value": x, "low": 0.1, "high": 0.2, "effective_groups": 20, "reason": ""}
        for q in "ab"
        for x in p
    ]
    table = _with_verdicts(pd.DataFrame(rows))
    for quantity in "ab":
        part = table[table["quantity"] == quantity]
        assert part["p_adjusted"].tolist()[:3] == pytest.approx(holm(p[:3]).tolist())
        assert part["verdict"].tolist()[:3] == ["higher", "higher", "higher"]
        assert part["verdict"].iloc[3] is None


def test_a_few_queries_keep_what_is_relevant_to_them() -> None:
    data = few(xg.load_dataset("emoji-scenes:composed").split("test"), 3)
    grades = data.relevance().qrels
    assert grades is not None
    assert len(data.texts) == 3
    assert set(data.images.ids) == {i for q in data.texts.ids for i in grades[q]}
    assert len(set(few(xg.load_dataset("emoji").split("test"), 3).labels_of().values())) == 3


def test_the_committed_atlas_accounts_for_every_published_system() -> None:
    table, known = xg.embedded_table("atlas"), [one.system for one in systems()]
    there = set(table["system"])
    assert {one.system for one in ACTING} <= there <= set(known)
    missing = left_out(table)
    assert [name for name in known if name not in there] == list(missing)
    assert all(missing.values())
    assert set(table["quantity"]) == set(QUANTITIES)
    assert not table.duplicated(["system", "kind", "setting", "quantity"]).any()
    without = table[table["difference"].isna()]
    assert set(without["reason"]) == {NOT_ACTED_ON, NOT_DEFINED}
    assert without["verdict"].isna().all()
    words = atlas_words(table)
    assert list(words.columns) == list(QUANTITIES)
    assert (words.loc["FILIP: late_interaction", "modality_gap"], words.loc["X-Pool: x_pool", "I-I"]) == ("·", "")
    assert words.loc["FILIP: late_interaction", "I-I"].endswith("*")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("FILP", "unknown system 'FILP'; nearest names: FILIP"),
        ("MM-Embed", "'MM-Embed' has no row in the atlas: it needs a language model"),
        ("CLSR", "'CLSR' has no row in the atlas: no run of it is in the tables"),
    ],
)
def test_a_system_without_a_row_is_refused(name: str, message: str) -> None:
    with pytest.raises(XgapError, match=message):
        atlas(systems=[name], progress=False)


def test_one_system_alone_is_a_small_atlas() -> None:
    table = atlas(systems=["MacCap"], quick=True, progress=False)
    assert list(table["quantity"]) == list(QUANTITIES)
    assert set(table["system"]) == {"MacCap"}
    tested = table[table["p_value"].notna()]
    assert tested["p_adjusted"].tolist() == tested["p_value"].tolist()  # alone in its family
    assert set(tested["verdict"]) == {"inconclusive"}  # of six groups
