"""The ranks of a block of queries, counted by tensor operations on a device such as a GPU.

Each similarity is looked up among the scores of its query's relevant items, which stand in order: in single precision
with the bound of `single_error` above and below, and again in double precision where that is not the same place. The
numbers are those of the processor (`block_ranks`). Peak memory: the gallery, and `CELL` bytes a similarity of a block.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.features import Features
from xgap_analysis.core.precision import exact
from xgap_analysis.core.relevance import BoundRelevance
from xgap_analysis.metrics.block_ranks import ROUNDING, RULES, BlockRanks, Ranks
from xgap_analysis.scoring.blocks import block_of, budget_of
from xgap_analysis.scoring.cosine import products
from xgap_analysis.scoring.single_precision import single_error, single_products

CELL = 48  # bytes a similarity: itself, moved by the margin twice, two places, and the cell that is counted
QUERIES = 4096  # of a block, at most
WIDTH = 64  # of the slices of single precision
WORTH = 20  # similarities of one product in double precision take as long as computing one of them apart
PAIRS = 2**18  # computed apart at a time, in double precision
ROWS = 2**16  # of a gallery that is moved to the device, at a time


def cosine_ranks(
    query: Features, gallery: Features, bound: BoundRelevance, exclude_self: bool, block: int | None, ties: bool
) -> Iterator[Ranks]:
    """The ranks of all relevant items by cosine similarity, a block of queries at a time; see `relevant_ranks`."""
    device = query.device
    vectors = gallery.vectors if gallery.in_memory else _moved(gallery, device)
    vectors = vectors.to(device)
    step = block or block_of(len(gallery), cell=CELL, most=QUERIES, budget=budget_of(device))
    for start in range(0, len(query), step):
        rows = query.block(start, min(start + step, len(query)))
        own = BlockRanks.of(rows, len(gallery), bound, start, exclude_self, ties)
        yield _ranks(own, vectors)


def _moved(gallery: Features, device: torch.device) -> Tensor:
    """The vectors of a gallery on disk, on a device."""
    made = torch.empty(len(gallery), gallery.dim, dtype=torch.float32, device=device)
    for first in range(0, len(gallery), ROWS):
        made[first : first + ROWS] = gallery.block(first, min(first + ROWS, len(gallery)))
    return made


def ranks_of_scores(own: BlockRanks, scores: Float[Tensor, "b m"]) -> Ranks:
    """The ranks by scores that are true, which are overwritten."""
    row, column = (torch.from_numpy(part).to(scores.device) for part in (own.row, own.column))
    made = _looked_up(own, scores, scores[row, column], None, scores[:, :0], scores[:, :0])
    assert made is not None
    return made


def _ranks(own: BlockRanks, gallery: Tensor) -> Ranks:
    """Those of a block: by single precision, or by double precision where too much of it would be repeated."""
    row, column = (torch.from_numpy(part).to(gallery.device) for part in (own.row, own.column))
    scores = gallery.new_empty(len(own.query), len(gallery))
    single_products(own.query, gallery, scores, width=WIDTH)
    error = single_error(gallery.shape[1], WIDTH)
    true = _cosines(own.query, gallery, row, column)
    probes = tuple(torch.from_numpy(part).to(gallery.device) for part in own.probes)
    seen = torch.cat([scores[row, column] - true, scores[probes] - _cosines(own.query, gallery, *probes)])
    # Where the bound does not hold, the product is none of single precision (TensorFloat-32, for one).
    if float(seen.abs().max()) <= error:
        made = _looked_up(own, scores, true, error, own.query, gallery)
        if made is not None:
            return made
    return ranks_of_scores(own, products(own.query, gallery, out=scores))


def _cosines(query: Tensor, gallery: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Cosines of pairs of rows in double precision, as float32."""
    pairs = zip(row.split(PAIRS), column.split(PAIRS), strict=True)
    made = [(exact(query[a]) * exact(gallery[b])).sum(dim=1).float() for a, b in pairs]
    return torch.cat(made) if made else query.new_empty(0)


