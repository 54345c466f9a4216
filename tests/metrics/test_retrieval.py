"""Retrieval against naive loops, scikit-learn and pytorch-metric-learning."""

import math
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.relevance import Relevance
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.items import Images, Texts
from xgap_analysis.metrics import retrieval, revisited
from xgap_analysis.scoring.blocks import block_of, descending, first_of, score_blocks

KS = (1, 3, 5, 10)


def features(vectors, prefix="i", side="image"):
    return Features(torch.as_tensor(vectors), [f"{prefix}{i}" for i in range(len(vectors))], side, side)


def tied(n, d, seed):
    """Unit rows whose dot products are exact in any arithmetic, so that many similarities are truly equal."""
    rng = np.random.default_rng(seed)
    rows = np.zeros((n, d), dtype=np.float32)
    for row in rows:
        size = rng.choice([1, 4])
        row[rng.choice(d, size, replace=False)] = rng.choice([-1, 1], size) / math.sqrt(size)
    return rows


def rank(query, gallery, i, drop):
    scores = (query.vectors[i].double() @ gallery.vectors.double().T).tolist()
    scores = [float(np.float32(s)) for s in scores]
    kept = [j for j in range(len(gallery)) if gallery.ids[j] not in drop]
    return sorted(kept, key=lambda j: -scores[j])  # stable: equal scores keep the gallery's order


def oracle(query, gallery, grades, junk=None, exclude_self=True, ks=KS):
    """Every metric, one rank at a time; `grades(query id, item id)`."""
    rows = []
    for i, q in enumerate(query.ids):
        drop = set((junk or {}).get(q, ())) | ({q} if exclude_self else set())
        order = rank(query, gallery, i, drop)
        gains = [grades(q, gallery.ids[j]) for j in order]
        hits = [g > 0 for g in gains]
        n = sum(hits)
        row = {"n_relevant": n}
        if n:
            precisions = [sum(hits[: r + 1]) / (r + 1) for r in range(len(hits))]
            row["ap"] = sum(p for p, h in zip(precisions, hits, strict=True) if h) / n
            row["ap_at_r"] = sum(p for p, h in zip(precisions[:n], hits, strict=False) if h) / n
            row["r_precision"] = sum(hits[:n]) / n
            for k in ks:
                row[f"hit_at_{k}"] = float(any(hits[:k]))
                row[f"recall_at_{k}"] = sum(hits[:k]) / n
            dcg = sum(g / math.log2(r + 2) for r, g in enumerate(gains[:10]))
            row["ndcg_at_10"] = dcg / sum(g / math.log2(r + 2) for r, g in enumerate(sorted(gains, reverse=True)[:10]))
            last = max(r for r, h in enumerate(hits) if h) + 1
            row["mp_at_10"] = sum(hits[: min(10, last)]) / min(10, last)
        rows.append(row)
    return pd.DataFrame(rows, index=pd.Index(query.ids, name="query"))


