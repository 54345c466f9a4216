"""Verdicts: what a paired difference says of a claim, and why it says nothing where it does not."""

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from xgap_analysis.metrics.significance import holm

LEVEL = 0.05  # of the adjusted test; the interval's level is 1 - LEVEL
# From data/statistics/type_one.csv (`python -m benchmarks.type_one`): with so many groups, counted as groups of equal
# size, a verdict is false in at most 5 % of cases without a difference, with skewed differences and unequal groups too.
# `tests/metrics/test_verdicts.py` holds this, and that it is the least such number of those simulated.
ENOUGH_GROUPS = 20
INCONCLUSIVE = "inconclusive"
UNTESTED: dict[str, Any] = {"p_adjusted": math.nan, "family": "", "family_size": 0, "verdict": None, "reason": ""}
MEMBERS = (
    "model",
    "dataset",
    "split",
    "label_set",
    "comparison",
    "correction",
    "scorer",
    "metric",
)  # and options, "a.b"


@dataclass(frozen=True)
class Verdict:
    """A word (None where no verdict is due), and the reason for `inconclusive` or for no verdict; else an empty one.

    Example:
        >>> import xgap_analysis as xg
        >>> xg.metrics.verdict(-0.010, -0.002, 0.01, 40, claim=1).word
        'contradicted'
    """

    word: str | None
    reason: str = ""


def verdict(low: float, high: float, p_adjusted: float, effective_groups: int | float, claim: int = 0) -> Verdict:
    """What a paired difference says of a claim.

    A verdict needs three things: an interval that excludes zero, an adjusted p-value below 0.05, and at least
    `ENOUGH_GROUPS` independent groups of queries, or unequal ones that weigh as much. Without one of them it is
    `inconclusive`, and the reason names all that are missing.

    How often a verdict is given where there is no difference: `data/statistics/type_one.csv`, for one test (a larger
    family makes it rarer), with equal and unequal groups and with skewed differences. No test of a mean can hold for
    every distribution: a gain so rare that no group in the data has it is not seen by any.

    Args:
        low, high: 95 % interval of the difference.
        p_adjusted: Holm's p-value over the family of tests; NaN for a measure that is not in the family.
        effective_groups: independent groups behind the test, counted as groups of equal size (`PairedTest`).
        claim: the sign of the difference by the claim: 1 better, -1 worse, 0 none made.

    Returns:
        `supported` or `contradicted` where there is a claim, `higher` or `lower` where there is none, or
        `inconclusive`.

    Example:
        >>> import xgap_analysis as xg
        >>> xg.metrics.verdict(0.002, 0.010, 0.01, 40, claim=1)
        Verdict(word='supported', reason='')
        >>> xg.metrics.verdict(-0.002, 0.010, 0.01, 40, claim=1)
        Verdict(word='inconclusive', reason='the interval includes zero')
    """
    missing = []
    if not effective_groups >= ENOUGH_GROUPS:
        missing.append(f"{_number(effective_groups)}, at least {ENOUGH_GROUPS} needed")
    if not (low > 0 or high < 0):
        missing.append("the interval includes zero")
    if math.isnan(p_adjusted):
        missing.append("not in the family of tests")
    elif not p_adjusted < LEVEL:
        missing.append(f"adjusted p not below {LEVEL:g}")
    if missing:
        return Verdict(INCONCLUSIVE, "; ".join(missing))
    sign = 1 if low > 0 else -1
    if not claim:
        return Verdict("higher" if sign > 0 else "lower")
    return Verdict("supported" if sign == claim else "contradicted")


def with_verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """A table of one family of tests, with `p_adjusted`, `family`, `family_size`, `verdict` and `reason`.

    The family holds every main measure that was tested (`main`, and a `p_value`). It is fixed here, when the study
    runs: choosing rows of the result afterwards changes no number. A row without a test, such as a baseline, has no
    verdict; neither has a control (`control`), whatever its p-value, because no claim is made of it.

    Args:
        table: columns `main`, `p_value`, `difference_low`, `difference_high`, `effective_groups`, `claim` and
            `control`, and what names a row.

    Returns:
        the table, with `family` an id that names what is compared and a digest of the tests in it, and `family_size`
        their number; empty and 0 in rows outside it.

    Example:
        >>> import xgap_analysis as xg
        >>> table = xg.embedded_table("study")
        >>> sorted(set(xg.metrics.with_verdicts(table)["verdict"].dropna()))
        ['contradicted', 'higher', 'inconclusive', 'lower', 'supported']
    """
    tested = table["main"].astype(bool) & table["p_value"].notna()
    table = table.assign(**UNTESTED)
    if tested.any():
        table.loc[tested, "p_adjusted"] = holm(table.loc[tested, "p_value"].to_numpy())
        table.loc[tested, "family"] = _family(table[tested])
        table.loc[tested, "family_size"] = int(tested.sum())
    found = [_of_row(row) for row in table.to_dict("records")]
    table["verdict"] = [one.word for one in found]
    table["reason"] = [one.reason for one in found]
    return table


def _of_row(row: dict[Any, Any]) -> Verdict:
    if pd.isna(row["p_value"]):
        return Verdict(None)
    if row["control"]:
        return Verdict(None, "control")
    numbers = row["difference_low"], row["difference_high"], row["p_adjusted"], float(row["effective_groups"])
    return verdict(*numbers, int(row["claim"]))


def _number(effective_groups: int | float) -> str:
    """A number of groups in words, rounded down, so that one that does not suffice never reads as if it did."""
    number = math.floor(10 * effective_groups) / 10
    return f"{number:g} effective group{'' if number == 1 else 's'}"


def _family(tests: pd.DataFrame) -> str:
    named = [name for name in tests if name in MEMBERS or "." in name]
    members = sorted(json.dumps([str(value) for value in row]) for row in tests[named].itertuples(index=False))
    about = " ".join(str(tests[name].iloc[0]) for name in ("model", "dataset", "split") if name in tests)
    return f"{about} #{hashlib.sha256(json.dumps(members).encode()).hexdigest()[:8]}"
