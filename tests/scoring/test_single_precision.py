"""Products in single precision against exact ones: the bound holds, and is no larger than its formula."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xgap_analysis.scoring.cosine import products
from xgap_analysis.scoring.single_precision import single_error, single_products


def unit(vectors):
    return torch.nn.functional.normalize(torch.as_tensor(vectors, dtype=torch.float64), dim=1).float()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 31, 128, 700]), st.sampled_from([1, 16, 64, 1000]))
def test_no_product_errs_by_more_than_the_bound(seed, d, width):
    rng = np.random.default_rng(seed)
    scale = [lambda: 1, lambda: np.exp(rng.normal(size=d) * 4), lambda: np.where(np.arange(d) % 2, 1, -1)][seed % 3]
    x, y = (unit(np.abs(rng.normal(size=(9, d))) * scale() + 1e-30) for _ in range(2))  # sums that cancel, or never
    found = single_products(x, y, torch.empty(9, 9), width=width).double()
    true = products(x, y, torch.empty(9, 9)).double()
    assert float((found - true).abs().max()) <= single_error(d, width)


def test_the_bound_covers_the_exact_value_and_the_worst_order():
    """One after the other in float32, which is the worst order, against fractions."""
    rng = np.random.default_rng(0)
    x, y = (unit(np.abs(rng.normal(size=(1, 300))))[0].numpy() for _ in range(2))
    total = np.float32(0)
    for a, b in zip(x, y, strict=True):
        total = np.float32(total + np.float32(a * b))
    exact = sum((Fraction(float(a)) * Fraction(float(b)) for a, b in zip(x, y, strict=True)), Fraction(0))
    assert 0 < abs(float(Fraction(float(total)) - exact)) <= single_error(300, 300)


@pytest.mark.parametrize(("d", "width", "terms"), [(512, 512, 512), (512, 64, 71), (512, 128, 131), (100, 512, 100)])
def test_formula(d, width, terms):
    u = 2.0**-24
    gamma = terms * u / (1 - terms * u)
    assert single_error(d, width) == pytest.approx((gamma + u) * (1 + 1e-6 + 2 * u) ** 2)
    assert math.isclose(single_error(d, width), (terms + 1) * u, rel_tol=1e-4)


def test_slices_are_the_product():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, 100, generator=generator) for n in (5, 2500))
    for width in (1, 33, 100, 512):
        assert torch.allclose(single_products(x, y, torch.empty(5, 2500), width=width), x @ y.T, atol=1e-4)
