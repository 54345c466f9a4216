"""The ranking-aware adapter: antisymmetric relations, its loss by hand, and scores by a formula written out."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.scoring.learned.fit import fit_scorer
from xgap_analysis.scoring.score import score
from xgap_analysis.scoring.scorer import Scorer
from xgap_analysis.scoring.systems.ranking_aware import Relations, ranking_loss
from xgap_analysis.scoring.tokens import TokenBlock

from .conftest import (
    RAGGED,
    at_random_weights,
    attended,
    layer_norm,
    linear,
    module_of,
    sets_of,
    softmax,
    some,
    unit,
    weights_of,
)


def fitted_to(query: Any, gallery: Any, **options: Any) -> Scorer:
    return fit_scorer("ranking_aware", query, gallery, **{"epochs": 0, "heads": 2, "registers": 3, **options})


def read(w: Any, text: np.ndarray, image: np.ndarray) -> np.ndarray:
    tokens, words = image * 8**0.5, text * 8**0.5
    asked = linear(layer_norm(tokens, w, "norms.0"), w, "query")
    seen = attended(asked, linear(words, w, "key"), linear(words, w, "value"), 2)
    under = layer_norm(tokens + seen, w, "norms.1")
    return layer_norm(under + linear(np.maximum(linear(under, w, "first"), 0), w, "second"), w, "norms.2")


@settings(max_examples=10)
@given(q=RAGGED, g=RAGGED, seed=st.integers(0, 99))
def test_scores_equal_their_formula(q: list[int], g: list[int], seed: int) -> None:
    texts, images = some(q, seed, "text"), some(g, seed + 1)
    made = at_random_weights(fitted_to(texts, images))
    w = weights_of(module_of(made))
    expected = [
        [linear(read(w, t, v).mean(0), w, "score")[0] + unit(t.sum(0)) @ unit(v.sum(0)) for v in sets_of(images)]
        for t in sets_of(texts)
    ]
    np.testing.assert_allclose(score(texts, images, made), expected, atol=2e-5)


def block_of(tokens: TokenFeatures) -> TokenBlock:
    vectors, mask = tokens.padded()
    return TokenBlock(vectors, mask)


def test_relations_are_antisymmetric_before_their_projection_and_follow_their_formula() -> None:
    texts, images = some([2], 1, "text"), some([3, 1, 4], 2)
    made = at_random_weights(fitted_to(some([1, 1], 3, "text"), some([1, 1], 4)))
    module = module_of(made)
    assert isinstance(module, Relations)
    gallery = block_of(images)
    own = module.read(block_of(texts), gallery)[0]
    i, j = torch.tensor([0, 0, 1, 2]), torch.tensor([1, 2, 2, 2])
    forward = module.difference(own[i], own[j], (gallery.mask[i], gallery.mask[j]))
    backward = module.difference(own[j], own[i], (gallery.mask[j], gallery.mask[i]))
    torch.testing.assert_close(forward, -backward, atol=1e-5, rtol=1e-5)
    assert forward[3].abs().max() < 1e-5  # an image with itself
    assert forward[0].abs().max() > 1e-2
    w = weights_of(module)
    sets = [read(w, sets_of(texts)[0], v) for v in sets_of(images)]
    relations = module.relations(own, gallery.mask)
    for a in range(3):
        for b in range(3):
            keys = np.concatenate([linear(sets[a], w, "pair_key"), linear(sets[b], w, "pair_key")])
            values = np.concatenate([sets[a] @ w["pair_value.weight"].T, -sets[b] @ w["pair_value.weight"].T])
            seen = attended(w["registers"], keys, values, 2)
            expected = linear(np.maximum(linear(seen, w, "project"), 0).mean(0), w, "relation")[0]
            assert float(relations[a, b]) == pytest.approx(expected, abs=1e-4)
    assert softmax(np.zeros(2)).tolist() == [0.5, 0.5]


def test_the_loss_is_known_by_hand() -> None:
    relations, scores = torch.tensor([[0.0, 2.0], [-1.0, 0.5]]), torch.tensor([1.5, 0.0])

    def bce(logit: float, target: float) -> float:
        p = 1 / (1 + math.exp(-logit))
        return -math.log(p if target else 1 - p)

    expected = (bce(0, 0) + bce(2, 1) + bce(-1, 0) + bce(0.5, 0)) / 4 + 0.2 * math.log(1 + (0.5**2 / 2) / 2)
    assert float(ranking_loss(relations, scores, torch.tensor([1.0, 0.0]))) == pytest.approx(expected, rel=1e-5)
    even = ranking_loss(torch.full((3, 3), -40.0), torch.ones(3), torch.ones(3))  # no pair is in an order
    assert float(even) == pytest.approx(0, abs=1e-6)


def test_fitted_it_knows_which_of_two_images_is_a_texts_own() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(24, 8, generator=generator)
    sets = [torch.stack([row.roll(1), torch.randn(8, generator=generator)]) for row in x]
    texts = TokenFeatures.from_sets([row[None] for row in x], map(str, range(24)), "text", "text")
    images = TokenFeatures.from_sets(sets, map(str, range(24)), "image", "image")

    def right(made: Scorer) -> float:
        """The share of other images that a text's own one is said to rank above, rather than the other way round."""
        module, gallery = module_of(made), block_of(images)
        assert isinstance(module, Relations)
        read = module.read(block_of(texts), gallery)
        logits = [module.relations(own, gallery.mask) for own in read]
        return sum(float((own[i] > own[:, i]).sum()) / 23 for i, own in enumerate(logits)) / len(logits)

    begun, made = (fitted_to(texts, images, epochs=n, learning_rate=1e-2, batch=8) for n in (0, 20))
    losses = made.function.losses  # type: ignore[attr-defined]
    assert losses[-1] < 0.7 * losses[0]
    assert right(made) > right(begun) + 0.2
    with pytest.raises(XgapError, match="ranking_aware has 1 register or more, not 0"):
        fitted_to(texts, images, registers=0)
