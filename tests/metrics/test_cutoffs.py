"""Cut-offs against one rank at a time, scikit-learn's nDCG, and `retrieval` where both give a number."""

import math

import numpy as np
import pandas as pd
import pytest

import xgap_analysis as xg
from tests.metrics.test_retrieval import features, rank, tied
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.relevance import Relevance
from xgap_analysis.metrics import cutoffs, retrieval, scores

KS = (1, 3, 5, 20, 60)


def oracle(query, gallery, grades, junk, ks, gain, reachable):
    """Every column, one rank at a time."""
    rows = []
    for i, q in enumerate(query.ids):
        gains = [grades(q, gallery.ids[j]) for j in rank(query, gallery, i, set(junk.get(q, ())))]
        hits = [g > 0 for g in gains]
        worth = [2**g - 1 if gain == "exponential" else g for g in gains]
        row = {"n_relevant": sum(hits)}
        for k in ks if sum(hits) else ():
            row[f"precision_at_{k}"] = sum(hits[:k]) / k
            row[f"recall_at_{k}"] = sum(hits[:k]) / sum(hits)
            found = sum(sum(hits[: r + 1]) / (r + 1) for r in range(min(k, len(hits))) if hits[r])
            row[f"ap_{'reachable_' * reachable}at_{k}"] = found / (min(k, sum(hits)) if reachable else sum(hits))
            cut = min(k, 1 + max(r for r, hit in enumerate(hits) if hit))
            row[f"mp_at_{k}"] = sum(hits[:cut]) / cut
            best = sum(g / math.log2(r + 2) for r, g in enumerate(sorted(worth, reverse=True)[:k]))
            name = "ndcg_exp" if gain == "exponential" else "ndcg"
            row[f"{name}_at_{k}"] = sum(g / math.log2(r + 2) for r, g in enumerate(worth[:k])) / best
        rows.append(row)
    return pd.DataFrame(rows, index=pd.Index(query.ids, name="query"))


@pytest.mark.parametrize("gain", ["linear", "exponential"])
@pytest.mark.parametrize("reachable", [True, False])
@pytest.mark.parametrize("ties", [True, False])
def test_equals_one_rank_at_a_time(ties, reachable, gain):
    rng = np.random.default_rng(3)
    gallery = features(tied(35, 5, 4) if ties else rng.normal(size=(35, 5)), "g")
    query = features(tied(12, 5, 5) if ties else rng.normal(size=(12, 5)), "q", "text")
    pick = lambda k: [gallery.ids[j] for j in rng.permutation(35)[:k]]  # noqa: E731
    qrels = {q: {i: float(rng.integers(0, 4)) for i in pick(1 + 2 * n)} for n, q in enumerate(query.ids[:-1])}
    qrels[query.ids[0]] = {gallery.ids[0]: 2.0}
    junk = {q: pick(9) for q in query.ids[1::2]}
    relevance = Relevance.from_qrels(qrels, junk)
    with pytest.warns(UserWarning, match="queries have no relevant item"):
        found = cutoffs(query, gallery, relevance, ks=KS, gain=gain, reachable=reachable, block=5)
    expected = oracle(query, gallery, lambda q, i: qrels.get(q, {}).get(i, 0.0), junk, KS, gain, reachable)
    pd.testing.assert_frame_equal(found[expected.columns], expected, check_dtype=False, rtol=1e-9, atol=1e-12)
    assert set(found) == set(expected)


def test_ndcg_is_scikit_learns():
    from sklearn.metrics import ndcg_score

    rng = np.random.default_rng(0)
    query, gallery = features(rng.normal(size=(8, 6)), "q", "text"), features(rng.normal(size=(30, 6)), "g")
    grades = rng.integers(0, 4, size=(8, 30))
    qrels = {q: dict(zip(gallery.ids, map(float, row), strict=True)) for q, row in zip(query.ids, grades, strict=True)}
    similarity = (query.vectors.double() @ gallery.vectors.double().T).numpy()
    for gain, worth in (("linear", grades), ("exponential", 2**grades - 1)):
        found = cutoffs(query, gallery, qrels, ks=[7], gain=gain).iloc[:, -1]
        theirs = [ndcg_score(row[None], s[None], k=7) for row, s in zip(worth, similarity, strict=True)]
        assert found.tolist() == pytest.approx(theirs)


def test_known_answers():
    query, gallery = np.array([[1.0, 0.0]]), np.array([[1.0, 0.0], [0.9, 0.1], [0.5, 0.5], [0.0, 1.0]])
    relevance = {"0": {"0": 1.0, "2": 3.0}}  # ranks 1 and 3
    row = cutoffs(query, gallery, relevance, ks=[2], gain="exponential").iloc[0]
    assert row["mp_at_2"] == 0.5
    assert row["ap_at_2"] == 0.5
    assert row["ndcg_exp_at_2"] == pytest.approx(1 / (7 + 1 / math.log2(3)))
    assert cutoffs(query, gallery, relevance, ks=[2]).iloc[0]["ndcg_at_2"] == pytest.approx(1 / (3 + 1 / math.log2(3)))


def test_it_agrees_with_retrieval_and_adds_columns_to_a_study():
    rng = np.random.default_rng(1)
    x, labels = features(rng.normal(size=(30, 5))), rng.integers(4, size=30).tolist()
    both = retrieval(x, x, labels), cutoffs(x, x, labels, ks=[10, 5, 1])
    shared = set(both[0]) & set(both[1])
    assert {"ndcg_at_10", "mp_at_10", "recall_at_5", "n_relevant"} <= shared
    pd.testing.assert_frame_equal(*(frame[sorted(shared)] for frame in both))
    reached = cutoffs(x, x, labels, ks=[30], reachable=True)["ap_reachable_at_30"]
    assert reached.tolist() == pytest.approx(both[0]["ap"].tolist())
    assert "ap_at_30" not in cutoffs(x, x, labels, ks=[30], reachable=True)  # another measure has another name
    own = scores("cutoffs(ks=[5, 20])", xg.QueryGallery(x, x), labels)
    assert not set(own) & set(both[0])
    assert {"precision_at_5", "mp_at_5", "ndcg_at_20", "ap_at_20", "recall_at_20"} <= set(own)


def test_mistakes_are_one_sentence():
    x = np.eye(3)
    for how, message in (
        ({"ks": []}, "list of cut-offs"),
        ({"ks": [0]}, "1 or more"),
        ({"gain": "log"}, "unknown gain 'log'"),
    ):
        with pytest.raises(XgapError, match=message):
            cutoffs(x, x, [0, 0, 1], **how)
