"""Verdicts: what they need, how often they are false, and the family of tests they stand in."""

import math

import numpy as np
import pandas as pd
import pytest

import xgap_analysis as xg
from benchmarks.type_one import (
    DRAWS,
    NAIVE_DRAWS,
    NULLS,
    SIZES,
    false_correlations,
    false_findings,
    false_seeds,
    results_together,
)
from xgap_analysis.metrics import holm, paired_test, verdict, with_verdicts
from xgap_analysis.metrics.resampling import sign_flip_p
from xgap_analysis.metrics.verdicts import ENOUGH_GROUPS, LEVEL

PUBLISHED = xg.embedded_table("type-one")
TABLE = PUBLISHED[PUBLISHED["tested"] == "difference"]
MANY = 10 * ENOUGH_GROUPS


def error(share: float) -> float:
    """Two Monte-Carlo standard errors of a share."""
    return 2 * math.sqrt(share * (1 - share) / DRAWS)


def test_verdicts_are_false_in_one_draw_of_twenty_at_most() -> None:
    """Of every kind of values, equal groups and unequal ones, skewed or not."""
    assert set(TABLE["null"]) == {"normal", "sparse", "skewed", "bounded"}
    assert set(TABLE["sizes"]) == {"equal", "unequal"}
    assert (TABLE["draws"] == DRAWS).all()
    assert DRAWS >= 5000
    assert TABLE["verdict"].max() <= LEVEL + error(LEVEL)
    assert (TABLE["verdict"] <= TABLE["both"]).all()


def test_enough_groups_is_the_least_number_simulated_from_which_that_holds() -> None:
    equal = TABLE[TABLE["sizes"] == "equal"]
    held = equal.groupby("n_groups")["both"].max() <= LEVEL + error(LEVEL)
    assert held[held.index >= ENOUGH_GROUPS].all()
    assert not held[held.index < ENOUGH_GROUPS].iloc[-1]
    assert (equal["enough"] == (equal["n_groups"] >= ENOUGH_GROUPS)).all()


def test_without_the_studentised_test_skewed_values_would_be_taken_for_effects() -> None:
    """The sign flips alone, on the values of the committed rows in which they fail most."""
    rng, draws, n_groups = np.random.default_rng(0), 400, 20
    flips = 0
    for _ in range(draws):
        of = np.repeat(np.arange(n_groups), SIZES["unequal"](rng, n_groups))
        total = np.bincount(of, weights=NULLS["bounded"](rng, of, n_groups))
        flips += sign_flip_p(total[None], 400, rng)[0] < LEVEL
    own = TABLE.set_index(["null", "sizes", "n_groups"]).loc[("bounded", "unequal", n_groups), "test"]
    assert flips / draws > own + error(own)


def test_sets_results_together_are_tested_as_each_by_itself() -> None:
    rng, n_groups = np.random.default_rng(1), 12
    values, together = [], []
    for null in ("bounded", "normal", "sparse") * 4:
        of = np.repeat(np.arange(n_groups), SIZES["unequal"](rng, n_groups))
        d = NULLS[null](rng, of, n_groups) + 0.1
        values.append(paired_test(np.zeros(len(d)), d, groups=of, resamples=4000))
        together.append([np.bincount(of, weights=d), np.bincount(of)])
    total, count = np.array(together, dtype=float).transpose(1, 0, 2)
    low, high, p = results_together(total, count, 4000, rng)
    np.testing.assert_allclose(p, [test.p_value for test in values], atol=0.04)
    spread = np.array([test.high - test.low for test in values])
    assert (np.abs(low - [test.low for test in values]) < 0.08 * spread).all()
    assert (np.abs(high - [test.high for test in values]) < 0.08 * spread).all()


@pytest.mark.parametrize("n_groups", [1, 2, 4])
def test_with_few_groups_intervals_alone_are_false_and_verdicts_are_not(n_groups: int) -> None:
    found = false_findings("normal", "equal", n_groups, draws=200, resamples=500)
    assert found["interval"] > 0.1
    assert found["both"] == 0


def test_the_script_gives_the_committed_shares() -> None:
    committed = TABLE.set_index(["null", "sizes", "n_groups"]).loc[("normal", "equal", 10)]
    found = false_findings("normal", "equal", 10, draws=600, resamples=500)
    for name in ("interval", "both", "naive"):
        assert found[name] == pytest.approx(committed[name], abs=4 * math.sqrt(committed[name] / 600))


def test_no_verdict_of_any_kind_is_false_more_often_than_it_says() -> None:
    """A verdict needs enough groups besides."""
    verdicts = PUBLISHED[PUBLISHED["tested"] != "seeds"].copy()
    verdicts["verdict"] = verdicts["verdict"].fillna(verdicts["both"])  # where the demand for groups was not simulated
    assert set(verdicts["tested"]) == {"difference", "correlation", "best"}
    assert {6, 15, 30, 100} <= set(TABLE["n_groups"]) & set(
        verdicts.loc[verdicts["tested"] == "correlation", "n_groups"]
    )
    assert verdicts["verdict"].max() <= LEVEL + error(LEVEL)
    seeds = PUBLISHED[PUBLISHED["tested"] == "seeds"]
    assert (seeds["interval"] <= LEVEL + error(LEVEL)).all()  # Student's, which is exact for normal values
    assert (PUBLISHED["draws"] == DRAWS).all()


