"""HowToCaption equals its formula, its alignment finds the event, and its filter keeps a share."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.scoring.score import score
from xgap_analysis.scoring.systems.howtocaption import aligned, kept, windows

from .conftest import RAGGED, Matrix, sets_of, some


def window_means(cosines: Matrix, size: int) -> Matrix:
    left = -(-size // 2)
    padded = np.pad(cosines, (left, size - left), mode="reflect") if len(cosines) > 1 else np.repeat(cosines, size + 1)
    return np.array([padded[i : i + size].mean() for i in range(len(cosines) + 1)])


@settings(max_examples=25)
@given(q=RAGGED, g=RAGGED, size=st.integers(1, 9), seed=st.integers(0, 999))
def test_it_equals_its_formula(q: list[int], g: list[int], size: int, seed: int) -> None:
    query, gallery = some(q, seed), some(g, seed + 1)
    expected = [
        [np.mean([window_means(v @ t, size).max() for t in texts]) for v in sets_of(gallery)]
        for texts in sets_of(query)
    ]
    np.testing.assert_allclose(score(query, gallery, f"howtocaption(size={size})"), expected, atol=3e-6)


def test_windows_are_reflected_at_both_ends_and_add_up_to_one() -> None:
    assert torch.allclose(windows(5, 8).sum(1), torch.ones(6))
    assert windows(3, 2).tolist() == [[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0.5, 0.5], [0, 0.5, 0.5]]
    first = windows(4, 4)[0]  # the frames 2, 1, 0, 1
    assert first.tolist() == [0.25, 0.5, 0.25, 0]


def test_one_frame_is_the_cosine_and_small_windows_are_the_best_frame() -> None:
    texts, frames = some([1, 1], 0), some([1, 1, 1], 1)
    assert torch.allclose(score(texts, frames, "howtocaption"), score(texts, frames, "cosine"), atol=1e-6)
    clips = some([4, 6], 2)
    best = score(texts, clips, "late_interaction(inner=max)")
    assert torch.allclose(score(texts, clips, "howtocaption(size=1)"), best, atol=1e-6)
    found = score(texts, clips, "howtocaption(size=4)")
    assert (found < best).all()
    assert torch.allclose(score(texts, clips.select(["1"]), "howtocaption(size=4)"), found[:, 1:], atol=1e-6)


def test_the_filter_keeps_the_best_share_and_all_at_one() -> None:
    scores = np.random.default_rng(0).normal(size=1000)
    assert kept(scores, 1).all()
    for share in (0.1, 0.5):
        chosen = kept(scores, share)
        assert chosen.mean() == pytest.approx(share, abs=2e-3)
        assert scores[chosen].min() > scores[~chosen].max()
    with pytest.raises(XgapError, match=r"lies in .0, 1., of one or more, not 0 of 1000"):
        kept(scores, 0)


def test_mistakes_are_one_sentence() -> None:
    texts, frames = some([1], 0), some([4], 1)
    with pytest.raises(XgapError, match="size of a window must be a whole number of 1 or more, not 0"):
        score(texts, frames, "howtocaption(size=0)")
    caption = Features(torch.randn(1, 8), ["a"], "text", "text")
    with pytest.raises(XgapError, match="caption 'a' has no clip"):
        aligned(caption, frames, {})
    with pytest.raises(XgapError, match="caption 'a' has no time"):
        aligned(caption, frames, {"a": "0"}, middles={})
    assert len(aligned(caption, frames, {"a": "0"}, middles={"a": 90.0})) == 0


def test_it_finds_the_events_of_clips_of_the_oracle(oracle: Any, two_events: Any) -> None:
    """The best window lies in the event, also where the recorded time is wrong; the wrong captions score lowest."""
    video, _, chain = two_events
    clips = video.ids[:10]
    frames = xg.tokens(oracle, video.select(clips), "frames", progress=False)
    events = chain.select([f"{i}/chain" for i in clips]).parts_of("captions")
    captions = xg.encode(oracle, events.items, progress=False)
    owners = {part: owner.removesuffix("/chain") for part, owner in zip(events.items.ids, events.owners, strict=True)}
    middles = dict(zip(events.items.ids, events.columns["noisy"], strict=True))
    found = aligned(captions, frames, owners, middles=middles, size=3)
    assert len(found) == 20
    middle = np.abs(found["window"].to_numpy() + 1)  # a window before the first frame is reflected
    start, stop = np.array(events.columns["start"]), np.array(events.columns["stop"])
    assert ((start <= middle) & (middle < stop)).all()
    shifted = dict(zip(owners, [*list(owners.values())[2:], *list(owners.values())[:2]], strict=True))
    wrong = aligned(captions, frames, shifted, size=3)
    both = np.concatenate([found["score"], wrong["score"]])
    assert kept(both, 0.5).tolist() == [True] * 20 + [False] * 20
