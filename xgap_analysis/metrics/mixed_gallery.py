"""A gallery of several modalities: which modality the first places go to, and the ranks of paired items in it."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.mixed import kinds_of, shares_of
from xgap_analysis.core.precision import exact
from xgap_analysis.core.relevance import Relevance, RelevanceLike
from xgap_analysis.core.tokens import AnyFeatures, ScoredLike, scored_pair
from xgap_analysis.metrics.graded import graded_blocks
from xgap_analysis.metrics.metric import register_metric
from xgap_analysis.scoring.blocks import ScoreNormaliser, first_of
from xgap_analysis.scoring.cosine import COSINE
from xgap_analysis.scoring.scorer import ScoreFunction, Scorer


def modality_share(
    query: ScoredLike,
    gallery: ScoredLike,
    relevance: RelevanceLike,
    *,
    of: Mapping[str, str] | None = None,
    k: int = 10,
    exclude_self: bool = True,
    block: int | None = None,
    normalise: ScoreNormaliser | None = None,
    scorer: str | Scorer | ScoreFunction = COSINE,
) -> pd.DataFrame:
    """The share of each modality in the first k items, beside its share in what is relevant and in the gallery.

    Formula: `share_at_k_m = mean of s_m over the first k items`, `share_relevant_m` the same over all relevant items,
    `share_gallery_m` over all items that are ranked, s_m the share of modality m in an item: 0 or 1 for an image or a
    text, between them for a document of both (see `shares_of`).

    How to read it: all in [0, 1], and the shares of one kind add up to 1. A ranking that does not prefer a modality has
    the share of the relevant items where it is right, and that of the gallery where it is random. A modality gap shows
    as a share of the query's own modality that is above both, and that a correction such as `center` lowers.

    Args:
        query, gallery: `[n, d]` and `[m, d]`; the gallery from `mixed`, or the comparisons `I-IT` and `T-IT`.
        relevance: as of `retrieval`.
        of: gallery id to its modality, or to any other group (its language, its source); by default that which the
            gallery says itself.
        k: places; where fewer items are ranked, these.
        exclude_self, block, normalise, scorer: as of `retrieval`.

    Returns:
        One row per query, with three columns for each modality; NaN in `share_relevant_...` where nothing is relevant.

    Raises:
        XgapError: k below 1, or a gallery item that `of` does not name.

    Source: the effect is that of Li et al. (GR-CLIP, MixBench), 2025; the measure is ours.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> images = xg.Features(np.array([[0.6, 0.8], [0.0, 1.0]]), ["a", "b"], space="image", origin="image")
        >>> texts = xg.Features(np.array([[1.0, 0.0], [0.8, 0.6]]), ["c", "d"], space="text", origin="text")
        >>> query = texts.select(["c"])
        >>> found = xg.modality_share(query, xg.mixed(images, texts), {"c": {"a": 1, "d": 1}}, k=1)
        >>> found[["share_at_1_text", "share_relevant_text"]].iloc[0].tolist()
        [1.0, 0.5]
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise XgapError(f"k of modality_share is a whole number of 1 or more, not {k!r}")
    query, gallery = scored_pair(query, gallery)
    shares = shares_of(gallery) if of is None else _indicators(gallery, of)
    how: dict[str, Any] = {"exclude_self": exclude_self, "block": block, "normalise": normalise, "scorer": scorer}
    parts: dict[str, list[Tensor]] = {}
    for scores, relevant, ranked in _ranked(query, gallery, relevance, how):
        order = first_of(scores, k)
        order, first, relevant, ranked = (of.cpu() for of in (order, ranked.gather(1, order), relevant, ranked))
        for modality, own in shares.items():  # doubles, on the processor
            for name, found in (
                (f"share_at_{k}_{modality}", _mean(own[order], first)),
                (f"share_relevant_{modality}", _mean(own, relevant)),
                (f"share_gallery_{modality}", _mean(own, ranked)),
            ):
                parts.setdefault(name, []).append(found)
    return _frame(query, parts)


