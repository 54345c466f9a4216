"""Calibrated structure against plain loops, the published package, and what is known of the null."""

import itertools
import math

import numpy as np
import pytest
import torch

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.metrics import (
    calibrated,
    calibrated_layers,
    calibrated_table,
    debiased_cka,
    linear_cka,
    mutual_knn,
    similarity_spearman,
    with_ceiling,
)
from xgap_analysis.metrics.relations import RELATIONS

METRICS = {
    "linear_cka": linear_cka,
    "debiased_cka": debiased_cka,
    "mutual_knn(k=3)": lambda x, y: mutual_knn(x, y, 3),
    "spearman": similarity_spearman,
}


def rows(n=24, d=5, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def features(vectors, prefix="i"):
    return Features(torch.as_tensor(vectors), [f"{prefix}{i}" for i in range(len(vectors))], "image", "image")


def song(x, y):
    """HSIC without bias, term by term, over matrices."""
    k, m = ((v := f.vectors.double().numpy()) @ v.T for f in (x, y))
    n, one = len(k), np.ones(len(k))
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    whole = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return (np.trace(k @ m) + whole - 2 * (one @ k @ m @ one) / (n - 2)) / (n * (n - 3))


@pytest.mark.parametrize("n", [4, 9, 40])
def test_cka_without_bias_is_the_unbiased_estimator(n):
    x, y = features(rows(n, 6, 1) + 1), features(rows(n, 11, 2))
    assert debiased_cka(x, y) == pytest.approx(song(x, y) / math.sqrt(song(x, x) * song(y, y)))
    assert debiased_cka(x, x) == pytest.approx(1)


def test_cka_without_bias_is_around_zero_for_unrelated_sets():
    found = [debiased_cka(rows(60, 128, 2 * i), rows(60, 128, 2 * i + 1)) for i in range(60)]
    raw = [linear_cka(rows(60, 128, 2 * i), rows(60, 128, 2 * i + 1)) for i in range(10)]
    assert abs(np.mean(found)) < 4 * np.std(found) / math.sqrt(60)
    assert np.mean(raw) == pytest.approx(0.69, abs=0.02)
    with pytest.raises(XgapError, match="at least 4 items, not 3"):
        debiased_cka(rows(3), rows(3))


@pytest.mark.parametrize("name", METRICS)
def test_values_thresholds_and_p_values_are_those_of_a_plain_loop(name):
    x, y = features(rows(seed=1)), features(rows(d=7, seed=2) + np.pad(rows(seed=1), ((0, 0), (0, 2))))
    rng = np.random.default_rng(5)
    null = []
    for _ in range(39):
        order = rng.permutation(24)
        null.append(METRICS[name](x, features(y.vectors[order])))
    value = METRICS[name](x, y)
    found = calibrated(x, y, name, permutations=39, level=0.1, seed=5)
    threshold = sorted([value, *null])[math.ceil(0.9 * 40) - 1]
    assert found.value == pytest.approx(value)
    assert found.chance == pytest.approx(np.mean(null))
    assert found.threshold == pytest.approx(threshold)
    assert found.score == pytest.approx(max(0, (value - threshold) / (1 - threshold)))
    assert found.above_chance == pytest.approx((value - np.mean(null)) / (1 - np.mean(null)))
    assert found.p_value == (1 + sum(v >= value - 1e-9 for v in null)) / 40


def test_a_function_is_a_metric_too():
    x, y = features(rows(seed=1)), features(rows(seed=2))
    how = {"permutations": 19, "seed": 3}
    named, given = calibrated(x, y, "linear_cka", **how), calibrated(x, y, linear_cka, **how)
    assert [*vars(named).values()] == pytest.approx([*vars(given).values()])
    without = calibrated(x, x, lambda a, b: 5 * linear_cka(a, b), best=None, **how)
    assert without.score == pytest.approx(5 * calibrated(x, x, **how).value - without.threshold)
    assert without.above_chance == pytest.approx(5 - without.chance)


@pytest.mark.parametrize("name", METRICS)
def test_a_set_agrees_with_itself_as_far_as_can_be(name):
    found = calibrated(rows(), rows(), name)
    assert (found.value, found.score) == (pytest.approx(1), pytest.approx(1))
    assert found.p_value == pytest.approx(1 / 201)


def test_unrelated_rows_of_many_dimensions_are_similar_by_chance_alone():
    found = calibrated(rows(60, 128, 0), rows(60, 128, 1))
    assert found.value == pytest.approx(0.672, abs=0.02)
    assert found.threshold > found.value > found.chance - 0.02
    assert found.score == 0


def test_a_score_is_above_zero_exactly_where_its_p_value_says_so():
    seen = []
    for seed in range(40):
        x = rows(12, 4, seed)
        found = calibrated(x, 0.4 * x + rows(12, 4, seed + 1000), seed=seed)
        assert (found.score > 0) == (found.p_value <= 10 / 201)
        seen.append(found.score > 0)
    assert 0 < sum(seen) < 40


def test_p_values_are_uniform_where_nothing_corresponds():
    draws, k = 300, 39
    p = np.array(
        [calibrated(rows(8, 3, 2 * i), rows(8, 3, 2 * i + 1), permutations=k, seed=i).p_value for i in range(draws)]
    )
    counts = np.bincount(np.minimum((p * (k + 1)).round().astype(int) - 1, k) // 8, minlength=5)  # five equal parts
    expected = draws / 5
    assert ((counts - expected) ** 2 / expected).sum() < 18.5  # chi squared of 4 degrees: 1 in 1,000 is above
    assert (p <= 0.05).mean() < 0.05 + 3 * math.sqrt(0.05 * 0.95 / draws)


def drawings(seed, concepts=12, each=4):
    """Two unrelated models of several drawings of each concept, which are near to each other in both."""
    rng = np.random.default_rng(seed)
    sets = [np.repeat(rng.normal(size=(concepts, 6)), each, axis=0) for _ in range(2)]
    return *(own + 0.1 * rng.normal(size=own.shape) for own in sets), np.repeat(np.arange(concepts), each)


def test_drawings_of_a_concept_are_permuted_as_a_whole():
    by_item, by_concept = [], []
    for seed in range(30):
        x, y, concepts = drawings(seed)
        how = {"permutations": 39, "seed": seed}
        by_item.append(calibrated(x, y, **how).p_value)
        found = calibrated(x, y, groups=concepts, **how)
        by_concept.append(found.p_value)
        assert (found.n, found.n_groups, found.n_fixed) == (48, 12, 0)
    assert np.mean(np.array(by_item) <= 0.05) > 0.5  # concepts in common are taken for agreement of the models
    assert np.mean(np.array(by_concept) <= 0.05) < 0.2
    assert np.mean(by_concept) == pytest.approx(0.5, abs=0.2)


def test_permutations_stay_within_their_label_and_groups_go_with_groups_of_their_size():
    kept = []
    groups = ["a", "a", "b", "b", "c", "c", "c", "d", "d", "e", "e"]
    within = [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1]

    def look(x, y):
        kept.append([int(row.argmax()) for row in y.vectors])
        return 0.5

    calibrated(features(np.eye(11)), features(np.eye(11)), look, groups=groups, within=within, permutations=60)
    blocks = [(0, 1), (2, 3), (4, 5, 6), (7, 8), (9, 10)]
    allowed = {
        (*first, *blocks[2], *second)
        for first in ((0, 1, 2, 3), (2, 3, 0, 1))
        for second in ((7, 8, 9, 10), (9, 10, 7, 8))
        for first, second in [(first, second)]
    }
    assert set(map(tuple, kept)) == allowed
    found = calibrated(features(np.eye(11)), features(np.eye(11)), groups=groups, within=within, permutations=5)
    assert (found.n_groups, found.n_fixed) == (5, 3)


def test_what_a_label_explains_is_no_agreement_within_it():
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 20)
    shift = np.outer(label, np.ones(4)) * 6
    x, y = (rng.normal(size=(40, 4)) + shift for _ in range(2))
    assert calibrated(x, y, permutations=99).p_value == 0.01
    assert calibrated(x, y, within=label, permutations=99).p_value > 0.05


def test_layers_are_calibrated_by_the_best_of_each_permutation():
    x = {f"x{i}": features(rows(seed=i)) for i in range(3)}
    y = {f"y{i}": features(rows(d=6, seed=i + 50)) for i in range(4)}
    y["y2"] = features(rows(seed=1) + 0.5 * rows(seed=99))
    rng = np.random.default_rng(0)
    orders = [np.arange(24), *(rng.permutation(24) for _ in range(19))]

    def table(order):
        return np.array([[linear_cka(a, features(b.vectors[order])) for b in y.values()] for a in x.values()])

    sums = {"max": np.max, "mean": np.mean, "best": lambda s: np.mean([max(row) for row in s])}
    sums["top(k=3)"] = lambda s: np.mean(sorted(s.ravel())[-3:])
    sums["top"] = lambda s: np.mean(sorted(s.ravel())[-5:])
    sums["top(k=99)"] = np.mean
    sums["matched"] = lambda s: max(
        np.mean([s[i, j] for i, j in enumerate(own)]) for own in itertools.permutations(range(4), 3)
    )
    for over, summed in sums.items():
        value, *null = (summed(table(order)) for order in orders)
        found = calibrated_layers(x, y, over=over, permutations=19)
        assert (found.value, found.chance) == (pytest.approx(value), pytest.approx(np.mean(null)))
        assert found.p_value == (1 + sum(v >= value for v in null)) / 20
        assert found.layers == ("x1", "y2")


def test_the_best_of_many_layers_is_no_finding():
    naive, whole = 0, 0
    for seed in range(16):
        x, y = ({str(i): rows(10, 6, 1000 * seed + 10 * i + j) for i in range(5)} for j in range(2))
        each = (
            calibrated(a, b, permutations=19, seed=seed).p_value for a, b in itertools.product(x.values(), y.values())
        )
        naive += min(each) <= 0.05
        whole += calibrated_layers(x, y, permutations=19, seed=seed).p_value <= 0.05
    assert naive > 6
    assert whole <= 4


def test_it_equals_the_published_package():
    import calibrated_similarity as theirs

    x, y = rows(30, 8, 1), rows(30, 8, 1) + 1.5 * rows(30, 8, 2)
    first, second = features(x), features(y)

    def cka(a, b):
        return linear_cka(a.numpy(), b.numpy())

    def orders():
        rng = np.random.default_rng(7)
        return lambda n, _: torch.from_numpy(rng.permutation(n))

    for permutations, best, level in ((200, 1.0, 0.05), (50, None, 0.1)):
        how = {"K": permutations, "alpha": level, "smax": best, "perm_fn": orders()}
        made = theirs.calibrate(first.vectors, second.vectors, cka, **how)
        found = calibrated(first, second, permutations=permutations, level=level, best=best, seed=7)
        assert [found.score, found.p_value, found.threshold] == pytest.approx([float(v) for v in made], abs=1e-5)
    sets = [[first.vectors, second.vectors], [second.vectors[:, :5], first.vectors[:, 2:]]]
    made = theirs.calibrate_layers(*sets, cka, K=30, perm_fn=orders())
    layers = [{str(i): features(own) for i, own in enumerate(of)} for of in sets]
    found = calibrated_layers(*layers, permutations=30, seed=7)
    assert [found.score, found.p_value, found.threshold] == pytest.approx([float(v) for v in made], abs=1e-5)


def spectrum_matched(y, draw, right):
    """Rows with the mean and the singular values of y, and given bases."""
    centred = y - y.mean(axis=0)
    return draw @ np.diag(np.linalg.svd(centred)[1][: draw.shape[1]]) @ right.T + y.mean(axis=0)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("d", [5, 40])
def test_a_spectrum_matched_null_is_drawn_as_in_a_loop(name, d):
    x, y = features(rows(seed=1)), features(rows(d=d, seed=2) + 1)
    found = calibrated(x, y, name, null="spectrum", permutations=19, seed=3)
    rng, own = np.random.default_rng(3), y.vectors.double().numpy()
    null = []
    for draw in range(19):
        made = rng.normal(size=(24, min(d, 23)))
        q, r = np.linalg.qr(made - made.mean(axis=0))
        q = q * np.sign(np.diag(r))
        assert np.abs(q.sum(axis=0)).max() < 1e-12
        right = np.linalg.qr(np.random.default_rng(draw).normal(size=(d, d)))[0][:, : q.shape[1]]
        if name.startswith(("linear", "debiased")):  # which no basis of the dimensions changes
            again = spectrum_matched(own, q, right)
            assert np.linalg.svd(again - again.mean(0))[1] == pytest.approx(np.linalg.svd(own - own.mean(0))[1])
            null.append(by_rows(name, x.vectors.double().numpy(), again))
        else:  # cosines, which depend on where the mean lies in that basis
            again = spectrum_matched(own, q, np.linalg.svd(own - own.mean(axis=0))[2][: q.shape[1]].T)
            null.append(METRICS[name](x, features(again)))
    assert found.value == pytest.approx(METRICS[name](x, y))
    assert found.chance == pytest.approx(np.mean(null), abs=1e-6)
    assert found.p_value == (1 + sum(v >= found.value for v in null)) / 20
    assert (found.n_groups, found.n_fixed) == (24, 0)


def by_rows(name, x, y):
    """CKA of rows as they are, where `Features` would scale them."""

    def relation(rows):
        centred = rows - rows.mean(axis=0)
        k, n = centred @ centred.T, len(rows)
        if name == "debiased_cka":
            np.fill_diagonal(k, 0)
            sums = k.sum(axis=0) / (n - 2)
            k = k - sums - sums[:, None] + sums.sum() / (n - 1)
            np.fill_diagonal(k, 0)
        return k / np.linalg.norm(k)

    return (relation(x) * relation(y)).sum()


def test_layers_share_the_basis_of_a_draw():
    seen = []

    def noted(a, b):
        seen.append((a.vectors.double().numpy(), b.vectors.double().numpy()))
        return linear_cka(a, b)

    x = {"x": features(rows(seed=1))}
    y = {"y0": features(rows(d=3, seed=2)), "y1": features(rows(d=4, seed=3))}
    found = calibrated_layers(x, y, noted, null="spectrum", permutations=2)
    assert found.layers in (("x", "y0"), ("x", "y1"))
    assert len(seen) == 6
    turned = [b for _, b in seen[2:4]]
    assert all(np.abs(np.linalg.norm(b, axis=1) - 1).max() < 1e-6 for b in turned)
    assert not np.allclose(turned[0], y["y0"].vectors.numpy(), atol=0.1)
    alike = calibrated_layers(x, {"a": y["y0"], "b": y["y0"]}, null="spectrum", over="mean", permutations=20)
    alone = calibrated(x["x"], y["y0"], null="spectrum", permutations=20)
    assert alike.value == pytest.approx(alone.value)
    assert alike.chance == pytest.approx(alone.chance, abs=0.1)


def test_clouds_of_one_shape_agree_by_chance_and_a_set_with_itself_does_not():
    x = rows(40, 4) * [4, 2, 1, 1]
    found = calibrated(x, x, null="spectrum", permutations=99)
    assert (found.score, found.p_value) == (pytest.approx(1), 0.01)
    p = [
        calibrated(rows(30, 4, i) * [6, 1, 1, 1], rows(30, 4, 500 + i) * [6, 1, 1, 1], null="spectrum", permutations=19)
        for i in range(40)
    ]
    assert np.mean([one.p_value <= 0.05 for one in p]) <= 0.15
    assert 0.3 < np.mean([one.p_value for one in p]) < 0.75


def test_more_items_than_fit_are_sampled_in_whole_groups():
    x = rows(40, 4)
    groups = np.repeat(np.arange(10), 4)
    found = calibrated(x, x, groups=groups, sample=18, permutations=9)
    assert (found.n, found.n_groups) == (16, 4)
    assert found.value == pytest.approx(1)
    assert calibrated(x, x, sample=18, permutations=9).n == 18
    assert calibrated(features(x), features(x), linear_cka, sample=18, permutations=9).n == 18


def test_a_ceiling_is_what_twins_agree_on():
    base = rows(40, 4, 0)
    noise = {"a1": 0.2, "a2": 0.2, "a3": 0.2, "b1": 0.6, "b2": 0.6, "c": 2.0}
    sets = {name: base + share * rows(40, 4, i + 1) for i, (name, share) in enumerate(noise.items())}
    table = calibrated_table(sets, ["linear_cka", "mutual_knn(k=4)"], permutations=19)
    assert len(table) == 2 * 15
    recipes = {name: name[0] for name in sets}
    found = with_ceiling(table, recipes, "value").set_index(["a", "b", "metric"])
    for (a, b, name), row in found.iterrows():
        twins = {}
        for p, q in itertools.combinations(sets, 2):
            if p[0] == q[0]:
                twins.setdefault(p[0], []).append(
                    METRICS["linear_cka"](sets[p], sets[q]) if name == "linear_cka" else mutual_knn(sets[p], sets[q], 4)
                )
        own = [np.mean(twins[r]) for r in {a[0], b[0]} if r in twins]
        assert row["ceiling"] == pytest.approx(np.mean(own))
        assert row["share"] == pytest.approx(row["value"] / np.mean(own))
        assert row["twins"] == (a[0] == b[0])
    assert found.loc[("a1", "c"), "n_twins"].tolist() == [3, 3]
    assert found.loc[("a1", "b1"), "n_twins"].tolist() == [4, 4]
    with pytest.raises(XgapError, match="recipe of 'c' is not given"):
        with_ceiling(table, {name: 0 for name in noise if name != "c"})
    with pytest.raises(XgapError, match="no two models"):
        with_ceiling(table, {name: name for name in noise})
    with pytest.raises(XgapError, match="unknown column"):
        with_ceiling(table, recipes, "scores")
    alone = with_ceiling(table[(table["a"] != "a1") | (table["b"] != "c")], {**recipes, "c": "z"})
    assert "ceiling" in alone


def test_mistakes_are_one_sentence():
    x = features(rows())
    for how, message in (
        ({"metric": "cka"}, "unknown calibrated metric 'cka'"),
        ({"metric": "spearman(k=3)"}, "mutual_knn has k"),
        ({"metric": "mutual_knn(k=24)"}, "between 1 and the 23 other items, not 24"),
        ({"permutations": 0}, "1 or more"),
        ({"level": 1.0}, r"in \(0, 1\)"),
        ({"groups": [1, 2]}, "2 labels were given as groups for 24 items"),
        ({"groups": [0] * 23 + [None]}, "no label in groups"),
        ({"groups": [0] * 24}, "nothing to permute"),
        ({"groups": [0, 0] + [1] * 22, "within": [0, 1] + [0] * 22}, "two labels of within"),
    ):
        with pytest.raises(XgapError, match=message):
            calibrated(x, x, **how)
    with pytest.raises(XgapError, match="all items of a set are the same"):
        calibrated(x, features(np.ones((24, 3))))
    with pytest.raises(XgapError, match="24 and 20 items"):
        calibrated_layers({"a": x}, {"b": x, "c": x.select(x.ids[:20])})
    with pytest.raises(XgapError, match="at least one layer"):
        calibrated_layers({}, {"b": x})
    with pytest.raises(XgapError, match="unknown way to sum up"):
        calibrated_layers({"a": x}, {"b": x}, over="median")
    for over in ("top(k=0)", "top(n=3)", "max(k=2)", "top(3)"):
        with pytest.raises(XgapError, match=r"of which top\(k=5\) has k from 1, not"):
            calibrated_layers({"a": x}, {"b": x}, over=over)
    with pytest.raises(XgapError, match="unknown null"):
        calibrated(x, x, null="rotation")
    with pytest.raises(XgapError, match="permutes nothing; leave them out"):
        calibrated(x, x, null="spectrum", groups=[0, 1] * 12)
    with pytest.raises(XgapError, match="at least two sets"):
        calibrated_table({"a": x})
    assert set(RELATIONS) == {name.partition("(")[0] for name in METRICS}
