"""Queries of several representations or modalities, scored together."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from xgap_analysis.core.calibration import pairs_by_label
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features, FeaturesLike, as_modalities, side_by_side, where_doubles_are
from xgap_analysis.core.precision import exact
from xgap_analysis.core.tokens import AnyFeatures
from xgap_analysis.views.view import View, register_view


def fuse(native: FeaturesLike, inverted: FeaturesLike, weight: float = 0.5) -> Features:
    """Queries whose similarities are a weighted mean of the native and of the inverted queries' similarities.

    Formula: x' = (1 - w) x + w v, so that x' . g = (1 - w) x . g + w v . g for every gallery item g; then scaled to
    unit length, which changes no query's ranking.

    Args:
        native, inverted: `[n, d]`, the same items; of two arrays, those of the same position.
        weight: w, the share of the inverted query, in [0, 1].

    Returns:
        `[n, d]` with the native ids and space.

    Raises:
        XgapError: other items, other dimensions, or a weight out of range.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> native = xg.Features(np.array([[1.0, 0.0]]), ["a"], space="image", origin="image")
        >>> inverted = xg.Features(np.array([[0.0, 1.0]]), ["a"], space="text", origin="image")
        >>> xg.fuse(native, inverted, weight=0.5).vectors.double().round(decimals=3).tolist()
        [[0.707, 0.707]]
    """
    if not 0 <= weight <= 1:
        raise XgapError(f"the weight of the inverted query lies in [0, 1], not {weight}")
    native, inverted = side_by_side(native, inverted)
    if native.dim != inverted.dim:
        raise XgapError(f"native queries have {native.dim} dimensions and inverted ones {inverted.dim}")
    other = exact(inverted.select(native.ids).vectors)
    mixed = (1 - weight) * exact(native.vectors) + weight * other.to(native.vectors.device)
    return replace(native, vectors=mixed, provenance={**native.provenance, "fused_with": dict(inverted.provenance)})


def fuse_modalities(
    sets: Mapping[str, FeaturesLike],
    weights: Mapping[str, float],
    *,
    labels: Mapping[str, str] | None = None,
    without: str = "refuse",
) -> Features:
    """Queries of several modalities: a video and a text that steers it, against music.

    Formula: `x' = u(sum_m w_m x_m)`, u the scaling to unit length, x_m the unit row of the item in modality m, and zero
    where it has none. A row of zeros has no direction and is left as it is, so that the others alone decide; with one
    weight of 1 and 0 for the others, it is that modality alone. As a fused query and a gallery item of a third modality
    lie in different cones, compare weights before and after `center` of each (see `experiments.swept`).

    Args:
        sets: features by modality. The items are those of the first one; row i of each array is item i.
        weights: by modality, 0 or more; only their ratios change the result.
        labels: id to label, of all: an item of the first and the first of another that shares its label belong
            together. By default those of one id do.
        without: what is done with an item that a modality of weight above 0 lacks: `"refuse"`, or `"drop"`, which takes
            what there is of it.

    Returns:
        `[n, d]` with ids, space and origin of the first.

    Raises:
        XgapError: other modalities in `weights` than in `sets`, weights below 0 or all 0, other dimensions, an item
            that lacks a modality, or one of which nothing is left.

    Source: McKee, Salamon, Sivic and Russell, Language-guided music recommendation
    for video via prompt analogies, CVPR 2023, whose fusion is a transformer.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> sets = {"image": np.array([[1.0, 0.0]]), "text": np.array([[0.0, 1.0]])}
        >>> xg.fuse_modalities(sets, {"image": 3, "text": 4}).vectors.double().round(decimals=3).tolist()
        [[0.6, 0.8]]
    """
    if not sets or sets.keys() != weights.keys():
        what = f"sets of {', '.join(sets)} and weights of {', '.join(weights)}"
        raise XgapError(f"each modality of a fused query has features and a weight, and here are {what}")
    if not all(0 <= weight < float("inf") for weight in weights.values()) or not any(weights.values()):
        raise XgapError(f"weights of modalities are 0 or more, and one of them is above 0, not {dict(weights)}")
    if without not in ("refuse", "drop"):
        raise XgapError(f'without is "refuse" or "drop", not {without!r}')
    first, *others = (where_doubles_are(of) for of in as_modalities(sets))
    total = weights[next(iter(sets))] * exact(first.vectors)
    for name, other in zip(list(sets)[1:], others, strict=True):
        weight = weights[name]
        if other.dim != first.dim:
            raise XgapError(
                f"{next(iter(sets))} has {first.dim} dimensions and {name} {other.dim}; they must be the same"
            )
        pairs = pairs_by_label(first, other, labels or {})
        if weight and len(pairs) < len(first) and without == "refuse":
            item = next(i for row, i in enumerate(first.ids) if row not in {row for row, _ in pairs})
            raise XgapError(f'item {item!r} has no {name}; give labels that pair them, or without="drop"')
        if weight and pairs:
            rows, columns = (torch.tensor(of) for of in zip(*pairs, strict=True))
            total[rows] += weight * exact(other.vectors)[columns].to(total.device)
    return replace(
        first, vectors=total, provenance={**first.provenance, "fused": {k: float(w) for k, w in weights.items()}}
    )


@register_view("fuse", modality=None, by_item=True)
def fused(
    model: Any,
    items: Any,
    *views: View,
    weight: float = 0.5,
    transform: Callable[[Features], Features] = lambda features: features,
    **context: Any,
) -> Features:
    """The fusion of two views of the same items; see `fuse`.

    Args:
        model, items: as of both views.
        views: two, such as `image` and `oti`.
        weight: the share of the second.
        transform: applied to each before they are mixed: a correction is made for one space, and they lie in two.
        context: offered to both views.

    Raises:
        XgapError: not two views, views of different modalities, or as `fuse`.
    """
    if len(views) != 2 or not all(isinstance(v, View) for v in views):
        raise XgapError(f"fuse takes two views, as in fuse(image, oti, weight=0.3), not {len(views)}")
    if views[0].modality != views[1].modality:
        raise XgapError(f"fuse takes two views of the same items, not of {views[0].modality} and {views[1].modality}")
    first, second = (_one_vector(v, v(model, items, **context)) for v in views)
    first, second = transform(first), transform(second)
    return fuse(first, second, weight)


def _one_vector(own: View, made: AnyFeatures) -> Features:
    if isinstance(made, Features):
        return made
    raise XgapError(f"fuse takes views of one vector per item, and {own} gives a set of vectors")
