"""Scorers made of scorers: a weighted sum, a second look at the best of a first, and query and gallery exchanged."""

from collections.abc import Sequence
from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.calls import Call
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.scoring.blocks import score_blocks
from xgap_analysis.scoring.reductions import top
from xgap_analysis.scoring.rows import score_chosen, score_rows
from xgap_analysis.scoring.scorer import ScoreFunction, Scorer, is_scorer, register_scorer, scorer

Part = str | Call | Scorer | ScoreFunction

OF_ALL = ("votes", "rerank")  # the score of an item depends on which others are in the gallery


@register_scorer("sum", takes="features")
def weighted_sum(
    query: TokenFeatures, gallery: TokenFeatures, *parts: Part, weights: Sequence[int | float] | None = None
) -> Float[Tensor, "b m"]:
    """The weighted sum of the scores of several scorers: `sum(cosine, late_interaction, weights=[1, 0.5])`.

    Args:
        query, gallery: what each of the parts is given.
        parts: scorers, by name or as they are.
        weights: one per part; 1 each by default.

    Raises:
        XgapError: no part, or weights that do not fit.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> xg.score(np.eye(2), np.eye(2), scorer="sum(cosine, cosine, weights=[1, 2])").tolist()
        [[3.0, 0.0], [0.0, 3.0]]
    """
    if not parts:
        raise XgapError("a sum of scorers needs at least one: sum(cosine, late_interaction)")
    if weights is not None and (isinstance(weights, Real | str) or not all(isinstance(w, Real) for w in weights)):
        raise XgapError(f"weights of a sum are a list, one for each scorer: weights=[1, 0.5], not {weights!r}")
    if weights is not None and len(weights) != len(parts):
        raise XgapError(f"a sum of {len(parts)} scorers needs as many weights, not {len(weights)}")
    total = torch.zeros(len(query), len(gallery), device=query.vectors.device)
    for part, weight in zip(parts, weights or [1.0] * len(parts), strict=True):
        total += float(weight) * score_rows(query, gallery, scorer(part))
    return total


@register_scorer("exchanged", takes="features")
def exchanged(query: TokenFeatures, gallery: TokenFeatures, part: Part) -> Float[Tensor, "b m"]:
    """The score that a gallery item, as the query, gives to the query: one matrix of scores read the other way.

    For scorers of one direction, whose scores of texts and images (`pooled`, SCAN's among them) are published as one
    matrix that ranks images for a text by its rows, and texts for an image by its columns.

    Args:
        query, gallery: what the part is given, exchanged.
        part: a scorer of one query and one item, whatever else there is.

    Raises:
        XgapError: `votes` or `rerank`, alone or in a sum: queries come in blocks, and the score would hang on them.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> xg.score(np.eye(2)[:1], np.eye(2), scorer="exchanged(cosine)").tolist()
        [[1.0, 0.0]]
    """
    of_all = _of_all(scorer(part))
    if of_all is not None:
        what = f"{of_all} compares the items of a whole gallery, and exchanged gives it a part of the queries as one"
        raise XgapError(f"{what}; give query and gallery the other way round")
    return torch.cat([block.clone() for *_, block in score_blocks(gallery, query, scorer(part))]).T


def _of_all(of: Scorer) -> Scorer | None:
    """The scorer, or the first that it is made of, whose scores depend on the whole gallery."""
    if of.name in OF_ALL:
        return of
    return next((found for part in of.arguments if is_scorer(part) and (found := _of_all(scorer(part)))), None)


@register_scorer("rerank", takes="features")
def rerank(
    query: TokenFeatures, gallery: TokenFeatures, first: Part, second: Part, *, depth: int = 100
) -> Float[Tensor, "b m"]:
    """The best `depth` items of each query by the first scorer, in the order of the second, before all others.

    The best items have the second's scores. The others keep the first's order; where they would come before one of the
    best, they are all moved down by as much as that takes. Scores of these and those are therefore no one scale: read
    rankings, not values.

    Args:
        query, gallery: what both are given.
        first: a scorer that costs little: `late_interaction(inner=mean, outer=mean)`, say.
        second: a scorer that costs much.
        depth: items that the second scores; all of them where the gallery has no more.

    Raises:
        XgapError: a depth below 1.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> xg.score(np.eye(2), np.eye(2), scorer="rerank(first=cosine, second=cosine, depth=1)").argmax(1).tolist()
        [0, 1]
    """
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise XgapError(f"depth of rerank must be a whole number of 1 or more, not {depth!r}")
    second = scorer(second)
    if depth >= len(gallery):
        return score_rows(query, gallery, second)
    scores = score_rows(query, gallery, scorer(first))
    best = top(scores, None, 1, depth)
    columns = best.nonzero()[:, 1].view(len(query), depth)
    anew = score_chosen(query, gallery, second, columns.cpu())
    low = anew.amin(dim=1, keepdim=True)
    behind = torch.nextafter(low, torch.full_like(low, -torch.inf))
    highest = scores.masked_fill(best, -torch.inf).amax(dim=1, keepdim=True)
    moved = torch.minimum(scores - (highest - behind).clamp_min(0), behind)
    return moved.scatter(1, columns, anew)
