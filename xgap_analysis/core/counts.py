"""Counts that people give, and what is none, in one sentence."""

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
