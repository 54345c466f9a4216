"""Loops over the cells of a block of similarities, compiled by numba; `ranks` says what they are for.

Each works on a part of its own, `first` to `last`, without Python's lock, so that several run at once. numba needs
literal types and unsigned indices (signed ones are tested for wrapping round) to make tight loops of them.
"""

import inspect
from collections.abc import Callable
from typing import Any, no_type_check

import numpy as np
from numba import njit

BINS = 2**15  # of a row's scores: more of them leave fewer scores to look at closely, until they outgrow the cache


def _compiled(**options: Any) -> Callable[[Any], Any]:
    """What is compiled is kept for the next process, where there is a place to keep it.

    A wrapper, as the import hook of a type checker puts one round every function, is taken off first: numba could
    neither compile nor keep it.
    """

    def compiled(function: Any) -> Any:
        function = inspect.unwrap(function)
        try:
            return njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:  # neither the package's folder nor the user's cache can be written
            return njit(nogil=True, **options)(function)

    return compiled


@_compiled(fastmath={"reassoc", "contract"})
@no_type_check
def cosine(x, y):
    """The product of two vectors in double precision, rounded to float32: the same for equal vectors anywhere."""
    total = 0.0
    for k in range(len(x)):
        total += np.float64(x[k]) * np.float64(y[k])
    return np.float32(total)


@_compiled()
@no_type_check
def cosines(query, gallery, shift, row, column, order, found, first, last):
    """`found[e]`, the cosine of query `row[e]` and gallery item `column[e]`, for the pairs e in `order[first:last]`.

    The queries are given in double precision, since most serve many pairs, which then convert the other vector only.
    The rows of `gallery` are those of the whole gallery from `shift` on.
    """
    for e in order[first:last]:
        found[e] = cosine(query[row[e]], gallery[column[e] - shift])


@_compiled()
@no_type_check
def count(scores, shift, begin, column, score, margin, close, above_each, first, last):
    """Writes how many other items of some columns stand above each relevant item of some rows, but for close calls.

    The scores are counted in bins that keep their order. Only those in a bin that lies within `margin` of a relevant
    item's are looked at one by one, and only those within it are close calls, which `add_close` counts.

    Args:
        scores: `[b, m]` float32, each within `margin` of the true score; minus infinity at relevant items and at what
            is left out.
        shift: the place in the whole gallery of the first of these columns.
        begin: `[b + 1]` where each row's relevant items begin among all r of the block.
        column, score: `[r]` of the relevant items, with true scores, each row's in the order of its ranking. Of equal
            scores, the item of the lower column stands above.
        margin: float32; 0 says that the scores are true, and there are no close calls.
        close: `[3, most]`, written: row and column (from 0) of the close calls, by row, and their place (of r + 1) by
            these scores.
        above_each: `[r]`, written.
        first, last: the rows.

    Returns:
        how many close calls there are; -1 where they are more than there are places for, and nothing holds.
    """
    m = scores.shape[1]
    bins = min(BINS, 16 * m)
    size = np.empty(bins, np.uint32)
    near = np.empty(bins, np.bool_)  # bins within the margin of a relevant item, and the relevant items that are:
    lowest, highest = np.empty(bins, np.int64), np.empty(bins, np.int64)
    some = np.empty(m + 1, np.uint32)  # columns in such bins
    found = 0
    for r in range(first, last):
        a, b = begin[r], begin[r + 1]
        if a == b:
            continue
        row = scores[r]
        low = score[b - 1] - margin
        # Bin 0 is for what lies below every relevant item, the last one for what lies above.
        scale = np.float32(bins - 3) / max(score[a] + margin - low, np.float32(1e-30))
        size[:] = 0
        near[:] = False
        _mark(score, a, b, margin, low, scale, bins, near, lowest, highest)
        n = np.uint64(0)
        for j in range(np.uint64(m)):
            c = np.uint64(_bin(row[j], low, scale, bins))
            size[c] += np.uint32(1)
            some[n] = j
            n += np.uint64(near[c])
        above = np.zeros(b - a + 1, np.int64)  # items of these that stand next above each relevant one
        for j in some[:n]:
            s = row[j]
            c = _bin(s, low, scale, bins)
            e = _place(s, j + shift, score, column, highest[c], lowest[c] + 1)
            if margin > 0 and (
                (e > highest[c] and score[e - 1] - s <= margin) or (e <= lowest[c] and s - score[e] <= margin)
            ):
                if found == close.shape[1]:
                    return -1
                close[0, found], close[1, found], close[2, found] = r, j, e
                found += 1
            else:
                above[e - a] += 1
        before = 0
        c = np.int64(bins - 1)
        for e in range(a, b):
            while c > _bin(score[e], low, scale, bins):
                if not near[c]:
                    before += size[c]
                c -= 1
            before += above[e - a]
            above_each[e] = before
    return found


