"""The contrast of pairs against numpy; a scale of 1 changes no bit of value or gradient."""

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from xgap_analysis.core.contrast import both_ways, one_way


def by_numpy(scores: np.ndarray, scale: float) -> float:
    logits = scale * scores
    return float(np.mean([np.log(np.exp(row).sum()) - row[i] for i, row in enumerate(logits)]))


def test_it_is_the_mean_of_both_cross_entropies() -> None:
    scores = torch.randn(7, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for scale in (1.0, 14.3):
        rows, columns = by_numpy(scores.numpy(), scale), by_numpy(scores.numpy().T, scale)
        assert abs(float(one_way(scores, scale)) - rows) < 1e-12
        assert abs(float(both_ways(scores, torch.tensor(scale))) - (rows + columns) / 2) < 1e-6
        assert rows != columns


def test_without_a_scale_nothing_is_changed_to_the_bit() -> None:
    scores = torch.randn(9, 9, generator=torch.Generator().manual_seed(1)).requires_grad_()
    own = torch.arange(9)
    plain = (cross_entropy(scores, own) + cross_entropy(scores.T, own)) / 2
    made = both_ways(scores)
    assert torch.equal(plain, made)
    assert torch.equal(*(torch.autograd.grad(value, scores)[0] for value in (plain, made)))
