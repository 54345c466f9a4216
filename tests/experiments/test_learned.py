"""A fitted scorer stands in a study; its rows say what it was fitted on, and whether it has seen what is evaluated."""

import dataclasses
from typing import Any

import numpy as np
import pytest

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.experiments.vectors import study_of_features
from xgap_analysis.scoring import complete_scorers
from xgap_analysis.scoring.learned import plain_learned_scorers

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


def by_name(scorers: list[str], comparisons: list[str], *corrections: str, **more: Any) -> Any:
    study = study_of_features(TEST, LABELS, comparisons, corrections or ["none"], scorers=scorers, **more)
    return xg.main_rows(study.run()).set_index(["comparison", "correction", "scorer"])


def test_a_study_fits_a_scorer_by_name_to_the_fit_split() -> None:
    names = ["cosine", "x_pool(epochs=2)", "sum(cosine, x_pool(epochs=2))"]
    rows = by_name(names, ["audio-video", "video-video"], "none", "center", calibration=TRAIN)
    assert (rows.note == "").all()
    native = rows.xs("none", level="correction")
    assert set(native.loc["audio-video", "fitted_on"].items()) == {
        (names[0], ""),
        *((n, "calibration") for n in names[1:]),
    }
    assert not rows.transductive.any()
    relevance = xg.Relevance.from_labels(LABELS, LABELS)
    for gallery, query in ((1, 0), (1, 1)):
        of = TRAIN[query].ids, TRAIN[gallery].ids, query == gallery
        fitted = xg.fit_scorer("x_pool(epochs=2)", TRAIN[query], TRAIN[gallery], pairs=relevance.pairs(*of))
        name = f"{TEST[query].space}-{TEST[gallery].space}"
        expected = xg.retrieval(TEST[query], TEST[gallery], relevance, scorer=fitted)["ap"].mean()
        assert native.loc[(name, names[1]), "value"] == pytest.approx(expected, abs=1e-6)
        both = xg.retrieval(TEST[query], TEST[gallery], relevance, scorer=xg.scorer("sum", "cosine", fitted))
        assert native.loc[(name, names[2]), "value"] == pytest.approx(both["ap"].mean(), abs=1e-6)
    centred = rows.loc[("audio-video", "center", names[1])]
    assert centred.value != native.loc[("audio-video", names[1]), "value"]
    assert centred.fitted_on == "calibration"


def test_a_study_without_a_fit_split_says_so_in_a_note() -> None:
    rows = by_name(["cosine", "x_pool"], ["audio-video"])
    note = rows.loc[("audio-video", "none", "x_pool"), "note"]
    assert note == "scorer 'x_pool' is fitted on the split 'train', which dataset 'features' does not have"
    assert np.isnan(rows.loc[("audio-video", "none", "x_pool"), "value"])


def test_options_of_a_learned_scorer_are_an_axis_and_are_checked() -> None:
    study = study_of_features(TEST, LABELS, ["audio-video"], scorers=["x_pool(batch=8)"], calibration=TRAIN)
    rows = xg.main_rows(dataclasses.replace(study, axes={"x_pool.epochs": [0, 1]}).run())
    assert rows.set_index("x_pool.epochs").scorer.to_dict() == {
        0: "x_pool(batch=8, epochs=0)", 1: "x_pool(batch=8, epochs=1)"
    }  # fmt: skip
    with pytest.raises(XgapError, match=r"unknown option of x_pool 'epoch'; nearest names: epochs"):
        study_of_features(TEST, LABELS, ["audio-video"], scorers=["x_pool(epoch=1)"])


def test_a_learned_scorer_without_a_fit_is_one_sentence() -> None:
    with pytest.raises(XgapError, match=r"scorer x_pool has weights, which are fitted first: xg.fit_scorer\('x_pool'"):
        xg.score(TEST[0], TEST[1], "x_pool")
    assert "x_pool" not in complete_scorers()
    assert plain_learned_scorers() == ["fdp", "glscl", "maft", "ranking_aware", "x_pool"]


def test_a_cell_keeps_its_value_where_its_baseline_cannot_be_scored() -> None:
    refused = "rerank(cosine, cosine, depth=0)"
    rows = by_name([refused, "cosine"], ["audio-video"])
    alone = by_name(["cosine"], ["audio-video"])
    row = rows.loc[("audio-video", "none", "cosine")]
    assert row.value == alone.value.iloc[0]
    assert np.isnan(row.p_value)
    assert row.verdict is None
    sentence = "depth of rerank must be a whole number of 1 or more, not 0"
    assert row.note == f"no difference from the baseline audio-video by {refused}: {sentence}"
    assert rows.loc[("audio-video", "none", refused), "note"] == sentence
