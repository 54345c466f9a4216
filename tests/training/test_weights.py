"""Weights that change over the steps of a run: against the published schedule, and in a run."""

import dataclasses
import json
from pathlib import Path

import pytest

import xgap_analysis as xg
from xgap_analysis.training.objectives.weights import as_plain, counts, weight_at, weight_of
from xgap_analysis.training.recipes import recipe


def published(step: int, steps: int) -> tuple[float, float]:
    """ModGap's weights of alignment and of the spread of centroids, with 50 + 50 and 20 + 50 per cent."""
    share = 100 * step / steps
    alpha = 1.0 if share < 50 else min(2.0, 1 + (share - 50) / 50)
    beta = 1.0 if share < 20 else max(0.0, 1 - (share - 20) / 50)
    return alpha, beta


@pytest.mark.parametrize("steps", [1, 10, 237])
def test_modgap_goes_the_published_way(steps: int) -> None:
    terms = {term.name: weight for term, weight in recipe("modgap(scheduled=True)").terms}
    for step in range(steps):
        made = tuple(weight_at(terms[name], step, steps) for name in ("alignment", "centroid-uniformity"))
        assert made == pytest.approx(published(step, steps), abs=1e-12)
        assert weight_at(terms["clip"], step, steps) == 1
    plain = {term.name: weight for term, weight in recipe("modgap(alignment=0.5)").terms}
    assert plain == {"clip": 1.0, "alignment": 0.5, "centroid-uniformity": 1.0}


def test_a_weight_is_constant_outside_its_pairs() -> None:
    way = weight_of([(0.25, 0), (0.5, 4), (0.75, 1)], "mine")
    assert [weight_at(way, step, 8) for step in range(8)] == [0, 0, 0, 2, 4, 2.5, 1, 1]
    assert weight_at(weight_of([(0.5, 3)], "mine"), 0, 8) == weight_at(3.0, 7, 8) == 3
    assert counts(way)
    assert not counts(weight_of([(0, 0), (1, 0)], "mine"))
    assert json.loads(json.dumps(as_plain(way))) == as_plain(way) == [[0.25, 0.0], [0.5, 4.0], [0.75, 1.0]]


def test_a_run_weighs_each_step_and_goes_on_where_it_stopped(start: Path, data: xg.Dataset, tmp_path: Path) -> None:
    objective = {"clip": 1.0, "alignment": [(0.0, 0.0), (1.0, 4.0)]}
    own = xg.Recipe(objective=objective, steps=4, batch=6, warmup=1)
    curve = xg.train(start, data, tmp_path / "run", own, note_every=1, progress=False, device="cpu").curve
    expected = [
        row["clip"] + weight * row["alignment"]
        for row, weight in zip(curve.to_dict("records"), (0, 1, 2, 3), strict=True)
    ]
    assert curve["loss"].tolist() == pytest.approx(expected, rel=1e-5)
    again = xg.train(start, data, tmp_path / "run", own, note_every=1, progress=False, device="cpu").curve
    assert again["loss"].tolist() == curve["loss"].tolist()
    other = dataclasses.replace(own, objective={**objective, "alignment": [(0.0, 0.0), (1.0, 2.0)]})
    with pytest.raises(xg.XgapError, match="another"):
        xg.train(start, data, tmp_path / "run", other, progress=False, device="cpu")


@pytest.mark.parametrize(
    "wrong",
    [[], [(0.5,)], [(0.5, 1), (0.2, 0)], [(0.5, 1), (1.5, 0)], [(0.1, -1)], [(-0.1, 1)], [0.5, 1], [("a", 1)], "way"],
)
def test_a_wrong_way_is_one_sentence(wrong: object) -> None:
    with pytest.raises(xg.XgapError, match="weight") as caught:
        xg.Recipe(objective={"clip": wrong})
    assert "\n" not in str(caught.value)
