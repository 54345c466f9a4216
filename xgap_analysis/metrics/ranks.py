"""Ranks of the relevant items in the whole gallery, exact with ties, without sorting it.

The rank of a relevant item is the number of items that score higher, plus those with the same score that come earlier
in the gallery. So ranks are counted, and only for relevant items, which is much cheaper than sorting each row.

Close calls: on a CPU most similarities are computed in single precision only. Those so close to a relevant item's that
rounding could change a rank are computed again in double precision, like the relevant items' own. How large rounding
errors are is measured on these and on a sample of others, so a rank can be wrong only where an error is more than twice
the largest one measured.
"""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.relevance import BoundRelevance
from xgap_analysis.core.tokens import AnyFeatures
from xgap_analysis.scoring.blocks import BUDGET, ScoreNormaliser, block_of, check_pair, descending, score_blocks
from xgap_analysis.scoring.cosine import COSINE, cosine, products
from xgap_analysis.scoring.scorer import ScoreFunction, Scorer
from xgap_analysis.scoring.scorer import scorer as as_scorer

SCORE = 8  # bytes of working memory that a similarity costs
QUERIES = 512  # of a block, at most: more gain no speed
CHUNK = 1024  # gallery rows of one product: what stays in the cache beside its queries
PAIR = 256  # bytes of working memory that a relevant item costs at most
PROBES = 16  # other items of a query, on which the error of single precision is measured besides the relevant ones
ROUNDING = 2.0**-23  # of a cosine, and of a difference from it
SAFETY = 4  # errors this many times the largest of the sample change no rank
PARTS = 8  # of a block, for each thread: an even share, though queries differ
WORTH = 12  # similarities of one product in double precision take as long as computing one of them apart


@dataclass(frozen=True, eq=False)
class Ranks:
    """The relevant items of one block of queries.

    Args:
        queries: number of queries.
        row, rank, grade: `[r]` of each relevant item: its query, its rank (from 0) and its grade, by row, then rank.
    """

    queries: int
    row: Tensor
    rank: Tensor
    grade: Tensor


def relevant_ranks(
    query: AnyFeatures,
    gallery: AnyFeatures,
    bound: BoundRelevance,
    *,
    exclude_self: bool,
    block: int | None,
    normalise: ScoreNormaliser | None,
    scorer: str | Scorer | ScoreFunction = COSINE,
) -> Iterator[Ranks]:
    """The ranks of all relevant items, a block of queries at a time; the order is that of `descending`.

    What is left out is in no ranking. `normalise` and `block` are those of `retrieval`.
    """
    check_pair(query, gallery, block)
    scoring = as_scorer(scorer)
    exact = scoring.function is cosine  # only close calls of cosines are computed again in double precision
    rows, vectors = _rows(query), _rows(gallery).to(query.vectors.device)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # its threads start with the first work
        one_each = rows.shape[1] > 0 and vectors.shape[1] > 0
        if vectors.device.type == "cpu" and normalise is None and exact and one_each:
            yield from _screened(rows, vectors, bound, exclude_self, block, pool)
            return
        for start, stop, scores in score_blocks(query, gallery, scoring, block=block):
            ignored = bound.ignored(start, stop, exclude_self).to(scores.device)
            scores = scores.masked_fill_(ignored, -math.inf)
            if normalise is not None:
                shape, scores = scores.shape, normalise(scores).float()
                if scores.shape != shape or not bool((torch.isfinite(scores) | ignored).all()):
                    raise XgapError(f"the score normaliser must give finite scores of shape {tuple(shape)}")
                scores = scores.masked_fill(ignored, -math.inf)
            if scores.device.type == "cpu":
                own = _Block.of(rows[start:stop], vectors, bound, start, exclude_self)
                yield own.true_ranks(scores.contiguous(), pool)
            else:
                yield _sorted(scores, bound.grades(start, stop).to(scores.device).masked_fill_(ignored, 0))


def _rows(features: AnyFeatures) -> Tensor:
    """One row per item: its vector; of no width where an item has several, whose scores are computed elsewhere."""
    return features.vectors if isinstance(features, Features) else features.vectors.new_empty(len(features), 0)


def _sorted(scores: Float[Tensor, "b m"], grades: Float[Tensor, "b m"]) -> Ranks:
    gains = grades.gather(1, descending(scores))
    row, rank = (gains > 0).nonzero(as_tuple=True)
    return Ranks(len(scores), row, rank, gains[row, rank])


