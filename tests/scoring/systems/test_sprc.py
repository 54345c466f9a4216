"""SPRC equals its formula in numpy at any weights, and composes what neither reference nor text says alone."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.stacked import stacked
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.scoring.learned.fit import fit_scorer
from xgap_analysis.scoring.score import score
from xgap_analysis.scoring.scorer import Scorer

from .conftest import (
    Matrix,
    at_random_weights,
    decoded,
    linear,
    module_of,
    sets_of,
    some,
    turned_round,
    unit,
    weights_of,
)

SMALL = {"prompts": 3, "layers": 2, "heads": 2, "epochs": 0}
COMPOSED = st.lists(st.integers(2, 5), min_size=2, max_size=4)


def fitted_to(query: TokenFeatures, gallery: TokenFeatures, **options: Any) -> Scorer:
    return at_random_weights(fit_scorer("sprc", query, gallery, **{**SMALL, **options}))


def query_of(fitted: Scorer, tokens: Matrix) -> Matrix:
    module = module_of(fitted)
    w = weights_of(module)
    kinds = np.concatenate([w["kinds"][:1], np.repeat(w["kinds"][1:], len(tokens) - 1, axis=0)])
    prompt = unit(decoded(weights_of(module.fuser), tokens + kinds, heads=2))  # type: ignore[arg-type]
    both = np.concatenate([prompt, tokens[1:]])
    read = decoded(weights_of(module.sentence), both, heads=2)  # type: ignore[arg-type]
    return unit(tokens[1:].mean(0) + linear(read, w, "out")[0])


@settings(max_examples=8)
@given(q=COMPOSED, g=COMPOSED, seed=st.integers(0, 99))
def test_it_equals_its_formula(q: list[int], g: list[int], seed: int) -> None:
    query, gallery = some(q, seed, "image+text"), some(g, seed + 1)
    made = fitted_to(query, gallery)
    expected = [[(v @ query_of(made, own)).max() for v in sets_of(gallery)] for own in sets_of(query)]
    np.testing.assert_allclose(score(query, gallery, made), expected, atol=5e-6)


def test_before_the_fit_the_query_is_the_text_and_one_token_scores_by_the_cosine() -> None:
    images, texts, targets = (Features(torch.randn(3, 8), "abc", side, side) for side in ("image", "text", "image"))
    query = stacked(images, texts)
    start = fit_scorer("sprc(heads=2, epochs=0)", query, targets)
    assert torch.allclose(score(query, targets, start), score(texts, targets), atol=1e-6)
    tokens = some([4, 2, 3], 0)
    best = score(texts, tokens, "late_interaction(inner=max)")
    assert torch.allclose(score(query, tokens, start), best, atol=1e-6), "the maximum over a target's tokens"


def test_padding_order_and_other_items_change_nothing() -> None:
    query, gallery = some([3, 2, 5], 0, "image+text"), some([4, 1, 3], 1)
    made = fitted_to(query, gallery)
    found = score(query, gallery, made)
    assert torch.allclose(score(turned_round(query, 1), turned_round(gallery), made), found, atol=1e-5)
    assert torch.allclose(score(query.select(["1"]), gallery, made), found[1:2], atol=1e-5)
    assert torch.allclose(score(query, gallery.select(["2", "0"]), made), found[:, [2, 0]], atol=1e-5)
    assert not torch.allclose(score(turned_round(query), gallery, made), found, atol=1e-2), "the reference is first"


def test_on_composed_queries_of_the_oracle_it_beats_the_text_and_the_reference_alone() -> None:
    """Scenes with one thing replaced: the text names the new thing, the reference has the others."""
    data = xg.load_dataset("emoji-scenes:composed").split("test")
    model = xg.load_model("oracle")
    edits = [i for i in data.texts.ids if len(data.labels["reference"]) and i.endswith("/edit")][:60]
    references = [data.labels["reference"][i] for i in edits]
    targets = [f"{r}/target-{k}" for r in references for k in (1, 3) if f"{r}/target-{k}" in set(data.images.ids)]
    images, texts = (
        xg.encode(model, items, progress=False)
        for items in (data.images.select([*references, *targets]), data.texts.select(edits))
    )
    basis = torch.linalg.svd(torch.cat([images.vectors, texts.vectors]), full_matrices=False).Vh[:64]
    small = [Features(x.vectors @ basis.T, x.ids, x.space, x.origin) for x in (images, texts)]
    reference = Features(small[0].select(references).vectors, edits, "image", "image")
    query, gallery = stacked(small[1], reference, small[1]), small[0].select(targets)
    query = TokenFeatures.from_sets([query.tokens_of(i)[1:] for i in edits], edits, "image+text", "text")
    owner = {e: [t for t in targets if t.startswith(f"{r}/")] for e, r in zip(edits, references, strict=True)}
    train, test = edits[:40], edits[40:]
    options = "prompts=4, layers=1, heads=4, epochs=30, learning_rate=1e-3"
    made = fit_scorer(f"sprc({options})", query.select(train), gallery, pairs={e: owner[e] for e in train})
    assert made.function.losses[-1] < made.function.losses[0]  # type: ignore[attr-defined]

    def hits(of: Any, by: Any = "cosine") -> float:
        best = score(of.select(test), gallery, by).argmax(1).tolist()
        return float(np.mean([gallery.ids[b] in owner[e] for b, e in zip(best, test, strict=True)]))

    print(hits(query, made), hits(small[1]), hits(reference))
    assert hits(query, made) > max(hits(small[1]), hits(reference))


def test_a_query_without_a_text_is_one_sentence() -> None:
    images, targets = some([1, 2, 2], 0), some([1, 1, 1], 1)
    with pytest.raises(XgapError, match="item '0' has one token: a composed query is a reference, then the tokens"):
        fit_scorer("sprc(heads=2, epochs=1)", images, targets)
