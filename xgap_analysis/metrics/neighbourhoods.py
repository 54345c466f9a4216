"""Neighbourhoods: which gallery items are near many queries (hubs), and which near none (orphans)."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from xgap_analysis.core.counts import check_count
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.precision import exact
from xgap_analysis.core.relevance import Relevance, RelevanceLike, as_relevance
from xgap_analysis.core.tokens import ScoredLike, scored_pair
from xgap_analysis.metrics.graded import graded_blocks
from xgap_analysis.scoring.blocks import ScoreNormaliser, first_of
from xgap_analysis.scoring.cosine import COSINE
from xgap_analysis.scoring.reductions import top
from xgap_analysis.scoring.scorer import ScoreFunction, Scorer


def nearest_items(
    query: ScoredLike,
    gallery: ScoredLike,
    query_id: str,
    relevance: RelevanceLike,
    k: int = 8,
    normalise: ScoreNormaliser | None = None,
    scorer: str | Scorer | ScoreFunction = COSINE,
) -> pd.DataFrame:
    """The k nearest gallery items of one query, as `retrieval` ranks them.

    Returns:
        at most k rows: `item`, `rank` (from 1), `score` (the cosine, or what `normalise` makes of it), `hit`.

    Raises:
        XgapError: an id that is no query, or k below 1.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> vectors = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> images = xg.Features(vectors, ["a", "b", "c"], space="image", origin="image")
        >>> labels = {"a": "cat", "b": "cat", "c": "dog"}
        >>> relevance = xg.Relevance.from_labels(labels, labels)
        >>> xg.metrics.nearest_items(images, images, "a", relevance, k=2).round(3)
          item  rank  score    hit
        0    b     1  0.994   True
        1    c     2  0.000  False
    """
    check_count(k, "k, a number of neighbours,")
    query, gallery = scored_pair(query, gallery)
    bound = as_relevance(relevance, query, gallery)
    if bound.query_labels is not None and not isinstance(bound.query_labels, Mapping):  # of rows, which are selected
        bound.bind(query.ids, gallery.ids)
        bound = replace(bound, query_labels=dict(zip(query.ids, bound.query_labels, strict=True)))
    one = query.select([query_id])
    how: dict[str, Any] = {"exclude_self": True, "block": 1, "normalise": normalise, "scorer": scorer}
    scores, grades, ignored = next(graded_blocks(one, gallery, bound, **how))
    scores = scores.masked_fill(ignored, -math.inf)
    order = [int(i) for i in first_of(scores, k)[0] if not ignored[0, i]]
    return pd.DataFrame(
        {
            "item": [gallery.ids[i] for i in order],
            "rank": range(1, len(order) + 1),
            "score": [float(scores[0, i]) for i in order],
            "hit": [bool(grades[0, i] > 0) for i in order],
        }
    )


def k_occurrence(
    query: ScoredLike,
    gallery: ScoredLike,
    k: int = 10,
    exclude_self: bool = True,
    *,
    block: int | None = None,
    scorer: str | Scorer | ScoreFunction = COSINE,
) -> Int[Tensor, " m"]:
    """N_k: for each gallery item, the number of queries that have it among their k nearest items.

    Args:
        query, gallery: `[n, d]` and `[m, d]`.
        k: size of a neighbourhood.
        exclude_self: an item is no neighbour of the query with its id.
        block: queries at a time; memory grows with `block * m` (see `retrieval`).

    Returns:
        counts `[m]`, each in 0 .. n; they add up to `k * n`.

    Raises:
        XgapError: no queries or items, different dimensions, or fewer than k items to choose from.

    Source: Radovanovic, Nanopoulos, Ivanovic, Hubs in space, JMLR 2010, section 2.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> vectors = np.array([[1.0, 0.0], [0.9, 0.1], [0.8, 0.3], [0.0, 1.0]])
        >>> xg.metrics.k_occurrence(vectors, vectors, k=1).tolist()
        [1, 2, 1, 0]
    """
    query, gallery = scored_pair(query, gallery)
    check_count(k, "k, a number of neighbours,")
    counts = torch.zeros(len(gallery), dtype=torch.long, device=query.vectors.device)
    nothing = Relevance.from_qrels({})
    for scores, _, ignored in graded_blocks(
        query, gallery, nothing, exclude_self=exclude_self, block=block, scorer=scorer
    ):
        least = int((~ignored).sum(dim=1).min())
        if k > least:
            raise XgapError(f"k must lie between 1 and the {least} items that a query can choose from, not {k}")
        counts += top(scores.masked_fill(ignored, -math.inf), None, 1, k).sum(dim=0)
    return counts


def hubness(
    query: ScoredLike,
    gallery: ScoredLike,
    k: int = 10,
    exclude_self: bool = True,
    *,
    block: int | None = None,
    scorer: str | Scorer | ScoreFunction = COSINE,
) -> pd.DataFrame:
    """How unevenly the gallery's items are chosen as neighbours; one row.

    | column | formula | how to read it |
    |---|---|---|
    | `skewness` | `E[(N_k - mean)^3] / std^3` | 0 even (also where all N_k are equal); above 1 marked hubs |
    | `hub_share` | share of items with N_k at least twice its mean `k n / m` (2k within one set) | [0, 0.5] |
    | `orphan_share` | share of items with N_k = 0, which no query ever reaches | [0, 1]; high is bad |

    Args:
        query, gallery, k, exclude_self, block: as in `k_occurrence`.

    Raises:
        XgapError: as `k_occurrence`.

    Source: skewness of N_k, Radovanovic et al., JMLR 2010, section 2; hubs from 2k on and orphans ("anti-hubs"),
    Flexer and Schnitzer, Choosing lp norms in high-dimensional spaces based on hub analysis, Neurocomputing 2015
    (scikit-hubness requires more than 2k; Radovanovic et al. for two standard deviations above the mean).

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> vectors = np.random.default_rng(0).normal(size=(200, 16))
        >>> xg.hubness(vectors, vectors).round(2)
           skewness  hub_share  orphan_share
        0      0.21        0.0           0.0
    """
    query, gallery = scored_pair(query, gallery)
    counts = exact(k_occurrence(query, gallery, k, exclude_self, block=block, scorer=scorer))
    spread = counts - counts.mean()
    std = float(spread.square().mean().sqrt())
    row = {
        "skewness": float(spread.pow(3).mean()) / std**3 if std else 0.0,
        "hub_share": float(exact(counts >= 2 * k * len(query) / len(gallery)).mean()),
        "orphan_share": float(exact(counts == 0).mean()),
    }
    return pd.DataFrame([row])