def _screened(
    query: Float[Tensor, "n d"],
    gallery: Float[Tensor, "m d"],
    bound: BoundRelevance,
    exclude_self: bool,
    block: int | None,
    pool: ThreadPoolExecutor,
) -> Iterator[Ranks]:
    bounds = list(_bounds(bound.n_relevant.numpy(), len(gallery), block))
    space = torch.empty(max(stop - start for start, stop in bounds), len(gallery), dtype=torch.float32)
    for start, stop in bounds:
        own = _Block.of(query[start:stop], gallery, bound, start, exclude_self)
        scores = space[: stop - start]
        for first in range(0, len(gallery), CHUNK):
            part = slice(first, first + CHUNK)
            torch.mm(own.query, gallery[part].T, out=scores[:, part])
        found = own.near_ranks(scores, pool)
        yield own.true_ranks(products(own.query, gallery, out=scores), pool) if found is None else found


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


@dataclass(frozen=True, eq=False)
class _Block:
    """A block of queries and their relevant items, by row and then by column, without what is left out."""

    query: Tensor
    gallery: Tensor
    row: np.ndarray
    column: np.ndarray
    grade: np.ndarray
    left_out: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, query: Tensor, gallery: Tensor, bound: BoundRelevance, start: int, exclude_self: bool) -> "_Block":
        stop, m = start + len(query), len(gallery)
        row, column, grade = (part.numpy() for part in bound.relevant(start, stop))
        out_row, out_column = (part.numpy() for part in bound.left_out(start, stop, exclude_self))
        cells, out = row * m + column, out_row * m + out_column
        first = np.searchsorted(cells, out)
        kept = np.delete(np.arange(len(cells)), first[first < np.searchsorted(cells, out, side="right")])
        return cls(query, gallery, row[kept], column[kept], grade[kept], (out_row, out_column))

    def near_ranks(self, scores: Tensor, pool: ThreadPoolExecutor) -> Ranks | None:
        """Ranks from single-precision scores `[b, m]`, which are overwritten; None where too many are too close."""
        from xgap_analysis.metrics.counting import cosines

        b, m = scores.shape
        probes = np.arange(b * PROBES)
        row = np.concatenate([self.row, probes % b])
        column = np.concatenate([self.column, probes * m // len(probes)])
        order = np.argsort(column, kind="stable")  # so that the gallery is read once, from its beginning to its end
        true = np.empty(len(row), np.float32)
        query, gallery = self.query.numpy(), self.gallery.numpy()
        _share(pool, len(row), partial(cosines, query, gallery, row, column, order, true))
        error = np.abs(scores.numpy()[row, column] - true).max()
        while True:
            margin = np.float32(SAFETY * error + ROUNDING)
            found, error = self._count(scores, true[: len(self.row)], margin, pool)
            if error <= margin / 2:
                return found

    def true_ranks(self, scores: Tensor, pool: ThreadPoolExecutor) -> Ranks:
        """Ranks from true scores `[b, m]`, which are overwritten."""
        found, _ = self._count(scores, scores.numpy()[self.row, self.column], np.float32(0), pool)
        assert found is not None
        return found

    def _count(
        self, scores: Tensor, true: np.ndarray, margin: np.float32, pool: ThreadPoolExecutor
    ) -> tuple[Ranks | None, float]:
        """Ranks by `count`, and the largest error that it saw; no ranks where it gave up."""
        from xgap_analysis.metrics.counting import count

        cells = scores.numpy()
        cells[self.left_out] = -np.inf
        cells[self.row, self.column] = -np.inf
        begin = np.searchsorted(self.row, np.arange(len(cells) + 1))
        order = np.arange(len(true))
        for a, b in pairwise(begin.tolist()):
            order[a:b] = a + descending(torch.from_numpy(true[a:b])[None])[0].numpy()
        rank = np.empty(len(true), np.int64)
        ranked = (cells, begin, self.column[order], true[order], margin, self.query.numpy(), self.gallery.numpy())

        def part(first: int, last: int) -> tuple[int, float]:
            return count(*ranked, (last - first) * cells.shape[1] // WORTH, rank, first, last)

        anew, errors = zip(*_share(pool, len(cells), part), strict=True)
        if min(anew) < 0:
            return None, 0.0
        return Ranks(len(cells), *map(torch.from_numpy, (self.row, rank, self.grade[order]))), max(errors)


def _share(pool: ThreadPoolExecutor, n: int, work: Callable[[int, int], Any]) -> list[Any]:
    """What `work` gives for each part of n rows, done by all threads."""
    cuts = np.linspace(0, n, PARTS * torch.get_num_threads() + 1).astype(int).tolist()
    return list(pool.map(work, cuts[:-1], cuts[1:]))
