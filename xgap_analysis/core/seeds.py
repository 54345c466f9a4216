"""Seeds that people give: generators of them, and what is no seed, in one sentence."""

from collections import Counter
from collections.abc import Collection
from typing import Any

import numpy as np

from xgap_analysis.core.counts import check_count
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
    check_count(seed, "a seed", 0)


def check_seeds(seeds: Any) -> None:
    """Refuse what is no list of seeds, or one in which a seed stands twice: the same run would count as two.

    Raises:
        XgapError: no list, something that is no seed, or a seed that stands twice.
    """
    if isinstance(seeds, str) or not isinstance(seeds, Collection):
        raise XgapError(f"seeds are a list, such as [0, 1, 2], not {seeds!r}")
    for seed in seeds:
        check_seed(seed)
    twice = next((seed for seed, n in Counter(map(int, seeds)).items() if n > 1), None)
    if twice is not None:
        raise XgapError(f"seed {twice} stands twice in the seeds, and one run would count as two; give each once")
