"""Whether two sets of vectors are the same: each verdict on vectors that are known to be so."""

import numpy as np
import pandas as pd
import pytest
import torch

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(40, 12)) * RANDOM.uniform(0.5, 2, size=(40, 1))
Q = np.linalg.qr(RANDOM.normal(size=(12, 12)))[0]


@pytest.mark.parametrize(
    ("other", "verdict"),
    [
        (X, "same vectors"),
        (X.astype(np.float16), "same vectors"),
        (torch.from_numpy(X).bfloat16(), "same vectors"),
        (3 * X, "same up to scale"),
        (X / np.linalg.norm(X, axis=1, keepdims=True), "same up to scale"),
        (X @ Q, "same up to rotation"),
        (-X, "same up to rotation"),
        (5 * X @ Q, "same up to rotation"),
        (np.pad(X, ((0, 0), (3, 0))), "same up to rotation"),  # other dimensions, which say no more
        (X[RANDOM.permutation(40)], "same in another order"),
        (X + 0.3 * RANDOM.normal(size=X.shape), "different"),
        (X - X.mean(axis=0), "different"),  # centred: cosines are others
        (X[:, :6], "different"),
        (np.maximum(X, 0), "different"),
    ],
)
def test_each_verdict(other: np.ndarray, verdict: str) -> None:
    found = xg.compare_vectors(X, other)
    assert found.verdict == verdict
    assert found.sentence.startswith(f"{verdict}: ")
    assert "\n" not in found.sentence


def test_numbers_equal_a_naive_computation() -> None:
    other = X + 0.3 * RANDOM.normal(size=X.shape)
    found = xg.compare_vectors(X, other, k=5)
    lengths = np.linalg.norm(X, axis=1), np.linalg.norm(other, axis=1)
    assert found.rows["scale"].to_numpy() == pytest.approx(lengths[1] / lengths[0])
    assert found.rows["cosine"].to_numpy() == pytest.approx((X * other).sum(axis=1) / lengths[0] / lengths[1], abs=1e-6)
    near = []
    for rows in (X, other):
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        cosines = unit @ unit.T
        np.fill_diagonal(cosines, -2)
        near.append([set(np.argsort(-row)[:5]) for row in cosines])
    assert found.overlap == pytest.approx(np.mean([len(a & b) / 5 for a, b in zip(*near, strict=True)]))
    assert found.residual == pytest.approx(xg.metrics.rotation(X, other).residual)


def test_a_few_rows_that_differ_are_counted_and_named() -> None:
    other = X.copy()
    other[[3, 17]] = RANDOM.normal(size=(2, 12))
    found = xg.compare_vectors(X, other)
    assert found.verdict == "different"
    assert "2 of 40 below 0.99" in found.sentence
    assert f"of row {found.rows['cosine'].idxmin()!r}" in found.sentence
    assert set(found.rows.index[found.rows["cosine"] < 0.99]) == {"3", "17"}


def test_two_rows_that_changed_places_are_said() -> None:
    other = X.copy()
    other[[3, 17]] = X[[17, 3]]
    assert "2 of 40 rows stand elsewhere, '3' of a at '17' of b" in xg.compare_vectors(X, other).sentence


def test_ids_match_rows_and_arrays_go_by_position() -> None:
    ids = [f"i{k}" for k in range(40)]
    turned = RANDOM.permutation(40)
    first, second = pd.DataFrame(X, index=ids), pd.DataFrame(2 * X[turned], index=[ids[k] for k in turned])
    found = xg.compare_vectors(first, second)
    assert (found.verdict, found.rows.index.tolist()) == ("same up to scale", ids)
    assert "b is 2 times a" in found.sentence
    features = xg.Features(X, ids, "image", "image")
    assert xg.compare_vectors(features, second).verdict == "same up to scale"
    assert xg.compare_vectors(features, X).verdict == "same up to scale"


@pytest.mark.parametrize(
    ("a", "b", "sentence"),
    [
        (X, X[:39], "a has 40 rows and b 39"),
        (X[:2], X[:2], "three items or more, not 2"),
        (np.vstack([X, np.zeros(12)]), np.vstack([X, np.ones(12)]), "item '40' is zero"),
        (pd.DataFrame(np.eye(3), index=list("abc")), pd.DataFrame(np.eye(3), index=list("abd")), "of the same items"),
    ],
)
def test_a_mistake_is_one_sentence(a: np.ndarray, b: np.ndarray, sentence: str) -> None:
    with pytest.raises(XgapError, match=sentence):
        xg.compare_vectors(a, b)
