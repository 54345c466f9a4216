"""What is tested is what is printed: every number of a row is of the two comparisons that the row names."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis.experiments.evaluation import Evaluation
from xgap_analysis.experiments.tables import main_results
from xgap_analysis.metrics import against_best, dependence, detectable_difference

LABELS = {str(i): f"kind {i // 4}" for i in range(80)}


def world(seed: int) -> list[xg.Features]:
    """Twenty kinds, four items each, in two modalities with a gap."""
    draw = np.random.default_rng(seed)
    centre = np.random.default_rng(99).normal(size=(20, 12))[np.arange(80) // 4]
    ids = [str(i) for i in range(80)]
    return [
        xg.Features(centre + 1.2 * draw.normal(size=(80, 12)) + shift, ids, space, space)
        for space, shift in (("image", 1.0), ("text", -1.0))
    ]


@pytest.fixture(scope="module")
def study() -> xg.Study:
    corrections = ["none", "center", "random-subspace(rank=3)", "gap-shift(lambda_=0.2)"]
    made = xg.study_of_features(world(0), LABELS, ["I-I", "T-I"], corrections, calibration=world(1))
    return xg.Study(
        made.models, made.datasets, made.comparisons, corrections, axes={"random-subspace.rank": [3, 6]}, progress=False
    )


@pytest.fixture(scope="module")
def table(study: xg.Study) -> pd.DataFrame:
    return study.run()


@pytest.fixture(scope="module")
def evaluation(study: xg.Study) -> Evaluation:
    return next(iter(study.evaluations()))


def test_each_difference_is_of_the_row_and_of_the_baseline_that_it_names(
    evaluation: Evaluation, table: pd.DataFrame
) -> None:
    tested = table[table["p_value"].notna()]
    assert set(tested["correction"]) >= {"center", "random-subspace(rank=6)", "gap-shift(lambda_=0.2)"}
    native = table[table["correction"] == "none"].set_index(["comparison", "metric"])
    for row in tested.to_dict("records"):
        own = evaluation.scores(row["comparison"], row["correction"])[row["metric"]]
        base = evaluation.scores(row["baseline"])[row["metric"]]
        groups = [LABELS[i] for i in own.index]
        test = xg.paired_test(base, own, groups=groups)
        printed = [row[name] for name in ("difference", "difference_low", "difference_high", "p_value", "n_groups")]
        assert printed == pytest.approx([test.difference, test.low, test.high, test.p_value, test.n_groups])
        # The two values that are printed have the difference that is tested.
        before = native.loc[(row["baseline"], row["metric"]), "value"]
        assert row["value"] - before == pytest.approx(row["difference"], abs=1e-12)
        alike = dependence(own - base, groups)
        assert [row["icc"], row["design_effect"]] == pytest.approx([alike.icc, alike.design_effect], nan_ok=True)
        assert row["detectable"] == pytest.approx(detectable_difference(own - base, groups), nan_ok=True)


def test_the_words_name_the_row_and_its_baseline(table: pd.DataFrame) -> None:
    main = xg.main_rows(table)
    for row, words in zip(main.to_dict("records"), main_results(table), strict=True):
        assert (words["comparison"], words["correction"]) == (row["comparison"], row["correction"])
        assert words["value"].startswith(f"{row['value']:.3f}")
        assert words["vs"] == ("" if np.isnan(row["difference"]) else row["baseline"])
        assert words["best"] == row["against_best"]
        assert words["smallest effect"] == ("" if np.isnan(row["detectable"]) else f"{row['detectable']:.3f}")
        assert words["design effect"] == f"{row['design_effect']:.2f}"


def test_the_best_is_of_the_variants_that_are_printed(evaluation: Evaluation, table: pd.DataFrame) -> None:
    main = xg.main_rows(table)
    assert set(main["against_best"]) == {"best", "tied", "lower"}
    for baseline, rows in main.groupby("baseline"):
        variants = {}
        for row in rows.to_dict("records"):
            values = evaluation.scores(row["comparison"], row["correction"])[row["metric"]]
            variants[f"{row['comparison']} {row['correction']}"] = values
        groups = [LABELS[i] for i in next(iter(variants.values())).index]
        assert rows["against_best"].tolist() == list(against_best(variants, groups).values()), baseline
        assert rows.loc[rows["against_best"] == "best", "value"].item() == rows["value"].max()
    assert set(table.loc[~table["main"], "against_best"]) == {""}


def test_what_has_seen_the_test_set_and_what_stands_alone_are_not_compared() -> None:
    one = xg.main_rows(xg.study_of_features(world(0), LABELS, ["I-I"]).run())
    assert one["against_best"].tolist() == [""]

    @xg.register_correction("seen", transductive=True)
    def seen(calibration: xg.Calibration) -> Callable[[xg.Features], xg.Features]:
        """What it is given, but it could have looked."""
        return lambda features: features

    study = xg.study_of_features(world(0), LABELS, ["I-I"], ["none", "center", "seen"], calibration=world(1))
    rows = xg.main_rows(study.run()).set_index("correction")
    assert rows["transductive"].tolist() == [False, False, True]
    assert sorted(rows["against_best"]) == ["", "best", "tied"]
    assert rows.loc["seen", "against_best"] == ""
