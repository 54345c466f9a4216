"""A metric of one's own in a study: rows of its own, with intervals and differences, or the main measure."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.metrics import METRICS

LABELS = ["cat", "dog", "cow"] * 4


def arrays() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    centre = draw.normal(size=(3, 6)).repeat(4, axis=0).reshape(3, 4, 6).swapaxes(0, 1).reshape(12, 6)
    return {name: centre + draw.normal(size=(12, 6)) for name in ("image", "text")}


def first_hit(query: Any, gallery: Any, relevance: Any, *, scorer: Any, share: float = 1.0) -> Any:
    """One over the rank of the first relevant item, from the columns of `retrieval`."""
    return share * xg.retrieval(query, gallery, relevance, scorer=scorer)["hit_at_1"]


def test_it_is_a_row_of_each_comparison_and_the_main_measure_where_it_is_named() -> None:
    xg.register_metric("first-hit")(first_hit)
    study = replace(
        xg.study_of_features(arrays(), LABELS), metrics=["first-hit", "misalignment", "first-hit(share=0.5)"]
    )
    table = study.run()
    pairs = table.pivot(index="comparison", columns="metric", values="value")
    assert pairs["first-hit"].tolist() == pairs["hit_at_1"].tolist()
    assert pairs["first-hit(share=0.5)"].tolist() == (pairs["hit_at_1"] / 2).tolist()
    assert pairs["misalignment"].between(0, 1).all()
    assert set(xg.main_rows(table)["metric"]) == {"ap"}
    main = xg.main_rows(replace(study, main="first-hit").run())
    assert set(main["metric"]) == {"first-hit"}
    assert main["low"].le(main["high"]).all()
    METRICS.remove("first-hit")


def test_mistakes_are_one_sentence() -> None:
    study = xg.study_of_features(arrays(), LABELS)
    with pytest.raises(XgapError, match="unknown metric 'no-such'"):
        replace(study, metrics=["no-such"])
    with pytest.raises(XgapError, match="unknown measure 'app'; nearest names: ap"):
        replace(study, main="app").run()
    with pytest.raises(XgapError, match="two metrics of the study give the column 'n_relevant'"):
        replace(study, metrics=["retrieval"]).run()
