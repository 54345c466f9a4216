"""Native and inverted queries asked together."""

from dataclasses import replace

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features


def fuse(native: Features, inverted: Features, weight: float = 0.5) -> Features:
    """Queries whose similarities are a weighted mean of the native and of the inverted queries' similarities.

    Formula: x' = (1 - w) x + w v, so that x' . g = (1 - w) x . g + w v . g for every gallery item g; then scaled to
    unit length, which changes no query's ranking.

    Args:
        native, inverted: `[n, d]`, the same items.
        weight: w, the share of the inverted query, in [0, 1].

    Returns:
        `[n, d]` with the native ids and space.

    Raises:
        XgapError: other items, other dimensions, or a weight out of range.
    """
    if not 0 <= weight <= 1:
        raise XgapError(f"the weight of the inverted query lies in [0, 1], not {weight}")
    if native.dim != inverted.dim:
        raise XgapError(f"native queries have {native.dim} dimensions and inverted ones {inverted.dim}")
    other = inverted.select(native.ids).vectors.double()
    mixed = (1 - weight) * native.vectors.double() + weight * other.to(native.vectors.device)
    return replace(native, vectors=mixed, provenance={**native.provenance, "fused_with": dict(inverted.provenance)})
