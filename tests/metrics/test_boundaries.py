"""Boundaries, spans and their average precision: against loops, on hand-made spans, and on the oracle's clips."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.metrics.boundaries import boundaries, spans, temporal_iou, temporal_map

COLUMNS = ["item", "label", "start", "stop"]


def test_boundaries_are_the_lowest_adjacent_cosines() -> None:
    rng = np.random.default_rng(0)
    lengths = [1, 4, 9]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = xg.TokenFeatures(rng.normal(size=(14, 3)), offsets, ["a", "b", "c"], "image", "video")
    found = boundaries(tokens, {"a": 0, "b": 2, "c": 8})
    for item, own in found.items():
        vectors = tokens.tokens_of(item).double()
        lowest = sorted(range(1, len(vectors)), key=lambda t: float(vectors[t] @ vectors[t - 1]))
        assert own.tolist() == sorted(lowest[: len(own)])
    assert [len(own) for own in found.values()] == [0, 2, 8]
    equal = xg.TokenFeatures(np.eye(2)[[0, 1, 0, 1]], [0, 4], ["x"], "image", "video")
    assert boundaries(equal, 2)["x"].tolist() == [1, 2]


def test_the_cuts_of_the_oracles_clips_are_exact() -> None:
    data = xg.load_dataset("emoji-clips").split("test")
    video = data.items_of("video").select(data.items_of("video").ids[:60])
    table = video.parts_of("frames").table()
    cuts = {item: own["time"][own["cut"]].to_numpy() for item, own in table.groupby("owner")}
    frames = xg.tokens(xg.load_model("oracle"), video, "frames", store=None, progress=False)
    found = boundaries(frames, {item: len(own) for item, own in cuts.items()})
    assert {len(own) for own in cuts.values()} == {0, 1, 2}
    for item, own in cuts.items():
        assert found[item].tolist() == own.tolist()
    events = table.groupby(["owner", "event"], sort=False)["time"].agg(["min", "max"]).reset_index()
    true = pd.DataFrame({"item": events["owner"], "start": events["min"], "stop": events["max"] + 1}).assign(
        label="event"
    )
    predicted = spans(found, 12).assign(label="event", score=1.0)
    assert (temporal_map(predicted, true) == 1).all().all()
    halves = spans({item: [6] for item in cuts}, 12).assign(label="event", score=1.0)
    assert temporal_map(halves, true).loc["event", 0.9] < 0.5


def test_the_iou_of_half_overlapping_spans_is_a_third() -> None:
    assert temporal_iou([[0, 50]], [[25, 75]])[0, 0] == pytest.approx(1 / 3)
    rng = np.random.default_rng(1)
    a, b = (np.sort(rng.integers(0, 20, size=(n, 2)), axis=1) for n in (30, 25))
    found = temporal_iou(a, b)
    for i, (s, e) in enumerate(a):
        for j, (t, f) in enumerate(b):
            first, second = set(range(s, e)), set(range(t, f))
            expected = len(first & second) / len(first | second) if first | second else 0
            assert found[i, j] == pytest.approx(expected)


def by_loop(predicted: pd.DataFrame, true: pd.DataFrame, label: str, threshold: float) -> float:
    wanted = [row for row in true.to_dict("records") if row["label"] == label]
    taken: set[int] = set()
    ranked = sorted(
        (row for row in predicted.to_dict("records") if row["label"] == label), key=lambda row: -row["score"]
    )
    points, hits = [(0.0, 1.0)], 0
    for n, row in enumerate(ranked, 1):
        free = [j for j, w in enumerate(wanted) if w["item"] == row["item"] and j not in taken]
        ious = {
            j: temporal_iou([[row["start"], row["stop"]]], [[wanted[j]["start"], wanted[j]["stop"]]])[0, 0]
            for j in free
        }
        best = max(ious, key=lambda j: ious[j], default=None)
        if best is not None and ious[best] >= threshold:
            taken.add(best)
            hits += 1
        points.append((hits / len(wanted), hits / n))
    area = 0.0
    for k, ((before, _), (recall, _)) in enumerate(pairwise(points)):
        area += (recall - before) * max(precision for _, precision in points[k + 1 :])
    return area


def test_average_precision_equals_a_loop() -> None:
    rng = np.random.default_rng(2)

    def drawn(n: int) -> pd.DataFrame:
        ends = np.sort(rng.integers(0, 12, size=(n, 2)), axis=1)
        made = {"item": rng.choice(["u", "v", "w"], n), "label": rng.choice(["bear", "kite"], n)}
        return pd.DataFrame({**made, "start": ends[:, 0], "stop": ends[:, 1] + 1, "score": rng.random(n)})

    predicted, true = drawn(60), drawn(14)
    predicted.loc[0, "label"] = "cup"  # of which there is no true span
    found = temporal_map(predicted, true, (0.3, 0.5, 0.9))
    assert list(found.index) == ["bear", "kite"]
    for label in found.index:
        for threshold in found.columns:
            assert found.loc[label, threshold] == pytest.approx(by_loop(predicted, true, label, threshold))
    assert 0 < found.mean(axis=None) < 1


def test_a_span_is_taken_once() -> None:
    true = pd.DataFrame([("a", "x", 0, 10)], columns=COLUMNS)
    twice = pd.concat([true, true], ignore_index=True).assign(score=[0.1, 0.9])
    assert temporal_map(twice, true).to_numpy().tolist() == [[1.0] * 5]
    missed = pd.DataFrame([("b", "x", 0, 10, 1.0), ("a", "x", 0, 10, 0.5)], columns=[*COLUMNS, "score"])
    assert temporal_map(missed, true).to_numpy().tolist() == [[0.5] * 5]
    assert temporal_map(missed[:0], true).to_numpy().tolist() == [[0.0] * 5]


def test_mistakes_are_one_sentence() -> None:
    tokens = xg.TokenFeatures(np.eye(2), [0, 2], ["a"], "image", "video")
    with pytest.raises(XgapError, match="item 'a' of 2 tokens has up to 1 boundaries, a whole number, and not 2"):
        boundaries(tokens, 2)
    with pytest.raises(XgapError, match="the number of boundaries of item 'a' is not given"):
        boundaries(tokens, {"b": 1})
    with pytest.raises(XgapError, match="stops before it starts"):
        temporal_iou([[1, 0]], [[0, 1]])
    with pytest.raises(XgapError, match="not of shape"):
        temporal_iou([0, 1], [[0, 1]])
    true = pd.DataFrame([("a", "x", 0, 10)], columns=COLUMNS)
    with pytest.raises(XgapError, match=r"predicted spans need the columns .*; 'score' is missing"):
        temporal_map(true, true)
    with pytest.raises(XgapError, match="there is no true span"):
        temporal_map(true.assign(score=1), true[:0])
