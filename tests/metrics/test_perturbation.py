"""Texts before and after a change: against plain numpy, and with its known answers."""

import numpy as np
import pytest

import xgap_analysis as xg
from xgap_analysis.metrics import perturbation


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def world(seed: int = 0, n: int = 40, d: int = 8) -> tuple[xg.Features, xg.Features, xg.Features, xg.Relevance]:
    rng = np.random.default_rng(seed)
    images = unit(rng.normal(size=(n, d)))
    texts = unit(images + 0.8 * rng.normal(size=(n, d)))
    after = unit(texts + 0.5 * rng.normal(size=(n, d)))
    ids = [f"text {i}" for i in range(n)]
    made = [xg.Features(x, ids, "text", "text") for x in (texts, after)]
    own = xg.Relevance.from_labels({f"text {i}": i for i in range(n)}, {f"image {i}": i for i in range(n)})
    return *made, xg.Features(images, [f"image {i}" for i in range(n)], "image", "image"), own


def test_it_equals_plain_numpy() -> None:
    before, after, images, own = world()
    turned = after.select(list(after.ids)[::-1])  # ids pair them
    table = perturbation(before, turned, images, own).set_index("quantity")
    t, s, v = (x.vectors.double().numpy() for x in (before, after, images))
    mrr = [np.mean([1 / (1 + (row > row[i]).sum()) for i, row in enumerate(x @ v.T)]) for x in (t, s)]
    kept = (t * s).sum(1)
    over = []
    for x in (t, s):
        scores = x @ v.T
        over.append(np.mean([row[i] - np.delete(row, i).mean() for i, row in enumerate(scores)]))
    expected = {
        "mrr": mrr,
        "I-T": [(t * v).sum(1).mean(), (s * v).sum(1).mean()],
        "I-T over others": over,
        "I-T beyond movement": [(kept * (t * v).sum(1)).mean(), (s * v).sum(1).mean()],
        "T-T": [1, kept.mean()],
    }
    for name, (old, new) in expected.items():
        row = table.loc[name]
        assert (row["before"], row["after"], row["change"]) == pytest.approx((old, new, new - old), abs=1e-6)
        assert row["relative"] == pytest.approx((new - old) / old, abs=1e-6)
        assert row["low"] <= row["change"] <= row["high"]
        assert row["n_groups"] == 40
    assert np.isnan(table.loc["T-T", "p_value"])


def test_texts_that_do_not_change_change_nothing() -> None:
    before, _, images, own = world()
    table = perturbation(before, before, images, own)
    assert np.abs(table["change"]).max() < 1e-6
    assert table["verdict"][:2].tolist() == ["inconclusive"] * 2


def test_a_step_in_a_random_direction_has_no_change_beyond_movement_and_a_step_towards_the_image_has() -> None:
    """In many dimensions the mean over random steps is their expectation."""
    rng = np.random.default_rng(0)
    n, d = 400, 64
    v = unit(rng.normal(size=(n, d)))
    t = unit(v + unit(rng.normal(size=(n, d))))
    step = rng.normal(size=(n, d))
    step = unit(step - (step * t).sum(1, keepdims=True) * t)
    towards = unit(v - (v * t).sum(1, keepdims=True) * t)
    images, ids = xg.Features(v, map(str, range(n)), "image", "image"), [f"t{i}" for i in range(n)]
    own = xg.Relevance.from_labels({i: int(i[1:]) for i in ids}, {str(i): i for i in range(n)})
    angle = 0.5
    found = {}
    for name, direction in (("random", step), ("towards", towards), ("away", -towards)):
        after = np.cos(angle) * t + np.sin(angle) * direction
        table = perturbation(
            xg.Features(t, ids, "text", "text"), xg.Features(after, ids, "text", "text"), images, own, resamples=200
        ).set_index("quantity")
        assert table.loc["T-T", "change"] == pytest.approx(np.cos(angle) - 1, abs=1e-5)
        found[name] = table
    assert abs(found["random"].loc["I-T beyond movement", "change"]) < 0.01
    assert found["random"].loc["I-T", "relative"] == pytest.approx(np.cos(angle) - 1, abs=0.02)
    assert found["random"].loc["I-T", "verdict"] == "supported"
    sine = np.sqrt(1 - (t * v).sum(1) ** 2).mean() * np.sin(angle)
    assert found["towards"].loc["I-T beyond movement", "change"] == pytest.approx(sine, abs=1e-5)
    assert found["away"].loc["I-T beyond movement", "change"] == pytest.approx(-sine, abs=1e-5)
    assert found["towards"].loc["I-T beyond movement", "verdict"] == "higher"


def test_a_step_towards_all_images_is_no_step_towards_the_own_one() -> None:
    rng = np.random.default_rng(1)
    n, d = 60, 16
    hub = np.eye(d)[0]
    v = unit(rng.normal(size=(n, d)) * 0.5 + hub)  # a cone round the hub
    t = unit(v - 0.9 * hub + 0.1 * rng.normal(size=(n, d)))
    after = unit(t + hub)
    ids = [f"t{i}" for i in range(n)]
    own = xg.Relevance.from_labels({i: int(i[1:]) for i in ids}, {str(i): i for i in range(n)})
    sets = [xg.Features(x, ids, "text", "text") for x in (t, after)]
    table = perturbation(*sets, xg.Features(v, map(str, range(n)), "image", "image"), own).set_index("quantity")
    assert table.loc["I-T", "verdict"] == "contradicted"
    assert table.loc["I-T over others", "verdict"] == "lower"


def test_folds_rank_among_fewer_images_and_leave_the_rest_out() -> None:
    before, after, images, own = world(n=50)
    whole = perturbation(before, after, images, own).set_index("quantity")
    folded = perturbation(before, after, images, own, fold=20, seed=3).set_index("quantity")
    assert (folded.loc["mrr", "n"], folded.loc["I-T", "n"]) == (40, 50)
    assert folded.loc["mrr", "before"] > whole.loc["mrr", "before"]


def test_equal_scores_do_not_count_as_found() -> None:
    """Where all texts become one, the best rank among ties would make every image found."""
    before, _, images, own = world(n=9)
    same = xg.Features(np.tile(np.eye(8)[:1], (9, 1)), before.ids, "text", "text")
    alike = xg.Features(np.tile(np.eye(8)[:1], (9, 1)), images.ids, "image", "image")
    table = perturbation(before, same, alike, own).set_index("quantity")
    assert table.loc["mrr", "after"] == pytest.approx(sum(1 / k for k in range(1, 10)) / 9)
    assert perturbation(before, same, alike, own, ties="best").set_index("quantity").loc["mrr", "after"] == 1


def test_mistakes_are_one_sentence() -> None:
    before, after, images, own = world()
    one = [x.select(x.ids[:1]) for x in (before, after, images)]
    with pytest.raises(xg.XgapError, match="has no other images"):
        perturbation(*one, own)
    with pytest.raises(xg.XgapError, match="other ids"):
        perturbation(before, after.select(after.ids[:3]), images, own)
    with pytest.raises(xg.XgapError, match="has no image that is relevant"):
        perturbation(before, after, images.select(images.ids[:3]), own)
