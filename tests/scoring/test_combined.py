"""Scorers made of scorers: sums, and a second scorer for the best items of a first."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.scoring.blocks import descending
from xgap_analysis.scoring.rows import TILE, score_chosen
from xgap_analysis.scoring.score import score
from xgap_analysis.scoring.scorer import scorer
from xgap_analysis.scoring.tokens import TokenBlock

FIRST = "late_interaction(inner=mean, outer=mean)"
SECOND = "late_interaction"


def some(lengths: list[int], seed: int, d: int = 6) -> TokenFeatures:
    generator = torch.Generator().manual_seed(seed)
    sets = [torch.randn(n, d, generator=generator) for n in lengths]
    return TokenFeatures.from_sets(sets, map(str, range(len(sets))), "image", "image")


def test_a_sum_adds_scores_by_their_weights() -> None:
    query, gallery = some([2, 3], 0), some([1, 4, 2], 1)
    a, b = score(query, gallery, FIRST), score(query, gallery, "pooled(tau=0.3)")
    assert torch.allclose(score(query, gallery, f"sum({FIRST}, pooled(tau=0.3))"), a + b, atol=1e-6)
    weighted = scorer("sum", FIRST, scorer("pooled", tau=0.3), weights=[1, 0.5])
    assert (
        str(scorer("sum(cosine, pooled(tau=0.3), weights=[1, 0.5])"))
        == "sum(cosine, pooled(tau=0.3), weights=[1, 0.5])"
    )
    assert torch.allclose(score(query, gallery, weighted), a + b / 2, atol=1e-6)
    assert torch.allclose(score(query, gallery, f"sum(sum({FIRST}), weights=[-2])"), -2 * a, atol=1e-6)
    one = Features(torch.randn(4, 6), "abcd", "image", "image")
    assert torch.allclose(score(one, one, f"sum(cosine, {SECOND})"), 2 * score(one, one), atol=1e-6)


@given(n=st.integers(1, 4), m=st.integers(2, 9), depth=st.integers(1, 9), seed=st.integers(0, 999))
@settings(max_examples=30)
def test_the_best_by_the_first_come_before_all_others_in_the_order_of_the_second(
    n: int, m: int, depth: int, seed: int
) -> None:
    query, gallery = some([1 + i % 4 for i in range(n)], seed), some([1 + i % 3 for i in range(m)], seed + 1)
    first, second = score(query, gallery, FIRST), score(query, gallery, SECOND)
    found = score(query, gallery, f"rerank({FIRST}, {SECOND}, depth={depth})")
    for row in range(n):
        order = descending(first[row : row + 1])[0].tolist()
        best, others = order[:depth], order[depth:]
        expected = sorted(best, key=lambda i: (-float(second[row, i]), i)) + others
        assert descending(found[row : row + 1])[0].tolist() == expected
        assert torch.allclose(found[row, best], second[row, best], atol=1e-6)


@pytest.mark.parametrize("by", [SECOND, "pooled", "late_interaction(inner=mean, outer=max)", "sum(late_interaction)"])
def test_chosen_items_are_scored_as_all_are(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    query, gallery = some([1, 4, 2], 0), some([2, 1, 5, 3, 2, 1], 1)
    columns = torch.tensor([[0, 2], [5, 1], [3, 4]])
    expected = score(query, gallery, by).gather(1, columns)
    assert torch.allclose(score_chosen(query, gallery, scorer(by), columns), expected, atol=1e-6)
    monkeypatch.setitem(TILE, "cpu", 8)  # too few for a block of a query with its items
    assert torch.allclose(score_chosen(query, gallery, scorer(by), columns), expected, atol=1e-6)


def test_equal_scores_of_the_first_keep_the_gallery_order() -> None:
    query = Features(torch.eye(3)[:1], ["q"], "image", "image")
    gallery = Features(torch.eye(3)[[1, 0, 2, 1]], "abcd", "image", "image")  # 0, 1, 0, 0
    found = score(query, gallery, "rerank(cosine, cosine, depth=2)")
    assert descending(found)[0].tolist() == [1, 0, 2, 3]
    assert found[0, 0] > found[0, 2] == found[0, 3]


def test_the_second_scorer_sees_the_best_items_alone() -> None:
    query, gallery = some([2, 2, 2], 0), some([2] * 50, 1)
    seen: list[int] = []

    def counted(q: TokenBlock, g: TokenBlock) -> torch.Tensor:
        seen.append(len(q) * len(g))
        return scorer(SECOND)(q, g)

    score(query, gallery, scorer("rerank", FIRST, counted, depth=5))
    assert sum(seen) == 3 * 5


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("rerank(cosine)", "rerank needs second"),
        ("rerank", "rerank needs first and second"),
        ("rerank(cosine, cosine, cosine)", "rerank takes first, second"),
        ("rerank(cosine, cosine, depth=0)", "whole number of 1 or more, not 0"),
        ("rerank(cosine, cosine, depth=1.5)", "whole number of 1 or more, not 1.5"),
        ("rerank(cosin, cosine, depth=1)", "unknown scorer 'cosin'; nearest names: cosine"),
        ("rerank(cosine, cosine, dept=1)", "unknown option of rerank 'dept'"),
        ("sum()", "needs at least one"),
        ("sum(cosine, weights=3)", "weights of a sum are a list, one for each scorer"),
        ("sum(cosine, weights=['a'])", "weights of a sum are a list, one for each scorer"),
        ("sum(cosine, weights=[1, 2])", "sum of 1 scorers needs as many weights, not 2"),
    ],
)
def test_a_mistake_is_one_sentence(name: str, sentence: str) -> None:
    one = Features(torch.randn(4, 6), "abcd", "image", "image")
    with pytest.raises(XgapError, match=sentence):
        score(one, one, name)
