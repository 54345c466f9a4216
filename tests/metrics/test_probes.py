"""Linear probe and k nearest neighbours against scipy and plain loops; no item is in what it is predicted by."""

import math
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp

import xgap_analysis as xg
from tests.metrics.test_clusters import world
from xgap_analysis.core.relevance import UNLABELLED
from xgap_analysis.metrics import knn, probe, probes


def drawn(n: int, labels: int, seed: int = 0, space: str = "image") -> tuple[xg.Features, list[int]]:
    rng = np.random.default_rng(seed)
    codes = [int(code) for code in rng.integers(0, labels, n)]
    centres = np.random.default_rng(9).normal(size=(labels, 4))
    rows = centres[codes] + 1.2 * rng.normal(size=(n, 4)) + 1
    return xg.Features(rows, [f"{space} {i}" for i in range(n)], space, space), codes


def rows_of(features: xg.Features) -> np.ndarray:
    return features.vectors.double().numpy()


def logistic(rows: np.ndarray, codes: np.ndarray, at: np.ndarray, c: float) -> int:
    """The label of one row by `c sum of losses + |W|^2 / 2`, minimised by scipy."""
    names = np.unique(codes)
    mean = rows.mean(0)
    spread = np.sqrt(((rows - mean) ** 2).mean())
    x, y, d = (rows - mean) / spread, np.searchsorted(names, codes), rows.shape[1]

    def loss(flat: np.ndarray) -> float:
        w, b = flat[: -len(names)].reshape(d, -1), flat[-len(names) :]
        logits = x @ w + b
        return c * (logsumexp(logits, axis=1) - logits[np.arange(len(y)), y]).sum() + (w**2).sum() / 2

    found = minimize(loss, np.zeros((d + 1) * len(names)), method="BFGS", options={"gtol": 1e-6}).x
    w, b = found[: -len(names)].reshape(d, -1), found[-len(names) :]
    return int(names[((at - mean) / spread @ w + b).argmax()])


def test_a_probe_of_one_item_a_fold_is_leave_one_out_by_scipy() -> None:
    features, codes = drawn(18, 3)
    x, y = rows_of(features), np.array(codes)
    for c in (0.05, 2.0):
        found = probe(features, features, codes, c=c, folds=18)
        expected = [float(logistic(np.delete(x, i, 0), np.delete(y, i), x[i], c) == y[i]) for i in range(len(x))]
        assert found.tolist() == expected
        assert 0 < found.mean() < 1
    assert found.index.tolist() == list(features.ids)


def test_a_probe_of_another_set_is_fitted_on_all_of_it() -> None:
    (texts, of_texts), (images, of_images) = drawn(25, 3, 1, "text"), drawn(20, 3, 2)
    found = probe(images, texts, (of_images, of_texts), c=0.5)
    x, y = rows_of(texts), np.array(of_texts)
    expected = [float(logistic(x, y, at, 0.5) == code) for at, code in zip(rows_of(images), of_images, strict=True)]
    assert found.tolist() == expected


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (20, 0.3), (100, 50.0), (100, math.inf)])
def test_neighbours_vote_as_in_a_loop(k: int, temperature: float) -> None:
    for seed, same in ((3, True), (4, False)):
        features, codes = drawn(30, 4, seed)
        others, of_others = (features, codes) if same else drawn(23, 4, 7, "text")
        found = knn(features, others, (codes, of_others), k=k, temperature=temperature)
        x, y = rows_of(features), rows_of(others)
        for i, right in enumerate(codes):
            near = sorted((j for j in range(len(y)) if not (same and j == i)), key=lambda j: -(x[i] @ y[j]))[:k]
            votes = dict.fromkeys(codes, 0.0)
            for j in near:
                votes[of_others[j]] = votes.get(of_others[j], 0) + math.exp(x[i] @ y[j] / temperature)
            assert found.iloc[i] == (max(votes, key=lambda code: votes[code]) == right)


def test_no_item_is_among_those_that_predict_it() -> None:
    rng = np.random.default_rng(0)
    features = xg.Features(rng.normal(size=(120, 200)), range(120), "image", "image")  # separable whatever the labels
    labels = [int(i) for i in rng.integers(0, 4, 120)]
    assert probe(features, features, labels, c=100.0).mean() < 0.45
    assert knn(features, features, labels, k=1).mean() < 0.45
    other = xg.Features(features.vectors, features.ids, "image", "text")  # of other items, which the rows equal
    assert probe(features, other, (labels, labels), c=100.0).mean() == 1
    assert knn(features, other, (labels, labels), k=1).mean() == 1
    table = probes([features, other], labels, c=100.0, k=1)
    assert (table[["probe", "knn"]] < 0.45).all(axis=None)  # an item's other modality, the same vector, is held out too


def test_a_rotation_changes_nothing() -> None:
    features, codes = drawn(40, 3)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    turned = xg.Features(rows_of(features) @ turn, features.ids, "image", "image")
    for measure in (probe, knn):
        assert measure(features, features, codes).equals(measure(turned, turned, codes))


