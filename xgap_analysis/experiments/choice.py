"""Choosing an option on one split, and what the choice gives on the split that is reported."""

import pandas as pd

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.experiments.tables import ABOUT, main_rows


def chosen(table: pd.DataFrame, axis: str, *, select_on: str = "val", report_on: str = "test") -> pd.DataFrame:
    """A study along an axis on two splits, with the value that the first split chooses.

    Only the chosen row of the second split is an honest result; the others show what the choice cost.

    Args:
        table: from a `Study` with one comparison and the axes `{"split": [select_on, report_on], axis: [...]}`.
        axis: the option that varies, such as `"pca-text.rank"`.
        select_on, report_on: the split on which the value with the highest mean is chosen, and the one reported.

    Returns:
        The main rows that the axis changes, those of `select_on` first, with a column `chosen`; `attrs["axis"]`
        names the axis.

    Raises:
        XgapError: an axis or a split that the table does not hold, more than one comparison (or model, dataset, ...),
            or no value to choose.

    Example:
        table = xg.Study(["tiny"], ["emoji"], ["I-I"], ["pca-text"],
                         axes={"split": ["val", "test"], "pca-text.rank": [8, 32]}).run()
        xg.chosen(table, "pca-text.rank")

    Example:
        >>> import xgap_analysis as xg
        >>> axes = {"split": ["val", "test"], "oti.steps": [1, 2]}
        >>> table = xg.Study(["tiny"], ["emoji"], ["OTI-I"], axes=axes, limit=2, progress=False).run()
        >>> xg.chosen(table, "oti.steps")[["split", "oti.steps"]].values.tolist()
        [['val[2]', 1], ['val[2]', 2], ['test[2]', 1], ['test[2]', 2]]
    """
    if axis not in table:
        raise unknown_name("axis", axis, table.columns)
    rows = main_rows(table)
    rows = rows[rows[axis].notna()]
    if rows["comparison"].nunique() != 1:
        raise XgapError(f"a value is chosen by one comparison, and the table has {rows['comparison'].nunique()}")
    parts = [
        rows[rows["split"].str.split("[").str[0] == split].reset_index(drop=True) for split in (select_on, report_on)
    ]
    for split, part in zip((select_on, report_on), parts, strict=True):
        if not len(part):
            raise XgapError(f"the table has no rows of split {split!r}; add it to the axis split of the study")
        if part[axis].duplicated().any():
            varied = [name for name in ABOUT if name in part and part[name].nunique() > 1]
            raise XgapError(f"a value of {axis} has several rows on split {split!r}; keep one of each {varied}")
    if parts[0]["value"].isna().all():
        raise XgapError(f"no value of {axis} could be computed on split {select_on!r}: {parts[0]['note'].iloc[0]}")
    value = parts[0].loc[parts[0]["value"].idxmax(), axis]
    both = pd.concat([part.assign(chosen=part[axis] == value) for part in parts], ignore_index=True)
    both.attrs["axis"] = axis
    return both
