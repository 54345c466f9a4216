"""Scores of a query block against a whole gallery, within a memory budget, and the order they rank it in."""

from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.relevance import Relevance
from xgap_analysis.scoring.cosine import products

MOST_QUERIES = 256  # of a block: more gain no speed
CELL = 64  # bytes of the budget that a similarity takes while it is read: masks, grades, copies
COMPUTED = 16  # the same while it waits to be read: more are computed at a time, since each time reads the gallery
BUDGET = 2**29  # bytes of a block

ScoreNormaliser = Callable[[Tensor], Tensor]


@runtime_checkable
class HasRelevance(Protocol):
    """Anything that knows which items answer which, such as a `Dataset`."""

    def relevance(self) -> Relevance:
        """Its (default) relevance."""
        ...


def similarities(
    query: Features, gallery: Features, *, block: int | None = None
) -> Iterator[tuple[int, int, Float[Tensor, "b m"]]]:
    """Cosine similarities `[b, m]` of the queries `start` to `stop` to the whole gallery, one block at a time.

    They are float32, rounded from a double-precision product: similarities that are equal then stay equal whatever
    the block's size, the device and the order of the sum. A float32 product parts about a third of the ties of
    quantised vectors, and changes its last bits with the block.

    Raises:
        XgapError: an empty side, different dimensions, or a block below 1.
    """
    check_sides(query, gallery, block)
    computed = block_of(len(gallery), cell=COMPUTED) if block is None else block
    given = block_of(len(gallery)) if block is None else block
    for first in range(0, len(query), computed):
        rows = query.vectors[first : first + computed]
        space = torch.empty(len(rows), len(gallery), dtype=torch.float32, device=rows.device)
        scores = products(rows, gallery.vectors, out=space)
        for part in scores.split(given):
            yield first, first + len(part), part
            first += len(part)
        del space, scores, part  # before the next are computed


def check_sides(query: Features, gallery: Features, block: int | None) -> None:
    """Raises an `XgapError` where there are no similarities to compute, or not in such blocks."""
    if not len(query) or not len(gallery):
        raise XgapError(f"the {'query' if not len(query) else 'gallery'} side is empty")
    if query.dim != gallery.dim:
        raise XgapError(f"the query has {query.dim} dimensions and the gallery {gallery.dim}; they must be the same")
    if block is not None and block < 1:
        raise XgapError(f"block must be at least 1, not {block}")


def block_of(columns: int, cell: int = CELL, most: int = MOST_QUERIES) -> int:
    """The rows of a block that its `cell` bytes a number keep within half a GiB, and a gallery chunk of a block beside.

    A gallery of 1,280,000 leaves 6 rows a block; a gallery of more than 8 million, one row, which then takes more.
    """
    return max(1, min(most, BUDGET // (cell * max(1, columns))))


def descending(scores: Float[Tensor, "b m"]) -> Int[Tensor, "b m"]:
    """The columns of each row by descending score; equal scores keep the columns' order. No score may be NaN."""
    if scores.device.type != "cpu":
        return scores.sort(dim=1, descending=True, stable=True).indices
    # One 64-bit key a cell, the score's bits (made to sort as integers) above its column: no two keys are equal, so
    # numpy's vectorised sort, which is not stable, gives the stable order in a fifth of the time of torch's.
    bits = (np.float32(0) - scores.numpy()).view(np.int32)
    bits ^= (bits >> 31) & 0x7FFFFFFF
    keys = bits.astype(np.int64)
    keys <<= 32
    keys |= np.arange(scores.shape[1])
    keys.sort(axis=1)
    keys &= 0xFFFFFFFF
    return torch.from_numpy(keys)


def blocks(
    query: Features, gallery: Features, relevance: Relevance | HasRelevance, *, exclude_self: bool, block: int | None
) -> Iterator[tuple[Float[Tensor, "b m"], Float[Tensor, "b m"], Bool[Tensor, "b m"]]]:
    """Similarities, grades, and what is left out of the ranking, one block of queries at a time."""
    if not isinstance(relevance, Relevance):
        relevance = relevance.relevance()
    bound = relevance.bind(query.ids, gallery.ids)
    exclude_self = exclude_self and query.has_items_of(gallery)
    for start, stop, scores in similarities(query, gallery, block=block):
        grades = bound.grades(start, stop).to(scores.device)
        yield scores, grades, bound.ignored(start, stop, exclude_self).to(scores.device)
