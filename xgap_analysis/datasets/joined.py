"""Items of several modalities as one set of items, and the sections that items of documents have."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.items import AnyItems, Items, Vectors
from xgap_analysis.datasets.parts import Parts

SECTION = "section"  # the column of parts that says which section of a document each of them belongs to


def joined_items(name: str, items: Mapping[str, AnyItems]) -> Items:
    """Items of several modalities as one set: each is a document of one section, which is the item itself.

    Args:
        name: of the dataset, for messages.
        items: by modality.

    Returns:
        Items of the modality `image+text`, say, with a part for each modality, under the ids of the items.

    Raises:
        XgapError: a modality without items, or an id that two modalities share.
    """
    where: dict[str, str] = {}
    for modality, own in items.items():
        if not len(own):
            raise XgapError(f"dataset {name!r} has no {modality}s to be mixed with others")
        twice = next((i for i in own.ids if i in where), None)
        if twice is not None:
            what = f"dataset {name!r} has the id {twice!r} for an item of {where[twice]} and for one of {modality}"
            raise XgapError(f"{what}; items of a mixed gallery need ids of their own")
        where |= dict.fromkeys(own.ids, modality)
    parts = {modality: Parts(own, tuple(own.ids), {SECTION: (0,) * len(own)}) for modality, own in items.items()}
    return Items(tuple(where), partial(_opened, items, where), "", "+".join(items), parts)


def _opened(items: Mapping[str, AnyItems], where: Mapping[str, str], item: str) -> Any:
    own = items[where[item]].select([item])
    if isinstance(own, Vectors):
        raise XgapError(f"item {item!r} is known by its features alone, and cannot be opened")
    return own[0]


def of_these(parts: Parts, items: Any) -> Parts:
    """The parts that belong to these items, where some items may have none."""
    return parts.of(i for i in items.ids if i in parts.places)


def has_sections(items: Any) -> bool:
    """Whether items consist of sections: parts with a column `section`."""
    return any(SECTION in own.columns for own in getattr(items, "parts", {}).values())


def sections_of(items: Any) -> dict[str, Parts]:
    """The parts that are sections of these items (those with a column `section`), by name; none are left out.

    Raises:
        XgapError: items without sections, or one of them that has none.
    """
    if not has_sections(items):
        raise XgapError(f"these {items.modality} items have no sections (parts with a column {SECTION!r})")
    known = {name: of_these(own, items) for name, own in items.parts.items() if SECTION in own.columns}
    there = {owner for own in known.values() for owner in own.owners}
    without = next((i for i in items.ids if i not in there), None)
    if without is not None:
        raise XgapError(f"document {without!r} has no section; leave it out, or give it a text or an image")
    return {name: own for name, own in known.items() if len(own)}
