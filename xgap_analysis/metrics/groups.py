"""Labels of groups as numbers."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from xgap_analysis.core.errors import XgapError

Groups: TypeAlias = Sequence[Any] | np.ndarray | pd.Series


def group_codes(labels: Groups) -> np.ndarray:
    """A number from 0 for each label, in the order in which they come; -1 for NaN and None.

    A label is a word, a number, or several of these as a tuple, such as `("cat", "noto")`.

    Raises:
        XgapError: labels that are no such thing, as lists and arrays.

    Example:
        >>> group_codes([("cat", 1), ("dog", 1), ("cat", 1)]).tolist()
        [0, 1, 0]
    """
    own = list(labels)
    cells: np.ndarray = np.empty(len(own), dtype=object)
    for place, label in enumerate(own):  # an array of tuples would be a matrix
        cells[place] = label
    try:
        return np.asarray(pd.factorize(cells)[0])
    except TypeError as error:
        strange = next(type(label).__name__ for label in own if not pd.api.types.is_hashable(label))
        raise XgapError(f"groups are labels, words, numbers or tuples of them, and one is a {strange}") from error
