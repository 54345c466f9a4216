"""The objectives equal their definitions, written as plain loops, and their gradients equal finite differences."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from xgap_analysis.training.objectives import (
    alignment_loss,
    arc_margin_loss,
    clip_loss,
    cross_modal_consistency,
    in_modal_consistency,
    one_to_many_loss,
    siglip_loss,
    simclr_loss,
    uniformity_loss,
)
from xgap_analysis.training.temperature import temperature_at


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


SIZES = (st.integers(2, 5), st.integers(2, 5), st.integers(0, 1000))


@settings(max_examples=25)
@given(*SIZES, st.floats(0.1, 20), st.floats(-10, 10))
def test_siglip_loss_treats_every_pair_alone(n: int, d: int, seed: int, scale: float, bias: float) -> None:
    images, texts = unit(n, d, seed), unit(n, d, seed + 1)
    total = 0.0
    for i in range(n):
        for j in range(n):
            logit = scale * cosine(images[i], texts[j]) + bias
            total += math.log1p(math.exp(-logit if i == j else logit))
    assert siglip_loss(images, texts, scale, bias).item() == pytest.approx(total / n, abs=1e-9)


@settings(max_examples=25)
@given(*SIZES, st.integers(1, 4), st.floats(0.1, 20))
def test_one_to_many_loss_ranks_all_captions_of_an_image(n: int, d: int, seed: int, k: int, scale: float) -> None:
    images, texts = unit(n, d, seed), unit(n * k, d, seed + 1).reshape(n, k, d)
    everything = [texts[i, j] for i in range(n) for j in range(k)]
    total = 0.0
    for i in range(n):
        weights = [math.exp(scale * cosine(images[i], text)) for text in everything]
        for j in range(k):
            own = math.exp(scale * cosine(images[i], texts[i, j]))
            others = [math.exp(scale * cosine(images[m], texts[i, j])) for m in range(n)]
            total -= (math.log(own / sum(weights)) + math.log(own / sum(others))) / 2
    assert one_to_many_loss(images, texts, scale).item() == pytest.approx(total / (n * k), abs=1e-9)


@settings(max_examples=25)
@given(*SIZES, st.floats(0.1, 50))
def test_one_to_many_loss_of_one_caption_is_clips(n: int, d: int, seed: int, scale: float) -> None:
    images, texts = unit(n, d, seed), unit(n, d, seed + 1)
    expected = pytest.approx(clip_loss(images, texts, scale).item(), abs=1e-12)
    assert one_to_many_loss(images, texts[:, None], scale).item() == expected


@settings(max_examples=25)
@given(*SIZES)
def test_the_consistencies_compare_all_pairs_of_pairs(n: int, d: int, seed: int) -> None:
    images, texts = unit(n, d, seed), unit(n, d, seed + 1)
    inside = across = 0.0
    for j in range(n):
        for k in range(n):
            inside += (cosine(images[j], images[k]) - cosine(texts[j], texts[k])) ** 2
            across += (cosine(images[j], texts[k]) - cosine(images[k], texts[j])) ** 2
    assert in_modal_consistency(images, texts).item() == pytest.approx(inside / n, abs=1e-12)
    assert cross_modal_consistency(images, texts).item() == pytest.approx(across / n, abs=1e-12)
    assert in_modal_consistency(images, images).item() == pytest.approx(0, abs=1e-12)
    assert cross_modal_consistency(images, images).item() == pytest.approx(0, abs=1e-12)


@settings(max_examples=25)
@given(*SIZES, st.floats(0.5, 4))
def test_alignment_and_uniformity_are_those_of_their_definitions(n: int, d: int, seed: int, t: float) -> None:
    x, y = unit(n, d, seed), unit(n, d, seed + 1)
    squares = [sum((float(a) - float(b)) ** 2 for a, b in zip(u, v, strict=True)) for u, v in zip(x, y, strict=True)]
    assert alignment_loss(x, y).item() == pytest.approx(sum(squares) / n, abs=1e-12)
    kernels = [math.exp(-t * (2 - 2 * cosine(x[i], x[j]))) for i in range(n) for j in range(i)]
    assert uniformity_loss(x, t).item() == pytest.approx(math.log(sum(kernels) / len(kernels)), abs=1e-9)


@settings(max_examples=25)
@given(*SIZES, st.floats(1, 30), st.floats(0, 1))
def test_arc_margin_loss_adds_the_margin_to_the_own_angle(
    n: int, d: int, seed: int, scale: float, margin: float
) -> None:
    vectors, centres = unit(n, d, seed), 3 * unit(4, d, seed + 1)
    labels = torch.arange(n) % 4
    total = 0.0
    for i in range(n):
        logits = []
        for c in range(4):
            cos = cosine(vectors[i], centres[c]) / 3
            angle = math.acos(max(-1, min(1, cos)))
            if c == int(labels[i]):
                far = angle + margin > math.pi
                cos = cos - margin * math.sin(margin) if far else math.cos(angle + margin)
            logits.append(scale * cos)
        total -= logits[int(labels[i])] - math.log(sum(math.exp(x) for x in logits))
    assert arc_margin_loss(vectors, centres, labels, scale, margin).item() == pytest.approx(total / n, abs=1e-4)


def test_the_temperature_goes_from_start_to_end() -> None:
    course = [temperature_at(step, 11, 0.01, 1.0) for step in range(11)]
    assert course[0] == pytest.approx(0.01)
    assert course[5] == pytest.approx(0.505)
    assert course[10] == pytest.approx(1.0)
    assert course == sorted(course)
    assert temperature_at(0, 1, 0.01, 1.0) == 1.0


def test_the_gradients_of_all_others_equal_finite_differences() -> None:
    x, y = unit(4, 3, 0).requires_grad_(), unit(4, 3, 1).requires_grad_()
    many = unit(8, 3, 2).reshape(4, 2, 3).requires_grad_()
    scale, bias = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (5.0, -2.0))
    labels = torch.tensor([0, 1, 2, 0])
    for loss, given_ in (
        (siglip_loss, (x, y, scale, bias)),
        (one_to_many_loss, (x, many, scale)),
        (in_modal_consistency, (x, y)),
        (cross_modal_consistency, (x, y)),
        (alignment_loss, (x, y)),
        (uniformity_loss, (x,)),
        (lambda a, b: arc_margin_loss(a, b, labels, 8.0), (x, y)),
    ):
        assert torch.autograd.gradcheck(loss, given_)
