"""Composed queries: a text that changes a reference image, and that image, as one query."""

from collections.abc import Callable
from typing import Any

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.stacked import stacked
from xgap_analysis.core.tokens import AnyFeatures
from xgap_analysis.store import Store
from xgap_analysis.views.encode import encode
from xgap_analysis.views.fusion import fuse
from xgap_analysis.views.view import register_view

PART = "reference"  # of texts: the image that each of them changes


@register_view("composed", modality="text", by_item=True)
def composed(
    model: Any,
    items: Any,
    *,
    weight: float | None = 0.5,
    transform: Callable[[Features], Features] = lambda features: features,
    store: Store | str | None = "default",
    progress: bool = True,
) -> AnyFeatures:
    """Texts mixed with the reference images that they change, or both as a set of vectors.

    Formula: `u((1 - w) t + w r)`, t the text and r its reference. With `weight=None`, the reference and the text stay
    two vectors, in this order, for scorers that compose themselves: `sprc`.

    How to read it: the reference and what is searched are images, and a text steers. With w = 0 it is text to image,
    with w = 1 image to image; where the best w is large, intra-modal similarities carry the retrieval.

    Args:
        model: with an image and a text tower.
        items: texts, with the reference of each as its part `reference` (`emoji-scenes:composed`).
        weight: w, the share of the reference, in [0, 1]; or None.
        transform: applied to texts and to references before they are mixed: a correction is made for one space.
        store, progress: as of `encode`.

    Raises:
        XgapError: texts without a reference, or with several, or a weight out of range.

    Source: late fusion, a baseline of Baldrati et al., Zero-shot composed image retrieval with textual inversion, ICCV
    2023.
    """
    if weight is not None and not (isinstance(weight, int | float) and 0 <= weight <= 1):
        what = "the weight of composed, the share of the reference, lies in [0, 1], or is None"
        raise XgapError(f"{what}, not {weight!r}")
    if PART not in getattr(items, "parts", {}):
        what = "composed takes texts that change a reference image each (a part 'reference')"
        raise XgapError(f"{what}, and these have none; see the dataset emoji-scenes:composed")
    own = items.parts_of(PART)
    several = next((item for item in items.ids if len(own.places[item]) > 1), None)
    if several is not None:
        raise XgapError(f"text {several!r} has {len(own.places[several])} references; a composed query has one")
    texts, images = (transform(encode(model, one, store=store, progress=progress)) for one in (items, own.items))
    place = {owner: row for row, owner in enumerate(own.owners)}
    rows = [place[item] for item in texts.ids]
    references = Features(images.vectors[rows], texts.ids, images.space, texts.origin, images.provenance)
    if weight is None:
        both = stacked(references, texts)
        return both.labelled(items=texts.items, provenance={**texts.provenance, "composed": "set"})
    # `fuse` mixes two representations of one item, and here both are of the composed query.
    return fuse(texts, references, weight)
