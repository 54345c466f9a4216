"""Hard negatives by modality: a list by hand, and a naive loop over random rankings."""

import pytest
import torch

from xgap_analysis.core.errors import XgapError
from xgap_analysis.metrics.wrong_modality import modality_negatives


def test_a_list_of_five_by_hand() -> None:
    scores = torch.tensor([[0.5, 0.9, 0.4, 0.8, 0.1]])  # ranked 1, 3, 0, 2, 4
    relevant = torch.tensor([[True, False, False, False, False]])
    wrong = torch.tensor([[False, True, True, False, False]])
    found = modality_negatives(scores, relevant, wrong, top=5, tail=3)
    assert found.wrong == ((1,),)
    assert found.right == ((4,),)
    assert found.rate == 1
    assert modality_negatives(scores, relevant, wrong, top=5, tail=0).right == ((3, 4),)
    assert modality_negatives(scores, relevant, torch.zeros(1, 5, dtype=torch.bool), top=5, tail=3).rate == 0


def test_a_naive_loop_finds_the_same() -> None:
    generator = torch.Generator().manual_seed(1)
    scores = (4 * torch.rand(6, 15, generator=generator)).round() / 4  # with ties
    relevant, wrong = (torch.rand(6, 15, generator=generator) < 0.2, torch.rand(6, 15, generator=generator) < 0.5)
    relevant[:, 7] = True
    found = modality_negatives(scores, relevant, wrong, top=9, tail=4)
    for q in range(6):
        order = sorted(range(15), key=lambda i: (-float(scores[q, i]), i))[:9]
        first = next((place for place, i in enumerate(order) if relevant[q, i]), 9)
        assert found.wrong[q] == tuple(i for i in order[:first] if wrong[q, i])
        assert found.right[q] == tuple(i for i in order[4:] if not wrong[q, i] and not relevant[q, i])
    assert 0 < found.rate < 1


def test_mistakes_are_one_sentence() -> None:
    scores, none = torch.rand(2, 3), torch.zeros(2, 3, dtype=torch.bool)
    with pytest.raises(XgapError, match="query 0 has no relevant item"):
        modality_negatives(scores, none, none)
    with pytest.raises(XgapError, match="places are 0 <= tail <= top"):
        modality_negatives(scores, ~none, none, top=3, tail=4)
