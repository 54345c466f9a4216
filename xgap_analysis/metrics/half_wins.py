"""How often one kind of scores is below another, over all pairs of the two, exactly and in bounded memory.

Scores of single precision are whole numbers in order (`_keys`). Where one kind fits in memory it is sorted, and the
others are looked up in it. Otherwise it is counted, value by value, in a table that holds the values that occur, 65,536
beside each other at a time; where they do not all fit, part after part, and the scores are computed anew for each.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from xgap_analysis.metrics.block_ranks import share
from xgap_analysis.scoring.blocks import BUDGET

HELD = BUDGET // 16  # scores of one kind that are held and sorted
VALUES = 2**16  # of single precision that are beside each other in the table
PLACES = BUDGET // 2 // (4 * VALUES)  # of such runs of values, in a table of a quarter of a GiB


@dataclass(frozen=True, eq=False)
class PairBlock:
    """The scores of a block of pairs: `[p]` all, and those of them that are of one kind, or of none."""

    every: Tensor
    same: Tensor
    left_out: Tensor

    @classmethod
    def of(cls, scores: Tensor, same: tuple[Tensor, ...], left_out: tuple[Tensor, ...]) -> "PairBlock":
        """The pairs of scores `[b, m]`; `same` (by row, then column) and `left_out` are cells, and one may be both."""
        m = scores.shape[1]
        out = torch.unique(left_out[0] * m + left_out[1])
        own = same[0] * m + same[1]
        at = torch.searchsorted(own, out)  # few are left out: to look each of them up is faster than `isin`
        kept = torch.ones(len(own), dtype=torch.bool)
        kept[at[at < torch.searchsorted(own, out, right=True)]] = False
        own = own[kept]
        every = scores.reshape(-1)
        return cls(every, every[own.to(every.device)], every[out.to(every.device)])

    @property
    def parts(self) -> tuple[tuple[Tensor, int], ...]:
        """Scores that add up to those of the other kind, and how often each counts."""
        return (self.every, 1), (self.same, -1), (self.left_out, -1)


Counts = NDArray[np.int64]
Blocks = Callable[[], Iterator[PairBlock]]


def half_wins(blocks: Blocks, most: int) -> tuple[int, int, int]:
    """Twice the pairs of a same score below an other score and once the equal ones; and the numbers of both.

    Args:
        blocks: gives all scores, and may be called again.
        most: there are no more than so many of the same kind.
    """
    return _sorted(blocks) if most <= HELD else _tabled(blocks)


def _sorted(blocks: Blocks) -> tuple[int, int, int]:
    same = ascending(torch.cat([block.same for block in blocks()]))
    halves = n = 0
    for block in blocks():
        for scores, sign in block.parts:
            n += sign * len(scores)
            halves += sign * half_wins_of(same, ascending(scores))
    return halves, len(same), n


def ascending(scores: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
    """The scores in order."""
    if scores.device.type != "cpu":
        return scores.sort().values
    return torch.from_numpy(np.sort(scores.numpy()))  # vectorised, and free of torch's indices


def half_wins_of(low: Float[Tensor, " p"], high: Float[Tensor, " q"]) -> int:
    """Twice the number of pairs with low < high, and once those with low == high; both sorted."""
    if len(low) < len(high):  # few searches in many values
        return 2 * len(low) * len(high) - half_wins_of(high, low)
    return sum(int(torch.searchsorted(low, high, right=right).sum()) for right in (False, True))


def _tabled(blocks: Blocks) -> tuple[int, int, int]:
    from xgap_analysis.metrics.counting import half_wins_over, spread_out, tally

    same, other = np.zeros(VALUES, np.int64), np.zeros(VALUES, np.int64)
    for block in blocks():
        for scores, sign in block.parts:
            found = np.zeros(VALUES, np.int64)
            spread_out(_keys(scores), found)
            other += sign * found
        found = np.zeros(VALUES, np.int64)
        spread_out(_keys(block.same), found)
        same += found
    below = same.cumsum() - same
    halves = far_wins(below, other, same == 0)
    runs = np.flatnonzero(same)
    kind = np.uint32 if int(same.sum()) < 2**32 else np.int64
    places = PLACES * 4 // np.dtype(kind).itemsize
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for first in range(0, len(runs), places):
            some = runs[first : first + places]
            place = np.full(VALUES, -1, np.int32)
            place[some] = np.arange(len(some))
            table = np.zeros(len(some) * VALUES, kind)
            for block in blocks():
                tally(_keys(block.same), place, table)
            np.cumsum(table, out=table)
            for block in blocks():
                for scores, sign in block.parts:
                    parts = share(pool, len(scores), partial(half_wins_over, _keys(scores), place, table))
                    n = sum(number for _, number in parts)
                    halves += sign * (sum(counted for counted, _ in parts) + 2 * int(below[some[0]]) * n)
    return halves, int(same.sum()), int(other.sum())


def far_wins(below: Counts, other: Counts, of: NDArray[np.bool_]) -> int:
    """Twice the others of some runs times the same scores below: more than 64 bits hold, of millions of items."""
    return 2 * sum(low * high for low, high in zip(below[of].tolist(), other[of].tolist(), strict=True))


def _keys(scores: Tensor) -> np.ndarray:
    """Whole numbers in the order of the scores; 0 and -0 are one."""
    bits = (scores + 0.0).cpu().numpy().view(np.uint32)
    return np.where(bits >> 31 != 0, ~bits, bits | np.uint32(0x80000000))
