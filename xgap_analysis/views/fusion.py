"""Native and inverted queries scored together."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features, FeaturesLike, side_by_side
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


@register_view("fuse", modality=None)
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
