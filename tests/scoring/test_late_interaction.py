"""Late interaction equals its formula on ragged input, and keeps its laws."""

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.scoring.score import score
from xgap_analysis.scoring.scorer import scorer

Matrix = np.ndarray
REDUCTIONS: dict[str, Callable[[Matrix], Matrix]] = {  # over the last axis
    "max": lambda x: x.max(-1),
    "mean": lambda x: x.mean(-1),
    "sum": lambda x: x.sum(-1),
    "top(2)": lambda x: np.sort(x, -1)[..., -2:].mean(-1),
    "softmax(tau=0.1)": lambda x: soft(x, 0.1),
}
RAGGED = st.lists(st.integers(2, 5), min_size=1, max_size=5)


def soft(x: Matrix, tau: float) -> Matrix:
    weight = np.exp((x - x.max(-1, keepdims=True)) / tau)
    return (weight * x).sum(-1) / weight.sum(-1)


def some(lengths: list[int], seed: int, d: int = 6, prefix: str = "") -> TokenFeatures:
    generator = torch.Generator().manual_seed(seed)
    sets = [torch.randn(n, d, generator=generator) for n in lengths]
    return TokenFeatures.from_sets(sets, [f"{prefix}{i}" for i in range(len(sets))], "image", "image")


def by_formula(query: TokenFeatures, gallery: TokenFeatures, pair: Callable[[Matrix, Matrix], float]) -> Matrix:
    sets = [[side.tokens_of(i).double().numpy() for i in side.ids] for side in (query, gallery)]
    return np.array([[pair(q, g) for g in sets[1]] for q in sets[0]])


@pytest.mark.parametrize("inner", REDUCTIONS)
@pytest.mark.parametrize("outer", REDUCTIONS)
@settings(max_examples=3)
@given(q=RAGGED, g=RAGGED, seed=st.integers(0, 99))
def test_it_equals_its_formula(inner: str, outer: str, q: list[int], g: list[int], seed: int) -> None:
    query, gallery = some(q, seed), some(g, seed + 1)

    def one_way(a: Matrix, b: Matrix) -> float:
        return float(REDUCTIONS[outer](REDUCTIONS[inner](a @ b.T)))

    name = f"late_interaction(inner={inner}, outer={outer})"
    np.testing.assert_allclose(score(query, gallery, name), by_formula(query, gallery, one_way), atol=3e-6)
    both = scorer(name, symmetric=True)
    expected = by_formula(query, gallery, lambda a, b: (one_way(a, b) + one_way(b, a)) / 2)
    np.testing.assert_allclose(score(query, gallery, both), expected, atol=3e-6)
    np.testing.assert_allclose(score(gallery, query, both).T, score(query, gallery, both), atol=3e-6)


@given(q=st.lists(st.integers(1, 4), min_size=1, max_size=3), g=st.lists(st.integers(1, 4), min_size=1, max_size=3))
@settings(max_examples=15)
def test_assignment_is_the_best_of_all_one_to_one_choices(q: list[int], g: list[int]) -> None:
    query, gallery = some(q, 1), some(g, 2)

    def best(a: Matrix, b: Matrix) -> float:
        few, many = sorted((a, b), key=len)
        values = few @ many.T
        choices = permutations(range(len(many)), len(few))
        return max(np.mean([values[i, j] for i, j in enumerate(choice)]) for choice in choices)

    found = score(query, gallery, "late_interaction(outer=assignment)")
    np.testing.assert_allclose(found, by_formula(query, gallery, best), atol=1e-6)
    np.testing.assert_allclose(score(query, query, "late_interaction(outer=assignment)").diagonal(), 1, atol=1e-6)


