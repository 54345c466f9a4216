"""Seeds that people give: generators of them, and what is no seed, in one sentence."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from xgap_analysis.core.errors import XgapError


def generator(*seed: Any) -> np.random.Generator:
    """A generator of random numbers by a seed, or by several numbers that name one.

    Raises:
        XgapError: a seed other than a whole number of 0 or more.

    Example:
        >>> bool(generator(7).normal() == generator(7).normal() != generator(8).normal())
        True
    """
    for number in seed:
        check_seed(number)
    numbers = [int(number) for number in seed]
    return np.random.default_rng(numbers if len(numbers) > 1 else numbers[0])


def check_seed(seed: Any) -> None:
    """Refuse what numpy and scikit-learn take for no seed.

    Raises:
        XgapError: a seed other than a whole number of 0 or more.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise XgapError(f"a seed is a whole number of 0 or more, not {seed!r}")


def check_distinct(seeds: Sequence[int]) -> None:
    """Refuse a seed that stands twice: the same run would count as two.

    Raises:
        XgapError: a seed that stands twice.
    """
    twice = [seed for place, seed in enumerate(seeds) if seed in list(seeds)[:place]]
    if twice:
        raise XgapError(f"seed {twice[0]} stands twice in the seeds, and one run would count as two; give each once")
