import numpy as np
import pytest
import torch

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.metrics import hubness, k_occurrence


def features(vectors, prefix="i"):
    return Features(torch.as_tensor(vectors), [f"{prefix}{i}" for i in range(len(vectors))], "image", "image")


def draws(n, d=5, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    rows = rng.integers(-1, 2, size=(n, d)).astype(float) if ties else rng.normal(size=(n, d))
    rows[~rows.any(axis=1), 0] = 1
    return rows


def naive(query, gallery, k, exclude_self):
    counts = [0] * len(gallery)
    for i, q in enumerate(query.ids):
        scores = [float(np.float32(s)) for s in gallery.vectors.double() @ query.vectors[i].double()]
        kept = [j for j in range(len(gallery)) if not (exclude_self and gallery.ids[j] == q)]
        for j in sorted(kept, key=lambda j: -scores[j])[:k]:
            counts[j] += 1
    return counts


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("exclude_self", [True, False])
@pytest.mark.parametrize(("k", "block"), [(1, 7), (4, 256), (29, 3)])
def test_k_occurrence_equals_a_naive_count(ties, exclude_self, k, block):
    gallery = features(draws(30, ties=ties))
    query = gallery.select(gallery.ids[::-1])
    counts = k_occurrence(query, gallery, k, exclude_self, block=block)
    assert counts.tolist() == naive(query, gallery, k, exclude_self)
    assert int(counts.sum()) == k * len(query)


@pytest.mark.parametrize(("n", "m"), [(70, 25), (30, 30)])
def test_hubness_equals_scipy(n, m):
    from scipy.stats import skew

    query, gallery = features(draws(n), "q" if n != m else "g"), features(draws(m, seed=n != m), "g")
    counts = np.array(naive(query, gallery, 3, True))
    if n == m:  # a set that asks itself: a hub starts at exactly 2k
        assert 6 in counts
        assert hubness(query, gallery, 3)["hub_share"].item() == (counts >= 6).mean()
    row = hubness(query, gallery, 3).iloc[0]
    assert row["skewness"] == pytest.approx(skew(counts))
    assert row["hub_share"] == pytest.approx((counts >= 2 * counts.mean()).mean())
    assert row["orphan_share"] == pytest.approx((counts == 0).mean())


def test_a_planted_hub_is_seen():
    cone = draws(40, 30, seed=2) + 1
    without = hubness(features(cone), features(cone), 5).iloc[0]
    cone[0] = 1  # the axis of the cone is near to all
    row = hubness(features(cone), features(cone), 5).iloc[0]
    assert k_occurrence(features(cone), features(cone), 5)[0] > 30
    assert row["skewness"] > without["skewness"] + 1
    assert row["orphan_share"] > 0


def test_an_even_gallery_has_no_hubs():
    x = features(np.eye(6))
    row = hubness(x, x, 1, exclude_self=False).iloc[0]  # each is its own nearest
    assert row.to_dict() == {"skewness": 0, "hub_share": 0, "orphan_share": 0}


def test_users_mistakes():
    x = features(draws(5))
    with pytest.raises(XgapError, match="between 1 and the 4 items"):
        k_occurrence(x, x, 5)
    with pytest.raises(XgapError, match="k, a number of neighbours, is a whole number of 1 or more, not 0"):
        k_occurrence(x, x, 0)
    assert int(k_occurrence(x, x, 5, exclude_self=False).sum()) == 25
    with pytest.raises(XgapError, match="dimensions"):
        hubness(x, features(draws(5, 4)), 1)