def test_the_naive_test_is_false_far_more_often() -> None:
    beside = PUBLISHED[PUBLISHED["naive"].notna() & (PUBLISHED["n_groups"] >= 6)]
    assert (beside["naive"] > 2 * LEVEL).all()
    assert (beside["naive"] > beside["both"]).all()


def test_the_script_gives_the_committed_shares_of_the_other_tests() -> None:
    rows = PUBLISHED.set_index(["tested", "sizes", "n_groups"])
    committed, found = rows.loc[("correlation", "equal", 15)], false_correlations("equal", 15, draws=150, resamples=200)
    for name in ("interval", "both", "naive"):
        share = committed[name]
        assert found[name] == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 150) + 0.02)
    assert false_seeds(3, DRAWS)["interval"] == pytest.approx(rows.loc[("seeds", "equal", 3), "interval"], abs=1e-4)
    assert NAIVE_DRAWS <= DRAWS


@pytest.mark.parametrize(
    ("low", "high", "claim", "said"),
    [
        (0.1, 0.2, 1, "supported"),
        (0.1, 0.2, -1, "contradicted"),
        (0.1, 0.2, 0, "higher"),
        (-0.2, -0.1, 1, "contradicted"),
        (-0.2, -0.1, -1, "supported"),
        (-0.2, -0.1, 0, "lower"),
    ],
)
def test_a_verdict_needs_interval_adjusted_test_and_groups(low: float, high: float, claim: int, said: str) -> None:
    found = verdict(low, high, 0.049, MANY, claim)
    assert (found.word, found.reason) == (said, "")
    assert verdict(low, high, 0.049, ENOUGH_GROUPS, claim).word == said
    for p, n, reason in (
        (0.05, MANY, "adjusted p not below 0.05"),
        (0.184, MANY, "adjusted p not below 0.05"),
        (math.nan, MANY, "not in the family of tests"),
        (0.001, ENOUGH_GROUPS - 1, f"{ENOUGH_GROUPS - 1} effective groups, at least {ENOUGH_GROUPS} needed"),
        (0.001, ENOUGH_GROUPS - 0.01, f"{ENOUGH_GROUPS - 0.1} effective groups, at least {ENOUGH_GROUPS} needed"),
        (0.001, 1, f"1 effective group, at least {ENOUGH_GROUPS} needed"),
    ):
        found = verdict(low, high, p, n, claim)
        assert (found.word, found.reason) == ("inconclusive", reason)


@pytest.mark.parametrize(("low", "high"), [(-0.1, 0.1), (0.0, 0.1), (-0.1, 0.0), (math.nan, math.nan)])
def test_an_interval_that_includes_zero_gives_no_verdict(low: float, high: float) -> None:
    assert verdict(low, high, 0.001, MANY, 1).reason == "the interval includes zero"
    assert verdict(low, high, 0.2, 4, 1).reason.count(";") == 2  # every reason is given


def rows(p: list[float]) -> pd.DataFrame:
    table = pd.DataFrame({"comparison": [f"c{k}" for k in range(len(p))], "p_value": p})
    about = {"model": "m", "dataset": "d", "split": "test", "main": True, "claim": 1, "control": False}
    return table.assign(**about, difference_low=0.1, difference_high=0.2, effective_groups=float(MANY))


def test_a_family_is_all_main_measures_that_were_tested_and_is_stored() -> None:
    p = [0.01, 0.02, math.nan, 0.03]
    made = with_verdicts(rows(p))
    np.testing.assert_allclose(made["p_adjusted"], holm(p))
    assert made["family_size"].tolist() == [3, 3, 0, 3]
    assert made["verdict"].fillna("").tolist() == ["supported", "supported", "", "supported"]
    assert made["family"][2] == ""
    assert made["family"].nunique() == 2
    other = with_verdicts(rows(p).iloc[:2])
    assert set(other["family"]).isdisjoint(set(made["family"]))
    again = with_verdicts(rows(p).iloc[::-1])
    assert set(again["family"]) == set(made["family"])  # the order of the rows is no part of it
    outside = with_verdicts(rows(p).assign(main=[True, True, True, False]))
    assert outside["reason"][3] == "not in the family of tests"
    assert outside["family_size"].tolist() == [2, 2, 0, 0]


def test_a_control_keeps_its_numbers_and_has_no_verdict() -> None:
    made = with_verdicts(rows([0.01, 0.02]).assign(control=[False, True]))
    assert made["verdict"].fillna("").tolist() == ["supported", ""]
    assert made["reason"].tolist() == ["", "control"]
    assert made["p_adjusted"].tolist() == pytest.approx([0.02, 0.02])


def test_a_test_counts_the_groups_that_it_has() -> None:
    test = paired_test([0.0, 0.0, math.nan, 0.0], [1.0, 2.0, 3.0, 1.0], groups=["a", "a", "b", "c"])
    assert (test.n, test.n_groups) == (3, 2)
    assert test.effective_groups == pytest.approx(9 / 5)  # two values and one


def test_unequal_groups_weigh_less_than_their_number() -> None:
    """Two hundred classes of which one holds nine tenths of all queries are not two hundred observations."""
    sizes = np.array([1800, *[1] * 200])
    of = np.repeat(np.arange(len(sizes)), sizes)
    test = paired_test(np.zeros(len(of)), np.full(len(of), 0.2) + 0.01 * of / len(sizes), groups=of, resamples=500)
    assert test.n_groups == 201
    assert verdict(test.low, test.high, 0.001, test.effective_groups).reason.startswith("1.2 effective groups")
