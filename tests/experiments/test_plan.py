"""The plan of a study: counted items, and times from trials that keep nothing."""

from collections.abc import Sequence

import pytest

from xgap_analysis.datasets import load_dataset
from xgap_analysis.experiments import plan as planning
from xgap_analysis.experiments.plan import plan
from xgap_analysis.experiments.study import Study
from xgap_analysis.store import Store
from xgap_analysis.views import View


def study(**options: object) -> Study:
    comparisons = ["I-I", "OTI-I", "I+OTI-I", "zero-shot"]
    return Study(["tiny-untrained"], ["emoji"], comparisons, limit=3, progress=False, **options)  # type: ignore[arg-type]


def test_each_view_stands_once_with_its_items_and_seeds() -> None:
    rows = {row["view"]: row for row in plan(study(seeds=(1, 2), axes={"oti.steps": [2, 3]}))}
    n = len(load_dataset("emoji").split("test").limit(3).images)
    assert {view: row["items"] for view, row in rows.items()} == {
        "image": n, "oti(steps=2)": n, "oti(steps=3)": n, "text": 3,
    }  # fmt: skip
    assert {view: row["seeds"] for view, row in rows.items()} == {
        "image": 1, "oti(steps=2)": 2, "oti(steps=3)": 2, "text": 1,
    }  # fmt: skip
    assert all(row["seconds"] >= 0 for row in rows.values())
    assert Store().entries() == []


def test_the_time_grows_with_items_steps_and_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(planning.time, "perf_counter", lambda: now[0])

    def takes(self: View, model: object, items: Sequence[object], steps: int, **_: object) -> None:
        now[0] += 7 + len(items) * (0.5 * steps if self.name == "oti" else 1)  # 7 to begin with

    monkeypatch.setattr(View, "__call__", takes)
    rows = {row["view"]: row for row in plan(study(steps=20, seeds=(1, 2, 3)))}
    assert rows["oti"]["seconds"] == pytest.approx(rows["oti"]["items"] * 3 * 0.5 * 20)
    n = rows["image"]["items"]
    assert rows["image"]["seconds"] == pytest.approx(7 + n)
