"""All scores of queries against a gallery, in blocks."""

import torch
from torch import Tensor

from xgap_analysis.core.features import FeaturesLike, as_pair
from xgap_analysis.scoring.blocks import score_blocks
from xgap_analysis.scoring.cosine import COSINE
from xgap_analysis.scoring.scorer import ScoreFunction, Scorer


def score(
    query: FeaturesLike,
    gallery: FeaturesLike,
    scorer: str | Scorer | ScoreFunction = COSINE,
    *,
    block: int | None = None,
) -> Tensor:
    """The score of every query with every gallery item.

    Read a row as the ranking of one query: the highest score is the nearest item. For large sets use `retrieval`,
    which never holds the whole matrix.

    Args:
        query, gallery: `[n, d]` and `[m, d]`; Features, or arrays.
        scorer: by name (`"cosine"`), with options or without, or a function of one block.
        block: queries scored at a time; no number depends on it.

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
    query, gallery = as_pair(query, gallery)
    return torch.cat([part.clone() for _, _, part in score_blocks(query, gallery, scorer, block=block)])
