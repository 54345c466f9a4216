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
    fused = decoded(weights_of(module.fuser), tokens + kinds, heads=2)  # type: ignore[arg-type]
    prompt = unit(tokens[:1] + linear(fused, w, "of_prompt"))
    both = np.concatenate([prompt, tokens[1:]])
    read = decoded(weights_of(module.sentence), both, heads=2)  # type: ignore[arg-type]
    return unit(prompt.mean(0) + tokens[1:].mean(0) + linear(read, w, "out")[0])


@settings(max_examples=8)
@given(q=COMPOSED, g=COMPOSED, seed=st.integers(0, 99))
def test_it_equals_its_formula(q: list[int], g: list[int], seed: int) -> None:
    query, gallery = some(q, seed, "image+text"), some(g, seed + 1)
    made = fitted_to(query, gallery)
    expected = [[(v @ query_of(made, own)).max() for v in sets_of(gallery)] for own in sets_of(query)]
    np.testing.assert_allclose(score(query, gallery, made), expected, atol=5e-6)


def test_before_the_fit_it_is_late_fusion_and_the_best_token() -> None:
    images, texts, targets = (Features(torch.randn(3, 8), "abc", side, side) for side in ("image", "text", "image"))
    query = stacked(images, texts)
    start = fit_scorer("sprc(heads=2, epochs=0)", query, targets)
    fused = Features(images.vectors + texts.vectors, "abc", "image", "image")
    assert torch.allclose(score(query, targets, start), score(fused, targets), atol=1e-6), "one token: the cosine"
    tokens = some([4, 2, 3], 0)
    best = score(fused, tokens, "late_interaction(inner=max)")
    assert torch.allclose(score(query, tokens, start), best, atol=1e-6), "the maximum over a target's tokens"


def test_padding_order_and_other_items_change_nothing() -> None:
    query, gallery = some([3, 2, 5], 0, "image+text"), some([4, 1, 3], 1)
    made = fitted_to(query, gallery)
    found = score(query, gallery, made)
    assert torch.allclose(score(turned_round(query, 1), turned_round(gallery), made), found, atol=1e-5)
    assert torch.allclose(score(query.select(["1"]), gallery, made), found[1:2], atol=1e-5)
    assert torch.allclose(score(query, gallery.select(["2", "0"]), made), found[:, [2, 0]], atol=1e-5)
    assert not torch.allclose(score(turned_round(query), gallery, made), found, atol=1e-2), "the reference is first"


def test_it_learns_to_compose_where_texts_lie_apart_from_images() -> None:
    """A scene of two things and the text of a third one, which takes a place: texts are the things, turned round."""
    generator = torch.Generator().manual_seed(0)
    things = torch.nn.functional.normalize(torch.randn(12, 16, generator=generator), dim=1)
    texts = things @ torch.linalg.qr(torch.randn(16, 16, generator=generator))[0]
    scenes = [(kept, old, new) for kept in range(12) for old in range(12) for new in range(12)]
    scenes = [scene for scene in scenes if len(set(scene)) == 3]
    order = torch.randperm(len(scenes), generator=generator).tolist()
    ids = [str(i) for i in range(len(scenes))]
    sets = [torch.stack([things[kept] + 0.3 * things[old], texts[new]]) for kept, old, new in scenes]
    query = TokenFeatures.from_sets(sets, ids, "image+text", "text")
    pairs = sorted({(kept, new) for kept, _, new in scenes})
    gallery = Features(torch.stack([things[a] + things[b] for a, b in pairs]), map(str, pairs), "image", "image")
    owner = {i: str((kept, new)) for i, (kept, _, new) in zip(ids, scenes, strict=True)}
    train, test = ([ids[i] for i in part] for part in (order[:1000], order[1000:]))
    options = "prompts=2, layers=1, heads=4, epochs=15, batch=44, learning_rate=3e-3"
    made = fit_scorer(f"sprc({options})", query.select(train), gallery, pairs=owner)

    def hits(by: Scorer) -> float:
        best = score(query.select(test), gallery, by).argmax(1).tolist()
        return float(np.mean([gallery.ids[b] == owner[i] for b, i in zip(best, test, strict=True)]))

    before = fit_scorer("sprc(heads=4, epochs=0)", query, gallery, pairs=owner)
    assert hits(made) > 0.4 > hits(before) + 0.2


def test_on_composed_queries_of_the_oracle_both_parts_count() -> None:
    """Scenes with one thing replaced: the text names the new thing, and the reference has the others."""
    data = xg.load_dataset("emoji-scenes:composed").split("seen")
    model = xg.load_model("oracle")
    edits = [i for i in data.texts.ids if i.endswith("/edit")][:40]
    of = [data.labels["reference"][i] for i in edits]
    images, texts = (
        xg.encode(model, items, progress=False)
        for items in (
            data.images.select([*of, *(f"{r}/target-{k}" for r in of for k in (1, 3))]),
            data.texts.select(edits),
        )
    )
    reference = Features(images.select(of).vectors, edits, "image", "image")
    gallery = images.select([f"{r}/target-{k}" for r in of for k in (1, 3)])
    query = stacked(reference, texts)
    start = fit_scorer("sprc(prompts=1, layers=1, epochs=0)", query, gallery, pairs={edits[0]: gallery.ids[0]})

    def hits(own: Any, by: Any = "cosine") -> float:
        best = score(own, gallery, by).argmax(1).tolist()
        return float(np.mean([gallery.ids[b].startswith(f"{r}/") for b, r in zip(best, of, strict=True)]))

    assert hits(query, start) > max(hits(texts), hits(reference))


def test_a_query_without_a_text_is_one_sentence() -> None:
    images, targets = some([1, 2, 2], 0), some([1, 1, 1], 1)
    with pytest.raises(XgapError, match="item '0' has one token: a composed query is a reference, then the tokens"):
        fit_scorer("sprc(heads=2, epochs=1)", images, targets)
