"""FDP equals its formula in numpy at any weights, and its learned shift closes a gap between modalities."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

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
    layer_norm,
    module_of,
    sets_of,
    softmax,
    some,
    turned_round,
    unit,
    weights_of,
)


def fitted_to(query: Any, gallery: Any, **options: Any) -> Scorer:
    return fit_scorer("fdp", query, gallery, **{"epochs": 0, **options})


def focus(v: Matrix, prior: Matrix, tau: float) -> Matrix:
    return unit(softmax(v @ unit(v.sum(0)) / tau + prior) @ v)


def shifted(made: Scorer, f: Matrix) -> Matrix:
    w, wide = weights_of(module_of(made)), f * len(f) ** 0.5
    return unit(wide + layer_norm(wide + w["shift"], w, "norm"))


@pytest.mark.parametrize("weighted", [False, True])
@settings(max_examples=10)
@given(q=RAGGED, g=RAGGED, seed=st.integers(0, 99))
def test_it_equals_its_formula(weighted: bool, q: list[int], g: list[int], seed: int) -> None:
    texts, images = some(q, seed, "text"), some(g, seed + 1)
    prior = np.random.default_rng(seed).uniform(size=len(images.vectors)) if weighted else np.zeros(len(images.vectors))
    if weighted:
        images = TokenFeatures(images.vectors, images.offsets, images.ids, "image", "image", weights=prior)
    made = at_random_weights(fitted_to(texts, images, tau=0.3))
    priors = np.split(prior, images.offsets[1:-1].numpy())
    pooled = [shifted(made, focus(v, p, 0.3)) for v, p in zip(sets_of(images), priors, strict=True)]
    expected = [[unit(t.sum(0)) @ f for f in pooled] for t in sets_of(texts)]
    np.testing.assert_allclose(score(texts, images, made), expected, atol=5e-6)
    assert torch.allclose(score(texts, images.select(["1"]), made), score(texts, images, made)[:, 1:2], atol=1e-5)


def test_known_answers() -> None:
    texts, images = some([1, 1], 0, "text"), some([1, 1, 1], 1)
    f = images.vectors
    wide = f * 8**0.5
    expected = torch.nn.functional.normalize(wide + torch.nn.functional.layer_norm(wide, (8,)), dim=1)
    found = score(texts, images, fitted_to(texts, images))
    assert torch.allclose(found, texts.vectors @ expected.T, atol=1e-5), "c = 0: f + LN(f)"
    assert not torch.allclose(found, score(texts, images), atol=1e-2), "it is not the cosine"
    level = TokenFeatures(f, [0, 3], ["a"], "image", "image", weights=[0.4, 0.4, 0.4])
    plain = TokenFeatures(f, [0, 3], ["a"], "image", "image")
    made = fitted_to(texts, plain, pairs={"0": "a"})
    assert torch.allclose(score(texts, level, made), score(texts, plain, made), atol=1e-6), "an even prior is none"
    strong = TokenFeatures(f, [0, 3], ["a"], "image", "image", weights=[0, 90, 0])
    alone = TokenFeatures(f[1:2], [0, 1], ["a"], "image", "image")
    assert torch.allclose(score(texts, strong, made), score(texts, alone, made), atol=1e-5), "focus on one patch"
    ragged = some([3, 5], 2)
    assert torch.allclose(score(texts, turned_round(ragged), made), score(texts, ragged, made), atol=1e-5)


def test_the_learned_shift_undoes_a_shift_of_one_modality() -> None:
    """Images are the texts, moved by what differs most: hubs by the cosine, which a constant takes away."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 16, generator=generator)
    noise = 0.5 * torch.randn(400, 16, generator=generator)
    shift = 6 * torch.nn.functional.normalize(torch.randn(16, generator=generator), dim=0)
    ids = [str(i) for i in range(400)]
    texts, images = Features(x, ids, "text", "text"), Features(x + noise + shift, ids, "image", "image")
    train, test = ids[:300], ids[300:]
    made = fit_scorer("fdp(epochs=60, learning_rate=2e-2)", texts.select(train), images.select(train))
    assert made.function.losses[-1] < 0.9 * made.function.losses[0]  # type: ignore[attr-defined]
    rows = torch.arange(100)

    def hits(by: str | Scorer) -> float:
        return float((score(texts.select(test), images.select(test), by).argmax(1) == rows).float().mean())

    assert hits(made) > hits("cosine") + 0.05
    assert float(module_of(made).shift @ shift) < 0, "against the shift"  # type: ignore[operator]


def test_a_tau_of_zero_is_one_sentence() -> None:
    x = some([1, 1], 0)
    with pytest.raises(XgapError, match="tau of fdp must be greater than 0, not 0"):
        fit_scorer("fdp(tau=0)", x, x)
