"""Structure against naive loops and scipy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.metrics import deviation, linear_cka, mutual_knn, rotation, similarity_spearman, structure_table


def features(vectors, side="image", prefix="i"):
    return Features(torch.as_tensor(vectors), [f"{prefix}{i}" for i in range(len(vectors))], side, side)


def draws(n=30, d=5, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    rows = rng.integers(-1, 2, size=(n, d)).astype(float) if ties else rng.normal(size=(n, d))
    rows[~rows.any(axis=1), 0] = 1
    return rows


def turn(d, seed=0):
    return torch.linalg.qr(torch.from_numpy(np.random.default_rng(seed).normal(size=(d, d)))).Q


def plane(d, degrees, axes=(0, 1)):
    """A rotation by this angle in one plane."""
    q = torch.eye(d, dtype=torch.float64)
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    i, j = axes
    q[i, i], q[j, j], q[i, j], q[j, i] = c, c, s, -s
    return q


def test_cka_equals_centred_kernel_alignment():
    x, y = features(draws(seed=1)), features(draws(d=8, seed=2))
    n = len(x)
    h = np.eye(n) - 1 / n
    k, m = (h @ (s.vectors.double() @ s.vectors.double().T).numpy() @ h for s in (x, y))
    assert linear_cka(x, y) == pytest.approx((k * m).sum() / (np.linalg.norm(k) * np.linalg.norm(m)))


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize(("k", "block"), [(1, 256), (4, 7), (29, 1)])
def test_mutual_knn_equals_naive_sets(ties, k, block):
    x, y = features(draws(ties=ties)), features(draws(d=7, seed=1, ties=ties))
    near = []
    for side in (x, y):
        scores = (side.vectors.double() @ side.vectors.double().T).float().tolist()
        near.append([sorted((j for j in range(30) if j != i), key=lambda j: -scores[i][j])[:k] for i in range(30)])
    shared = [len(set(a) & set(b)) / k for a, b in zip(*near, strict=True)]
    assert mutual_knn(x, y, k, block=block) == pytest.approx(np.mean(shared))


@pytest.mark.parametrize("ties", [True, False])
def test_spearman_equals_scipy(ties):
    from scipy.stats import spearmanr

    x, y = features(draws(ties=ties)), features(draws(d=7, seed=1, ties=ties))
    values = [
        [float(np.float32(s.vectors[i].double() @ s.vectors[j].double())) for i in range(30) for j in range(i)]
        for s in (x, y)
    ]
    assert similarity_spearman(x, y) == pytest.approx(spearmanr(*values).statistic)


def test_spearman_of_a_sample_is_near_the_whole():
    rows = draws(n=300, d=6)
    x, y = features(rows), features(rows + 0.5 * draws(n=300, d=6, seed=1))
    sampled = similarity_spearman(x, y, sample=150)
    assert sampled == similarity_spearman(x, y, sample=150) != similarity_spearman(x, y, sample=150, seed=1)
    assert sampled == pytest.approx(similarity_spearman(x, y), abs=0.1)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_structure_outlives_a_rotation(seed):
    x = features(draws(seed=seed))
    turned = features(x.vectors.double() @ turn(5, seed))
    other = features(draws(d=9, seed=seed + 1))
    assert linear_cka(x, turned) == pytest.approx(1)
    assert mutual_knn(x, turned, 5) == pytest.approx(1, abs=0.02)
    assert similarity_spearman(x, turned) == pytest.approx(1, abs=1e-4)
    for metric in (linear_cka, mutual_knn, similarity_spearman):
        assert metric(x, other) == pytest.approx(metric(other, x))
        assert -1 <= metric(x, other) < 0.95


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_rotation_equals_scipys_procrustes(seed):
    from scipy.linalg import orthogonal_procrustes

    before, after = features(draws(seed=seed)), features(draws(seed=seed + 1))
    a, b = (s.vectors.double().numpy() for s in (before, after))
    found = rotation(before, after)
    angles = [math.degrees(math.acos(np.clip(u @ v, -1, 1))) for u, v in zip(a, b, strict=True)]
    assert found.mean_degrees == pytest.approx(np.mean(angles), rel=1e-6)
    q, _ = orthogonal_procrustes(a, b)
    assert found.residual == pytest.approx(np.linalg.norm(a @ q - b) / math.sqrt(30), rel=1e-6)
    assert found.n == 30


def test_a_planted_rotation_is_found():
    flat = np.zeros((40, 4))
    flat[:, :2] = draws(40, 2)
    before = features(flat)
    found = rotation(before, features(before.vectors.double() @ plane(4, 25)))
    assert found.mean_degrees == pytest.approx(25, abs=1e-4)
    assert found.residual == pytest.approx(0, abs=1e-3)
    still = rotation(before, before)
    assert (still.mean_degrees, still.residual) == (0, pytest.approx(0, abs=1e-7))


@pytest.mark.parametrize("degrees", [0, 10, 90, 180])
def test_deviation_is_the_turn_between_the_modalities(degrees):
    x, y = features(draws(60, 5)), features(draws(50, 5, seed=1), "text", "t")
    shared = turn(5)
    after_x = features(x.vectors.double() @ shared)
    after_y = features(y.vectors.double() @ plane(5, degrees) @ shared, "text", "t")
    # two of the five dimensions turn by the angle: sqrt(2 / 5) sin(angle / 2)
    expected = math.sqrt(2 / 5) * math.sin(math.radians(degrees) / 2)
    assert deviation(x, after_x, y, after_y) == pytest.approx(expected, abs=1e-5)
    assert deviation(y, after_y, x, after_x) == pytest.approx(expected, abs=1e-5)


def test_deviation_knows_its_range_and_silent_directions():
    x, y = features(draws(60, 5)), features(draws(50, 5, seed=1), "text", "t")
    opposite = features(-y.vectors, "text", "t")
    assert deviation(x, x, y, opposite) == pytest.approx(1, abs=1e-5)
    basis = turn(6, 3)  # x uses two of six dimensions and turns in them; y uses the other four and stays
    flat_x, flat_y = torch.zeros(30, 6, dtype=torch.float64), torch.zeros(30, 6, dtype=torch.float64)
    flat_x[:, :2], flat_y[:, 2:] = torch.from_numpy(draws(30, 2)), torch.from_numpy(draws(30, 4))
    x, after_x = features(flat_x @ basis), features(flat_x @ plane(6, 30) @ basis)
    y = features(flat_y @ basis, "text", "t")
    expected = math.sqrt(2 / 6) * math.sin(math.radians(15))
    assert deviation(x, after_x, y, y) == pytest.approx(expected, abs=1e-4)


def test_items_must_match():
    x = features(draws())
    shuffled = x.select(x.ids[::-1])
    captions = features(draws(seed=1), "text", "t")
    for metric in (linear_cka, mutual_knn, similarity_spearman, rotation):
        with pytest.raises(XgapError, match="row 0 is 'i0' in one and 'i29' in the other"):
            metric(x, shuffled)
        with pytest.raises(XgapError, match="30 and 29 items"):
            metric(x, x.select(x.ids[:29]))
    for metric in (linear_cka, mutual_knn, similarity_spearman):
        assert math.isfinite(metric(x, captions))  # two modalities: pairs by index
    with pytest.raises(XgapError, match="'i0' in one and 't0'"):
        rotation(x, captions)
    with pytest.raises(XgapError, match="'t0' in one and 't29'"):
        deviation(x, x, captions, captions.select(captions.ids[::-1]))
    with pytest.raises(XgapError, match="dimensions"):
        rotation(x, features(draws(d=4)))
    with pytest.raises(XgapError, match="between 1 and the 29 other items"):
        mutual_knn(x, x, 30)
    with pytest.raises(XgapError, match="at least 3"):
        similarity_spearman(x.select(x.ids[:2]), x.select(x.ids[:2]))


def test_the_table_holds_each_pair_of_sets_once_with_the_three_measures():
    sets = {name: features(draws(seed=k)) for k, name in enumerate("abc")}
    rows = structure_table(sets, k=4).set_index(["a", "b"])
    assert list(rows.index) == [("a", "b"), ("a", "c"), ("b", "c")]
    for a, b in rows.index:
        x, y = sets[a], sets[b]
        expected = [linear_cka(x, y), mutual_knn(x, y, 4), similarity_spearman(x, y), 30]
        assert rows.loc[(a, b)].tolist() == pytest.approx(expected)
    with pytest.raises(XgapError, match="at least two sets"):
        structure_table({"a": sets["a"]})
