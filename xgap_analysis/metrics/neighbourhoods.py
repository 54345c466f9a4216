"""Neighbourhoods: which gallery items are near many queries (hubs), and which near none (orphans)."""

import math

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xgap_analysis.datasets.records import Relevance
from xgap_analysis.errors import XgapError
from xgap_analysis.features import Features
from xgap_analysis.metrics.retrieval import blocks


def nearest(scores: Float[Tensor, "b m"], k: int) -> Bool[Tensor, "b m"]:
    """Marks the k highest scores of each row; among equal ones at the edge, the first columns."""
    edge = scores.topk(k, dim=1).values[:, -1:]
    above, level = scores > edge, scores == edge
    return above | (level & (level.cumsum(dim=1) <= k - above.sum(dim=1, keepdim=True)))


def k_occurrence(
    query: Features, gallery: Features, k: int = 10, exclude_self: bool = True, *, block: int = 256
) -> Int[Tensor, " m"]:
    """N_k: for each gallery item, the number of queries that have it among their k nearest items.

    Args:
        query, gallery: `[n, d]` and `[m, d]`.
        k: size of a neighbourhood.
        exclude_self: an item is no neighbour of the query with its id.
        block: queries at a time; memory grows with `block * m`.

    Returns:
        counts `[m]`, each in 0 .. n; they add up to `k * n`.

    Raises:
        XgapError: an empty side, different dimensions, or fewer than k items to choose from.

    Source: Radovanovic, Nanopoulos, Ivanovic, Hubs in space, JMLR 2010, section 2.
    """
    counts = torch.zeros(len(gallery), dtype=torch.long, device=query.vectors.device)
    nothing = Relevance.from_qrels({})
    for scores, _, ignored in blocks(query, gallery, nothing, exclude_self=exclude_self, block=block):
        least = int((~ignored).sum(dim=1).min())
        if not 1 <= k <= least:
            raise XgapError(f"k must lie between 1 and the {least} items that a query can choose from, not {k}")
        counts += nearest(scores.masked_fill(ignored, -math.inf), k).sum(dim=0)
    return counts


def hubness(
    query: Features, gallery: Features, k: int = 10, exclude_self: bool = True, *, block: int = 256
) -> pd.DataFrame:
    """How unevenly the gallery's items are chosen as neighbours; one row.

    | column | formula | how to read it |
    |---|---|---|
    | `skewness` | `E[(N_k - mean)^3] / std^3` | 0 even (also where all N_k are equal); above 1 marked hubs |
    | `hub_share` | share of items with N_k at least twice its mean `k n / m` (2k where a set asks itself) | [0, 0.5] |
    | `orphan_share` | share of items with N_k = 0, which no query ever reaches | [0, 1]; high is bad |

    Args:
        query, gallery, k, exclude_self, block: as in `k_occurrence`.

    Raises:
        XgapError: as `k_occurrence`.

    Source: skewness of N_k, Radovanovic et al., JMLR 2010, section 2; hubs from 2k on and orphans ("anti-hubs"),
    Flexer and Schnitzer, Choosing lp norms in high-dimensional spaces based on hub analysis, Neurocomputing 2015
    (scikit-hubness asks for more than 2k; Radovanovic et al. for two standard deviations above the mean).
    """
    counts = k_occurrence(query, gallery, k, exclude_self, block=block).double()
    spread = counts - counts.mean()
    std = float(spread.square().mean().sqrt())
    row = {
        "skewness": float(spread.pow(3).mean()) / std**3 if std else 0.0,
        "hub_share": float((counts >= 2 * k * len(query) / len(gallery)).double().mean()),
        "orphan_share": float((counts == 0).double().mean()),
    }
    return pd.DataFrame([row])
