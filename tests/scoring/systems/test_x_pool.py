"""X-Pool equals its formula in numpy at any weights, gives the card's known answers, and learns."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.scoring.learned.fit import fit_scorer
from xgap_analysis.scoring.score import score
from xgap_analysis.scoring.scorer import Scorer

from .conftest import (
    RAGGED,
    Matrix,
    at_random_weights,
    attended,
    layer_norm,
    linear,
    module_of,
    sets_of,
    some,
    turned_round,
    unit,
    weights_of,
)


def fitted_to(query: TokenFeatures, gallery: TokenFeatures, **options: Any) -> Scorer:
    return at_random_weights(fit_scorer("x_pool", query, gallery, epochs=0, **options))


def by_formula(fitted: Scorer, t: Matrix, v: Matrix, heads: int) -> float:
    w, d = weights_of(module_of(fitted)), len(t)
    tokens, text = layer_norm(v * d**0.5, w, "norms.0"), layer_norm(t[None] * d**0.5, w, "norms.0")
    q, k, u = linear(text, w, "query"), linear(tokens, w, "key"), linear(tokens, w, "value")
    a = layer_norm(linear(attended(q, k, u, heads), w, "out"), w, "norms.1")
    o = layer_norm(a + linear(a, w, "mix"), w, "norms.2")[0]
    return float(t @ unit(o))


@pytest.mark.parametrize("heads", [1, 2])
@settings(max_examples=6, deadline=None)
@given(q=RAGGED, g=RAGGED, seed=st.integers(0, 99))
def test_it_equals_its_formula(heads: int, q: list[int], g: list[int], seed: int) -> None:
    query, gallery = some(q, seed, "text"), some(g, seed + 1, "image")
    fitted = fitted_to(query, gallery, heads=heads)
    sets = [sets_of(side) for side in (query, gallery)]
    expected = [[np.mean([by_formula(fitted, t, v, heads) for t in texts]) for v in sets[1]] for texts in sets[0]]
    np.testing.assert_allclose(score(query, gallery, fitted), expected, atol=3e-6)


def test_at_initial_weights_one_frame_is_a_centred_cosine() -> None:
    texts, frames = some([1, 1, 1], 0, "text"), some([1, 1, 1, 1], 1, "image")
    found = score(texts, frames, fit_scorer("x_pool(epochs=0)", texts, frames))
    centred = frames.vectors - frames.vectors.mean(1, keepdim=True)
    expected = texts.vectors @ torch.nn.functional.normalize(centred, dim=1).T
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found, score(texts, frames), atol=1e-2), "it is not the cosine"


def test_identical_frames_are_one_frame_and_padding_and_order_change_nothing() -> None:
    texts, one = some([1, 1], 0, "text"), some([1, 1, 1], 1, "image")
    sets = [one.tokens_of(i).repeat(n, 1) for i, n in zip(one.ids, (4, 1, 7), strict=True)]
    repeated = TokenFeatures.from_sets(sets, one.ids, "image", "image")
    fitted = fitted_to(texts, one)
    assert torch.allclose(score(texts, repeated, fitted), score(texts, one, fitted), atol=1e-5)
    ragged = some([2, 5, 3], 2, "image")
    found = score(texts, ragged, fitted)
    assert torch.allclose(score(texts, turned_round(ragged), fitted), found, atol=1e-5)
    assert torch.allclose(score(texts, ragged.select(["2", "0"]), fitted), found[:, [2, 0]], atol=1e-5)
    assert torch.allclose(score(texts, ragged, fitted, block=1), found, atol=1e-5)


def test_it_learns_to_read_the_frame_that_a_text_is_about() -> None:
    """Clips of one telling frame among eight of a few common scenes: the mean is drowned, and attention need not be."""
    generator = torch.Generator().manual_seed(0)
    d, n = 32, 120
    scenes = torch.nn.functional.normalize(torch.randn(6, d, generator=generator), dim=1)
    topics = torch.randn(n, d, generator=generator)
    topics[:, : d // 2] = 0  # what texts speak of lies in one half of the dimensions
    sets = [torch.cat([topics[i : i + 1], 6 * scenes[torch.randint(6, (8,), generator=generator)]]) for i in range(n)]
    clips = TokenFeatures.from_sets(sets, map(str, range(n)), "image", "video")
    texts = Features(topics + 0.3 * torch.randn(n, d, generator=generator), map(str, range(n)), "text", "text")
    train, test = clips.ids[:80], clips.ids[80:]
    fitted = fit_scorer(
        "x_pool(epochs=30, learning_rate=2e-3)", texts.select(train), clips.select(train), split="train"
    )
    losses = fitted.function.losses  # type: ignore[attr-defined]
    assert losses[-1] < 0.7 * losses[0]

    def hits(by: str | Scorer) -> float:
        scores = score(texts.select(test), clips.select(test), by)
        return float((scores.argmax(1) == torch.arange(len(test))).float().mean())

    assert hits(fitted) > hits("pooled(weights=uniform)") + 0.05
    assert not fitted.fitted_on[0].saw(clips.select(test))


def test_on_clips_of_a_small_model_it_differs_from_mean_pooling_for_texts_and_for_frames() -> None:
    data, model = xg.load_dataset("emoji-clips").split("train"), xg.load_model("tiny")
    video = data.items["video"].select(list(data.items["video"].ids)[:40])
    owner = {i: clip for i, clip in data.labels["clip"].items() if clip in set(video.ids)}
    texts = xg.encode(model, data.texts.select([i for i in data.texts.ids if i in owner]), progress=False)
    clips = xg.tokens(model, video, "frames", progress=False)
    options = {"epochs": 10, "learning_rate": 1e-3, "pairs": owner, "split": "train"}
    fitted = fit_scorer("x_pool", texts, clips, query_spaces=("text", "image"), **options)  # type: ignore[arg-type]
    losses = fitted.function.losses  # type: ignore[attr-defined]
    assert losses[-1] < losses[0]
    frames = Features(torch.stack([clips.tokens_of(i)[0] for i in clips.ids]), clips.ids, "image", "image")
    for query in (texts, frames):
        assert (score(query, clips, fitted) - score(query, clips, "pooled(weights=uniform)")).abs().mean() > 0.02
    only_texts = fit_scorer("x_pool(epochs=0)", texts, clips, pairs=owner)
    with pytest.raises(XgapError, match="fitted on a query of space 'text', and this one is of space 'image'"):
        score(frames, clips, only_texts)
