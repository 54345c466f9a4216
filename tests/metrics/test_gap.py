"""Gap metrics against naive loops over pairs, scipy and scikit-learn."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.metrics import (
    alignment,
    cone,
    cross_cosine,
    effective_rank,
    gap_report,
    gap_vector,
    modality_gap,
    relative_modality_gap,
    separability,
    uniformity,
)


def features(vectors, side="image"):
    return Features(torch.as_tensor(vectors), [str(i) for i in range(len(vectors))], side, side)


def sides(n=23, d=6, seed=0, shift=1.0, m=None):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) + shift * np.eye(d)[0]
    y = rng.normal(size=(m or n, d)) - shift * np.eye(d)[1]
    return features(x), features(y, "text")


def rows(x):
    return [[float(v) for v in row] for row in x.vectors.tolist()]


def cos(u, v):
    return sum(a * b for a, b in zip(u, v, strict=True))


def pairs_within(x):
    r = rows(x)
    return [(u, v) for i, u in enumerate(r) for j, v in enumerate(r) if i != j]


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values)


@pytest.mark.parametrize("seed", range(3))
def test_equal_naive_loops(seed):
    x, y = sides(seed=seed)
    centres = [[mean(column) for column in zip(*rows(side), strict=True)] for side in (x, y)]
    assert modality_gap(x, y) == pytest.approx(math.dist(*centres), rel=1e-9)
    np.testing.assert_allclose(gap_vector(x, y), np.subtract(*centres), rtol=1e-5, atol=1e-7)
    assert alignment(x, y) == pytest.approx(mean(math.dist(u, v) ** 2 for u, v in zip(rows(x), rows(y), strict=True)))
    assert cross_cosine(x, y) == pytest.approx(mean(cos(u, v) for u, v in zip(rows(x), rows(y), strict=True)))
    for side in (x, y):
        assert cone(side) == pytest.approx(mean(cos(u, v) for u, v in pairs_within(side)), rel=1e-9)
        naive = math.log(mean(math.exp(-2 * math.dist(u, v) ** 2) for u, v in pairs_within(side)))
        assert uniformity(side) == pytest.approx(naive, rel=1e-9)
    match = mean((1 - cos(u, v)) / 2 for u, v in zip(rows(x), rows(y), strict=True))
    n = len(x)
    intra = sum((1 - cos(u, v)) / 2 for side in (x, y) for u, v in pairs_within(side)) / (2 * n * (n - 1))
    assert relative_modality_gap(x, y) == pytest.approx(match / (intra + match), rel=1e-9)


@pytest.mark.parametrize("block", [1, 5, 23, 24, 1000])
def test_the_block_changes_no_number(block):
    x, _ = sides()
    assert uniformity(x, block=block) == pytest.approx(uniformity(x), rel=1e-12)


def test_effective_rank():
    from scipy.stats import entropy

    x, _ = sides(n=40)
    for centred in (False, True):
        matrix = x.vectors.double().numpy()
        values = np.linalg.svd(matrix - matrix.mean(axis=0) * centred, compute_uv=False)
        assert effective_rank(x, centred=centred) == pytest.approx(math.exp(entropy(values)), rel=1e-9)
    assert effective_rank(features(np.eye(5))) == pytest.approx(5)
    assert effective_rank(features(np.ones((4, 3)))) == pytest.approx(1)
    with pytest.raises(XgapError, match="no spectrum"):
        effective_rank(features(np.eye(3)[[0, 0]]), centred=True)
    with pytest.raises(XgapError, match="no vectors"):
        effective_rank(np.zeros((0, 3)))


def test_separability_is_held_out_accuracy():
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    x, y = sides(n=60, shift=0.5, seed=4)
    data = np.concatenate([x.vectors, y.vectors])
    side = np.array([0] * 60 + [1] * 60)
    right = []
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(data, side):
        model = LogisticRegression(max_iter=1000).fit(data[train], side[train])
        right.append((model.predict(data[test]) == side[test]).mean())
    assert separability(x, y) == pytest.approx(np.mean(right))
    apart = [features(np.random.default_rng(i).normal(size=(30, 5)) + 9 * np.eye(5)[i]) for i in (0, 1)]
    assert separability(*apart) == 1
    alike = [features(np.random.default_rng(i).normal(size=(400, 5))) for i in (0, 1)]
    assert abs(separability(*alike) - 0.5) < 0.07  # 800 draws: a standard deviation of 0.018
    assert 0 <= separability(features(np.eye(2)), features(-np.eye(2))) <= 1  # fewer vectors than folds


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_a_rotation_of_both_modalities_changes_nothing(seed):
    x, y = sides(seed=seed)
    turn = torch.linalg.qr(torch.from_numpy(np.random.default_rng(seed + 1).normal(size=(6, 6)))).Q
    turned = [features(side.vectors.double() @ turn, side.space) for side in (x, y)]
    before, after = gap_report(x, y), gap_report(*turned)
    np.testing.assert_allclose(before.drop(columns="separability"), after.drop(columns="separability"), atol=1e-6)
    assert abs(before["separability"].item() - after["separability"].item()) < 0.05  # one item of 46 may tip


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(1, 7))
def test_bounds_and_symmetry(seed, n, d):
    x, y = sides(n, max(d, 2), seed)
    row, other = gap_report(x, y).iloc[0], gap_report(y, x).iloc[0]
    assert 0 <= row["modality_gap"] <= 2
    assert 0 <= row["rmg"] <= 1
    assert -1e-6 <= row["alignment"] <= 4 + 1e-6
    assert row["alignment"] == pytest.approx(2 - 2 * row["cross_cosine"], abs=1e-5)
    for side in "xy":
        assert -8 - 1e-6 <= row[f"uniformity_{side}"] <= 0
        assert -1 / (n - 1) - 1e-6 <= row[f"cone_{side}"] <= 1 + 1e-6
        assert 1 - 1e-9 <= row[f"effective_rank_{side}"] <= min(n, max(d, 2)) + 1e-9
    for name in ("modality_gap", "rmg", "alignment", "cross_cosine"):
        assert row[name] == pytest.approx(other[name], rel=1e-9, abs=1e-12)
    assert row["cone_x"] == pytest.approx(other["cone_y"], rel=1e-12)


def test_known_answers():
    x = features(np.eye(4))
    assert relative_modality_gap(x, features(np.eye(4), "text")) == 0
    assert relative_modality_gap(features(np.ones((3, 2))), features(-np.ones((3, 2)), "text")) == pytest.approx(1)
    assert relative_modality_gap(x, features(np.roll(np.eye(4), 1, axis=0))) == pytest.approx(0.5)
    assert modality_gap(features([[1.0, 0.0]]), features([[-1.0, 0.0]])) == 2
    assert math.isnan(relative_modality_gap(*[features(np.eye(3)[[0, 0]])] * 2))
    assert uniformity(features([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(-8)


def test_pairs_are_by_id_and_never_by_length():
    x, y = sides()
    turned = y.select(reversed(y.ids))
    pd.testing.assert_frame_equal(gap_report(x, turned), gap_report(x, y))
    assert gap_report(x, y).attrs == {"paired": True, "n_x": 23, "n_y": 23}
    strangers = Features(y.vectors, [f"text {i}" for i in y.ids], "text", "text")
    with pytest.warns(
        UserWarning, match="pairs are by id, and no id of x .* give the two vectors of a pair the same id"
    ):
        report = gap_report(x, strangers)
    assert report.attrs == {"paired": False, "n_x": 23, "n_y": 23}
    assert report.columns[report.isna().any()].tolist() == ["rmg", "alignment", "cross_cosine"]
    assert report["n"].item() == 0
    for paired_only in (alignment, cross_cosine, relative_modality_gap):
        assert paired_only(x, turned) == pytest.approx(paired_only(x, y))
        with pytest.raises(XgapError, match="pairs are by id, and no id"):
            paired_only(x, strangers)


def test_what_has_no_partner_is_left_out_and_counted():
    x, y = sides(m=9)
    with pytest.warns(UserWarning, match="14 of 23 vectors of x and 0 of 9 of y have no partner"):
        report = gap_report(x, y)
    pd.testing.assert_frame_equal(report, gap_report(x.select(y.ids), y), check_exact=True)
    assert report["n"].item() == 9


def test_within_a_side_a_text_that_stands_beside_many_images_counts_once():
    x, texts = sides(n=30)[0], sides(n=3, seed=5)[1]
    beside = features(texts.vectors.repeat_interleave(10, dim=0), "text")
    for metric in (cone, uniformity, effective_rank):
        assert metric(beside) == pytest.approx(metric(texts), rel=1e-9)
    report = gap_report(x, beside).iloc[0]
    assert (report["cone_y"], report["uniformity_y"]) == (pytest.approx(cone(texts)), pytest.approx(uniformity(texts)))
    match = mean((1 - cos(u, v)) / 2 for u, v in zip(rows(x), rows(beside), strict=True))
    intra = mean(mean((1 - cos(u, v)) / 2 for u, v in pairs_within(side)) for side in (x, texts))
    assert report["rmg"] == pytest.approx(match / (match + intra), rel=1e-6)
    assert report["modality_gap"] == pytest.approx(modality_gap(x, texts))  # ten images each: the same mean
    same = features(np.ones((4, 3)))
    assert (cone(same), uniformity(same)) == (1, 0)


def test_users_mistakes():
    x, y = features(np.eye(3)), features(np.eye(4), "text")
    for metric in (modality_gap, gap_vector, gap_report, separability, alignment):
        with pytest.raises(XgapError, match="3 dimensions and y 4"):
            metric(x, y)
    one = features(np.eye(3)[:1])
    for metric in (uniformity, cone):
        with pytest.raises(XgapError, match="at least 2"):
            metric(one)
    with pytest.raises(XgapError, match="at least 2"):
        gap_report(one, one)


def test_images_with_several_captions_are_pairs_with_each_of_them():
    rng = np.random.default_rng(4)
    x, y = features(rng.normal(size=(9, 5)) + 1), features(rng.normal(size=(25, 5)) - 1, "text")
    pairs = {str(i): [str(j) for j in range(i, 25, 9)][: 1 + i % 3] for i in range(7)}
    used = sorted({int(j) for of in pairs.values() for j in of})
    match = mean((1 - cos(rows(x)[int(i)], rows(y)[int(j)])) / 2 for i, of in pairs.items() for j in of)
    own = [features([rows(x)[i] for i in range(7)]), features([rows(y)[j] for j in used])]
    intra = mean(mean((1 - cos(u, v)) / 2 for u, v in pairs_within(side)) for side in own)
    assert relative_modality_gap(x, y, pairs) == pytest.approx(match / (intra + match), rel=1e-6)
    one = {i: [i] for i in x.ids}
    same = features(rng.normal(size=(9, 5)), "text")
    assert relative_modality_gap(x, same, one) == pytest.approx(relative_modality_gap(x, same))
    numbers = {int(i): [int(j) for j in (*of, *of)] for i, of in pairs.items()}  # each pair counts once
    assert relative_modality_gap(x, y, numbers) == pytest.approx(relative_modality_gap(x, y, pairs))
    with pytest.raises(XgapError, match=r"pairs of '0' are '12' and no list of ids; give \['12'\]"):
        relative_modality_gap(x, y, {"0": "12", "3": ["4"]})
    with pytest.raises(XgapError, match="there are no pairs"):
        relative_modality_gap(x, y, {"0": []})
    with pytest.raises(XgapError, match="1 ids have no vector here, the first is '99'"):
        relative_modality_gap(x, y, {"0": ["99"]})


def test_a_sample_is_named_and_its_interval_holds_the_exact_value():
    x, y = sides(n=300)
    exact, found = gap_report(x, y).iloc[0], gap_report(x, y, sample=5000)
    assert found.attrs["sample"] == 5000
    row = found.iloc[0]
    for name in ("uniformity_x", "uniformity_y"):
        assert row[f"{name}_low"] < exact[name] < row[f"{name}_high"]
        assert row[name] == pytest.approx(exact[name], abs=0.1)
    assert row.drop([f"uniformity_{of}{end}" for of in "xy" for end in ("", "_low", "_high")]).equals(
        exact.drop(["uniformity_x", "uniformity_y"])
    )
    fewer = gap_report(x, y, sample=1000, seed=1).iloc[0]
    assert fewer["uniformity_x_high"] - fewer["uniformity_x_low"] > row["uniformity_x_high"] - row["uniformity_x_low"]
