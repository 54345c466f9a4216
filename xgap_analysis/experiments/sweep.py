"""Choosing an option of a correction on a validation split, and what the choice gives on the split that is judged."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from xgap_analysis.core.errors import XgapError
from xgap_analysis.corrections import Correction, correction
from xgap_analysis.experiments.study import Comparison, Study, main_rows
from xgap_analysis.models import load_model
from xgap_analysis.models.tower import DualEncoder

COLUMNS = ["value", "low", "high", "difference", "difference_low", "difference_high", "p_value", "n_queries"]


def sweep(
    model: str | DualEncoder,
    dataset: str,
    by: str | Correction,
    option: str,
    values: Sequence[Any],
    *,
    comparison: str | Comparison = "I-I",
    select_on: str = "val",
    report_on: str = "test",
    **study: Any,
) -> pd.DataFrame:
    """A correction with each value of one of its options, judged on two splits; the first one chooses.

    Args:
        model, dataset: as in `Study`; the data set by name, since its splits are needed.
        by: the correction, with its other options if need be: `"isoclip(k_bottom=8)"`.
        option: the option that varies, such as `"rank"`.
        values: what it is set to.
        comparison: whose main measure decides.
        select_on, report_on: the split that the value with the highest mean is chosen on, and the one that is judged.
        study: further arguments of `Study` (limit, seeds, steps, ...).

    Returns:
        One row for each split and value, in this order: `split`, the option's value in a column of its name, `value`,
        `low`, `high`, the paired `difference` from the uncorrected comparison with its interval and `p_value`,
        `n_queries`, and `chosen`. On the second split only the chosen row is an honest result; the others show what
        the choice cost. `attrs["option"]` names the option.

    Raises:
        XgapError: no values, one split for both, or what `Study` refuses.
    """
    if not len(values):
        raise XgapError(f"a sweep over {option!r} needs at least one value")
    if select_on == report_on:
        raise XgapError(f"a sweep chooses on one split and reports on another; both are {select_on!r}")
    each = {str(correction(by, **{option: value})): value for value in values}
    loaded = load_model(model) if isinstance(model, str) else model
    parts = []
    for split in (select_on, report_on):
        run = Study([loaded], [dataset], [comparison], list(each), split=split, **study).run()
        rows = main_rows(run).set_index("correction")
        part = rows.loc[list(each), COLUMNS].reset_index(drop=True)
        part.insert(0, option, list(each.values()))
        part.insert(0, "split", split)
        parts.append(part)
    best = parts[0]["value"].idxmax()
    both = pd.concat([part.assign(chosen=part.index == best) for part in parts], ignore_index=True)
    both.attrs["option"] = option
    return both