def test_what_has_no_other_item_of_its_label_has_no_value() -> None:
    features, codes = drawn(20, 2)
    labels: list[Any] = [*codes[:-1], 9]
    for measure in (probe, knn):
        found = measure(features, features, labels)
        assert found.isna().tolist() == [False] * 19 + [True]
    few = features.select(features.ids[:5])  # queries that are a part of the gallery
    by_id = dict(zip(features.ids, codes, strict=True))
    assert probe(few, features, by_id).notna().all()
    assert knn(few, features, by_id).tolist() == knn(features, features, by_id).tolist()[:5]


def test_items_without_a_label_do_not_vote() -> None:
    rows = np.array([[1.0, 0.0], [0.99, 0.1], [0.9, 0.3], [0.0, 1.0], [0.1, 0.99], [0.9, 0.31]])
    features = xg.Features(rows, range(6), "image", "image")
    labels = dict(zip(features.ids, ["a", "a", "a", "b", "b", UNLABELLED], strict=True))
    known = xg.Relevance.from_labels(labels, labels)
    assert knn(features, features, known, k=1).tolist()[:5] == [1.0] * 5
    assert np.isnan(knn(features, features, known, k=1).iloc[5])
    assert np.isnan(probe(features, features, known, folds=2).iloc[5])


def test_the_row_of_all_modalities_shows_what_a_gap_does_to_neighbours() -> None:
    features, labels = world(4.0, noise=0.6)
    table = probes(features, labels, k=5)
    assert list(table.index) == ["image", "text", "all"]
    assert table["n"].tolist() == [40, 40, 80]
    assert (table["n_labels"] == 5).all()
    assert (table["chance"] == 0.2).all()
    for what in ("probe", "knn"):
        assert (table[f"{what}_low"] <= table[what]).all()
        assert (table[what] <= table[f"{what}_high"]).all()
    single, ids = features[0], features[0].ids
    assert table.loc["image", "knn"] == knn(single, single, [labels[i] for i in ids], k=5).mean()


def test_chance_is_of_the_items_that_are_predicted() -> None:
    images, _ = drawn(11, 2)
    texts = xg.Features(drawn(11, 2, 1)[0].vectors, images.ids, "text", "text")
    table = probes([images, texts], [*"aaaaaaaaa", "b", "c"])  # the last two have no other item of their label
    assert table["chance"].tolist() == [1.0] * 3
    assert (table[["probe", "knn"]] <= 1).all(axis=None)
    assert table["n"].tolist() == [11, 11, 22]


def test_a_study_has_them_as_rows_with_intervals() -> None:
    study = xg.Study(
        ["tiny-untrained"], ["emoji"], ["I-I", "T-I"], metrics=["probe", "knn(k=5)"], limit=8, progress=False
    )
    table = study.run().set_index(["comparison", "metric"])
    data, model = xg.load_dataset("emoji").split("test").limit(8), xg.load_model("tiny-untrained")
    images = xg.encode(model, data.images, progress=False)
    row = table.loc[("I-I", "probe")]
    assert row["value"] == pytest.approx(probe(images, images, data).mean())
    assert row["low"] <= row["value"] <= row["high"]
    assert not row["main"]
    assert table.loc[("T-I", "knn(k=5)"), "value"] >= 0


def test_mistakes_are_one_sentence() -> None:
    features, codes = drawn(12, 3)
    other = xg.Features(features.vectors, features.ids, "text", "text")
    graded = xg.Relevance.from_qrels({"image 0": {"image 1": 1}})
    tokens = xg.TokenFeatures(np.ones((4, 2)), [0, 2, 4], ["a", "b"], "image", "image")
    for act, message in (
        (lambda: probe(features, features, codes, c=0.0), "c of a probe is above 0"),
        (lambda: probe(features, features, codes, folds=1), "folds are 2 or more, not 0.01 and 1"),
        (lambda: knn(features, features, codes, k=0), "k is a whole number from 1"),
        (lambda: knn(features, features, codes, temperature=0.0), "temperature is above 0"),
        (lambda: probe(features, features, graded), "needs a label of every item"),
        (lambda: probe(features, features, [1] * 12), "items of two labels or more"),
        (lambda: knn(tokens, tokens, ["x", "y"]), "pool them first"),
        (lambda: probe(features, features, [1] * 11 + [2]), "has a single item"),
        (lambda: probes([features], codes), "of two modalities or more"),
        (lambda: probes([features, other], codes, c=0.0), "c of a probe is above 0"),
        (lambda: probes([features, other], codes, folds=1), "folds are 2 or more"),
        (lambda: probes([features, other], list(range(12))), "each label is that of one item"),
    ):
        with pytest.raises(xg.XgapError, match=message) as caught:
            act()
        assert "\n" not in str(caught.value)
