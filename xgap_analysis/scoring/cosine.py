"""Cosine similarity: the product of unit rows, exact to the rounding of float32."""

from jaxtyping import Float
from torch import Tensor

GALLERY_CHUNK = 4096  # gallery rows in double precision at a time: what a processor's cache holds


def products(
    rows: Float[Tensor, "b d"], gallery: Float[Tensor, "m d"], out: Float[Tensor, "b m"]
) -> Float[Tensor, "b m"]:
    """The products of two sides' unit rows in double precision, rounded to the float32 of `out`."""
    rows = rows.double()
    for first in range(0, len(gallery), GALLERY_CHUNK):
        chunk = gallery[first : first + GALLERY_CHUNK].to(rows.device).double()
        out[:, first : first + len(chunk)] = rows @ chunk.T
    return out
