"""Which variants are tied with the best: known answers, and how often one is wrongly called lower."""

import math

import numpy as np
import pandas as pd
import pytest

from benchmarks.type_one import false_losers
from xgap_analysis import XgapError
from xgap_analysis.metrics import against_best, paired_test, verdict
from xgap_analysis.metrics.verdicts import ENOUGH_GROUPS


def test_a_variant_is_lower_where_a_verdict_against_the_best_says_so() -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(size=120)
    groups = np.arange(120) // 4
    variants = {f"{k}": base - 0.02 * k + 0.1 * rng.normal(size=120) for k in range(6)}
    found = against_best(variants, groups)
    best = max(variants, key=lambda name: variants[name].mean())
    assert found[best] == "best"
    assert list(found) == list(variants)
    for name in variants.keys() - {best}:
        test = paired_test(variants[best], variants[name], groups=groups)
        said = verdict(test.low, test.high, min(1.0, 15 * test.p_value), 30.0)  # 15 pairs of 6 variants
        assert found[name] == ("lower" if said.word == "lower" else "tied")
    assert {"tied", "lower"} <= set(found.values())


def test_known_answers() -> None:
    value = np.random.default_rng(0).uniform(size=40)
    assert against_best({}) == {}
    assert against_best({"a": value}) == {"a": "best"}
    assert against_best({"a": value, "b": value}) == {"a": "best", "b": "tied"}  # the first of equals
    assert against_best({"a": value, "b": value + 0.1}) == {"a": "lower", "b": "best"}
    few = np.repeat(np.arange(ENOUGH_GROUPS - 1), 3)[:40]
    assert against_best({"a": value[: len(few)], "b": value[: len(few)] + 0.1}, few)["a"] == "tied"  # too few groups


def test_many_variants_can_still_be_distinguished() -> None:
    value = np.random.default_rng(0).uniform(size=30)
    found = against_best({"best": value + 1, **{f"{k}": value for k in range(20)}}, resamples=100)
    assert set(found.values()) == {"best", "lower"}  # 210 pairs need p-values below 0.05 / 210


def test_series_are_aligned_and_missing_queries_left_out() -> None:
    value = pd.Series(np.random.default_rng(0).uniform(size=30), [f"{k}" for k in range(30)])
    gone = value.copy() - 0.2
    gone.iloc[3] = math.nan
    assert against_best({"a": value, "b": gone.iloc[::-1]}) == {"a": "best", "b": "lower"}
    with pytest.raises(XgapError, match="same queries"):
        against_best({"a": value, "b": value.iloc[1:]})


def test_equal_variants_are_rarely_called_lower() -> None:
    found = false_losers("equal", 20, draws=80, resamples=300)
    assert found["both"] <= 0.13  # 0.05 and three standard errors
    assert found["naive"] > 0.2