@pytest.mark.parametrize("outer", ["max", "mean", "sum", "top(1)", "softmax(0.1)", "assignment"])
@given(n=st.integers(1, 5), m=st.integers(1, 5), seed=st.integers(0, 99))
@settings(max_examples=10)
def test_one_token_per_item_is_the_cosine(outer: str, n: int, m: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    query, gallery = (
        Features(torch.randn(k, 5, generator=generator), map(str, range(k)), "image", "image") for k in (n, m)
    )
    one = scorer("late_interaction", outer=outer)
    assert torch.allclose(score(query, gallery, one), score(query, gallery), atol=1e-6)
    assert torch.allclose(score(gallery, query, one).T, score(query, gallery), atol=1e-6)


def test_padding_never_wins_a_maximum_and_a_repeated_token_changes_nothing() -> None:
    v = torch.randn(1, 6)
    long = torch.randn(5, 6)
    query = TokenFeatures.from_sets([v], ["q"], "text", "text")
    gallery = TokenFeatures.from_sets([-v, long, torch.cat([-v, -v])], "abc", "image", "image")
    found = score(query, gallery, "late_interaction")[0]
    assert found[0] == pytest.approx(-1, abs=1e-6)  # zero rows of padding beside it would give 0
    assert found[2] == found[0]
    back = score(gallery, query, "late_interaction(outer=max)")[:, 0]
    assert back[0] == pytest.approx(-1, abs=1e-6)


def test_the_order_of_tokens_and_the_other_items_change_nothing() -> None:
    query, gallery = some([3, 1, 4], 0), some([2, 5, 3, 1], 1)
    turned = TokenFeatures.from_sets([gallery.tokens_of(i).flip(0) for i in gallery.ids], gallery.ids, "image", "image")
    for name in (
        "late_interaction",
        "late_interaction(inner=softmax(0.2), outer=sum)",
        "late_interaction(outer=assignment)",
    ):
        found = score(query, gallery, name)
        assert torch.allclose(score(query, turned, name), found, atol=1e-6)
        assert torch.allclose(score(query, gallery.select(["2", "0"]), name), found[:, [2, 0]], atol=1e-6)
        assert torch.allclose(score(query.select(["1"]), gallery, name), found[1:2], atol=1e-6)


def test_filip_has_two_directions_and_mevtr_and_sprc_take_the_best_token() -> None:
    frames = TokenFeatures(torch.eye(3), [0, 3], ["clip"], "image", "image")
    words = TokenFeatures(torch.eye(3)[[0, 0]], [0, 2], ["text"], "text", "text")
    assert score(words, frames, "late_interaction(inner=max, outer=mean)").item() == 1  # both words have their frame
    assert score(frames, words, "late_interaction(inner=max, outer=mean)").item() == pytest.approx(1 / 3)
    assert score(words, frames, "late_interaction(symmetric=True)").item() == pytest.approx(2 / 3)
    event = Features(torch.tensor([[0.6, 0.8, 0.0]]), ["event"], "text", "text")
    assert score(event, frames, "late_interaction(inner=max)").item() == pytest.approx(0.8)
    assert score(event, frames, "late_interaction(inner=mean, outer=mean)").item() == pytest.approx(1.4 / 3)


def test_regions_and_sub_captions_of_the_oracle_have_their_closed_form() -> None:
    d, g = 64, 0.7
    codes = torch.ones(1, 1, dtype=torch.float64)
    while len(codes) < d:
        codes = torch.cat([torch.cat([codes, codes], 1), torch.cat([codes, -codes], 1)])
    codes = codes / d**0.5
    concept, artist, gap = codes[:20], codes[40:45], codes[60:62]
    parts = [(0, 3), (1,), (2, 5, 7), (4, 6)]
    images = [torch.stack([concept[c] + 0.3 * artist[i] + g * gap[0] for c in of]) for i, of in enumerate(parts)]
    texts = [torch.stack([concept[c] + g * gap[1] for c in of]) for of in parts]
    ids = [f"scene {i}" for i in range(len(parts))]
    gallery = TokenFeatures.from_sets(images, ids, "image", "image")
    query = TokenFeatures.from_sets(texts, ids, "text", "text")
    for name in ("late_interaction", "late_interaction(outer=assignment)", "late_interaction(symmetric=True)"):
        found = score(query, gallery, name)
        np.testing.assert_allclose(found, 0.651746 * np.eye(4), atol=2e-6)


def test_limits_of_the_temperature_are_the_maximum_and_the_mean() -> None:
    query, gallery = some([3, 2], 0), some([4, 2, 3], 1)
    for name, limit in (("softmax(1e-5)", "max"), ("softmax(1e6)", "mean"), ("top(1)", "max")):
        found = score(query, gallery, f"late_interaction(inner={name})")
        assert torch.allclose(found, score(query, gallery, f"late_interaction(inner={limit})"), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("late_interaction(inner=top(3))", "inner=top.3. needs 3 tokens per item, and item '1' has 2"),
        ("late_interaction(outer=top(4))", "outer=top.4. needs 4 tokens per item, and item '0' has 3"),
        ("late_interaction(inner=mux)", "unknown inner 'mux'; nearest names: max"),
        ("late_interaction(inner=top)", "inner=top needs its k: top.3."),
        ("late_interaction(inner=top(0))", "whole number of 1 or more"),
        ("late_interaction(inner=top(1.5))", "whole number of 1 or more"),
        ("late_interaction(inner=softmax(0))", "must be greater than 0"),
        ("late_interaction(inner=softmax(a))", "must be a number"),
        ("late_interaction(inner=max(2))", "not understood; write max, without brackets"),
        ("late_interaction(inner=top(1, 2))", "not understood; write top.k."),
        ("late_interaction(inner=3)", "inner is a name such as"),
        ("late_interaction(inner=mean, outer=assignment)", "leave out inner=mean"),
        ("late_interaction(iner=max)", "unknown option of late_interaction 'iner'"),
        ("late_interaction(max)", "takes options by name"),
        ("late_interactoin", "nearest names: late_interaction"),
    ],
)
def test_a_mistake_is_one_sentence(name: str, sentence: str) -> None:
    with pytest.raises(XgapError, match=sentence):
        score(some([3], 0), some([4, 2], 1), name)


def test_the_name_with_its_options_is_read_again() -> None:
    made = scorer("late_interaction(inner=top(3), outer=softmax(0.1), symmetric=True)")
    assert str(made) == "late_interaction(inner=top(3), outer=softmax(0.1), symmetric=True)"
    assert str(scorer(str(made))) == str(made)
