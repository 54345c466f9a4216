"""Scores of a query block against a whole gallery, within a memory budget, and the order they rank it in."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from xgap_analysis.core.calls import Call
from xgap_analysis.core.counts import check_count
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.tokens import AnyFeatures, TokenFeatures, as_tokens
from xgap_analysis.scoring.cosine import COSINE, cosine, products
from xgap_analysis.scoring.rows import score_rows
from xgap_analysis.scoring.scorer import ScoreFunction, Scorer
from xgap_analysis.scoring.scorer import scorer as as_scorer

MOST_QUERIES = 256  # of a block: more gain no speed
CELL = 64  # bytes of the budget that a similarity takes while it is read: masks, grades, copies
COMPUTED = 16  # the same while it waits to be read: more are computed at a time, since each time reads the gallery
BUDGET = 2**29  # bytes of a block
CHUNK = 2**14  # rows of a gallery on disk that are read at a time

ScoreNormaliser = Callable[[Tensor], Tensor]


def score_blocks(
    query: AnyFeatures,
    gallery: AnyFeatures,
    scorer: str | Call | Scorer | ScoreFunction = COSINE,
    *,
    block: int | None = None,
) -> Iterator[tuple[int, int, Float[Tensor, "b m"]]]:
    """Scores `[b, m]` of the queries `start` to `stop` with the whole gallery, one block at a time, as float32.

    Query and gallery may each be Features (one token per item) or TokenFeatures. All is computed on the device of the
    query; sets of tokens are padded and moved there a part at a time, so that memory grows with the tokens given, and
    with `block * m`.

    Raises:
        XgapError: an empty query or gallery, different dimensions, a block below 1, or what the scorer refuses.
    """
    check_pair(query, gallery, block)
    scoring = as_scorer(scorer)
    computed = block_of(len(gallery), cell=COMPUTED) if block is None else block
    given = block_of(len(gallery)) if block is None else block
    if isinstance(query, Features) and isinstance(gallery, Features) and scoring.takes in ("vectors", None):
        parts = _vector_blocks(query, gallery, scoring, computed)
    else:
        parts = _token_blocks(as_tokens(query), as_tokens(gallery), scoring, computed)
    first = 0
    for scores in parts:
        for part in scores.split(given):
            yield first, first + len(part), part
            first += len(part)
        del scores, part  # before the next are computed


def _vector_blocks(query: Features, gallery: Features, scoring: Scorer, rows: int) -> Iterator[Tensor]:
    by_chunks = scoring.function is cosine and not gallery.in_memory  # other scorers are given the whole gallery
    vectors = None if by_chunks else gallery.vectors.to(query.device)
    for start in range(0, len(query), rows):
        part = query.block(start, min(start + rows, len(query)))
        if vectors is not None:
            yield scoring(part, vectors)
            continue
        scores = part.new_empty(len(part), len(gallery))
        for first in range(0, len(gallery), CHUNK):
            chunk = gallery.block(first, min(first + CHUNK, len(gallery)))
            products(part, chunk, out=scores[:, first : first + len(chunk)])
        yield scores


def _token_blocks(query: TokenFeatures, gallery: TokenFeatures, scoring: Scorer, rows: int) -> Iterator[Tensor]:
    longest = int(query.lengths.max())
    rows = max(1, min(rows, BUDGET // (COMPUTED * longest * query.dim)))  # what their padded tokens leave of the budget
    for index in torch.arange(len(query)).split(rows):
        yield score_rows(query.take(index), gallery, scoring)


def check_pair(query: AnyFeatures, gallery: AnyFeatures, block: int | None) -> None:
    """Raises an `XgapError` where there is nothing to score, or not in such blocks."""
    if not len(query) or not len(gallery):
        raise XgapError(f"the {'query' if not len(query) else 'gallery'} is empty")
    if query.dim != gallery.dim:
        raise XgapError(f"the query has {query.dim} dimensions and the gallery {gallery.dim}; they must be the same")
    if block is not None:
        check_count(block, "block, a number of queries,")


def block_of(columns: int, cell: int = CELL, most: int = MOST_QUERIES, budget: int | None = None) -> int:
    """The rows of a block that its `cell` bytes a number keep within a budget, by default half a GiB.

    A gallery of 1,280,000 leaves 6 rows a block; a gallery of more than 8 million, one row, which then takes more.
    """
    return max(1, min(most, (budget or BUDGET) // (cell * max(1, columns))))


def budget_of(device: torch.device) -> int:
    """Bytes of a block on a device: half a GiB, or a quarter of what is free on a GPU where that is more."""
    if device.type != "cuda":
        return BUDGET
    return max(BUDGET, torch.cuda.mem_get_info(device)[0] // 4)


def first_of(scores: Float[Tensor, "b m"], k: int) -> Int[Tensor, "b k"]:
    """The first k columns (all, if there are fewer) of `descending`, without sorting the rest."""
    m = scores.shape[1]
    if k >= m:
        return descending(scores)
    if scores.device.type != "cpu":
        bits = (0.0 - scores).view(torch.int32).long()  # no two keys are equal, so that any selection is the stable one
        places = torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits) * 2**32 + torch.arange(m, device=scores.device)
        return places.topk(k, dim=1, largest=False, sorted=True).values % 2**32
    keys = np.partition(_keys(scores), k - 1, axis=1)[:, :k] if k else _keys(scores)[:, :0]
    keys.sort(axis=1)
    keys &= 0xFFFFFFFF
    return torch.from_numpy(keys)


def descending(scores: Float[Tensor, "b m"]) -> Int[Tensor, "b m"]:
    """The columns of each row by descending score; equal scores keep the columns' order. No score may be NaN."""
    if scores.device.type != "cpu":
        return scores.sort(dim=1, descending=True, stable=True).indices
    # No two keys are equal, so numpy's vectorised sort, which is not stable, gives the stable order in a fifth of the
    # time of torch's.
    keys = _keys(scores)
    keys.sort(axis=1)
    keys &= 0xFFFFFFFF
    return torch.from_numpy(keys)


def _keys(scores: Float[Tensor, "b m"]) -> Int[np.ndarray, "b m"]:
    """One 64-bit key a cell: the score's bits, made to sort as integers from the highest on, above its column."""
    bits = (np.float32(0) - scores.numpy()).view(np.int32)
    bits ^= (bits >> 31) & 0x7FFFFFFF
    keys = bits.astype(np.int64)
    keys <<= 32
    keys |= np.arange(scores.shape[1])
    return keys
