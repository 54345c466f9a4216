"""Scores beside the grades of relevance, one block of queries at a time."""

import math
from collections.abc import Iterator

from jaxtyping import Bool, Float
from torch import Tensor

from xgap_analysis.core.relevance import RelevanceLike, as_relevance
from xgap_analysis.core.tokens import AnyFeatures
from xgap_analysis.scoring.blocks import ScoreNormaliser, score_blocks
from xgap_analysis.scoring.cosine import COSINE
from xgap_analysis.scoring.scorer import ScoreFunction, Scorer


def graded_blocks(
    query: AnyFeatures,
    gallery: AnyFeatures,
    relevance: RelevanceLike,
    *,
    exclude_self: bool,
    block: int | None,
    normalise: ScoreNormaliser | None = None,
    scorer: str | Scorer | ScoreFunction = COSINE,
) -> Iterator[tuple[Float[Tensor, "b m"], Float[Tensor, "b m"], Bool[Tensor, "b m"]]]:
    """Scores, grades, and what is left out of the ranking, one block of queries at a time (see `as_relevance`).

    Where `normalise` changes scores, those that are left out are minus infinity for it, and after it.
    """
    bound = as_relevance(relevance, query, gallery).bind(query.ids, gallery.ids)
    exclude_self = exclude_self and query.has_items_of(gallery)
    for start, stop, scores in score_blocks(query, gallery, scorer, block=block):
        grades = bound.grades(start, stop).to(scores.device)
        ignored = bound.ignored(start, stop, exclude_self).to(scores.device)
        if normalise is not None:
            scores = normalise(scores.masked_fill(ignored, -math.inf)).masked_fill(ignored, -math.inf)
        yield scores, grades, ignored
