"""The weight of a term: a number, or a way from one number to others over the steps of a run."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from xgap_analysis.core.errors import XgapError

Way = tuple[tuple[float, float], ...]  # shares of the steps that are done, and the weight there
Weight = float | Way


def weight_of(given: Any, name: str) -> Weight:
    """A weight as it was given, checked; a way as a tuple.

    Args:
        given: a number from 0, or pairs (share of the steps, weight) in ascending order, such as
            `[(0.2, 1.0), (0.7, 0.0)]`: 1 until a fifth of the steps, from there in a line to 0 at 70 %, and 0 then.
        name: of the term, for messages.

    Raises:
        XgapError: a weight below 0, or shares outside [0, 1] or out of order.
    """
    if not isinstance(given, Sequence) or isinstance(given, str):
        if not _is_weight(given):
            raise XgapError(f"the weight of term {name!r} is 0 or more, not {given}")
        return float(given)
    pairs = [tuple(pair) if isinstance(pair, Sequence) and not isinstance(pair, str) else () for pair in given]
    right = pairs and all(len(pair) == 2 and all(map(_is_weight, pair)) for pair in pairs)
    shares = [pair[0] for pair in pairs] if right else []
    if not right or shares[-1] > 1 or any(a >= b for a, b in pairwise(shares)):
        what = "a weight that changes is pairs (share of the steps from 0 to 1, weight from 0), in ascending order"
        raise XgapError(f"{what}, such as [(0.2, 1), (0.7, 0)]; that of term {name!r} is {given}")
    return tuple((float(share), float(weight)) for share, weight in pairs)


def counts(weight: Weight) -> bool:
    """Whether a weight is ever above 0."""
    return any(value > 0 for _, value in weight) if isinstance(weight, tuple) else weight > 0


def weight_at(weight: Weight, step: int, steps: int) -> float:
    """A weight at a step: linear between the pairs of a way, and constant before the first and behind the last.

    Args:
        weight: as `weight_of` gives it.
        step: from 0 to steps - 1; the share that is done is `step / steps`.
        steps: of the run, or of its stage.

    Source: ModGap, ICLR 2026 (arXiv 2601.18525), whose weights go this way.

    Example:
        >>> [round(weight_at(((0.2, 1.0), (0.7, 0.0)), step, 100), 3) for step in (0, 20, 45, 70, 99)]
        [1.0, 1.0, 0.5, 0.0, 0.0]
    """
    if not isinstance(weight, tuple):
        return weight
    share = step / steps
    before = [pair for pair in weight if pair[0] <= share]
    behind = [pair for pair in weight if pair[0] > share]
    if not before or not behind:
        return before[-1][1] if before else behind[0][1]
    (start, first), (end, last) = before[-1], behind[0]
    return first + (last - first) * (share - start) / (end - start)


def as_plain(weight: Weight) -> float | list[list[float]]:
    """A weight as JSON holds it."""
    return [list(pair) for pair in weight] if isinstance(weight, tuple) else weight


def _is_weight(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
