"""Cosines in single precision, and a bound, known beforehand, of how far from the exact ones they may lie.

Bound: a float32 sum of k products of two vectors, in whatever order and with or without fused operations, errs by at
most `gamma_k * sum |x_i y_i|`, where `gamma_k = k u / (1 - k u)` and `u = 2^-24` (Higham, Accuracy and Stability of
Numerical Algorithms, 2002, section 3.1), and `sum |x_i y_i| <= ||x|| ||y||`, 1 for unit rows. A product that is made of
c slices of k dimensions, each computed by itself and then added, errs by at most `gamma_(k + c - 1)`: narrow slices
give a narrow bound, and cost time.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.features import UNIT_TOLERANCE

CHUNK = 1024  # gallery rows of one product: what stays in the cache beside its queries
UNIT_ROUNDOFF = 2.0**-24
LENGTHS = (1 + UNIT_TOLERANCE + 2 * UNIT_ROUNDOFF) ** 2  # the product of two rows' lengths is no larger


def single_products(
    rows: Float[Tensor, "b d"], gallery: Float[Tensor, "m d"], out: Float[Tensor, "b m"], *, width: int
) -> Float[Tensor, "b m"]:
    """The products of unit rows in float32, as sums over slices of `width` dimensions; see `single_error`."""
    some = rows.new_empty(len(rows), min(CHUNK, len(gallery)))
    slices = [slice(at, at + width) for at in range(0, rows.shape[1], width)]
    for first in range(0, len(gallery), CHUNK):
        part = gallery[first : first + CHUNK]
        total, more = out[:, first : first + len(part)], some[:, : len(part)]
        torch.mm(rows[:, slices[0]], part[:, slices[0]].T, out=total)
        for own in slices[1:]:  # added here, and not by the product, which may go on with the sum that it is given
            total += torch.mm(rows[:, own], part[:, own].T, out=more)
    return out


def single_error(dim: int, width: int) -> float:
    """How far a product of `single_products` can lie from that of double precision rounded to float32, at most.

    Formula: `(gamma_(w + c - 1) + u) (1 + 1e-6)^2`, with `w = min(width, dim)` dimensions in each of
    `c = ceil(dim / w)` slices: the bound of the module, and the rounding of the other value.

    Example:
        >>> round(single_error(512, 512) / 2**-24), round(single_error(512, 64) / 2**-24)
        (513, 72)
    """
    width = min(width, dim)
    terms = (width + math.ceil(dim / width) - 1) * UNIT_ROUNDOFF
    return (terms / (1 - terms) + UNIT_ROUNDOFF) * LENGTHS
