"""MAFT+ equals its formula in numpy at any weights, is the cosine at first, and its losses have their known answers."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xgap_analysis.core.errors import XgapError
from xgap_analysis.scoring.learned.fit import fit_scorer
from xgap_analysis.scoring.score import score
from xgap_analysis.scoring.scorer import Scorer
from xgap_analysis.scoring.systems.maft import mask_aware, representation_compensation

from .conftest import (
    RAGGED,
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


def fitted_to(query: Any, gallery: Any, **options: Any) -> Scorer:
    return fit_scorer("maft", query, gallery, **{"epochs": 0, "heads": 2, **options})


@settings(max_examples=10)
@given(q=RAGGED, g=RAGGED, seed=st.integers(0, 99))
def test_it_equals_its_formula(q: list[int], g: list[int], seed: int) -> None:
    texts, images = some(q, seed, "text"), some(g, seed + 1)
    made = at_random_weights(fitted_to(texts, images))
    w = weights_of(module_of(made))
    expected = np.zeros((len(q), len(g)))
    for i, t in enumerate(sets_of(texts)):
        for j, v in enumerate(sets_of(images)):
            text, tokens = unit(t.sum(0))[None] * 8**0.5, v * 8**0.5
            read = attended(linear(text, w, "query"), linear(tokens, w, "key"), linear(tokens, w, "value"), 2)
            own = unit(text + layer_norm(linear(np.maximum(linear(read, w, "first"), 0), w, "last"), w, "norm"))
            expected[i, j] = own[0] @ unit(v.sum(0))
    np.testing.assert_allclose(score(texts, images, made), expected, atol=5e-6)
    assert torch.allclose(score(texts, images.select(["1"]), made), score(texts, images, made)[:, 1:2], atol=1e-5)


def test_at_first_it_is_the_cosine_and_fitted_it_is_not() -> None:
    texts, images = some([1] * 12, 0, "text"), some([3] * 12, 1)
    means = torch.stack([torch.nn.functional.normalize(v.sum(0), dim=0) for v in map(torch.tensor, sets_of(images))])
    plain = texts.vectors @ means.float().T
    assert torch.allclose(score(texts, images, fitted_to(texts, images)), plain, atol=1e-5)
    made = fitted_to(texts, images, epochs=30, learning_rate=1e-2)
    assert made.function.losses[-1] < 0.8 * made.function.losses[0]  # type: ignore[attr-defined]
    assert (score(texts, images, made) - plain).abs().max() > 1e-2
    assert torch.allclose(score(texts, turned_round(images), made), score(texts, images, made), atol=1e-5)
    with pytest.raises(XgapError, match="heads must divide the 8 dimensions"):
        fitted_to(texts, images, heads=3)


def test_compensation_is_its_formula_and_nothing_for_equal_maps() -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(2, 3, 8, 4, generator=generator), torch.randn(2, 3, 8, 4, generator=generator)
    assert float(representation_compensation(x, x)) == 0
    costs = []
    for s in (1, 2, 4):
        a, b = (np.maximum(m.double().numpy(), 0).reshape(2, 3, 8 // s, s, 4 // s, s).mean((3, 5)) for m in (x, y))
        for axis in (3, 2):
            d = np.abs(a.sum(axis) - b.sum(axis))
            costs.append(np.where(d < 1, d**2 / 2, d - 0.5).mean())
    assert float(representation_compensation(x, y)) == pytest.approx(np.mean(costs), rel=1e-5)
    with pytest.raises(XgapError, match="maps of 4 x 4 places or more, not"):
        representation_compensation(x[..., :3], y[..., :3])


def test_mask_aware_scores_follow_the_overlap() -> None:
    overlaps = torch.tensor([0.2, 0.6, 0.4])
    assert float(mask_aware(torch.tensor([0.0, 1.0, 0.5]), overlaps)) == pytest.approx(0, abs=1e-12)
    assert float(mask_aware(torch.tensor([0.5, 1.0, 0.5]), overlaps)) == pytest.approx(0.125 / 3)
