"""Clusters over modalities, and MOAD: known answers and plain loops."""

import numpy as np
import pytest

import xgap_analysis as xg
from xgap_analysis import XgapError
from xgap_analysis.metrics import clusters, moad


def world(gap: float, noise: float = 0.1) -> tuple[list[xg.Features], dict[str, str]]:
    """Five kinds of eight items in two modalities; `gap` in a dimension of its own."""
    rng = np.random.default_rng(0)
    kinds = np.repeat(np.eye(8)[:5], 8, axis=0)
    ids = [f"i{k}" for k in range(40)]
    made = []
    for space, side in (("image", 1), ("text", -1)):
        rows = kinds + noise * rng.normal(size=kinds.shape) + side * gap * np.eye(8)[6]
        order = rng.permutation(40)
        made.append(xg.Features(rows[order], [ids[k] for k in order], space, space))
    return made, {i: f"kind {k // 8}" for k, i in enumerate(ids)}


def test_without_a_gap_labels_are_found_and_with_one_modalities() -> None:
    near = clusters(*world(0.0))
    assert list(near.index) == ["image", "text", "all"]
    assert near[["v_measure", "ari", "nmi"]].to_numpy() == pytest.approx(1)
    assert near.loc["all", ["one_modality", "together"]].tolist() == [0, 1]
    assert near["n"].tolist() == [40, 40, 80]
    features, labels = world(4.0)
    far = clusters(features, labels, k=2)
    assert far.loc["all", ["one_modality", "together"]].tolist() == [1, 0]
    assert abs(far.loc["all", "v_measure"]) < 1e-9  # each cluster holds every label alike
    assert clusters(features, labels).loc["all", "one_modality"] == 1
    centred = [xg.Features(f.vectors - f.vectors.mean(0), f.ids, f.space, f.origin) for f in features]
    assert clusters(centred, labels).loc["all", ["ari", "together"]].tolist() == pytest.approx([1, 1])


def test_an_item_counts_in_all_modalities_or_in_none() -> None:
    (x, y), labels = world(0.0)
    some = {i: label for i, label in labels.items() if i != "i3"}
    made = clusters([x, y.select([i for i in y.ids if i != "i5"])], some)
    assert made["n"].tolist() == [38, 38, 76]


def test_shares_of_modalities_are_those_of_a_plain_count() -> None:
    from xgap_analysis.metrics.clusters import _shares

    made = np.random.default_rng(0).integers(0, 9, (3, 12))
    one = [c for c in set(made.ravel()) if sum(c in row for row in made.tolist()) == 1]
    together = [column for column in made.T.tolist() if len(set(column)) == 1]
    assert _shares(made) == pytest.approx((len(one) / len(set(made.ravel())), len(together) / 12))


def test_mistakes_are_one_sentence() -> None:
    features, labels = world(0.0)
    with pytest.raises(XgapError, match="two modalities"):
        clusters(features[:1], labels)
    with pytest.raises(XgapError, match="of 1 labels; give 2"):
        clusters(features, dict.fromkeys(labels, "one"))
    with pytest.raises(XgapError, match="k lies between 1 and the 40 items, not 41"):
        clusters(features, labels, k=41)


def loop(rows: np.ndarray, objects: list[int], attributes: list[int]) -> float:
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    means = []
    for labels in (objects, attributes):
        same, other = [], []
        for i, j in np.ndindex(len(rows), len(rows)):
            if i != j:
                (same if labels[i] == labels[j] else other).append(rows[i] @ rows[j])
        means.append(np.mean(same) - np.mean(other))
    return float(means[0] - means[1])


@pytest.mark.parametrize("seed", range(3))
def test_moad_is_that_of_a_plain_loop_over_all_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, objects, attributes = rng.normal(0.2, 1, (30, 6)), rng.integers(0, 4, 30), rng.integers(0, 3, 30)
    named = [{str(i): f"{label}" for i, label in enumerate(of)} for of in (objects, attributes)]
    assert moad(rows, *named) == pytest.approx(loop(rows, objects.tolist(), attributes.tolist()), abs=1e-6)


def test_moad_has_known_answers() -> None:
    objects, attributes = dict(zip("0123", "xxyy", strict=True)), dict(zip("0123", "rgrg", strict=True))
    o, a = np.eye(4)[[0, 0, 1, 1]], np.eye(4)[[2, 3, 2, 3]]
    for left, right, answer in ((2, 1, 0.9), (1, 2, -0.9), (1, 1, 0.0)):
        assert moad(left * o + right * a, objects, attributes) == pytest.approx(answer, abs=1e-6)
    with pytest.raises(XgapError, match="no two items share an attribute"):
        moad(o + a, objects, dict(zip("0123", "abcd", strict=True)))
    with pytest.raises(XgapError, match="all items share an object"):
        moad(o + a, dict.fromkeys("0123", "x"), attributes)


def test_a_missing_label_is_no_label() -> None:
    features, labels = world(0.0)
    holes = {**labels, "i3": None, "i9": float("nan")}
    some = {i: label for i, label in labels.items() if i not in ("i3", "i9")}
    made, expected = clusters(features, holes), clusters(features, some)
    assert made["n"].tolist() == [38, 38, 76]
    assert made["k"].tolist() == expected["k"].tolist()
    attributes = {i: i[-1] for i in labels}
    assert moad(features[0], holes, attributes) == pytest.approx(moad(features[0], some, attributes))  # type: ignore[arg-type]