def _looked_up(
    own: BlockRanks, scores: Tensor, true: Tensor, error: float | None, query: Tensor, gallery: Tensor
) -> Ranks | None:
    """Ranks by scores that err by at most so much, which are overwritten; None where too many are too close."""
    device, b, m = scores.device, len(scores), own.columns
    row, column, out_row, out_column = (
        torch.from_numpy(part).to(device) for part in (own.row, own.column, *own.left_out)
    )
    scores[row, column] = -math.inf
    scores[out_row, out_column] = -math.inf
    size = torch.bincount(row, minlength=b)
    begin = size.cumsum(0) - size
    # In the order of the ranking, from behind: by row, then score, then column from the last on.
    order = _key(true, column).argsort()
    order = order[row[order].argsort(stable=True)]
    nth = torch.arange(len(row), device=device) - begin[row]
    wanted = scores.new_full((b, max(1, int(size.max()))), math.inf)
    wanted[row, nth] = true[order]
    margin = 0.0 if error is None else (error + ROUNDING) * (1 + ROUNDING)
    below = torch.searchsorted(wanted, scores - margin, out_int32=True)
    upto = torch.searchsorted(wanted, scores + margin, right=True, out_int32=True)
    close_row, close_column = (below != upto).nonzero(as_tuple=True)
    if error is not None and len(close_row) * WORTH > scores.numel():
        return None
    near = scores[close_row, close_column] if error is None else _cosines(query, gallery, close_row, close_column)
    width = wanted.shape[1] + 1  # places: below all relevant items, between two of them, above all
    del upto
    if b * width < 2**31:
        below += torch.arange(b, device=device, dtype=torch.int32)[:, None] * width
    else:
        below = below + torch.arange(b, device=device)[:, None] * width
    counts = torch.bincount(below.view(-1), minlength=b * width)
    counts -= torch.bincount(below[close_row, close_column], minlength=b * width)
    del below
    found = []
    for rule in RULES if own.ties else ("gallery",):
        place = _places(wanted, column[order], begin, near, close_row, close_column, rule)
        total = (counts + torch.bincount(close_row * width + place, minlength=b * width)).view(b, width)
        above = total.flip(1).cumsum(1).flip(1)[:, 1:]  # what stands above each of them
        found.append(above[row, nth])
    # Each row from its first rank on.
    turned = begin[row] + size[row] - 1 - nth
    rank = found[0] + size[row] - 1 - nth
    grade = torch.from_numpy(own.grade).to(device)[order]
    if not own.ties:
        return Ranks(b, row, rank[turned], grade[turned])
    others = m - size - torch.bincount(out_row, minlength=b)
    return Ranks(b, row, rank[turned], grade[turned], found[0][turned], found[1][turned], others)


def _places(wanted: Tensor, column: Tensor, begin: Tensor, near: Tensor, row: Tensor, own: Tensor, rule: str) -> Tensor:
    """How many relevant items of its row stand below each close item, equal scores by the rule."""
    places = [torch.empty(0, dtype=torch.long, device=wanted.device)]
    for score, r, j in zip(near.split(PAIRS), row.split(PAIRS), own.split(PAIRS), strict=True):
        low, high = (_search(wanted, score, r, right=right) for right in (False, True))
        if rule == "gallery":  # equal ones stand from the last column to the first: half of them, and half again
            while bool((low < high).any()):
                middle = (low + high) // 2
                under = (column[(begin[r] + middle).clamp(max=len(column) - 1)] > j) & (low < high)
                low, high = torch.where(under, middle + 1, low), torch.where(under, high, torch.minimum(middle, high))
        places.append(high if rule == "worst" else low)
    return torch.cat(places)


def _search(wanted: Tensor, score: Tensor, row: Tensor, *, right: bool) -> Tensor:
    """The place of each score in the sorted row of its number, by halving: rows need not be copied."""
    low = torch.zeros_like(row)
    high = torch.full_like(row, wanted.shape[1])
    for _ in range(wanted.shape[1].bit_length()):
        middle = (low + high) // 2
        value = wanted[row, middle.clamp(max=wanted.shape[1] - 1)]
        under = ((value <= score) if right else (value < score)) & (low < high)
        low, high = torch.where(under, middle + 1, low), torch.where(under, high, torch.minimum(middle, high))
    return low


def _key(true: Tensor, column: Tensor) -> Tensor:
    """Numbers in the order of scores, and where they are equal, of columns from the last on."""
    bits = (true + 0.0).view(torch.int32).long()
    bits = torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    return bits * 2**32 - column
