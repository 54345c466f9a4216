"""Native views: the features that a model's own encoder of a modality gives."""

from typing import Any

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.datasets.items import Vectors
from xgap_analysis.store import Store
from xgap_analysis.views.encode import encode
from xgap_analysis.views.view import View, register_view


@register_view("image", modality="image", by_item=True)
@register_view("text", modality="text", by_item=True)
def native(
    model: Any,
    items: Any,
    *,
    layer: int | None = None,
    decoder: str = "full",
    on_error: str = "raise",
    store: Store | str | None = "default",
    progress: bool = True,
) -> Features:
    """The features of the model's own encoder; see `encode`. Items that are vectors already are their own features.

    With `decoder="draft"` large JPEGs are decoded at a smaller size. With `layer` they are the features after so many
    blocks: `"image(layer=3)-image(layer=3)"`.

    Example:
        >>> import xgap_analysis as xg
        >>> texts = xg.Texts(["t1", "t2"], ["a cat", "a dog"])
        >>> xg.view("text")(xg.load_model("tiny"), texts).ids
        ('t1', 't2')
    """
    if isinstance(items, Vectors):
        if layer is not None:
            raise XgapError("these items are vectors already, and have no layers; encode the items themselves")
        return items.features
    return encode(model, items, layer=layer, decoder=decoder, on_error=on_error, store=store, progress=progress)


def native_view(modality: str, space: str | None = None) -> View:
    """The native view of a modality of any name, such as a file's; in a space of another name where one is given."""
    return View(modality, native, modality, space or modality, by_item=True)