@_compiled()
@no_type_check
def add_close(calls, own, place, true, shift, begin, column, score, above_each, first, last):
    """Adds the close calls of `count` to `above_each`, by their true scores.

    Args:
        calls: `[b + 1]` where each row's close calls begin among all c of the block.
        own, place, true: `[c]` their columns, their places by scores that are off, which most keep, and true scores.
        shift, begin, column, score, above_each, first, last: as in `count`.
    """
    for r in range(first, last):
        a, b = begin[r], begin[r + 1]
        above = np.zeros(b - a + 1, np.int64)
        for c in range(calls[r], calls[r + 1]):
            s, j, p = true[c], own[c] + shift, np.int64(place[c])
            after = p == a or _place(s, j, score, column, p - 1, p) == p
            if not after or _place(s, j, score, column, p, min(p + 1, b)) != p:
                p = _place(s, j, score, column, a, b)
            above[p - a] += 1
        before = 0
        for e in range(a, b):
            before += above[e - a]
            above_each[e] += before


@_compiled()
@no_type_check
def _mark(score, a, b, margin, low, scale, bins, near, lowest, highest):
    """Marks the bins within `margin` of the relevant items `a` to `b`: which items they are near to.

    The bins of an item lie no higher than those of the item before, so that each bin is entered once from above, and
    once from below, however many items share it.
    """
    entered = bins
    for e in range(a, b):
        bottom = _bin(score[e] - margin, low, scale, bins)
        for c in range(bottom, min(_bin(score[e] + margin, low, scale, bins) + 1, entered)):
            near[c] = True
            highest[c] = e
        entered = bottom
    entered = -1
    for e in range(b - 1, a - 1, -1):
        top = _bin(score[e] + margin, low, scale, bins)
        for c in range(max(_bin(score[e] - margin, low, scale, bins), entered + 1), top + 1):
            lowest[c] = e
        entered = top


@_compiled()
@no_type_check
def _bin(score, low, scale, bins):
    place = (score - low) * scale + np.float32(1)
    return np.int64(np.int32(min(max(place, np.float32(0)), np.float32(bins - 1))))


@_compiled()
@no_type_check
def _place(s, j, score, column, first, last):
    """The first of the relevant items `first` to `last` that stands below item j of score s; `last` if none does."""
    while first < last:
        middle = (first + last) // 2
        if score[middle] > s or (score[middle] == s and column[middle] < j):
            first = middle + 1
        else:
            last = middle
    return first


@_compiled()
@no_type_check
def spread_out(keys, found):
    """Adds to `found[65536]` how many keys there are of each value of the upper 16 bits."""
    for key in keys:
        found[key >> np.uint32(16)] += 1


@_compiled()
@no_type_check
def tally(keys, place, table):
    """Adds to `table` how many keys there are of each value, where the upper 16 bits have a place there (from 0)."""
    for key in keys:
        p = place[key >> np.uint32(16)]
        if p >= 0:
            table[(np.int64(p) << 16) + np.int64(key & np.uint32(0xFFFF))] += np.uint32(1)


@_compiled()
@no_type_check
def half_wins_over(keys, place, upto, first, last):
    """Twice the counted keys below each of `keys[first:last]` that has a place, once the equal ones; how many have.

    `upto` is the running sum of the table of `tally`.
    """
    halves, n = 0, 0
    for key in keys[first:last]:
        p = place[key >> np.uint32(16)]
        if p >= 0:
            at = (np.int64(p) << 16) + np.int64(key & np.uint32(0xFFFF))
            halves += np.int64(upto[at])
            if at > 0:
                halves += np.int64(upto[at - 1])
            n += 1
    return halves, n
