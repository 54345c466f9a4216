"""The objectives equal their definitions, written as plain loops, and their gradients equal finite differences."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from xgap_analysis.training.objectives import clip_loss, simclr_loss


def unit(n: int, d: int, seed: int) -> Tensor:
    return normalize(torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=1)


def cosine(a: Tensor, b: Tensor) -> float:
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def naive_clip(images: Tensor, texts: Tensor, scale: float) -> float:
    total, n = 0.0, len(images)
    for i in range(n):
        to_texts = [math.exp(scale * cosine(images[i], texts[j])) for j in range(n)]
        to_images = [math.exp(scale * cosine(images[j], texts[i])) for j in range(n)]
        total -= math.log(to_texts[i] / sum(to_texts)) / 2 + math.log(to_images[i] / sum(to_images)) / 2
    return total / n


def naive_simclr(first: Tensor, second: Tensor, temperature: float) -> float:
    n = len(first)
    views = [*first, *second]
    total = 0.0
    for i in range(2 * n):
        partner = i + n if i < n else i - n
        others = {j: math.exp(cosine(views[i], views[j]) / temperature) for j in range(2 * n) if j != i}
        total -= math.log(others[partner] / sum(others.values()))
    return total / (2 * n)


@settings(max_examples=25)
@given(st.integers(1, 6), st.integers(2, 5), st.integers(0, 1000), st.floats(0.1, 50))
def test_clip_loss_is_the_mean_of_both_cross_entropies(n: int, d: int, seed: int, scale: float) -> None:
    images, texts = unit(n, d, seed), unit(n, d, seed + 1)
    expected = pytest.approx(naive_clip(images, texts, scale), abs=1e-9)
    assert clip_loss(images, texts, scale).item() == expected
    assert clip_loss(images, texts, torch.tensor(scale, dtype=torch.float64)).item() == expected
    assert clip_loss(texts, images, scale).item() == expected


@settings(max_examples=25)
@given(st.integers(1, 6), st.integers(2, 5), st.integers(0, 1000), st.floats(0.05, 2))
def test_simclr_loss_is_the_cross_entropy_to_all_other_views(n: int, d: int, seed: int, temperature: float) -> None:
    first, second = unit(n, d, seed), unit(n, d, seed + 1)
    expected = pytest.approx(naive_simclr(first, second, temperature), abs=1e-9)
    assert simclr_loss(first, second, temperature).item() == expected
    assert simclr_loss(second, first, temperature).item() == expected


def test_the_default_temperature_of_simclr_is_a_tenth() -> None:
    first, second = unit(4, 3, 0), unit(4, 3, 1)
    assert simclr_loss(first, second).item() == pytest.approx(naive_simclr(first, second, 0.1))


def test_the_gradients_of_clip_loss_equal_finite_differences() -> None:
    images, texts = unit(4, 3, 0).requires_grad_(), unit(4, 3, 1).requires_grad_()
    scale = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(clip_loss, (images, texts, scale))


def test_the_gradients_of_simclr_loss_equal_finite_differences() -> None:
    first, second = unit(4, 3, 0).requires_grad_(), unit(4, 3, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: simclr_loss(a, b, 0.2), (first, second))


def test_matched_pairs_are_better_than_mismatched_ones_and_a_large_scale_stays_finite() -> None:
    images = unit(6, 8, 0).float()
    assert clip_loss(images, images, 100.0) < clip_loss(images, images.roll(1, 0), 100.0)
    assert simclr_loss(images, images) < simclr_loss(images, images.roll(1, 0))
    assert torch.isfinite(simclr_loss(images, -images, 0.005))
    assert torch.isfinite(clip_loss(images, -images, 1000.0))
