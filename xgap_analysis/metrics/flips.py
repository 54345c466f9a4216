"""Flips: how often the first item of a ranking changes when features are a little wrong."""

from dataclasses import replace

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.features import Features, FeaturesLike, as_pair
from xgap_analysis.core.precision import exact
from xgap_analysis.core.seeds import generator
from xgap_analysis.scoring.blocks import ScoreNormaliser, score_blocks
from xgap_analysis.scoring.cosine import COSINE
from xgap_analysis.scoring.scorer import ScoreFunction, Scorer

CHANGES = ("noise", "int8", "binary")


def flips(
    query: FeaturesLike,
    gallery: FeaturesLike,
    *,
    by: str = "noise",
    sigma: float = 0.1,
    draws: int = 5,
    seed: int = 0,
    exclude_self: bool = True,
    scorer: str | Scorer | ScoreFunction = COSINE,
    normalise: ScoreNormaliser | None = None,
) -> pd.Series:
    """How often a query's first gallery item changes under noise or rounding; one value per query.

    How to read it: 0 where the first item never changes, 1 where it always does. It says nothing of whether the first
    item is relevant. Compare two corrections by the same change: fewer flips at the same retrieval are a gain.

    Formula: the share of `draws` in which the first item after the change differs from the first before it. A change
    is of query and gallery: `noise` adds a Gaussian vector of expected length sigma to each unit vector; `int8` rounds
    each vector to `round(x / s) s` with `s = max |x| / 127`; `binary` keeps signs (zero counts as positive). Rounding
    is the same in each draw, so that it is done once. Vectors are scaled to unit length afterwards.

    Args:
        query: `[n, d]`; gallery: `[m, d]`, with two items at least.
        by: `"noise"`, `"int8"` or `"binary"`.
        sigma: length of the noise, against vectors of length 1.
        draws, seed: of the noise.
        exclude_self: leave out the item that is the query itself.
        scorer, normalise: how a pair is scored, and what changes a block of scores.

    Raises:
        XgapError: an unknown change, a negative sigma, draws below 1, or a gallery of one item.

    Source: the flip rates of "Bug or feature?", CVPR 2026 (arXiv 2603.29080), of retrieval instead of classes.

    Example:
        >>> import numpy as np
        >>> apart = np.eye(6)
        >>> float(flips(apart[:2] + 0.1 * apart[2:4], apart, sigma=0.01).mean())  # the first item is far ahead
        0.0
    """
    if by not in CHANGES:
        raise unknown_name("change", by, CHANGES)
    if not sigma >= 0 or draws < 1:
        raise XgapError(f"flips take a sigma of 0 or more and 1 draw or more, not {sigma} and {draws}")
    query, gallery = as_pair(query, gallery)
    if len(gallery) < 2:
        raise XgapError("flips need a gallery of 2 items or more: the first of one item cannot change")
    own = _own(query, gallery) if exclude_self else None
    first = _first(query, gallery, own, scorer, normalise)
    changed = torch.zeros(len(query), dtype=torch.float64)
    times = draws if by == "noise" else 1
    for draw in range(times):
        q, g = (_changed(features, by, sigma, (seed, draw, k)) for k, features in enumerate((query, gallery)))
        changed += (_first(q, g, own, scorer, normalise) != first).cpu().double()
    return pd.Series((changed / times).numpy(), pd.Index(query.ids, name="query"), name="flips")


def _changed(features: Features, by: str, sigma: float, of: tuple[int, int, int]) -> Features:
    rows = exact(features.vectors)
    if by == "noise":
        drawn = torch.from_numpy(generator(*of).normal(size=rows.shape)).to(rows.device)
        return replace(features, vectors=rows + sigma / rows.shape[1] ** 0.5 * drawn)
    if by == "int8":
        step = rows.abs().amax(dim=1, keepdim=True) / 127
        return replace(features, vectors=(rows / step).round() * step)
    return replace(features, vectors=torch.where(rows >= 0, 1.0, -1.0))


def _own(query: Features, gallery: Features) -> Int[Tensor, " n"] | None:
    """The column of each query's own item, or -1."""
    if not query.has_items_of(gallery):
        return None
    place = {item: column for column, item in enumerate(gallery.ids)}
    return torch.tensor([place.get(item, -1) for item in query.ids])


def _first(
    query: Features,
    gallery: Features,
    own: Int[Tensor, " n"] | None,
    scorer: str | Scorer | ScoreFunction,
    normalise: ScoreNormaliser | None,
) -> Int[Tensor, " n"]:
    found = []
    for start, stop, part in score_blocks(query, gallery, scorer):
        ignored = torch.zeros(part.shape, dtype=torch.bool, device=part.device)
        if own is not None:
            at = own[start:stop].to(part.device)
            rows = (at >= 0).nonzero()[:, 0]
            ignored[rows, at[rows]] = True
        scores: Float[Tensor, "b m"] = part.masked_fill(ignored, -torch.inf)
        if normalise is not None:  # which sees no score of what is left out, as in `retrieval`
            scores = normalise(scores).masked_fill(ignored, -torch.inf)
        found.append(scores.argmax(dim=1).cpu())
    return torch.cat(found)
