"""Counts that people give, and what is none, in one sentence."""

from collections.abc import Collection
from typing import Any

import numpy as np

from xgap_analysis.core.errors import XgapError


def check_count(count: Any, what: str, least: int = 1) -> None:
    """Refuse what is not a whole number, or is less than makes sense.

    Args:
        count: as it was given.
        what: it counts, for the message: `"the number of steps"`.
        least: that makes sense.

    Raises:
        XgapError: such a count.

    Example:
        >>> check_count(2.5, "the number of steps")
        Traceback (most recent call last):
            ...
        xgap_analysis.core.errors.XgapError: the number of steps is a whole number of 1 or more, not 2.5
    """
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < least:
        raise XgapError(f"{what} is a whole number of {least} or more, not {count!r}")


def check_cutoffs(ks: Any) -> None:
    """Refuse what is no list of cut-offs.

    Raises:
        XgapError: no list, or one with something else than a whole number of 1 or more.
    """
    if isinstance(ks, str) or not isinstance(ks, Collection):
        raise XgapError(f"the cut-offs ks are a list, such as [1, 5, 10], not {ks!r}")
    for k in ks:
        check_count(k, "a cut-off of ks")
