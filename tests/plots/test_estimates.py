"""Curves through seaborn: each line under its own name, whatever the order of places."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

mpl.use("agg")

from xgap_analysis.plots.estimates import curves
from xgap_analysis.plots.style import LINES


@pytest.mark.parametrize("ends", [None, ("low", "high")])
def test_a_line_has_its_own_name_and_colour_where_another_begins_before_it(ends: tuple[str, str] | None) -> None:
    table = pd.DataFrame({"x": [2, 3, 1, 2], "y": [20.0, 21.0, 10.0, 11.0], "of": ["late", "late", "early", "early"]})
    table = table.assign(low=table["y"] - 1, high=table["y"] + 1)
    ax = plt.figure().subplots()
    curves(ax, table, "x", "y", "of", ends)
    seen = {line.get_label(): (line.get_xydata().tolist(), line.get_color(), line.get_marker()) for line in ax.lines}
    assert seen == {
        "late": ([[2, 20], [3, 21]], LINES[0][0], LINES[0][2]),
        "early": ([[1, 10], [2, 11]], LINES[1][0], LINES[1][2]),
    }
    plt.close("all")


def test_rows_without_a_value_or_a_place_are_left_out() -> None:
    table = pd.DataFrame({"x": [1, np.nan, 2], "y": [1.0, 2.0, np.nan], "of": ["a", "b", "c"]})
    ax = plt.figure().subplots()
    curves(ax, table, "x", "y", "of")
    assert [line.get_label() for line in ax.lines] == ["a"]
    curves(ax, table.iloc[1:], "x", "y", "of")
    assert len(ax.lines) == 1
    plt.close("all")
