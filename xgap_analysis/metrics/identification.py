"""Identification: the place of the one item that is wanted, with ties counted against it."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.relevance import RelevanceLike
from xgap_analysis.core.tokens import ScoredLike, scored_pair
from xgap_analysis.metrics.graded import graded_blocks
from xgap_analysis.metrics.metric import register_metric
from xgap_analysis.scoring.blocks import ScoreNormaliser
from xgap_analysis.scoring.scorer import ScoreFunction, Scorer

COLUMNS = ("votes", "rank", "reciprocal_rank", "rank_published", "reciprocal_rank_published")


def identified(
    query: ScoredLike,
    gallery: ScoredLike,
    relevance: RelevanceLike,
    *,
    scorer: str | Scorer | ScoreFunction = "votes",
    normalise: ScoreNormaliser | None = None,
    exclude_self: bool = True,
) -> pd.DataFrame:
    """Where the piece of each query stands when pieces are ranked by votes; one row per query.

    | column | is | range, good end |
    |---|---|---|
    | `votes` | votes of the query's own piece (the best, where several are relevant) | 0 .., high |
    | `rank` | how many pieces have at least as many, its own among them | 1 .. m, 1 |
    | `reciprocal_rank` | 1 / rank | (0, 1], 1 |
    | `rank_published` | the same, but a piece without votes has the number of pieces that have any | 1 .. m, 1 |
    | `reciprocal_rank_published` | 1 / rank_published | (0, 1], 1 |

    How to read it: ties count against the query, so a piece without a vote has the last rank, m. The published code
    gives it the number of pieces with votes, which is optimistic: where all votes go to one wrong piece, a piece that
    nothing voted for is ranked first. Beyond that the published order of ties is that of a sort, and here the worst.

    Args:
        query, gallery: pieces, with a token for each snippet; see `scoring.votes`.
        relevance: which pieces are relevant; see `retrieval`.
        scorer: `votes(k=25)`, or another. `rank_published` takes a score of 0 for no votes.
        normalise: changes a block of scores before they are ranked.
        exclude_self: take the query itself out of its ranking; see `retrieval`.

    Returns:
        n rows, indexed by query id ("query"); NaN where a query has no relevant piece. The mean of `reciprocal_rank` is
        the MRR.

    Raises:
        XgapError: no query with a relevant piece, or as `retrieval`.

    Source: Carvalho, Washüttl and Widmer, ACM MMSys 2023, and its published code (piece identification).

    Example:
        >>> import torch, xgap_analysis as xg
        >>> pieces = xg.TokenFeatures(torch.eye(4)[:, :3] + 0.1, [0, 1, 2, 3, 4], list("abcd"), "image", "image")
        >>> heard = xg.TokenFeatures(torch.eye(3)[:1], [0, 1], ["x"], "audio", "audio")
        >>> table = identified(heard, pieces, {"x": 1, "a": 0, "b": 1, "c": 2, "d": 3}, scorer="votes(k=1)")
        >>> table[["votes", "rank", "rank_published"]].values.tolist()  # piece b got no vote
        [[0.0, 4.0, 1.0]]
    """
    query, gallery = scored_pair(query, gallery)
    blocks = graded_blocks(query, gallery, relevance, exclude_self=exclude_self, block=None, scorer=scorer)
    rows = []
    for scores, grades, ignored in blocks:
        changed = scores.masked_fill(ignored, -math.inf)
        changed = changed if normalise is None else normalise(changed).masked_fill(ignored, -math.inf)
        relevant = (grades > 0) & ~ignored
        own = changed.masked_fill(~relevant, -math.inf).amax(dim=1)
        rank = (changed >= own[:, None]).sum(dim=1)
        published = rank.where(own > 0, (changed > 0).sum(dim=1).clamp(min=1))
        votes, place, other = (x.cpu().double().numpy() for x in (own, rank, published))
        block = np.stack([votes, place, 1 / place, other, 1 / other], axis=1)
        block[~relevant.any(dim=1).cpu().numpy()] = np.nan
        rows.append(block)
    found = np.concatenate(rows)
    if np.isnan(found).all():
        raise XgapError("no query has a relevant piece in this gallery; check the labels of both")
    return pd.DataFrame(found, index=pd.Index(query.ids, name="query"), columns=list(COLUMNS))


@register_metric("identified")
def _identified(
    query: ScoredLike,
    gallery: ScoredLike,
    relevance: RelevanceLike,
    *,
    scorer: Scorer,
    normalise: ScoreNormaliser | None = None,
) -> Mapping[str, pd.Series]:
    """1 / rank of each query's own piece, with ties counted against it, and by the published rule."""
    table = identified(query, gallery, relevance, scorer=scorer, normalise=normalise)
    return {name: table[name] for name in COLUMNS if name.startswith("reciprocal")}
