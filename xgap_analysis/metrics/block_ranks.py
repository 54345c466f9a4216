"""The ranks of one block of queries, counted on the processor while the gallery passes by in chunks.

First the true scores of the relevant items are collected, and with them those of a sample, which shows how many other
items will be close to a relevant one; then every chunk is counted. See `ranks` for what is counted, and why.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xgap_analysis.core.relevance import BoundRelevance
from xgap_analysis.scoring.blocks import descending
from xgap_analysis.scoring.cosine import products
from xgap_analysis.scoring.single_precision import UNIT_ROUNDOFF, single_error, single_products

PROBES = 16  # items of a query beside the relevant ones, whose true scores are computed as well
SAMPLE = 64  # queries of a block whose probes say how its similarities are computed
PARTS = 8  # of a block, for each thread: an even share, though queries differ
WORTH = 12  # similarities of one product in double precision take as long as computing one of them apart
TILE = 8  # bits of a column: 256 rows of the gallery are what a processor's cache holds
ROUNDING = 2 * UNIT_ROUNDOFF  # of a cosine, and of a difference from it
COSTS = {128: 0.6}  # of a similarity in slices of that many dimensions, where one in double precision costs 1
WHOLE = 0.5  # the same of one in a single slice

RULES = ("best", "worst")  # of equal scores, where they are not in the gallery's order: see `Ranks`


@dataclass(frozen=True, eq=False)
class Ranks:
    """The relevant items of one block of queries.

    Args:
        queries: number of queries.
        row, rank, grade: `[r]` of each relevant item: its query, its rank (from 0) and its grade, by row, then rank.
        best, worst: `[r]`, where they are wanted (and `rank` is then the best): how many items that are not relevant
            score higher, and how many no lower.
        others: `[queries]`, with them: the ranked items that are not relevant.
    """

    queries: int
    row: Tensor
    rank: Tensor
    grade: Tensor
    best: Tensor | None = None
    worst: Tensor | None = None
    others: Tensor | None = None


@dataclass(eq=False)
class BlockRanks:
    """A block of queries and their relevant items, by row and then by column, without what is left out."""

    query: Tensor
    columns: int
    row: np.ndarray
    column: np.ndarray
    grade: np.ndarray
    left_out: tuple[np.ndarray, np.ndarray]
    ties: bool = False
    width: int | None = None  # of the slices of single precision; None for double precision

    @classmethod
    def of(
        cls, query: Tensor, columns: int, bound: BoundRelevance, start: int, exclude_self: bool, ties: bool = False
    ) -> "BlockRanks":
        """The block of these queries, from `start`, before a gallery of so many columns."""
        stop = start + len(query)
        row, column, grade = (part.numpy() for part in bound.relevant(start, stop))
        out_row, out_column = (part.numpy() for part in bound.left_out(start, stop, exclude_self))
        cells, out = row * columns + column, np.unique(out_row * columns + out_column)
        first = np.searchsorted(cells, out)
        kept = np.delete(np.arange(len(cells)), first[first < np.searchsorted(cells, out, side="right")])
        return cls(query, columns, row[kept], column[kept], grade[kept], (out // columns, out % columns), ties)

    @property
    def probes(self) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of some items of each query, evenly over the gallery."""
        of = np.arange(len(self.query) * PROBES)
        return of % len(self.query), of * self.columns // len(of)

    @cached_property
    def _samples(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Row and column of the relevant items and of the probes, the order of these columns, and the true scores."""
        row, column = (np.concatenate(parts) for parts in zip((self.row, self.column), self.probes, strict=True))
        order = np.argsort(column, kind="stable")  # so that the gallery is read once, from its beginning to its end
        return row, column, order, np.empty(len(row), np.float32)

    @cached_property
    def _ordered(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each row's relevant items begin, and the order of their ranking."""
        return self._order_of(self._samples[3])

    def _order_of(self, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        begin = np.searchsorted(self.row, np.arange(len(self.query) + 1))
        order = np.arange(len(self.row))
        for a, b in pairwise(begin.tolist()):
            order[a:b] = a + descending(torch.from_numpy(true[a:b])[None])[0].numpy()
        return begin, order

    @cached_property
    def _above(self) -> np.ndarray:
        """`[rules, r]` the items counted so far, in the order of the ranking."""
        return np.zeros((len(RULES) if self.ties else 1, len(self.row)), np.int64)

    def collect(self, gallery: Tensor, first: int, pool: ThreadPoolExecutor) -> None:
        """The true scores of the relevant items and the probes that are in a chunk of the gallery."""
        from xgap_analysis.metrics.counting import cosines

        row, column, order, true = self._samples
        a, b = np.searchsorted(column[order], [first, first + len(gallery)])
        work = partial(cosines, self._doubles, gallery.numpy(), first, row, column, order[a:b], true)
        share(pool, int(b - a), work)

    def choose(self) -> int | None:
        """The width of the slices of single precision, or None for double: what the sample says is the cheapest."""
        dim = self.query.shape[1]
        ways = [(WHOLE, dim), *((cost, width) for width, cost in COSTS.items() if width < dim)]
        costs = [(cost + WORTH * self._close(single_error(dim, width) + ROUNDING), width) for cost, width in ways]
        cheapest, width = min(costs)
        return width if cheapest < 1 else None

    def _close(self, margin: float) -> float:
        """The share of the probes of some queries that lie within the margin of a relevant item."""
        row, column, _, true = self._samples
        r = int(np.searchsorted(self.row, SAMPLE))
        places = row * 4 + true.astype(np.float64)  # rows behind one another, since scores lie in [-1, 1]
        cells, own = self.row[:r] * self.columns + self.column[:r], np.sort(places[:r])
        some = len(self.row) + np.flatnonzero(row[len(self.row) :] < SAMPLE)
        some = some[~np.isin(row[some] * self.columns + column[some], cells)]
        if not r or not len(some):
            return 0.0
        after = np.searchsorted(own, places[some])
        distances = [np.abs(own[np.clip(after + step, 0, r - 1)] - places[some]) for step in (-1, 0)]
        return float((np.minimum(*distances) <= margin).mean())

    def add(self, gallery: Tensor, first: int, space: Tensor, pool: ThreadPoolExecutor) -> None:
        """Counts a chunk `[c, d]` of the gallery, whose similarities are written to `space`, which has b c places."""
        scores = space[: len(self.query) * len(gallery)].view(len(self.query), len(gallery))
        dim = self.query.shape[1]
        if self.width is not None:
            true = self._samples[3]
            single_products(self.query, gallery, scores, width=self.width)
            error = single_error(dim, self.width)
            if self._error(scores, first) <= error and self._count(scores, first, true, error, gallery, pool):
                return
        products(self.query, gallery, out=scores)
        if len(gallery) == self.columns:
            self.add_true(scores, pool)
        elif not self._count(scores, first, self._samples[3], 0.0, gallery, pool):  # true but for the order of sums
            self._count(scores, first, self._samples[3], None, gallery, pool)

    def _error(self, scores: Tensor, first: int) -> float:
        """The largest that is seen, infinite of none. Above the bound, the product is none of single precision."""
        row, column, order, true = self._samples
        a, b = np.searchsorted(column[order], [first, first + scores.shape[1]])
        own = order[a:b]
        seen = np.abs(scores.numpy()[row[own], column[own] - first] - true[own])
        return float(seen.max()) if len(seen) else math.inf

    def add_true(self, scores: Tensor, pool: ThreadPoolExecutor) -> None:
        """Counts true scores `[b, m]` of the whole gallery, which are overwritten."""
        true = scores.numpy()[self.row, self.column]
        self.__dict__["_ordered"] = self._order_of(true)
        self._count(scores, 0, true, None, scores[:, :0], pool)

    def _count(
        self,
        scores: Tensor,
        first: int,
        true: np.ndarray,
        error: float | None,
        gallery: Tensor,
        pool: ThreadPoolExecutor,
    ) -> bool:
        """Adds what a chunk holds; False where too many scores are too close, and nothing was added."""
        from xgap_analysis.metrics.counting import add_close, count

        cells = scores.numpy()
        m = cells.shape[1]
        for row, column in (self.left_out, (self.row, self.column)):
            here = slice(None) if m == self.columns else (column >= first) & (column < first + m)
            cells[row[here], column[here] - first] = -np.inf
        begin, order = self._ordered
        column, score, found = self.column[order], true[order], np.empty_like(self._above)
        ruled = [np.full_like(column, -1), np.full_like(column, self.columns)] if self.ties else [column]
        if error is None:
            none = np.empty((3, 0), np.uint32)
            for by, above_each in zip(ruled, found, strict=True):
                share(pool, len(cells), partial(count, cells, first, begin, by, score, np.float32(0), none, above_each))
        else:
            margin = np.float32((error + ROUNDING) * (1 + ROUNDING))

            def part(a: int, b: int) -> np.ndarray | None:
                close = np.empty((3, (b - a) * m // WORTH), np.uint32)
                n = count(cells, first, begin, column, score, margin, close, found[0], a, b)
                return None if n < 0 else close[:, :n]

            parts = [close for close in share(pool, len(cells), part) if close is not None]
            if len(parts) < PARTS * torch.get_num_threads():
                return False
            found[:] = found[0]
            row, own, place = np.concatenate(parts, axis=1)
            del parts
            near = self._true_scores(row, own, gallery, pool)
            calls = np.searchsorted(row, np.arange(len(cells) + 1, dtype=np.uint32))
            for by, above_each in zip(ruled, found, strict=True):
                work = partial(add_close, calls, own, place, near, first, begin, by, score, above_each)
                share(pool, len(cells), work)
        self._above[:] += found
        return True

    def _true_scores(
        self, row: np.ndarray, column: np.ndarray, gallery: Tensor, pool: ThreadPoolExecutor
    ) -> np.ndarray:
        """Cosines `[c]` of pairs of queries and rows of a chunk, those of a few rows after one another.

        In the order of the pairs, each would read its row of the gallery from memory again.
        """
        from xgap_analysis.metrics.counting import cosines

        order, found = np.argsort((column >> TILE).astype(np.uint16), kind="stable"), np.empty(len(row), np.float32)
        work = partial(cosines, self._doubles, gallery.numpy(), 0, row, column, order, found)
        share(pool, len(row), work)
        return found

    @property
    def _doubles(self) -> np.ndarray:
        """The queries in double precision: not kept, since many blocks may be in work."""
        return self.query.numpy().astype(np.float64)

    def ranks(self) -> Ranks:
        """What was counted."""
        begin, order = self._ordered
        b = len(self.query)
        nth = np.arange(len(self.row)) - begin[self.row]
        above = self._above
        # Equal relevant items are in the gallery's order, whatever the rule is for the others.
        made = Ranks(b, *map(torch.from_numpy, (self.row, above[0] + nth, self.grade[order])))
        if not self.ties:
            return made
        others = self.columns - np.bincount(self.row, minlength=b) - np.bincount(self.left_out[0], minlength=b)
        best, worst, rest = map(torch.from_numpy, (above[0], above[1], others))
        return Ranks(b, made.row, made.rank, made.grade, best, worst, rest)


def share(pool: ThreadPoolExecutor, n: int, work: Callable[[int, int], Any]) -> list[Any]:
    """What `work` gives for each part of n rows, done by all threads."""
    cuts = np.linspace(0, n, PARTS * torch.get_num_threads() + 1).astype(int).tolist()
    return list(pool.map(work, cuts[:-1], cuts[1:]))
