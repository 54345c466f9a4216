"""MeVTR equals its formula on ragged input, gives known answers, and weighs events alike."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.scoring.score import score

from .conftest import Matrix, sets_of, some, unit

VIDEOS = st.lists(st.integers(3, 6), min_size=1, max_size=4)


def key_events(v: Matrix, k: int) -> Matrix:
    """Medoids of vectors of one length, written out: the first, then the farthest; then groups and their medoids."""
    away = np.linalg.norm(v[:, None] - v[None], axis=-1)
    found = [0]
    while len(found) < k:
        found.append(int(away[found].min(0).argmax()))
    for _ in range(100):
        group = np.array(
            [next((j for j, f in enumerate(found) if f == i), away[found, i].argmin()) for i in range(len(v))]
        )
        own = [np.flatnonzero(group == j) for j in range(k)]
        anew = [int(rows[away[np.ix_(rows, rows)].sum(1).argmin()]) for rows in own]
        if anew == found:
            break
        found = anew
    return v[sorted(found)]


@settings(max_examples=20)
@given(q=st.lists(st.integers(1, 3), min_size=1, max_size=3), g=VIDEOS, k=st.integers(1, 3), seed=st.integers(0, 999))
def test_it_equals_its_formula(q: list[int], g: list[int], k: int, seed: int) -> None:
    texts, videos = some(q, seed, "text"), some(g, seed + 1)
    videos = TokenFeatures(videos.vectors, videos.offsets, videos.ids, "image", "video")  # all of length one
    events = [key_events(v, k) for v in sets_of(videos)]
    expected = [[(t @ unit(e.mean(0))).mean() for e in events] for t in sets_of(texts)]
    np.testing.assert_allclose(score(texts, videos, f"mevtr(k={k})"), expected, atol=3e-6)
    expected = [[(t @ e.T).max(1).mean() for e in events] for t in sets_of(texts)]
    np.testing.assert_allclose(score(texts, videos, f"mevtr(k={k}, take=max)"), expected, atol=3e-6)


def test_with_all_frames_it_is_the_plain_mean_or_the_best_frame() -> None:
    texts, videos = some([1, 2], 0, "text"), some([4, 4, 4], 1)
    mean, best = "pooled(weights=uniform)", "late_interaction(inner=max)"
    assert torch.allclose(score(texts, videos, "mevtr(k=4)"), score(texts, videos, mean), atol=1e-6)
    assert torch.allclose(score(texts, videos, "mevtr(k=4, take=max)"), score(texts, videos, best), atol=1e-6)
    found = score(texts, videos, "mevtr(k=2)")
    assert not torch.allclose(found, score(texts, videos, mean), atol=1e-2)
    assert torch.allclose(score(texts, videos.select(["2", "0"]), "mevtr(k=2)"), found[:, [2, 0]], atol=1e-6)
    assert torch.allclose(score(texts, videos, "mevtr(k=2)", block=1), found, atol=1e-6)


def test_mistakes_are_one_sentence() -> None:
    texts, videos = some([1], 0, "text"), some([3, 5], 1)
    with pytest.raises(XgapError, match="item '0' has 3"):
        score(texts, videos, "mevtr(k=4)")
    with pytest.raises(XgapError, match="take is mean or max, not 'best'"):
        score(texts, videos, "mevtr(k=2, take=best)")


def test_on_clips_of_the_oracle_the_shorter_event_is_not_drowned(oracle: Any, two_events: Any) -> None:
    """Clips of two events: with a medoid each, the text of the shorter event scores as that of the longer one does."""
    video, captions, chain = two_events
    columns = chain.parts_of("captions").columns
    length = dict(zip(columns["event"], np.subtract(columns["stop"], columns["start"]), strict=True))
    uneven = [i for i in video.ids if min(length[f"{i}/0"], length[f"{i}/1"]) <= 4][:8]
    assert uneven
    shorter = [min((f"{i}/0", f"{i}/1"), key=lambda event: length[event]) for i in uneven]
    frames = xg.tokens(oracle, video.select(uneven), "frames", progress=False)
    texts = xg.encode(oracle, captions.select(shorter), progress=False)
    mean = score(texts, frames, "pooled(weights=uniform)").diagonal()
    events = score(texts, frames, "mevtr(k=2)").diagonal()
    assert (events > mean + 0.02).all()
    longer = [next(e for e in (f"{i}/0", f"{i}/1") if e != s) for i, s in zip(uneven, shorter, strict=True)]
    others = xg.encode(oracle, captions.select(longer), progress=False)
    assert torch.allclose(events, score(others, frames, "mevtr(k=2)").diagonal(), atol=1e-4)
