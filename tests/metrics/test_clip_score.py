"""CLIP-S and RefCLIP-S: their definitions, the values of their cards, and where a score is 0."""

import doctest
import sys

import pytest
import torch
from torch.nn.functional import normalize

from xgap_analysis.metrics.clip_score import clip_score, ref_clip_score


def test_known_answers() -> None:
    image = torch.tensor([[1.0, 0.0]])
    half, away = torch.tensor([[0.5, 0.75**0.5]]), torch.tensor([[-0.1, 0.99**0.5]])
    assert clip_score(image, half).item() == pytest.approx(1.25)
    assert clip_score(image, away).item() == 0
    assert ref_clip_score(image, half, image[:, None]).item() == pytest.approx(1.25)  # both are 1.25
    assert ref_clip_score(image, away, away[:, None]).item() == 0  # where the formula divides by 0
    assert ref_clip_score(image, image, torch.tensor([[[0.0, 1.0]]])).item() == 0
    nothing = torch.zeros(1, 1, dtype=torch.bool)
    assert ref_clip_score(image, image, image[:, None], nothing).item() == 0


def test_both_equal_their_formulas() -> None:
    generator = torch.Generator().manual_seed(0)
    images, texts = (normalize(torch.randn(6, 3, generator=generator).double(), dim=1) for _ in range(2))
    x, y = images.numpy(), texts.numpy()
    references = normalize(torch.randn(6, 4, 3, generator=generator).double(), dim=2)
    mask = torch.rand(6, 4, generator=generator) < 0.6
    found = ref_clip_score(images, texts, references, mask, weight=2.0)
    plain = clip_score(images, texts, weight=2.0)
    above = 0
    for i in range(6):
        s = 2 * max(0.0, float(x[i] @ y[i]))
        r = max([2 * max(0.0, float(y[i] @ references.numpy()[i, j])) for j in range(4) if mask[i, j]], default=0.0)
        expected = 2 / (1 / s + 1 / r) if s and r else 0.0
        above += expected > 0
        assert plain[i].item() == pytest.approx(s)
        assert found[i].item() == pytest.approx(expected)
    assert 0 < above < 6


def test_examples_run() -> None:
    assert doctest.testmod(sys.modules[clip_score.__module__]).failed == 0
