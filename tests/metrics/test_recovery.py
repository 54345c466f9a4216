"""Recovered similarities against those that were hidden."""

import numpy as np
import pytest
import torch

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.metrics import recovered, recovered_without_anchors


def unit(n, d, seed):
    return xg.as_features(np.random.default_rng(seed).normal(size=(n, d))).vectors.double()


@pytest.mark.parametrize("texts", [8, 30])
def test_scores_with_as_many_texts_as_dimensions_leave_nothing_open(texts):
    x, y = unit(20, 8, 0), unit(texts, 8, 1)
    found = recovered(x @ y.T, y)
    assert (found - x @ x.T).abs().max() < 1e-4
    solved = np.linalg.solve(y[:8].numpy(), (x @ y[:8].T).numpy().T).T  # the formula of the source, of d texts
    np.testing.assert_allclose(recovered(x @ y[:8].T, y[:8]), solved @ solved.T, atol=1e-4)


def test_fewer_texts_leave_something_open():
    x, y = unit(20, 8, 0), unit(7, 8, 1)
    with pytest.raises(XgapError, match="span 7 of 8 dimensions"):
        recovered(x @ y.T, y)
    beyond = torch.linalg.svd(y).Vh[-1]  # items that are moved along it have the same scores
    moved = x + 0.3 * beyond
    assert torch.allclose(moved @ y.T, x @ y.T)
    assert (moved @ moved.T - x @ x.T).abs().max() > 0.05


@pytest.mark.parametrize(("n", "d"), [(42, 3), (60, 5), (15, 5)])
def test_unit_lengths_are_enough_without_the_texts(n, d):
    x, y = unit(n, d, 2), unit(d + 4, d, 3)
    found = recovered_without_anchors(x @ y.T, d)
    tolerance = 1e-3 if n == d * (d + 1) // 2 else 1e-5
    assert (found - x @ x.T).abs().max() < tolerance
    turn = torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(0)).double()).Q
    again = recovered_without_anchors((x @ turn) @ (y @ turn).T, d)
    assert (again - found).abs().max() < 1e-5  # only the scores are known


@pytest.mark.parametrize("rounded", [torch.float16, torch.float32, torch.float64])
def test_items_of_two_possible_geometries_are_refused_whatever_the_rounding(rounded):
    x, y = unit(60, 3, 4), unit(20, 3, 5)
    even = torch.cat([torch.full((60, 1), 0.6), 0.8 * x[:, :2] / x[:, :2].norm(dim=1, keepdim=True)], dim=1)
    if rounded != torch.float16:  # all of length 1 on the first axis alone as well, with 1 / 0.36 for its square
        with pytest.raises(XgapError, match="leave their similarities undetermined"):
            recovered_without_anchors((even @ y.T).to(rounded), 3)
    found = recovered_without_anchors((x @ y.T).to(rounded), 3)
    assert (found - x @ x.T).abs().max() < (1e-2 if rounded == torch.float16 else 1e-5)


@pytest.mark.parametrize("n", [6, 60])
def test_too_few_dimensions_are_refused(n):
    x, y = unit(n, 5, 6), unit(20, 5, 7)
    with pytest.raises(XgapError, match="need more than 3 dimensions"):
        recovered_without_anchors(x @ y.T, 3)


def test_mistakes_are_one_sentence():
    x, y = unit(20, 5, 0), unit(9, 5, 1)
    with pytest.raises(XgapError, match="with 9 texts, and 8 texts are given"):
        recovered(x @ y.T, y[:8])
    with pytest.raises(XgapError, match=r"14 items are fewer equations than the 15 unknowns"):
        recovered_without_anchors(x[:14] @ y.T, 5)
    with pytest.raises(XgapError, match="rank 4, which is below the 5"):
        recovered_without_anchors(x @ y[:4].T, 5)
    with pytest.raises(XgapError, match="leave their similarities undetermined"):
        recovered_without_anchors(x[:8].repeat(3, 1) @ y.T, 5)
