"""Every committed table: counts are whole numbers, p-values are probabilities, and verdicts follow from them."""

import re

import pandas as pd
import pytest

from xgap_analysis.core.paths import data_root
from xgap_analysis.metrics.verdicts import ENOUGH_GROUPS, LEVEL

COUNT = re.compile(r"n|n_(?!events)\w+|seeds?|steps?|items|groups|draws|concepts|cut|drawings|family_size")
FILES = sorted(path for ending in ("csv", "parquet") for path in data_root().glob(f"*/*.{ending}"))
NAMES = [path.relative_to(data_root()).as_posix() for path in FILES]
# Of the tables with verdicts: what one family of tests is, if the whole of it is in the table, and the interval's ends.
FAMILIES = {
    "models/study.parquet": (["family"], "difference_"),
    "mixed/results.csv": (["model"], "difference_"),
    "spoken/directions.csv": (["metric"], "difference_"),
    "statistics/small_study.csv": (["metric"], "difference_"),
    "scenes/insertions.csv": (["images", "split", "attributes", "pick", "correction"], ""),
    "atlas/results.parquet": (None, ""),
}


def read(name: str) -> pd.DataFrame:
    path = data_root() / name
    return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)


def test_the_tables_with_verdicts_are_these() -> None:
    assert {name for name in NAMES if {"verdict", "p_value"} <= set(read(name))} == set(FAMILIES)


@pytest.mark.parametrize("name", NAMES)
def test_counts_are_whole_numbers_and_none_is_missing(name: str) -> None:
    table = read(name)
    counts = [column for column in table if COUNT.fullmatch(column)]
    assert {column: table[column].dtype.kind for column in counts} == dict.fromkeys(counts, "i")
    assert (table[counts] >= 0).all(axis=None)


@pytest.mark.parametrize("name", NAMES)
def test_p_values_are_probabilities_and_intervals_have_their_ends_in_order(name: str) -> None:
    table = read(name)
    for column in {"p_value", "p_adjusted"} & set(table):
        assert table[column].dropna().between(0, 1).all()
        assert (table[column].dropna() > 0).all()  # no test finds a probability of 0
    for column in (column for column in table if column.endswith("low")):
        known = table[[column, column[:-3] + "high"]].dropna()
        assert (known.iloc[:, 0] <= known.iloc[:, 1]).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_verdict_is_given_where_all_three_conditions_hold_and_nowhere_else(name: str) -> None:
    table, (_, interval) = read(name), FAMILIES[name]
    table = table[table["p_value"].notna() & table["verdict"].notna()]
    beside = (table[f"{interval}low"] > 0) | (table[f"{interval}high"] < 0)
    if "queries_low" in table:  # of trained models, both intervals count
        beside &= (table["queries_low"] > 0) | (table["queries_high"] < 0) | table["queries_low"].isna()
        beside &= ~table["reason"].str.contains("one seed")
    sure = beside & (table["p_adjusted"] < LEVEL) & (table["effective_groups"] >= ENOUGH_GROUPS)
    assert (table["verdict"] != "inconclusive").equals(sure)
    assert sure.any() == (name != "statistics/small_study.csv")
    assert (~sure).any()


@pytest.mark.parametrize("name", [name for name, (family, _) in FAMILIES.items() if family])
def test_adjusted_p_values_are_holms_over_their_family(name: str) -> None:
    table, (family, _) = read(name), FAMILIES[name]
    assert family is not None
    tested = table[table["p_adjusted"].notna()]
    for _, rows in tested.groupby(family):
        expected = pd.Series(rows["p_value"]).sort_values()
        steps = (len(rows) - pd.RangeIndex(len(rows))) * expected.to_numpy()  # Holm by its definition
        adjusted = pd.Series(steps, expected.index).clip(upper=1).cummax()
        pd.testing.assert_series_equal(
            adjusted.sort_index(), rows["p_adjusted"].sort_index(), check_names=False, atol=1e-5
        )
