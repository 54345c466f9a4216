"""Pairs in the wrong order, counted in bounded memory, against comparing each with each."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xgap_analysis.metrics import half_wins as module
from xgap_analysis.metrics import misalignment, pooled_misalignment
from xgap_analysis.metrics.half_wins import PairBlock, far_wins, half_wins


@pytest.mark.parametrize("places", [1, 3, 500])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_table_counts_what_sorting_counts(places, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(12, 9)).astype(np.float32) * 10.0 ** rng.integers(-30, 1, (12, 9))
    values = torch.from_numpy(
        np.where(rng.random((12, 9)) < 0.5, rng.choice([0.5, 0.0, -0.0, -0.25, 1e-40], (12, 9)), values)
    )
    same, out = (torch.from_numpy(rng.random((12, 9)) < share) for share in (0.4, 0.1))

    def blocks():
        for rows in (slice(0, 5), slice(5, 12)):
            cells = (kind[rows].nonzero(as_tuple=True) for kind in (same, out))
            yield PairBlock.of(values[rows].float(), *cells)

    low, high = values[same & ~out].float(), values[~same & ~out].float()
    expected = sum(2 * int(a < b) + int(a == b) for a in low for b in high)
    assert half_wins(blocks, 0) == (expected, len(low), len(high))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PLACES", places)
        assert half_wins(blocks, module.HELD + 1) == (expected, len(low), len(high))


def test_pairs_of_millions_of_items_are_counted_in_full():
    below, other = np.array([1_600_000_000, 7, 3]), np.array([1_600_000_000_000, 5, 10])
    wins = far_wins(below, other, np.array([True, False, True]))
    assert wins == 5_120_000_000_000_000_000_060  # beyond the 64 bits of both columns


@pytest.mark.parametrize("exclude_self", [True, False])
def test_pooled_misalignment_does_not_depend_on_the_way(exclude_self, monkeypatch):
    x = np.random.default_rng(0).normal(size=(90, 5)).round(1) + 0.01
    labels = [i % 3 for i in range(90)]
    held = pooled_misalignment(x, x, labels, exclude_self=exclude_self, block=7)
    monkeypatch.setattr(module, "HELD", 0)
    monkeypatch.setattr(module, "PLACES", 40)
    assert pooled_misalignment(x, x, labels, exclude_self=exclude_self, block=11) == held
    assert abs(held - misalignment(x, x, labels, exclude_self=exclude_self)["misalignment"].mean()) < 0.05