def rank_among(
    query: ScoredLike,
    gallery: ScoredLike,
    relevance: RelevanceLike,
    *,
    of: Mapping[str, str] | None = None,
    exclude_self: bool = True,
    block: int | None = None,
    normalise: ScoreNormaliser | None = None,
    scorer: str | Scorer | ScoreFunction = COSINE,
) -> pd.DataFrame:
    """The rank of each query's best relevant item of a modality, among the items of that modality and among all.

    Formula: `rank_m = 1 + number of items of modality m that rank before it`, `rank_m_in_all = 1 + number of items that
    do`; of equal scores, the earlier in the gallery ranks first.

    How to read it: 1 is best. `rank_image` is what retrieval of images alone gives; where `rank_image_in_all` is much
    larger, items of the other modality rank before the right image because of their modality.

    Args:
        query, gallery, relevance, of, exclude_self, block, normalise, scorer: as of `modality_share`; a document of
            several modalities is of the kind `image+text`.

    Returns:
        One row per query, with two columns for each modality; NaN where no item of it is relevant.

    Raises:
        XgapError: as `modality_share`.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> images = xg.Features(np.array([[0.6, 0.8], [0.0, 1.0]]), ["a", "b"], space="image", origin="image")
        >>> texts = xg.Features(np.array([[1.0, 0.0], [0.8, 0.6]]), ["c", "d"], space="text", origin="text")
        >>> found = xg.rank_among(texts.select(["c"]), xg.mixed(images, texts), {"c": {"a": 1}})
        >>> found[["rank_image", "rank_image_in_all"]].iloc[0].tolist()
        [1.0, 2.0]
    """
    query, gallery = scored_pair(query, gallery)
    groups = _indicators(gallery, kinds_of(gallery) if of is None else of)
    how: dict[str, Any] = {"exclude_self": exclude_self, "block": block, "normalise": normalise, "scorer": scorer}
    parts: dict[str, list[Tensor]] = {}
    for scores, relevant, ranked in _ranked(query, gallery, relevance, how):
        for modality, member in groups.items():
            own = (member > 0).to(scores.device)
            sought = relevant & own
            before = _before(scores, sought)
            there = sought.any(dim=1)
            for name, among in ((f"rank_{modality}", ranked & own), (f"rank_{modality}_in_all", ranked)):
                rank = 1 + (before & among).sum(dim=1).cpu().double()
                parts.setdefault(name, []).append(rank.where(there.cpu(), math.nan))
    return _frame(query, parts)


def _ranked(
    query: AnyFeatures, gallery: AnyFeatures, relevance: RelevanceLike, how: Mapping[str, Any]
) -> Iterator[tuple[Float[Tensor, "b m"], Bool[Tensor, "b m"], Bool[Tensor, "b m"]]]:
    """Scores, minus infinity where an item is not ranked; which items are relevant, and which are ranked."""
    for scores, grades, ignored in graded_blocks(query, gallery, relevance, **how):
        yield scores.masked_fill(ignored, -math.inf), (grades > 0) & ~ignored, ~ignored


def _before(scores: Float[Tensor, "b m"], sought: Bool[Tensor, "b m"]) -> Bool[Tensor, "b m"]:
    """The items that rank before the best of those that are sought."""
    best = scores.masked_fill(~sought, -math.inf).amax(dim=1, keepdim=True)
    place = torch.arange(scores.shape[1], device=scores.device)
    first = place.where(sought & (scores == best), len(place)).amin(dim=1, keepdim=True)
    return (scores > best) | ((scores == best) & (place < first))


def _mean(values: Tensor, where: Bool[Tensor, "b m"]) -> Float[Tensor, " b"]:
    """The mean of the values that are chosen in each row; NaN where none is."""
    weights = exact(where)
    return (values * weights).sum(dim=1) / weights.sum(dim=1)


def _indicators(gallery: AnyFeatures, of: Mapping[str, str]) -> dict[str, Float[Tensor, " m"]]:
    """By group, 1 for each gallery item that is in it."""
    missing = [i for i in gallery.ids if i not in of]
    if missing:
        raise XgapError(f"{len(missing)} gallery items have no modality in `of`, the first is {missing[0]!r}")
    names = [of[i] for i in gallery.ids]
    return {
        group: torch.tensor([name == group for name in names], dtype=torch.float64) for group in dict.fromkeys(names)
    }


def _frame(query: AnyFeatures, parts: Mapping[str, list[Tensor]]) -> pd.DataFrame:
    columns = {name: torch.cat(found).numpy() for name, found in parts.items()}
    return pd.DataFrame(columns, index=pd.Index(query.ids, name="query"))


@register_metric("modality-share")
def _modality_share(
    query: AnyFeatures,
    gallery: AnyFeatures,
    relevance: Relevance,
    *,
    scorer: Scorer,
    normalise: ScoreNormaliser | None = None,
    k: int = 10,
    exclude_self: bool = True,
) -> pd.DataFrame:
    """Share of each modality in the first k items, in the relevant items and in the gallery; see `modality_share`."""
    how: dict[str, Any] = {"scorer": scorer, "normalise": normalise, "exclude_self": exclude_self}
    return modality_share(query, gallery, relevance, k=k, **how)


@register_metric("rank-among")
def _rank_among(
    query: AnyFeatures,
    gallery: AnyFeatures,
    relevance: Relevance,
    *,
    scorer: Scorer,
    normalise: ScoreNormaliser | None = None,
    exclude_self: bool = True,
) -> pd.DataFrame:
    """1 / rank of the best relevant item of each modality, within its modality and in all; see `rank_among`."""
    how: dict[str, Any] = {"scorer": scorer, "normalise": normalise, "exclude_self": exclude_self}
    return 1 / rank_among(query, gallery, relevance, **how).add_prefix("reciprocal_")
