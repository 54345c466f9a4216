import numpy as np
import pytest
import torch

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.metrics import filtered_ids, zero_shot


def sides(n=40, c=12, d=4, seed=0):
    """Entries in {-1, 0, 1} make many ties; the labels are the class texts' ids."""
    rng = np.random.default_rng(seed)
    images, texts = (rng.integers(-1, 2, size=(k, d)).astype(float) for k in (n, c))
    images[~images.any(axis=1), 0] = texts[~texts.any(axis=1), 0] = 1
    label = {f"i{i}": f"class {rng.integers(c)}" for i in range(n)}
    return (
        Features(torch.from_numpy(images), list(label), "image", "image"),
        Features(torch.from_numpy(texts), [f"class {i}" for i in range(c)], "text", "text"),
        label,
    )


@pytest.mark.parametrize("block", [1, 7, 256])
def test_equals_a_naive_ranking(block):
    images, texts, label = sides()
    frame = zero_shot(images, texts, label, topk=(1, 5), block=block)
    for i, image in enumerate(images.ids):
        scores = [float(np.float32(s)) for s in images.vectors[i].double() @ texts.vectors.double().T]
        order = sorted(range(len(texts)), key=lambda c: -scores[c])
        rank = [texts.ids[c] for c in order].index(label[image]) + 1
        assert frame.loc[image].to_dict() == {"correct_at_1": rank <= 1, "correct_at_5": rank <= 5, "rank": rank}


def test_equals_scikit_learn_without_ties():
    from sklearn.metrics import top_k_accuracy_score

    torch.manual_seed(0)
    images = Features(torch.randn(50, 6), [f"i{i}" for i in range(50)], "image", "image")
    texts = Features(torch.randn(9, 6), [str(i) for i in range(9)], "text", "text")
    right = torch.randint(9, (50,))
    frame = zero_shot(images, texts, [str(x) for x in right.tolist()], topk=(1, 3))
    for k in (1, 3):
        theirs = top_k_accuracy_score(right, images.vectors @ texts.vectors.T, k=k, labels=range(9))
        assert frame[f"correct_at_{k}"].mean() == pytest.approx(theirs)


def test_filtered_ids_are_those_that_are_right():
    images, texts, label = sides(seed=1)
    frame = zero_shot(images, texts, label)
    kept = filtered_ids(images, texts, label)
    assert kept == tuple(i for i in images.ids if frame["rank"][i] == 1)
    assert 0 < len(kept) < len(images)
    assert zero_shot(images.select(kept), texts, label)["correct_at_1"].mean() == 1


def test_users_mistakes():
    images, texts, label = sides()
    with pytest.raises(XgapError, match="have no class text, the first is 'class"):
        zero_shot(images, texts.select(texts.ids[:3]), label)
    with pytest.raises(XgapError, match="1 images have no label, the first is 'i3'"):
        zero_shot(images, texts, {i: x for i, x in label.items() if i != "i3"})
    with pytest.raises(XgapError, match="2 labels were given for 40 images"):
        zero_shot(images, texts, ["class 0", "class 1"])


def test_classification_among_one_class_says_that_it_is_none():
    images = Features(torch.eye(3), ["a", "b", "c"], "image", "image")
    with pytest.warns(UserWarning, match=r"there is one class only \('cat'\), so that the accuracy is 1 whatever"):
        frame = zero_shot(images, Features(torch.eye(3)[:1], ["cat"], "text", "text"), ["cat"] * 3)
    assert (frame["correct_at_1"] == 1).all()
    assert frame.attrs["degenerate"]
