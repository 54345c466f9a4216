"""A fitted scorer stands in a study; its rows say what it was fitted on, and whether it has seen what is evaluated."""

import numpy as np
import pytest

import xgap_analysis as xg
from xgap_analysis.experiments.vectors import study_of_features

LABELS = {str(i): f"kind {i // 8}" for i in range(80)}


def part(space: str, shift: float, rows: slice) -> xg.Features:
    draw = np.random.default_rng(0)
    centre = draw.normal(size=(10, 16))
    vectors = centre[np.repeat(np.arange(10), 8)] + np.random.default_rng(int(shift)).normal(size=(80, 16)) + shift
    return xg.Features(vectors[rows], [str(i) for i in range(80)[rows]], space, space)


TEST, TRAIN = ([part(space, shift, rows) for space, shift in (("audio", 0), ("video", 1))] for rows in
               (slice(0, None, 2), slice(1, None, 2)))  # fmt: skip


def test_rows_say_what_a_scorer_was_fitted_on_and_whether_it_saw_what_is_evaluated() -> None:
    spaces = ("audio", "video")
    unseen = xg.fit_scorer("x_pool(epochs=1)", *TRAIN, split="train")
    seen = xg.fit_scorer("x_pool(epochs=2)", *TEST, split="test", query_spaces=spaces)
    both = xg.scorer("sum", unseen, "cosine")
    study = study_of_features(
        TEST, LABELS, ["audio-video", "video-video"], ["none", "center"], calibration=TRAIN, scorers=[
            "cosine", unseen, seen, both
        ]
    )  # fmt: skip
    rows = xg.main_rows(study.run()).set_index(["comparison", "correction", "scorer"])
    native = rows.xs("none", level="correction")
    told = native.loc["audio-video", ["fitted_on", "transductive"]].agg(tuple, axis=1).to_dict()
    assert told == {
        "cosine": ("", False),
        "x_pool(epochs=1)": ("train", False),
        "x_pool(epochs=2)": ("test", True),
        "sum(x_pool(epochs=1), cosine)": ("train", False),
    }
    relevance = xg.Relevance.from_labels(LABELS, LABELS)
    expected = xg.retrieval(*TEST, relevance, scorer=unseen)["ap"].mean()
    assert native.loc[("audio-video", "x_pool(epochs=1)"), "value"] == pytest.approx(expected)
    assert "fitted on a query of space 'audio'" in native.loc[("video-video", "x_pool(epochs=1)"), "note"]
    assert native.loc[("video-video", "x_pool(epochs=2)"), "note"] == ""
    corrected = rows.loc[("audio-video", "center", "x_pool(epochs=1)")]
    assert "features of correction 'none', and the query is of 'center'" in corrected["note"]
