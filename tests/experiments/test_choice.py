"""An option is chosen on one split and reported on another."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError


def table(**changed: Any) -> pd.DataFrame:
    """Ranks on two splits: 32 is best on the first, 64 on the second; one row that the axis does not change."""
    values = {
        ("val", 8): 0.3,
        ("val", 32): 0.6,
        ("val", 64): 0.5,
        ("test", 8): 0.2,
        ("test", 32): 0.5,
        ("test", 64): 0.7,
    }
    rows = [
        {"split": f"{split}[20]", "comparison": "I-I", "main": main, "pca-text.rank": rank, "value": value - (not main)}
        for (split, rank), value in values.items()
        for main in (True, False)
    ]
    rows += [{**rows[0], "pca-text.rank": np.nan, "value": 0.9, **changed}]
    return pd.DataFrame(rows)


def test_the_value_that_is_best_on_the_first_split_is_chosen_on_both() -> None:
    found = xg.chosen(table(), "pca-text.rank")
    assert found["split"].tolist() == ["val[20]"] * 3 + ["test[20]"] * 3
    assert found["pca-text.rank"].tolist() == [8, 32, 64] * 2
    assert found["chosen"].tolist() == [False, True, False] * 2
    assert found["value"].tolist() == [0.3, 0.6, 0.5, 0.2, 0.5, 0.7]  # the main measure alone
    assert found.attrs["axis"] == "pca-text.rank"
    turned = xg.chosen(table(), "pca-text.rank", select_on="test", report_on="val")
    assert turned["split"].tolist() == ["test[20]"] * 3 + ["val[20]"] * 3
    assert turned[turned["chosen"]]["pca-text.rank"].tolist() == [64, 64]


def test_options_need_not_be_numbers() -> None:
    rows = pd.DataFrame(
        [
            {"split": split, "comparison": "I-I", "main": True, "pca-text.words": words, "value": value}
            for split in ("val", "test")
            for words, value in (("imagenet", 0.2), ("classes", 0.4))
        ]
    )
    assert xg.chosen(rows, "pca-text.words")["chosen"].tolist() == [False, True] * 2


def test_of_equal_values_the_first_is_chosen() -> None:
    rows = table()
    rows.loc[rows["main"] & rows["split"].eq("val[20]"), "value"] = 0.5
    assert xg.chosen(rows, "pca-text.rank")["chosen"].tolist() == [True, False, False] * 2


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"axis": "pca-text.ranks"}, "unknown axis 'pca-text.ranks'; nearest names: pca-text.rank"),
        ({"select_on": "train"}, "no rows of split 'train'"),
        ({"report_on": "train"}, "no rows of split 'train'"),
    ],
)
def test_what_the_table_does_not_hold_is_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(XgapError, match=message):
        xg.chosen(table(), **{"axis": "pca-text.rank", **asked})


def test_a_choice_is_by_one_comparison() -> None:
    two = table(**{"comparison": "OTI-I", "pca-text.rank": 8})
    with pytest.raises(XgapError, match="by one comparison, and the table has 2"):
        xg.chosen(two, "pca-text.rank")
    models = pd.concat([table().assign(model=name) for name in ("a", "b")])
    with pytest.raises(XgapError, match=r"several rows on split 'val'; keep one of each \['model'\]"):
        xg.chosen(models, "pca-text.rank")


def test_cells_without_a_value_are_not_chosen() -> None:
    rows = table().assign(note="the rank is too high")
    rows.loc[rows["pca-text.rank"].eq(32), "value"] = np.nan
    assert xg.chosen(rows, "pca-text.rank")["chosen"].tolist() == [False, False, True] * 2
    with pytest.raises(XgapError, match="could be computed on split 'val': the rank is too high"):
        xg.chosen(rows.assign(value=np.nan), "pca-text.rank")
