"""Flips against a plain loop, and their known answers."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import xgap_analysis as xg
from xgap_analysis import XgapError
from xgap_analysis.corrections import Calibration, correction
from xgap_analysis.metrics import flips


def unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def vectors(seed: int, n: int, d: int = 8) -> NDArray[np.float64]:
    return unit(np.random.default_rng(seed).normal(size=(n, d)))


@pytest.mark.parametrize("by", ["int8", "binary"])
def test_rounding_is_that_of_a_plain_loop(by: str) -> None:
    x, y = vectors(0, 40), vectors(1, 60)
    expected = []
    for q in x:
        rounded = []
        for v in (q, *y):
            v = v.astype(np.float32).astype(np.float64)
            step = max(abs(v)) / 127
            rounded.append(
                [round(c / step) * step for c in v] if by == "int8" else [1.0 if c >= 0 else -1.0 for c in v]
            )
        made = unit(np.array(rounded))
        expected.append(float(np.argmax(made[1:] @ made[0]) != np.argmax(y @ q)))
    found = flips(x, y, by=by, draws=3)
    assert found.tolist() == expected
    assert by == "int8" or 0 < found.mean() < 1  # a vector keeps 8 signs


def test_noise_flips_more_the_longer_it_is_and_never_without_length() -> None:
    x, y = vectors(0, 60), vectors(1, 60)
    means = [flips(x, y, sigma=sigma, draws=4).mean() for sigma in (0.0, 0.02, 0.2, 5.0)]
    assert means[0] == 0
    assert means[0] < means[1] < means[2] < means[3]
    assert means[3] > 0.9  # noise alone: 59 of 60
    assert (flips(x, y, sigma=0.2) == flips(x, y, sigma=0.2)).all()
    assert not (flips(x, y, sigma=0.2) == flips(x, y, sigma=0.2, seed=1)).all()


def test_the_query_itself_is_not_its_first_item() -> None:
    x = xg.Features(vectors(0, 30), [f"{i}" for i in range(30)], "image", "image")
    assert flips(x, x, sigma=0.3, exclude_self=False).mean() < 0.2  # each is nearest to itself
    assert flips(x, x, sigma=0.3).mean() > 0.2
    part = x.select(x.ids[5:9])
    np.testing.assert_array_equal(flips(part, x, by="binary"), flips(x, x, by="binary").loc[list(part.ids)])


def test_a_corrected_score_is_what_ranks() -> None:
    x, y = vectors(0, 20), vectors(1, 20)
    fixed = flips(x, y, sigma=1.0, normalise=lambda scores: torch.arange(20.0).expand_as(scores))
    assert fixed.mean() == 0  # the last item is always first
    assert fixed.index.name == "query"


def test_closing_the_orthogonal_gap_leaves_the_ranking_and_lowers_flips() -> None:
    """Both claims of the orthogonal shift: what is taken away lengthens the rest of a unit vector against noise."""
    rng = np.random.default_rng(0)
    content = np.repeat(rng.normal(size=(20, 12)), 3, axis=0) + 0.6 * rng.normal(size=(60, 12))
    texts = np.hstack([content, np.zeros((60, 4))])
    images = np.hstack([content + 0.3 * rng.normal(size=(60, 12)), np.full((60, 4), 3.0)])
    ids = [f"{i}" for i in range(60)]
    x, y = xg.Features(images, ids, "image", "image"), xg.Features(texts, ids, "text", "text")
    pair = correction("orthogonal-shift").fit(Calibration({"image": x, "text": y}, "train")).apply(x, y)
    assert (xg.score(x, y).argmax(1) == xg.score(pair.query, pair.gallery).argmax(1)).all()
    for how in ({"sigma": 0.2}, {"by": "int8"}):
        assert flips(pair.query, pair.gallery, **how).mean() <= flips(x, y, **how).mean()
    assert flips(pair.query, pair.gallery, sigma=0.2).mean() < flips(x, y, sigma=0.2).mean() - 0.05
    relevance = xg.Relevance.from_labels(ids, ids)
    named = xg.metrics.scores("flips(sigma=0.2)", pair, relevance)
    np.testing.assert_array_equal(named.iloc[:, 0], flips(pair.query, pair.gallery, sigma=0.2))


def test_mistakes_are_one_sentence() -> None:
    x = vectors(0, 3)
    with pytest.raises(XgapError, match="unknown change 'int4'"):
        flips(x, x, by="int4")
    with pytest.raises(XgapError, match="1 draw or more"):
        flips(x, x, draws=0)
    with pytest.raises(XgapError, match="gallery of 2 items"):
        flips(x, x[:1])
