"""Whether an item has the same rank for queries in several languages."""

import numpy as np
import pandas as pd

from xgap_analysis.core.errors import XgapError


def rank_variance(ranks: np.ndarray | pd.DataFrame, *, root: bool = False) -> float:
    """Mean Rank Variance: how far the ranks of an item lie apart when it is sought in several languages; 0 is best.

    Formula: `mean over items of var over languages of rank`, the variance of the population. The published code takes
    the standard deviation, under the same name: `root=True`.

    Args:
        ranks: `[items, languages]`, as `best_ranks` gives them for each language; items that lack one are left out.
        root: standard deviations in place of variances.

    Raises:
        XgapError: no item with a rank in each language, or fewer than two languages.

    Source: Nie et al., 1-to-K contrastive learning for cross-lingual cross-modal retrieval, KDD 2024.

    Example:
        >>> rank_variance(np.array([[0, 2], [5, 5]])), rank_variance(np.array([[0, 2], [5, 5]]), root=True)
        (0.5, 0.5)
    """
    values = np.asarray(ranks, dtype=float)
    if values.ndim != 2 or values.shape[1] < 2:
        raise XgapError(f"ranks are [items, languages] of two languages or more, not {list(values.shape)}")
    values = values[~np.isnan(values).any(axis=1)]
    if not len(values):
        raise XgapError("no item has a rank in each language; take the languages that all of them have")
    return float((values.std(axis=1) if root else values.var(axis=1)).mean())
