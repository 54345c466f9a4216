"""The rank of the first relevant item, and its reciprocal, against all orders of what is tied."""

from itertools import pairwise, permutations

import numpy as np
import pytest
import torch

import xgap_analysis as xg
from xgap_analysis.metrics import best_ranks, reciprocal_rank
from xgap_analysis.metrics.first_rank import TIES, _expected

PICK = {"best": min, "worst": max}


def ranks_of_all_orders(scores: np.ndarray, relevant: np.ndarray) -> list[int]:
    """Of the first relevant item, in each order of the items that descending scores allow."""
    return [
        next(rank for rank, item in enumerate(order) if relevant[item])
        for order in permutations(range(len(scores)))
        if all(scores[a] >= scores[b] for a, b in pairwise(order))
    ]


def by_position(scores: np.ndarray, relevant: np.ndarray, sign: int) -> int:
    order = sorted(range(len(scores)), key=lambda item: (-scores[item], sign * item))
    return next(rank for rank, item in enumerate(order) if relevant[item])


@pytest.mark.parametrize("seed", range(5))
def test_ties_by_every_rule_are_those_of_all_orders(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, (6, 6)).astype(np.float32)
    labels = rng.integers(0, 3, 6), rng.integers(0, 4, 6)
    labels[0][0] = 9  # relevant to nothing
    query, gallery = torch.eye(6), torch.eye(6) + 0.1  # vectors say nothing here: the scorer gives the table

    def table(query: torch.Tensor, gallery: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(scores)[query.argmax(dim=1)]

    how = {"scorer": table}
    relevance = (labels[0].tolist(), labels[1].tolist())
    relevant = labels[0][:, None] == labels[1][None]
    found = {rule: best_ranks(query, gallery, relevance, ties=rule, **how) for rule in TIES}
    inverse = {rule: reciprocal_rank(query, gallery, relevance, ties=rule, **how) for rule in TIES}
    for i in range(6):
        if not relevant[i].any():
            assert all(np.isnan(made[rule].iloc[i]) for made in (found, inverse) for rule in TIES)
            continue
        every = ranks_of_all_orders(scores[i], relevant[i])
        assert found["expected"].iloc[i] == pytest.approx(np.mean(every))
        assert inverse["expected"].iloc[i] == pytest.approx(np.mean([1 / (rank + 1) for rank in every]))
        for rule, sign in (("gallery", 1), ("reversed", -1)):
            assert found[rule].iloc[i] == by_position(scores[i], relevant[i], sign)
        for rule, pick in PICK.items():
            assert found[rule].iloc[i] == pick(every)
        for rule in set(TIES) - {"expected"}:
            assert inverse[rule].iloc[i] == pytest.approx(1 / (found[rule].iloc[i] + 1))


def test_where_all_scores_are_equal_the_mean_is_that_of_a_random_order_and_the_best_rank_says_1() -> None:
    n = 7
    same, own = torch.ones(n, 3), list(range(n))
    made = {rule: reciprocal_rank(same, -same, (own, own), ties=rule).mean() for rule in TIES}
    random = sum(1 / k for k in range(1, n + 1)) / n
    assert made["expected"] == pytest.approx(random)
    assert made["gallery"] == pytest.approx(random)  # the own item stands at each place once
    assert (made["best"], made["worst"]) == pytest.approx((1, 1 / n))


def test_identity_similarities_have_a_mean_reciprocal_rank_of_1() -> None:
    own, texts, images = list(range(5)), torch.eye(5), torch.eye(5) + 0.1
    assert all(reciprocal_rank(texts, images, (own, own), ties=rule).mean() == 1 for rule in TIES)


def test_the_expectation_over_many_tied_items_is_finite_and_right() -> None:
    assert _expected(0, 1, 999) == pytest.approx(sum(1 / k for k in range(1, 1001)) / 1000)
    assert _expected(4, 2, 0) == pytest.approx(1 / 5)
    assert np.isnan(_expected(4, 0, 0))


def test_self_matches_and_junk_are_in_no_ranking() -> None:
    same = torch.ones(4, 2)
    labels = ["a", "a", "b", "b"]
    assert reciprocal_rank(same, same, labels).tolist() == pytest.approx([(1 + 1 / 2 + 1 / 3) / 3] * 4)
    images = xg.Features(same, list("wxyz"), "image", "image")
    junk = xg.Relevance.from_qrels({"w": {"x": 1}}, {"w": ["y", "z"]})
    assert reciprocal_rank(images, images, junk)["w"] == 1


def test_it_is_a_metric_by_name_and_follows_a_correction_of_scores() -> None:
    texts, images = (xg.Features(torch.eye(3), "abc", space, space) for space in ("text", "image"))
    relevance = xg.Relevance.from_labels({"a": 1, "b": 2, "c": 3}, {"a": 2, "b": 1, "c": 3})
    pair = xg.QueryGallery(texts, images)
    assert xg.metrics.scores("mrr", pair, relevance)["mrr"].tolist() == pytest.approx([0.5 * (1 / 2 + 1 / 3)] * 2 + [1])
    turned = xg.QueryGallery(texts, images, normalise=lambda scores: -scores)
    values = xg.metrics.scores("mrr(ties=best)", turned, relevance)["mrr(ties=best)"].tolist()
    assert values == pytest.approx([1, 1, 1 / 3])


def test_an_unknown_rule_is_refused() -> None:
    for function in (best_ranks, reciprocal_rank):
        with pytest.raises(xg.XgapError, match="unknown rule for ties 'ordinal'"):
            function(torch.eye(2), torch.eye(2), ([1, 2], [1, 2]), ties="ordinal")
