"""A share of items: those that one of several processes computes, chosen by what the items are."""

from collections.abc import Callable
from typing import Any

from xgap_analysis.datasets.items import Vectors
from xgap_analysis.views.batches import Passage, source_of


def share_of(model: Any, items: Any, owns: Callable[[str], bool], on_error: str = "raise") -> Any:
    """The items whose digest belongs to a share.

    The digest is that of the content as the model's tower sees it, under which the store keeps the features: copies
    of one image, or captions with the same tokens, are in one share, whatever their ids. Items of which nothing says
    what they are, and those of a modality without a tower, are chosen by their ids.

    Args:
        model: whose tower encodes them.
        items: with ids.
        owns: whether a digest belongs to the share.
        on_error: `"raise"` on an item that cannot be read, or `"skip"` it: it is in no share.

    Raises:
        XgapError: an item that cannot be read.
    """
    if isinstance(items, Vectors) or items.modality not in getattr(model, "towers", {}):
        return items.select(item for item in items.ids if owns(item))
    source = source_of(Passage(model, items, on_error))
    ids = [item for item in items.ids if item not in source.lost]
    return items.select(
        item for item, content in zip(ids, source.contents, strict=True) if owns(content or item)
    )
