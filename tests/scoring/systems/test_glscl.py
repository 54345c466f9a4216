"""GLSCL: its losses and its scores equal their formulas in numpy, and the card's known answers hold."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.stacked import stacked
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.scoring.learned.fit import fit_scorer
from xgap_analysis.scoring.score import score
from xgap_analysis.scoring.scorer import Scorer
from xgap_analysis.scoring.systems.glscl import consistency, diversity

from .conftest import (
    RAGGED,
    Matrix,
    at_random_weights,
    decoded,
    module_of,
    sets_of,
    some,
    turned_round,
    unit,
    weights_of,
)

SMALL = {"queries": 3, "layers": 2, "heads": 2, "epochs": 0}


def fitted_to(query: TokenFeatures, gallery: TokenFeatures, **options: Any) -> Scorer:
    return at_random_weights(fit_scorer("glscl", query, gallery, **{**SMALL, **options}))


def concepts_of(fitted: Scorer, tokens: Matrix) -> Matrix:
    weights = weights_of(module_of(fitted).reader)
    return unit(decoded(weights, tokens, heads=2))


def global_of(t: Matrix, v: Matrix, tau: float) -> float:
    share = np.exp((v @ t - (v @ t).max()) / tau)
    made = share @ v
    return float(t @ made / np.linalg.norm(made))


@settings(max_examples=6)
@given(q=RAGGED, g=RAGGED, seed=st.integers(0, 99))
def test_it_equals_its_formula(q: list[int], g: list[int], seed: int) -> None:
    query, gallery = some(q, seed, "text"), some(g, seed + 1, "image")
    sets = [sets_of(side) for side in (query, gallery)]

    def pair(made: Scorer, texts: Matrix, words: Matrix, v: Matrix) -> float:
        locally = (concepts_of(made, words) * concepts_of(made, v)).sum(1).mean()
        return float(np.mean([global_of(t, v, 0.2) for t in texts]) + 0.7 * locally)

    made = fitted_to(query, gallery, tau=0.2, local=0.7)
    expected = [[pair(made, t, t, v) for v in sets[1]] for t in sets[0]]
    np.testing.assert_allclose(score(query, gallery, made), expected, atol=5e-6)
    made = fitted_to(query, gallery, tau=0.2, local=0.7, base="first")
    expected = [[pair(made, t[:1], t[1:] if len(t) > 1 else t, v) for v in sets[1]] for t in sets[0]]
    np.testing.assert_allclose(score(query, gallery, made), expected, atol=5e-6)


def test_the_losses_equal_their_formulas() -> None:
    a, b = (torch.nn.functional.normalize(torch.randn(5, 4, 6, dtype=torch.float64), dim=-1) for _ in range(2))
    similar = np.einsum("bqd,brd->qr", a.numpy(), a.numpy()) / 5
    over = sum(
        max(0, 0.1 + similar[i, j] - similar[i, i]) + max(0, 0.1 + similar[i, j] - similar[j, j])
        for i in range(4)
        for j in range(4)
        if i != j
    )
    assert diversity(a).item() == pytest.approx(over / 12)
    same = a[:, :1].expand(-1, 4, -1)
    assert diversity(same).item() == pytest.approx(0.2), "equal concepts: both margins of each pair"
    x, y = a.numpy(), b.numpy()
    paired = (x * y).sum(-1).mean(0)
    expected = ((x.mean(0) - y.mean(0)) ** 2).mean() + 0.3 * ((paired - 0.75) ** 2).sum()
    assert consistency(a, b, 0.3).item() == pytest.approx(expected)
    assert consistency(a.repeat(3, 1, 1), b.repeat(3, 1, 1), 0.3).item() == pytest.approx(expected), "of any batch size"


def test_known_answers() -> None:
    texts, frames = some([1, 1], 0, "text"), some([1, 1, 1], 1, "image")
    without = fitted_to(texts, frames, local=0)
    assert torch.allclose(score(texts, frames, without), score(texts, frames), atol=1e-6), "one frame: the cosine"
    clips = some([3, 1, 4], 2, "image")
    globally = score(texts, clips, "pooled(weights=softmax, tau=0.05)")
    assert torch.allclose(score(texts, clips, fitted_to(texts, clips, local=0)), globally, atol=1e-6)
    made = fitted_to(clips, clips, local=1)
    own = score(clips, clips, made) - score(clips, clips, "pooled(weights=softmax, tau=0.05)")
    assert torch.allclose(own.diagonal(), torch.ones(3), atol=1e-5), "equal tokens have equal concepts"
    assert torch.allclose(own, own.T, atol=1e-5)


def test_padding_order_blocks_and_other_items_change_nothing() -> None:
    texts, clips = some([2, 1, 3], 0, "text"), some([4, 2, 5], 1, "image")
    made = fitted_to(texts, clips)
    found = score(texts, clips, made)
    assert torch.allclose(score(texts, turned_round(clips), made), found, atol=1e-5)
    assert torch.allclose(score(texts, clips.select(["2", "0"]), made), found[:, [2, 0]], atol=1e-5)
    assert torch.allclose(score(texts, clips, made, block=1), found, atol=1e-5)


def test_concepts_learn_what_the_mean_of_frames_hides() -> None:
    """Texts name two things; clips show them, in a space that is turned round: no cosine finds the pair."""
    generator = torch.Generator().manual_seed(0)
    things = torch.nn.functional.normalize(torch.randn(10, 16, generator=generator), dim=1)
    turned = things @ torch.linalg.qr(torch.randn(16, 16, generator=generator))[0]
    chosen = [(i, j) for i in range(10) for j in range(i)]
    ids = [f"{i}-{j}" for i, j in chosen]
    texts = TokenFeatures.from_sets([things[list(pair)] for pair in chosen], ids, "text", "text")
    clips = TokenFeatures.from_sets([turned[[i, j, i]] for i, j in chosen], ids, "image", "video")
    options = "queries=4, layers=1, heads=4, local=1, epochs=100, batch=45, learning_rate=1e-2"
    made = fit_scorer(f"glscl({options})", texts, clips, split="train")
    rows = torch.arange(len(ids))
    hits = [(score(texts, clips, by).argmax(1) == rows).float().mean() for by in (made, "pooled(weights=uniform)")]
    assert hits[0] > 0.5 > hits[1]
    assert made.function.losses[-1] < 0.5 * made.function.losses[0]  # type: ignore[attr-defined]


def test_mistakes_are_one_sentence() -> None:
    x = Features(torch.randn(3, 8), "abc", "text", "text")
    with pytest.raises(XgapError, match="base is None or first"):
        fit_scorer("glscl(base=last)", x, x)
    with pytest.raises(XgapError, match="heads must divide the 8 dimensions"):
        fit_scorer("glscl(heads=3)", stacked(x, x), x)
