"""Cosine similarity: the product of unit rows, in double precision and rounded to float32."""

import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.precision import exact
from xgap_analysis.scoring.scorer import Scorer, register_scorer

GALLERY_CHUNK = 4096  # gallery rows in double precision at a time: what a processor's cache holds


@register_scorer("cosine")
def cosine(query: Float[Tensor, "b d"], gallery: Float[Tensor, "m d"]) -> Float[Tensor, "b m"]:
    """The cosine of unit rows, in [-1, 1].

    Equal similarities stay equal whatever the block's size, the device and the order of the sum: a float32 product
    separates about a third of the ties of quantised vectors, and changes its last bits with the block.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> xg.score(np.array([[1.0, 0.0]]), np.array([[2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), scorer="cosine").tolist()
        [[1.0, 0.0, -1.0]]
    """
    return products(query, gallery, out=torch.empty(len(query), len(gallery), device=query.device))


def products(
    rows: Float[Tensor, "b d"], gallery: Float[Tensor, "m d"], out: Float[Tensor, "b m"]
) -> Float[Tensor, "b m"]:
    """The products of unit rows in double precision, rounded to the float32 of `out`."""
    rows = exact(rows)
    for first in range(0, len(gallery), GALLERY_CHUNK):
        chunk = exact(gallery[first : first + GALLERY_CHUNK].to(rows.device))
        out[:, first : first + len(chunk)] = rows @ chunk.T
    return out


COSINE = Scorer("cosine", cosine)
