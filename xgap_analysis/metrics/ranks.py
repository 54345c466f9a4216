"""Ranks of the relevant items in the whole gallery, exact with ties, without sorting it.

The rank of a relevant item is the number of items that score higher, plus those with the same score that come earlier
in the gallery. So ranks are counted, and only for relevant items, which is much cheaper than sorting each row.

Close calls: similarities are computed in single precision where that is the cheaper way. How far they can lie from
double precision is known beforehand (`single_error`), and those so close to a relevant item's that such an error could
change a rank are computed again in double precision, like the relevant items' own. Where a sample of the block says
that too many are that close, all of the block is computed in double precision.

Memory: a gallery is read in chunks where its rows are too long for a block, or where it stays on disk. On a processor
the similarities and the rows of a chunk take half a GiB (`BUDGET`), and the relevant items of the queries that are in
work up to a quarter of that; on another device a block takes a quarter of what is free there.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.relevance import BoundRelevance
from xgap_analysis.core.tokens import AnyFeatures
from xgap_analysis.metrics.block_ranks import BlockRanks, Ranks
from xgap_analysis.scoring.blocks import BUDGET, ScoreNormaliser, block_of, check_pair, score_blocks
from xgap_analysis.scoring.cosine import COSINE, cosine
from xgap_analysis.scoring.scorer import ScoreFunction, Scorer
from xgap_analysis.scoring.scorer import scorer as as_scorer

SCORE = 8  # bytes of working memory that a similarity costs
QUERIES = 512  # of a block, at most: more gain no speed
FEW = 128  # queries in a block: the gallery is read in chunks before there are fewer
PAIR = 256  # bytes of working memory that a relevant item of a block costs at most
HELD = 64  # the same while other blocks are counted


def relevant_ranks(
    query: AnyFeatures,
    gallery: AnyFeatures,
    bound: BoundRelevance,
    *,
    exclude_self: bool,
    block: int | None,
    normalise: ScoreNormaliser | None = None,
    scorer: str | Scorer | ScoreFunction = COSINE,
    ties: bool = False,
) -> Iterator[Ranks]:
    """The ranks of all relevant items, a block of queries at a time; the order is that of `descending`.

    What is left out is in no ranking. `normalise` and `block` are those of `retrieval`; with `ties`, the ranks that
    the relevant items would have before and behind all others of equal score (see `Ranks`).
    """
    check_pair(query, gallery, block)
    scoring = as_scorer(scorer)
    plain = normalise is None and scoring.function is cosine
    if plain and isinstance(query, Features) and isinstance(gallery, Features):
        if query.device.type == "cpu":
            yield from _counted(query, gallery, bound, exclude_self, block, ties)
            return
        from xgap_analysis.metrics.device_ranks import cosine_ranks

        yield from cosine_ranks(query, gallery, bound, exclude_self, block, ties)
        return
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # its threads start with the first work
        for start, stop, scores in score_blocks(query, gallery, scoring, block=block):
            if normalise is not None:
                left_out = tuple(part.to(scores.device) for part in bound.left_out(start, stop, exclude_self))
                scores = _normalised(scores, left_out, normalise)
            rows = scores[:, :0]
            own = BlockRanks.of(rows, len(gallery), bound, start, exclude_self, ties)
            if scores.device.type == "cpu":
                own.add_true(scores.contiguous(), pool)
                yield own.ranks()
            else:
                from xgap_analysis.metrics.device_ranks import ranks_of_scores

                yield ranks_of_scores(own, scores)


def _normalised(scores: Tensor, left_out: tuple[Tensor, ...], normalise: ScoreNormaliser) -> Tensor:
    """What the normaliser makes of scores; what is left out comes as minus infinity, and so it stays."""
    shape = scores.shape
    scores[left_out] = -math.inf
    scores = normalise(scores).float()
    right = scores.shape == shape
    if right:
        scores = scores.clone()
        scores[left_out] = 0
    if not right or not bool(torch.isfinite(scores).all()):
        raise XgapError(f"the score normaliser must give finite scores of shape {tuple(shape)}")
    scores[left_out] = -math.inf
    return scores


def _counted(
    query: Features, gallery: Features, bound: BoundRelevance, exclude_self: bool, block: int | None, ties: bool
) -> Iterator[Ranks]:
    m = len(gallery)
    columns = _columns(gallery, query.dim) if block is None or not gallery.in_memory else m
    bounds = list(_bounds(bound.n_relevant.numpy(), columns, block))
    space = torch.empty(max(stop - start for start, stop in bounds) * columns, dtype=torch.float32)
    chunks = [(first, min(first + columns, m)) for first in range(0, m, columns)]
    rows, of = torch.empty(0), (0, 0)
    width: int | None = None

    def read(first: int, stop: int) -> Tensor:
        nonlocal rows, of
        if of != (first, stop):
            rows = rows[:0].clone()  # what was read before goes first
            rows, of = gallery.block(first, stop).cpu(), (first, stop)
        return rows

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for group in _groups(bounds, bound.n_relevant.numpy(), len(chunks) > 1):
            blocks = [BlockRanks.of(query.block(*at), m, bound, at[0], exclude_self, ties) for at in group]
            if group[0] == bounds[0] or width is not None or len(chunks) > 1:
                for chunk in chunks:
                    for own in blocks:
                        own.collect(read(*chunk), chunk[0], pool)
            if group[0] == bounds[0]:
                width = blocks[0].choose()
            for own in blocks:
                own.width = width
            for chunk in chunks[::-1]:  # the last one is here already
                for own in blocks:
                    own.add(read(*chunk), chunk[0], space, pool)
            while blocks:
                yield blocks.pop(0).ranks()


def _columns(gallery: Features, dim: int) -> int:
    """The gallery items of a chunk: all of them, if they are in memory and leave a block enough queries."""
    if gallery.in_memory and len(gallery) * SCORE * FEW <= BUDGET:
        return len(gallery)
    return max(1, min(len(gallery), BUDGET // (SCORE * max(QUERIES, dim))))


def _groups(bounds: list[tuple[int, int]], n_relevant: np.ndarray, several: bool) -> Iterator[list[tuple[int, int]]]:
    """The blocks that are counted while the gallery passes by once: one, or what memory holds where that costs."""
    group: list[tuple[int, int]] = []
    held = 0
    for start, stop in bounds:
        pairs = int(n_relevant[start:stop].sum())
        if group and (not several or (held + pairs) * HELD > BUDGET // 4):
            yield group
            group, held = [], 0
        group.append((start, stop))
        held += pairs
    yield group


def _bounds(n_relevant: np.ndarray, columns: int, block: int | None) -> Iterator[tuple[int, int]]:
    """First and last query of each block: what its similarities and its relevant items leave of the budget."""
    most = block_of(columns, cell=SCORE, most=QUERIES) if block is None else block
    pairs = len(n_relevant) * columns if block else BUDGET // 4 // PAIR
    until = np.concatenate([[0], n_relevant.cumsum()])
    start = 0
    while start < len(n_relevant):
        fits = int(np.searchsorted(until, until[start] + pairs, side="right")) - 1
        stop = min(max(fits, start + 1), start + most, len(n_relevant))
        yield start, stop
        start = stop
