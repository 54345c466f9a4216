"""All scores of queries against a gallery, in blocks."""

import torch
from torch import Tensor

from xgap_analysis.core.calls import Call
from xgap_analysis.core.tokens import ScoredLike, scored_pair
from xgap_analysis.scoring.blocks import score_blocks
from xgap_analysis.scoring.cosine import COSINE
from xgap_analysis.scoring.scorer import ScoreFunction, Scorer


def score(
    query: ScoredLike,
    gallery: ScoredLike,
    scorer: str | Call | Scorer | ScoreFunction = COSINE,
    *,
    block: int | None = None,
) -> Tensor:
    """The score of every query with every gallery item.

    Read a row as the ranking of one query: the highest score is the nearest item. For large sets use `retrieval`,
    which never holds the whole matrix.

    Args:
        query, gallery: n and m items, each Features (one vector per item) or TokenFeatures (a set of vectors per item).
        scorer: by name (`"cosine"`, `"late_interaction(inner=max, outer=mean)"`), or a function of one block.
        block: queries scored at a time; no number depends on it, beyond rounding.

    Returns:
        float32 `[n, m]`, on the device of the query, or on the processor where that device has no double precision.

    Raises:
        XgapError: an empty query or gallery, different dimensions, or a scorer that gives something else than scores.

    Example:
        >>> import torch, xgap_analysis as xg
        >>> x = xg.Features(torch.eye(3), ["a", "b", "c"], "image", "image")
        >>> xg.score(x, x).diagonal().tolist()
        [1.0, 1.0, 1.0]
    """
    query, gallery = scored_pair(query, gallery)
    return torch.cat([part.clone() for _, _, part in score_blocks(query, gallery, scorer, block=block)])
