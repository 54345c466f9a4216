"""Whether an item has the same rank for queries in several languages."""

import numpy as np
import pandas as pd
import torch

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.relevance import RelevanceLike, as_relevance
from xgap_analysis.core.tokens import ScoredLike, scored_pair
from xgap_analysis.metrics.ranks import relevant_ranks
from xgap_analysis.scoring.cosine import COSINE
from xgap_analysis.scoring.scorer import ScoreFunction, Scorer


def best_ranks(
    query: ScoredLike,
    gallery: ScoredLike,
    relevance: RelevanceLike,
    *,
    exclude_self: bool = True,
    block: int | None = None,
    scorer: str | Scorer | ScoreFunction = COSINE,
) -> pd.Series:
    """The rank of each query's first relevant item, from 0.

    Args:
        query, gallery, relevance, exclude_self, block, scorer: as of `retrieval`.

    Returns:
        Ranks by query id, NaN where a query has no relevant item.

    Raises:
        XgapError: as `retrieval`.

    Example:
        >>> import torch
        >>> best_ranks(torch.eye(3)[[1]], torch.eye(3), (["b"], ["a", "b", "c"])).tolist()
        [0.0]
    """
    query, gallery = scored_pair(query, gallery)
    bound = as_relevance(relevance, query, gallery).bind(query.ids, gallery.ids)
    apart = exclude_self and query.has_items_of(gallery)
    found = []
    for ranks in relevant_ranks(query, gallery, bound, exclude_self=apart, block=block, normalise=None, scorer=scorer):
        first = torch.full((ranks.queries,), torch.inf, dtype=torch.float64)
        first.scatter_reduce_(0, ranks.row.cpu(), ranks.rank.cpu().double(), "amin")
        found.append(first.where(first.isfinite(), torch.nan))
    return pd.Series(torch.cat(found).numpy(), pd.Index(query.ids, name="query"), name="rank")


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
