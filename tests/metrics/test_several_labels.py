"""Several labels and class means against loops and scikit-learn."""

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, label_ranking_average_precision_score

import xgap_analysis as xg
from tests.metrics.test_retrieval import features, tied
from xgap_analysis.core.errors import XgapError
from xgap_analysis.metrics import class_means, several_labels

CLASSES = ("a", "b", "c", "d", "e", "f")


def drawn(seed=0, n=30, d=5):
    rng = np.random.default_rng(seed)
    images = features(rng.normal(size=(n, d)))
    classes = xg.Features(rng.normal(size=(6, d)), CLASSES, "text", "text")
    held = rng.random((n, 6)) < 0.3
    held[0], held[:, 5] = False, False  # an item without labels, and a label that no item has
    labels = {i: [CLASSES[c] for c in np.flatnonzero(row)] for i, row in zip(images.ids, held, strict=True)}
    return images, classes, labels, held


def test_average_precision_of_each_label_is_scikit_learns():
    images, classes, labels, held = drawn()
    similarity = (images.vectors.double() @ classes.vectors.double().T).numpy()
    found = several_labels(images, classes, labels)
    assert found.index.tolist() == list(CLASSES)
    assert found.index.name == "label"
    assert found["n_relevant"].tolist() == held.sum(axis=0).tolist()
    assert math.isnan(found["ap"].iloc[5])
    for c in range(5):
        assert found["ap"].iloc[c] == pytest.approx(average_precision_score(held[:, c], similarity[:, c]))
    assert found["ap"].tolist() == pytest.approx(
        several_labels(images, classes, [labels[i] for i in images.ids])["ap"].tolist(), nan_ok=True
    )


def test_average_precision_of_each_item_is_that_of_its_ranking_of_labels():
    images, classes, labels, held = drawn(1)
    similarity = (images.vectors.double() @ classes.vectors.double().T).numpy()
    found = several_labels(images, classes, labels, by="item")
    some = held.any(axis=1)
    assert found["ap"][some].mean() == pytest.approx(
        label_ranking_average_precision_score(held[some], similarity[some])
    )
    assert found["ap"].isna().tolist() == (~some).tolist()
    assert found.index.name == "item"


def test_equal_scores_keep_the_order_of_the_items():
    images = features(tied(40, 6, 0))
    classes = xg.Features(tied(6, 6, 1), CLASSES, "text", "text")
    rng = np.random.default_rng(0)
    held = rng.random((40, 6)) < 0.4
    labels = [[CLASSES[c] for c in np.flatnonzero(row)] for row in held]
    found = several_labels(images, classes, labels)
    for c, column in enumerate((images.vectors.double() @ classes.vectors.double().T).float().T.tolist()):
        order = sorted(range(40), key=lambda i: -column[i])
        hits = [held[i, c] for i in order]
        precisions = [sum(hits[: r + 1]) / (r + 1) for r in range(40) if hits[r]]
        assert found["ap"].iloc[c] == pytest.approx(np.mean(precisions))


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_class_means_are_per_class_recall():
    rng = np.random.default_rng(2)
    images = features(rng.normal(size=(50, 4)))
    classes = xg.Features(rng.normal(size=(6, 4)), CLASSES, "text", "text")
    of = [CLASSES[int(c)] for c in rng.choice(6, 50, p=[0.5, 0.2, 0.1, 0.1, 0.05, 0.05])]
    labels = dict(zip(images.ids, of, strict=True))
    frame = xg.zero_shot(images, classes, labels)
    predicted = [CLASSES[int(c)] for c in (images.vectors @ classes.vectors.T).argmax(dim=1)]
    found = class_means(frame["correct_at_1"], labels)
    assert found.mean() == pytest.approx(balanced_accuracy_score(of, predicted))
    assert found.mean() != pytest.approx(frame["correct_at_1"].mean())
    interval = xg.bootstrap_interval(found)
    assert (interval.mean, interval.n) == (pytest.approx(found.mean()), len(set(of)))


def test_class_means_are_a_loop():
    values = pd.Series([1.0, math.nan, 0.5, 0.0, math.nan], index=list("vwxyz"))
    found = class_means(values, {"v": "q", "w": "q", "x": "q", "y": "r", "z": "s"})
    assert found.to_dict() == pytest.approx({"q": 0.75, "r": 0.0, "s": math.nan}, nan_ok=True)
    numbers = pd.Series([1.0, 0.0], index=pd.Index([7, 8]))
    assert class_means(numbers, {7: "a", "8": "b"}).tolist() == [1.0, 0.0]
    assert class_means(np.array([1.0, 3.0]), np.array([5, 5])).tolist() == [2.0]
    shuffled = pd.Series(["s", "r", "q", "q", "q"], index=list("zyxwv"))
    assert class_means(values, shuffled).to_dict() == pytest.approx(found.to_dict(), nan_ok=True)


def test_mistakes_are_one_sentence():
    images, classes, labels, held = drawn()
    for given, message in (
        ({**labels, "i3": "a"}, "item 'i3' has the label 'a' and no list"),
        ({**labels, "i3": ["z"]}, "1 labels have no class text, the first is 'z'"),
        ({"i0": ["a"]}, "labels of 29 items are not given, the first is 'i1'"),
        ([["a"]], "each of the 30 items"),
        (held.tolist(), "no table of 0 and 1"),
    ):
        with pytest.raises(XgapError, match=message):
            several_labels(images, classes, given)
    numbered = xg.Features(classes.vectors, [str(i) for i in range(6)], "text", "text")  # 0 and 1 are names there
    with pytest.raises(XgapError, match="no table of 0 and 1"):
        several_labels(images, numbered, held.astype(int).tolist())
    assert several_labels(images, numbered, [[0, 1]] * 29 + [[0]])["n_relevant"].tolist() == [30, 29, 0, 0, 0, 0]
    with pytest.raises(XgapError, match='by "label" or by "item"'):
        several_labels(images, classes, labels, by="class")
    with pytest.raises(XgapError, match="1 queries have no class, the first is 'b'"):
        class_means(pd.Series([1.0, 2.0], index=["a", "b"]), {"a": 1})
    with pytest.raises(XgapError, match="1 classes were given for 2 values"):
        class_means([1.0, 2.0], ["a"])
    with pytest.raises(XgapError, match="no class"):
        class_means([1.0, 2.0], ["a", None])
