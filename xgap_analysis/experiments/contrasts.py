"""What the settings of an ablation change against its control: paired differences, with intervals of two kinds."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.metrics import detectable_effect, holm, paired_test, seed_interval

Vector = np.ndarray


def contrasts(table: pd.DataFrame, control: str, quantities: Sequence[str] | None = None) -> pd.DataFrame:
    """How each setting differs from the control in each quantity, and how sure that is.

    Formula: the change is the mean over seeds of value minus the control's value with the same seed. `low` and `high`
    are Student's 95 % interval over seeds (what batches, augmentations and fresh weights change). `queries_low` and
    `queries_high` are a 95 % bootstrap over groups of queries of the difference that is averaged over these seeds (what
    another test set changes, of the models as they are), and `p_value` is of `paired_test` over the same groups;
    `p_adjusted` is Holm's, over the settings of one quantity. A change that holds has both intervals beside zero.
    `detectable` is the smallest change that so many seeds would show four times out of five (`metrics.power`).

    Args:
        table: from `ablate`, or one step of each run (`at_equal_quality`); the last step of each run counts.
        control: the setting that the others are compared with.
        quantities: which; by default all that the table holds.

    Returns:
        One row for each setting and quantity that have a value with one seed of the control at least: setting,
        quantity, control (the control's mean), value, change, low, high, detectable, seeds (that both have), and
        queries_low, queries_high, p_value, p_adjusted, n_queries, n_groups and effective_groups (NaN and 0 where a
        quantity has no value of each query).

    Raises:
        XgapError: a setting or quantity that the table does not hold, or runs that were evaluated on other queries.
    """
    last = last_steps(table)
    settings, known = list(dict.fromkeys(last["setting"])), list(dict.fromkeys(last["quantity"]))
    if control not in settings:
        raise unknown_name("setting", control, settings)
    rows: list[dict[str, Any]] = []
    for quantity in known if quantities is None else quantities:
        if quantity not in known:
            raise unknown_name("quantity", quantity, known)
        runs = last[last["quantity"] == quantity].set_index(["setting", "seed"])
        pairs = [(setting, _shared(runs, setting, control)) for setting in settings if setting != control]
        family = [_contrast(runs, setting, control, seeds) for setting, seeds in pairs if len(seeds)]
        tested = [row for row in family if not math.isnan(row["p_value"])]
        for row, p in zip(tested, holm([row["p_value"] for row in tested]) if tested else [], strict=True):
            row["p_adjusted"] = float(p)
        rows += [{"setting": row.pop("setting"), "quantity": quantity, **row} for row in family]
    return pd.DataFrame(rows)


def last_steps(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of each run's last step."""
    return table[table["step"] == table.groupby(["setting", "seed"])["step"].transform("max")]


def beside_zero(changes: pd.DataFrame) -> pd.DataFrame:
    """The changes that neither other seeds nor other queries would take away: every interval there is lies beside zero.

    No adjustment for the number of settings and quantities is made; `p_adjusted` has one.

    Args:
        changes: from `contrasts`. A change of one seed has no interval over seeds, and is left out.
    """
    seeds = (changes["low"] > 0) | (changes["high"] < 0)
    queries = (changes["queries_low"] > 0) | (changes["queries_high"] < 0) | changes["queries_low"].isna()
    return changes[seeds & queries].reset_index(drop=True)


def contrast_words(
    table: pd.DataFrame, control: str, quantities: Sequence[str], *, over: str = "seeds", digits: int = 3
) -> pd.DataFrame:
    """For reading: settings by quantities, the control's values and each setting's change with its 95 % interval.

    Args:
        table, control, quantities: as in `contrasts`.
        over: whose interval: `"seeds"` or `"queries"`.
        digits: behind the decimal point.

    Raises:
        XgapError: as `contrasts`, or another word for `over`.
    """
    if over not in ("seeds", "queries"):
        raise XgapError(f'intervals are over "seeds" or over "queries", not {over!r}')
    low, high = ("low", "high") if over == "seeds" else ("queries_low", "queries_high")
    words: dict[str, dict[str, str]] = {control: {}}
    for row in contrasts(table, control, quantities).to_dict("records"):
        ends = "" if math.isnan(row[low]) else f" ({row[low]:+.{digits}f}, {row[high]:+.{digits}f})"
        words[control][row["quantity"]] = f"{row['control']:.{digits}f}"
        words.setdefault(row["setting"], {})[row["quantity"]] = f"{row['change']:+.{digits}f}{ends}"
    return pd.DataFrame(words, index=list(quantities)).T.fillna("").rename_axis("setting")


def _shared(runs: pd.DataFrame, setting: str, control: str) -> pd.Index:
    """The seeds with which both have a value; a quantity may be measured at the last step alone."""
    seeds = runs.index.get_level_values("seed")
    of = runs.index.get_level_values("setting")
    return seeds[of == setting].intersection(seeds[of == control])


def _contrast(runs: pd.DataFrame, setting: str, control: str, seeds: pd.Index) -> dict[str, Any]:
    own, base = runs.loc[setting], runs.loc[control]
    value, before = (part.loc[seeds, "value"].to_numpy(float) for part in (own, base))
    mean, low, high = seed_interval(value - before)
    row: dict[str, Any] = {"setting": setting, "control": before.mean(), "value": value.mean(), "change": mean}
    row |= {"low": low, "high": high, "detectable": detectable_effect(value - before), "seeds": len(seeds)}
    sizes = _sizes(own.loc[seeds], base.loc[seeds])
    a, b = _by_group(base.loc[seeds]), _by_group(own.loc[seeds])
    if a is None or b is None or sizes is None:
        nothing = dict.fromkeys(("queries_low", "queries_high", "p_value", "p_adjusted"), math.nan)
        return {**row, **nothing, "n_queries": 0, "n_groups": 0, "effective_groups": 0.0}
    groups = np.repeat(np.arange(len(sizes)), sizes)  # a group weighs as much as it has queries
    test = paired_test(np.repeat(a, sizes), np.repeat(b, sizes), groups=groups)
    row |= {"queries_low": test.low, "queries_high": test.high, "p_value": test.p_value, "p_adjusted": math.nan}
    return {**row, "n_queries": test.n, "n_groups": test.n_groups, "effective_groups": test.effective_groups}


def _by_group(runs: pd.DataFrame) -> Vector | None:
    """The means of groups of queries `[g]`, averaged over seeds; None where the quantity has none."""
    known = [row for row in runs.get("by_group", []) if isinstance(row, np.ndarray | list)]
    return np.asarray(np.mean(known, axis=0, dtype=np.float64)) if known and len(known) == len(runs) else None


def _sizes(*parts: pd.DataFrame) -> Vector | None:
    every = [row for runs in parts for row in runs.get("group_sizes", []) if isinstance(row, np.ndarray | list)]
    if not every:
        return None
    if any(not np.array_equal(row, every[0]) for row in every):
        raise XgapError("these runs were evaluated on other queries than the control; evaluate all with one limit")
    return np.asarray(every[0])
