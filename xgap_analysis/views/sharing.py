"""A share of items: those that one of several processes computes, chosen by what the items are."""

import contextlib
import sys
from collections.abc import Callable
from typing import Any

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.items import Vectors
from xgap_analysis.models.fingerprint import is_known
from xgap_analysis.store import Engine, ShareStored, Store
from xgap_analysis.store.engines import Local, Ranks
from xgap_analysis.store.entries import Lacking
from xgap_analysis.views.batches import Passage, source_of
from xgap_analysis.views.keeping import kept_in
from xgap_analysis.views.listing import as_items


class NothingRead(XgapError):
    """None of the items could be read, although unreadable ones are skipped: of a share no mistake."""


def share_of(model: Any, items: Any, owns: Callable[[str], bool], on_error: str = "raise") -> Any:
    """The items whose digest belongs to a share.

    The digest is that of the content as the model's tower sees it, under which the store keeps the features: copies
    of one image, or captions with the same tokens, are in one share, whatever their ids. Items of a modality without a
    tower are chosen by their ids.

    Args:
        model: whose tower encodes them.
        items: with ids.
        owns: whether a digest belongs to the share.
        on_error: `"raise"` on an item that cannot be read, or `"skip"` it: it is in no share.

    Raises:
        XgapError: an item that cannot be read, or items (or a model) whose features are never kept.
    """
    if isinstance(items, Vectors) or items.modality not in getattr(model, "towers", {}):
        return items.select(item for item in items.ids if owns(item))
    source = source_of(Passage(model, items, on_error))
    if not all(source.contents) or not is_known(model):
        what = f"features of these {items.modality}s by model {model.name!r} are never kept, since nothing says what"
        raise XgapError(f"{what} {'the model' if all(source.contents) else 'they'} are made of; use engine local")
    ids = [item for item in items.ids if item not in source.lost]
    return items.select(item for item, content in zip(ids, source.contents, strict=True) if owns(content))


def stored_by(
    by: Engine,
    model: Any,
    items: Any,
    made: Callable[[Any, Store], Any],
    *,
    store: Store | str | None = "default",
    on_error: str = "raise",
) -> Store | str | None:
    """Computes features of items by an engine, and gives the store in which all of them are then found.

    Args:
        by: local, where nothing is done here, or ranks.
        model: whose tower encodes the items.
        items: as of `encode`.
        made: computes the features of some of the items, with a store.
        store: as of `encode`.
        on_error: as of `encode`.

    Raises:
        ShareStored: this process is a rank that does not wait for the others.
        XgapError: engine ray, which needs names; no store; or what `made` raises.
    """
    if isinstance(by, Local):
        return store
    if not isinstance(by, Ranks):
        what = "engine ray starts fresh processes, which load models and datasets by their names"
        raise XgapError(f"{what}: use xg.Study(..., engine='ray'), xgap encode or xgap invert")
    there = kept_in(store)
    if there is None:
        raise XgapError("ranks find each other's features in a store, and store is None; use engine local")
    given = as_items(items)
    mine = share_of(model, given, by.owns, on_error)
    with contextlib.suppress(NothingRead):
        if len(mine):
            made(mine, there)
    if by.waits:
        return there.waiting(by.patience)
    total, owed = len(given), 0
    try:
        made(given, there.reading())
    except Lacking as lacking:
        owed = lacking.n
    raise end_of_share(by, len(mine), total, owed)


def end_of_share(by: Ranks, mine: int, total: int, owed: int) -> ShareStored:
    """Print how a rank ends that does not wait, beside the results of a program; the exception that ends it.

    Args:
        by: the rank.
        mine: rows of its share.
        total: rows of all ranks.
        owed: rows that are not in the store yet.
    """
    if owed:
        there = f"{by}: its share ({mine} rows) is stored; of {total} rows, {total - owed} are in the store"
        sentence = f"{there}, and {owed} are owed by other ranks; then the same command without --engine goes on"
    else:
        sentence = f"{by}: all {total} rows are in the store; the same command without --engine goes on from there"
    sys.stderr.write(f"xgap: {sentence}\n")
    return ShareStored(sentence)