def same(frame, expected):
    assert set(frame.columns) == set(expected.columns)
    pd.testing.assert_frame_equal(frame[expected.columns], expected, check_dtype=False, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("exclude_self", [True, False])
@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("n_labels", [2, 9])
def test_equals_a_naive_ranking(exclude_self, ties, n_labels):
    rng = np.random.default_rng(n_labels)
    gallery = features(tied(40, 6, 1) if ties else rng.normal(size=(40, 6)))
    query = gallery.select([gallery.ids[i] for i in rng.permutation(40)[:17]])
    label = {i: str(rng.integers(n_labels)) for i in gallery.ids}
    frame = retrieval(query, gallery, Relevance.from_labels(label, label), ks=KS, exclude_self=exclude_self)
    assert (query.vectors @ gallery.vectors.T).min() < 0
    same(frame, oracle(query, gallery, lambda q, j: float(label[q] == label[j]), exclude_self=exclude_self))


@pytest.mark.parametrize("ties", [True, False])
def test_equals_a_naive_ranking_with_grades_and_junk(ties):
    rng = np.random.default_rng(3)
    gallery = features(tied(35, 5, 4) if ties else rng.normal(size=(35, 5)), "g")
    query = features(tied(12, 5, 5) if ties else rng.normal(size=(12, 5)), "q", "text")
    pick = lambda k: [gallery.ids[j] for j in rng.permutation(35)[:k]]  # noqa: E731
    qrels = {q: {i: float(rng.integers(0, 4)) for i in pick(14)} | {"gone": 3.0} for q in query.ids[:-1]}
    qrels[query.ids[0]][gallery.ids[0]] = -1.0  # a negative judgement is not relevant
    junk = {q: [*pick(9), "gone"] for q in query.ids[::2]}
    with pytest.warns(UserWarning, match="1 of 12 queries have no relevant item"):
        frame = retrieval(query, gallery, Relevance.from_qrels(qrels, junk), ks=KS)
    expected = oracle(query, gallery, lambda q, j: max(0.0, qrels.get(q, {}).get(j, 0.0)), junk)
    same(frame.drop(columns="ap_trapezoid"), expected)  # which only a relevance with junk gives
    assert frame.attrs["without_relevant"] == 1
    for i, q in enumerate(query.ids):
        order = rank(query, gallery, i, {*junk.get(q, ()), q})
        ranks = [r for r, j in enumerate(order) if qrels.get(q, {}).get(gallery.ids[j], 0) > 0]
        assert not ranks or frame["ap_trapezoid"][q] == pytest.approx(trapezoid(ranks))
    assert math.isclose(frame["ap"].mean(), expected["ap"].dropna().mean())  # NaN rows are left out of means


def test_equals_scikit_learn():
    from sklearn.metrics import average_precision_score, ndcg_score

    rng = np.random.default_rng(0)
    query, gallery = features(rng.normal(size=(20, 8)), "q"), features(rng.normal(size=(60, 8)), "g")
    grades = rng.integers(0, 3, size=(20, 60)) * (rng.random((20, 60)) < 0.3)
    qrels = {
        q: {g: float(x) for g, x in zip(gallery.ids, row, strict=True)}
        for q, row in zip(query.ids, grades, strict=True)
    }
    frame = retrieval(query, gallery, Relevance.from_qrels(qrels))
    scores = (query.vectors @ gallery.vectors.T).numpy()
    ap = [average_precision_score(g > 0, s) for g, s in zip(grades, scores, strict=True)]
    ndcg = [ndcg_score(g[None], s[None], k=10) for g, s in zip(grades, scores, strict=True)]
    np.testing.assert_allclose(frame["ap"], ap, rtol=1e-6)
    np.testing.assert_allclose(frame["ndcg_at_10"], ndcg, rtol=1e-6)


@pytest.mark.parametrize("exclude_self", [True, False])
def test_equals_pytorch_metric_learning(exclude_self):
    calculator = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.inference import CustomKNN

    torch.manual_seed(0)
    label = torch.randint(8, (90,))
    gallery = features(torch.randn(90, 7) + torch.nn.functional.one_hot(label, 7 + 1)[:, :7])
    query = gallery.select(gallery.ids[:40]) if exclude_self else features(torch.randn(40, 7), "q")
    theirs = calculator.AccuracyCalculator(k=None, knn_func=CustomKNN(CosineSimilarity())).get_accuracy(
        query.vectors, label[:40], gallery.vectors, label, ref_includes_query=exclude_self,
        include=("mean_average_precision", "mean_average_precision_at_r", "r_precision", "precision_at_1"),
    )  # fmt: skip
    names = [str(x) for x in label.tolist()]
    ours = retrieval(query, gallery, Relevance.from_labels(names[:40], names)).mean()
    for our, their in {
        "ap": "mean_average_precision",
        "ap_at_r": "mean_average_precision_at_r",
        "r_precision": "r_precision",
        "hit_at_1": "precision_at_1",
    }.items():
        assert math.isclose(ours[our], theirs[their], rel_tol=1e-6), our


@pytest.mark.parametrize("make", [lambda n, s: tied(n, 6, s), lambda n, s: quantised(n, s)])
def test_the_block_changes_no_number(make):
    gallery, query = features(make(80, 1), "g"), features(make(37, 2), "q")
    labels = [[str(i % 5) for i in range(n)] for n in (37, 80)]
    frames = [retrieval(query, gallery, Relevance.from_labels(*labels), block=b) for b in (1, 7, 37, 1000)]
    for frame in frames[1:]:
        pd.testing.assert_frame_equal(frames[0], frame, check_exact=True)


def quantised(n, seed):
    """Rows with entries -1, 0 and 1, normalised: their equal similarities differ in float32 products."""
    rows = np.random.default_rng(seed).integers(-1, 2, size=(n, 6)).astype(np.float64)
    rows[~rows.any(axis=1), 0] = 1
    return rows


def test_equal_similarities_stay_equal():
    x = features(quantised(60, 0))
    whole = torch.cat([scores for _, _, scores in score_blocks(x, x, block=60)])
    exact = x.vectors.double() @ x.vectors.double().T
    near = (whole[:, :, None] - whole[:, None]).abs() < 1e-6
    assert near.sum() > len(x) ** 2 * 3  # many ties indeed
    assert bool((whole[:, :, None] == whole[:, None])[near].all())
    assert float((whole.double() - exact).abs().max()) < 1e-7


@given(st.lists(st.lists(st.floats(width=32, allow_nan=False), min_size=7, max_size=7), min_size=1, max_size=5))
def test_descending_is_the_stable_order(rows):
    scores = torch.tensor(rows)
    scores = torch.cat([scores, -scores, scores[:, :2] * 0.0], dim=1).nan_to_num()  # ties, and both zeros
    assert torch.equal(descending(scores), scores.sort(dim=1, descending=True, stable=True).indices)


@given(st.lists(st.lists(st.integers(-3, 3), min_size=7, max_size=7), min_size=1, max_size=5), st.integers(0, 9))
def test_the_first_of_a_ranking_are_those_of_the_whole(rows, k):
    scores = torch.tensor(rows) / 4
    assert torch.equal(first_of(scores, k), descending(scores)[:, :k])


def test_a_block_fits_the_budget():
    for m in (1, 999, 100_000, 1_280_000, 10_000_000):
        assert 1 <= block_of(m) <= 256
        assert block_of(m) * m * 64 <= 2**29 or block_of(m) == 1
    assert block_of(1_280_000) == 6


MEMORY = """
import re, sys, torch
from pathlib import Path
from xgap_analysis import metrics
from xgap_analysis.core.features import Features
from xgap_analysis.core.relevance import Relevance

def side(n, of):
    generator = torch.Generator().manual_seed(n)
    return Features(torch.randn(n, 16, generator=generator), [f"{of}{i}" for i in range(n)], "image", "image")

def measure_all(n, m):
    query, gallery = side(n, "q"), side(m, "g")
    relevance = Relevance.from_labels([i % 50 for i in range(n)], [i % 50 for i in range(m)])
    for name in ("retrieval", "misalignment", "similarity_histograms", "pooled_misalignment"):
        getattr(metrics, name)(query, gallery, relevance)
    metrics.k_occurrence(query, gallery)
    metrics.uniformity(gallery.select(gallery.ids[: m // 4]))

for name in ("scoring.blocks", "metrics.ranks"):
    sys.modules[f"xgap_analysis.{name}"].BUDGET = 2**26
measure_all(100, 500)  # what is imported and cached is no working memory

def kilobytes(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here, and not from the imports
before = kilobytes("VmRSS")
measure_all(300, 32_000)
print((kilobytes("VmHWM") - before) * 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak cannot be counted from a moment on")
def test_peak_memory_stays_near_the_budget_of_a_block():
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    # 101 to 124 MiB were seen: a block of 64 MiB, what its reader makes of it, and what the allocator keeps. One block
    # of all 300 x 32,000 cells takes about 400 MB.
    assert 2**20 < int(done.stdout) < 3 * 2**26


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_laws(seed, ties):
    rng = np.random.default_rng(seed)
    gallery = features(tied(30, 5, seed) if ties else rng.normal(size=(30, 5)))
    query = gallery.select(gallery.ids[:9])
    label = {i: str(k % 6) for k, i in enumerate(gallery.ids)}
    relevance = Relevance.from_labels(label, label)
    frame = retrieval(query, gallery, relevance, ks=KS)
    assert bool(frame.drop(columns="n_relevant").stack().between(0, 1).all())
    for name in ("recall_at", "hit_at"):
        assert bool((frame[[f"{name}_{k}" for k in KS]].diff(axis=1).iloc[:, 1:] >= 0).to_numpy().all())
    assert bool((frame["ap"] >= frame["ap_at_r"] - 1e-12).all())
    assert bool((frame["r_precision"] >= frame["ap_at_r"] - 1e-12).all())
    if not ties:  # the gallery's order matters to ties alone
        shuffled = gallery.select(gallery.ids[i] for i in rng.permutation(30))
        pd.testing.assert_frame_equal(frame, retrieval(query, shuffled, relevance, ks=KS))
    turn = torch.linalg.qr(torch.from_numpy(rng.normal(size=(5, 5)))).Q
    if not ties:
        turned = features(gallery.vectors.double() @ turn)
        pd.testing.assert_frame_equal(frame, retrieval(turned.select(query.ids), turned, relevance, ks=KS))


def test_ties_keep_the_gallerys_order():
    x = Features(torch.tensor([[1.0, 0.0]] * 3), ["a", "b", "c"], "image", "image")
    label = {"q": "1", "a": "0", "b": "0", "c": "1"}
    query = Features(torch.tensor([[0.0, 1.0]]), ["q"], "image", "image")
    assert retrieval(query, x, Relevance.from_labels(label, label))["ap"].item() == pytest.approx(1 / 3)
    turned = x.select(["c", "a", "b"])
    assert retrieval(query, turned, Relevance.from_labels(label, label))["ap"].item() == 1


def test_a_dataset_stands_for_its_relevance():
    x = features(np.random.default_rng(0).normal(size=(8, 3)))
    label = {i: str(k % 2) for k, i in enumerate(x.ids)}
    data = Dataset("toy", "test", Images(x.ids, lambda i: None), Texts((), ()), {"concept": label})
    pd.testing.assert_frame_equal(retrieval(x, x, data), retrieval(x, x, Relevance.from_labels(label, label)))


def test_a_score_normaliser_changes_the_ranking():
    query, gallery = features(np.eye(2), "q"), features([[1.0, 0.1], [0.1, 1.0]], "g")
    relevance = Relevance.from_labels(["a", "b"], ["a", "b"])
    assert retrieval(query, gallery, relevance)["hit_at_1"].tolist() == [1, 1]
    assert retrieval(query, gallery, relevance, normalise=lambda s: -s)["hit_at_1"].tolist() == [0, 0]
    for wrong in (lambda s: s[:, :1], lambda s: s / 0):
        with pytest.raises(XgapError, match="normaliser"):
            retrieval(query, gallery, relevance, normalise=wrong)


def test_users_mistakes():
    x, y = features(np.eye(3)), features(np.eye(4))
    relevance = Relevance.from_labels(["a", "b", "c"], ["a", "b", "c"])
    with pytest.raises(XgapError, match="3 dimensions and the gallery 4"):
        retrieval(x, y, Relevance.from_labels(["a"] * 3, ["a"] * 4))
    with pytest.raises(XgapError, match="none of the 3 queries has a relevant item"):
        retrieval(x, x, relevance)
    assert retrieval(x, x, relevance, exclude_self=False)["ap"].tolist() == [1, 1, 1]
    empty = Features(torch.empty(0, 3), [], "image", "image")
    for sides in ((x, empty), (empty, x)):
        with pytest.raises(XgapError, match="is empty"):
            retrieval(*sides, Relevance.from_qrels({}))
    with pytest.raises(XgapError, match="a cut-off of ks is a whole number of 1 or more, not 0"):
        retrieval(x, x, relevance, ks=(0,))
    with pytest.raises(XgapError, match="block"):
        retrieval(x, x, relevance, block=0)


def trapezoid(ranks):
    """Average precision as the revisited sets' code takes it, of ranks from 0."""
    area = 0.0
    for j, r in enumerate(ranks):
        area += ((1.0 if r == 0 else j / r) + (j + 1) / (r + 1)) / 2 / len(ranks)
    return area


def test_revisited_protocols():
    rng = np.random.default_rng(1)
    query, gallery = features(rng.normal(size=(6, 5)), "q"), features(rng.normal(size=(50, 5)), "g")
    easy, hard, junk = {}, {}, {}
    for q in query.ids:
        order = [gallery.ids[j] for j in rng.permutation(50)]
        easy[q], hard[q], junk[q] = order[:7], order[7:12], order[12:20]
    del easy["q0"]
    with pytest.warns(UserWarning, match="protocol easy: 1 of 6"):
        frame = revisited(query, gallery, easy, hard, junk, ks=KS)
    assert frame.attrs["without_relevant"] == {"easy": 1, "medium": 0, "hard": 0}
    for name, wanted, out in (
        ("easy", [easy], [junk, hard]),
        ("medium", [easy, hard], [junk]),
        ("hard", [hard], [junk, easy]),
    ):
        relevant = {q: {i for of in wanted for i in of.get(q, ())} for q in query.ids}
        ignored = {q: {i for of in out for i in of.get(q, ())} for q in query.ids}
        expected = oracle(query, gallery, lambda q, j, r=relevant: float(j in r[q]), ignored)
        same(frame[name].drop(columns="ap_trapezoid").rename_axis(columns=None), expected)
        for i, q in enumerate(query.ids):
            order = rank(query, gallery, i, ignored[q])
            ranks = [r for r, j in enumerate(order) if gallery.ids[j] in relevant[q]]
            if ranks:
                assert frame[name, "ap_trapezoid"][q] == pytest.approx(trapezoid(ranks))


def test_no_warning_where_every_query_has_an_answer():
    x = features(np.random.default_rng(0).normal(size=(6, 3)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frame = retrieval(x, x, Relevance.from_labels(list("aabbcc"), list("aabbcc")))
    assert frame.attrs["without_relevant"] == 0
    assert frame.index.name == "query"
    assert all(np.issubdtype(t, np.number) for t in frame.dtypes)


def test_who_counts_queries_without_an_answer_is_not_warned_and_others_are() -> None:
    from concurrent.futures import ThreadPoolExecutor

    from xgap_analysis.metrics.retrieval import counted_elsewhere

    x = features(np.random.default_rng(0).normal(size=(6, 3)))
    relevance = Relevance.from_labels(list("aabbcd"), list("aabbcd"))
    before = list(warnings.filters)
    with counted_elsewhere(), ThreadPoolExecutor(1) as beside:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert retrieval(x, x, relevance).attrs["without_relevant"] == 2
        with pytest.warns(UserWarning, match="2 of 6 queries have no relevant item"):
            beside.submit(retrieval, x, x, relevance).result()
        assert list(warnings.filters) == before
    with pytest.warns(UserWarning, match="2 of 6 queries have no relevant item"):
        retrieval(x, x, relevance)


def test_a_caption_with_its_images_id_is_not_taken_for_the_image_itself() -> None:
    vectors = torch.eye(3)
    ids = ["a", "b", "c"]
    images = Features(vectors, ids, "image", "image")
    texts = Features(vectors, ids, "text", "text")
    inverted = Features(vectors, ids, "text", "image")
    pairs = Relevance.from_qrels({i: {i: 1.0} for i in ids})
    assert retrieval(images, texts, pairs)["hit_at_1"].tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(XgapError, match="relevant item"):
        retrieval(inverted, images, pairs)


@pytest.mark.parametrize("junk", [{}, {"i0": ["i1"]}])
def test_a_task_that_every_ranking_solves_says_so(junk):
    x = features(torch.randn(5, 4, generator=torch.Generator().manual_seed(0)))
    every = Relevance.from_qrels({i: dict.fromkeys(set(x.ids) - set(junk.get(i, ())), 1) for i in x.ids}, junk)
    for relevance in (every, Relevance.from_labels(["cat"] * 5, ["cat"] * 5)):
        with pytest.warns(UserWarning, match=r"every gallery item is relevant to every query .is there one class only"):
            frame = retrieval(x, x, relevance)
        assert (frame["ap"] == 1).all()
        assert frame.attrs["degenerate"].endswith("the scores are 1 whatever the features are")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        two = retrieval(x, x, Relevance.from_labels(list("aabbb"), list("aabbb")))
    assert not two.attrs["degenerate"]


def test_one_query_that_every_ranking_solves_makes_no_degenerate_task():
    x = features(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)))
    qrels = {"i0": dict.fromkeys(x.ids, 1), "i1": {"i2": 1}, "i2": {"i1": 1}, "i3": dict.fromkeys(x.ids, 1)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not retrieval(x, x, Relevance.from_qrels(qrels)).attrs["degenerate"]
