"""Misalignment against naive counts of pairs and scikit-learn's AUC."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.relevance import Relevance
from xgap_analysis.metrics import misalignment, pooled_misalignment, similarity_histograms, similarity_overlap


def features(n, seed=0, ties=False, prefix="i", d=5):
    rng = np.random.default_rng(seed)
    rows = rng.integers(-1, 2, size=(n, d)).astype(float) if ties else rng.normal(size=(n, d))
    rows[~rows.any(axis=1), 0] = 1
    return Features(torch.from_numpy(rows), [f"{prefix}{i}" for i in range(n)], "image", "image")


def labelled(x, n_labels, seed=0):
    rng = np.random.default_rng(seed)
    label = {i: str(rng.integers(n_labels)) for i in x.ids}
    return label, Relevance.from_labels(label, label)


def scored(query, gallery, same, exclude_self=True, junk=()):
    """Similarities of the same-class and of the different-class pairs of each query."""
    out = []
    for i, q in enumerate(query.ids):
        scores = [float(np.float32(s)) for s in gallery.vectors.double() @ query.vectors[i].double()]
        kept = [
            (same(q, g), s)
            for g, s in zip(gallery.ids, scores, strict=True)
            if not (exclude_self and g == q) and g not in junk
        ]
        out.append(([s for same, s in kept if same], [s for same, s in kept if not same]))
    return out


def naive(same, different):
    wins = sum((s < d) + (s == d) / 2 for s in same for d in different)
    return wins / (len(same) * len(different))


@pytest.mark.parametrize("exclude_self", [True, False])
@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("n_labels", [2, 7])
@pytest.mark.parametrize("block", [1, 5, 256])
def test_equal_naive_counts(exclude_self, ties, n_labels, block):
    gallery = features(35, ties=ties)
    query = gallery.select(gallery.ids[3:17])
    label, relevance = labelled(gallery, n_labels)
    pairs = scored(query, gallery, lambda q, g: label[q] == label[g], exclude_self)
    frame = misalignment(query, gallery, relevance, exclude_self=exclude_self, block=block)
    np.testing.assert_allclose(frame["misalignment"], [naive(*p) for p in pairs], rtol=1e-9)
    assert frame["n_same"].tolist() == [len(s) for s, _ in pairs]
    assert frame["n_different"].tolist() == [len(d) for _, d in pairs]
    whole = naive([s for same, _ in pairs for s in same], [d for _, different in pairs for d in different])
    pooled = pooled_misalignment(query, gallery, relevance, exclude_self=exclude_self, block=block)
    assert pooled == pytest.approx(whole, rel=1e-12)


def test_equal_scikit_learns_auc():
    from sklearn.metrics import roc_auc_score

    x = features(50, ties=True)
    label, relevance = labelled(x, 4)
    pairs = scored(x, x, lambda q, g: label[q] == label[g])
    auc = [roc_auc_score([1] * len(s) + [0] * len(d), s + d) for s, d in pairs]
    np.testing.assert_allclose(misalignment(x, x, relevance)["misalignment"], 1 - np.array(auc))
    same, different = ([v for p in pairs for v in p[side]] for side in (0, 1))
    whole = roc_auc_score([1] * len(same) + [0] * len(different), same + different)
    assert pooled_misalignment(x, x, relevance) == pytest.approx(1 - whole)


def test_junk_counts_on_neither_side():
    query, gallery = features(4, 1, prefix="q"), features(20, 2, prefix="g")
    qrels = {q: dict.fromkeys(gallery.ids[k : k + 6], 1.0) for k, q in enumerate(query.ids)}
    junk = gallery.ids[4:9]
    pairs = scored(query, gallery, lambda q, g: g in qrels[q], junk=junk)
    frame = misalignment(query, gallery, Relevance.from_qrels(qrels, dict.fromkeys(query.ids, junk)))
    np.testing.assert_allclose(frame["misalignment"], [naive(*p) for p in pairs])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_laws(seed, ties):
    x = features(24, seed, ties)
    _, relevance = labelled(x, 3, seed)
    opposite = Features(-x.vectors, x.ids, "image", "image")
    ahead, behind = (misalignment(x, y, relevance)["misalignment"] for y in (x, opposite))
    assert ahead.isna().equals(behind.isna())  # an anchor alone in its class has no same-class pair
    np.testing.assert_allclose((ahead + behind).dropna(), 1)  # turning the gallery round turns every pair round
    pooled = pooled_misalignment(x, x, relevance)
    assert pooled + pooled_misalignment(x, opposite, relevance) == pytest.approx(1)
    shuffled = x.select(x.ids[i] for i in np.random.default_rng(seed).permutation(24))
    np.testing.assert_allclose(misalignment(x, shuffled, relevance)["misalignment"], ahead)
    assert 0 <= similarity_overlap(x, x, relevance, bins=20) <= 1


def test_known_answers():
    x = Features(torch.eye(2)[[0, 0, 1, 1]], list("abcd"), "image", "image")
    for labels, expected in (("0011", 0), ("0101", 0.75), ("0110", 0.75)):
        relevance = Relevance.from_labels(tuple(labels), tuple(labels))
        # of two others of the other class, one coincides with the query (wrong) and one ties with its own class (half)
        assert misalignment(x, x, relevance)["misalignment"].tolist() == [expected] * 4
        assert pooled_misalignment(x, x, relevance) == expected
    assert similarity_overlap(x, x, Relevance.from_labels("0011", "0011")) == 0


def test_histograms_equal_numpys():
    x = features(40)
    label, relevance = labelled(x, 3)
    frame = similarity_histograms(x, x, relevance, bins=16, block=7)
    pairs = scored(x, x, lambda q, g: label[q] == label[g])
    edges = np.linspace(-1, 1, 17)
    densities = []
    for side, name in enumerate(("same", "different")):
        values = [v for p in pairs for v in p[side]]
        density, _ = np.histogram(values, edges, density=True)
        np.testing.assert_allclose(frame[name], density)
        assert frame.attrs[f"n_{name}"] == len(values)
        densities.append(density)
    np.testing.assert_allclose(frame.index, (edges[1:] + edges[:-1]) / 2, atol=1e-12)
    union = sum(max(a, b) for a, b in zip(*densities, strict=True))
    common = sum(min(a, b) for a, b in zip(*densities, strict=True))
    assert similarity_overlap(x, x, relevance, bins=16) == pytest.approx(common / union)


def test_extreme_similarities_have_a_bin():
    x = Features(torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]), list("abc"), "image", "image")
    frame = similarity_histograms(x, x, Relevance.from_labels("001", "001"), bins=4)
    assert frame["same"].tolist() == [0, 0, 0, 2]
    assert frame["different"].tolist() == [2, 0, 0, 0]


def test_queries_without_pairs_are_reported():
    x = features(6)
    labels = list("aabbbc")
    with pytest.warns(UserWarning, match="1 of 6 queries lack"):
        frame = misalignment(x, x, Relevance.from_labels(labels, labels))
    assert frame.attrs["without_pairs"] == 1
    assert [math.isnan(v) for v in frame["misalignment"]] == [False] * 5 + [True]
    for labels in ("aaaaaa", "abcdef"):
        relevance = Relevance.from_labels(labels, labels)
        for metric in (misalignment, pooled_misalignment):
            with pytest.raises(XgapError, match="no query has both"):
                metric(x, x, relevance)
        with pytest.raises(XgapError, match=r"there is no (same|different)-class pair"):
            similarity_overlap(x, x, relevance)
    with pytest.raises(XgapError, match="bins"):
        similarity_histograms(x, x, relevance, bins=0)
