"""Samples of pairs against all pairs: right on average, and inside the interval as often as it says."""

import numpy as np
import pytest

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.relevance import Relevance
from xgap_analysis.metrics import pooled_misalignment, sampled_misalignment, sampled_uniformity, uniformity
from xgap_analysis.metrics.sampled import _number

SEEDS = 40


def items(n=150, d=6):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d)) + 0.5
    labels = [i % 3 for i in range(n)]
    x[:, 0] += labels
    return x, labels


def covered(found, exact):
    inside = np.mean([interval.low <= exact <= interval.high for interval in found])
    centre = np.mean([interval.mean for interval in found])
    width = np.mean([interval.high - interval.low for interval in found])
    return inside, abs(centre - exact) / width


def test_misalignment():
    x, labels = items()
    exact = pooled_misalignment(x, x, labels)
    found = [sampled_misalignment(x, x, labels, pairs=2000, seed=seed) for seed in range(SEEDS)]
    inside, off = covered(found, exact)
    assert inside >= 0.8  # 0.95 is the level; of 40, fewer than 32 come once in 3,000 times
    assert off < 0.15
    assert sampled_misalignment(x, x, labels, pairs=2000, seed=3) == found[3]


def test_misalignment_by_listed_items_with_junk_and_without_the_query_itself():
    x, labels = items(30)
    features = xg.Features(x, [f"i{i}" for i in range(30)], "image", "image")
    ids = features.ids
    qrels = {q: {p: 1 for p in ids if labels[int(p[1:])] == labels[int(q[1:])]} for q in ids}
    relevance = Relevance.from_qrels(qrels, junk={"i0": ids[10:20]})
    exact = pooled_misalignment(features, features, relevance)
    found = sampled_misalignment(features, features, relevance, pairs=20_000)
    assert abs(found.mean - exact) < 0.02
    assert exact != pooled_misalignment(features, features, relevance, exclude_self=False)


def test_uniformity():
    x, _ = items()
    exact = uniformity(x)
    inside, off = covered([sampled_uniformity(x, pairs=2000, seed=seed) for seed in range(SEEDS)], exact)
    assert inside >= 0.8
    assert off < 0.15


def test_more_pairs_give_a_narrower_interval():
    x, labels = items()
    few, many = (sampled_misalignment(x, x, labels, pairs=pairs) for pairs in (2000, 50_000))
    assert 3 < (few.high - few.low) / (many.high - many.low) < 8  # the root of 25 is 5


def test_users_mistakes():
    x, labels = items()
    with pytest.raises(XgapError, match=r"a whole number, not 10000\.0"):
        _number(1e4)
    with pytest.raises(XgapError, match="seed"):
        sampled_uniformity(x, seed=-1)
    with pytest.raises(XgapError, match="at least 1000 pairs"):
        sampled_misalignment(x, x, labels, pairs=999)
    with pytest.raises(XgapError, match="at least 1000 pairs"):
        sampled_uniformity(x, pairs=10)
    with pytest.raises(XgapError, match="different classes are too rare"):
        sampled_misalignment(x, x, [1] * 150)
    with pytest.raises(XgapError, match="same classes are too rare"):
        sampled_misalignment(x, x, list(range(150)))
    with pytest.raises(XgapError, match="no query has an item of its class"):
        sampled_misalignment(x, x[:5], (labels, [9] * 5))
    with pytest.raises(XgapError, match="two distinct vectors"):
        sampled_uniformity(np.ones((4, 3)))
    with pytest.raises(XgapError, match="6 dimensions and the gallery 2"):
        sampled_misalignment(x, x[:, :2], (labels, labels))
