"""A share of items: those that one of several processes computes, chosen by what the items are."""

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.datasets.items import Vectors
from xgap_analysis.models.fingerprint import is_known
from xgap_analysis.store import Engine, ShareStored, Store
from xgap_analysis.store.engines import Local, Ranks
from xgap_analysis.store.entries import Lacking
from xgap_analysis.views.batches import Passage, source_of
from xgap_analysis.views.keeping import kept_in
from xgap_analysis.views.listing import as_items

_GONE: dict[tuple[str, int], set[int]] = {}  # of a process: by the folder of the store and the number of ranks


class NothingRead(XgapError):
    """None of the items could be read, although unreadable ones are skipped: of a share no mistake."""


def contents_of(model: Any, items: Any, on_error: str = "raise") -> dict[str, str]:
    """By id, the digest by which an item belongs to a share.

    It is that of the content as the model's tower sees it, under which the store keeps the features: copies of one
    image, or captions with the same tokens, are in one share, whatever their ids. Of items without a tower, and of
    features, it is the id.

    Args:
        model: whose tower encodes them.
        items: with ids.
        on_error: `"raise"` on an item that cannot be read, or `"skip"` it: it is in no share.

    Raises:
        XgapError: an item that cannot be read, or items (or a model) whose features are never kept.
    """
    if isinstance(items, Features) and not is_known(model):
        raise _never_kept(model, "inversions", "since nothing says what the model is made of")
    if isinstance(items, Features | Vectors) or items.modality not in getattr(model, "towers", {}):
        return {item: item for item in items.ids}
    source = source_of(Passage(model, items, on_error))
    if not all(source.contents) or not is_known(model):
        who = "the model is" if all(source.contents) else "they are"
        raise _never_kept(model, f"features of these {items.modality}s", f"since nothing says what {who} made of")
    ids = [item for item in items.ids if item not in source.lost]
    return dict(zip(ids, source.contents, strict=True))


def _never_kept(model: Any, what: str, why: str) -> XgapError:
    return XgapError(f"{what} by model {model.name!r} are never kept, {why}; use engine local")


def stored_by(
    by: Engine,
    model: Any,
    items: Any,
    function: Callable[..., Any],
    options: Mapping[str, Any],
    *,
    store: Store | str | None = "default",
    modules: Sequence[str] = (),
) -> Store | str | None:
    """Computes features of items by an engine, and gives the store in which all of them are then found.

    Args:
        by: the engine; with local, nothing is done here.
        model: whose tower encodes the items.
        items: as of `encode`; or features, to be inverted.
        function: `function(model, items, store=..., **options)` computes features of some of the items.
        options: of the function.
        store: as of `encode`.
        modules: that a fresh process imports first.

    Raises:
        ShareStored: this process is a rank that does not wait for the others.
        XgapError: no store; for engine ray, a model, items or options that no fresh process can be given, or workers
            that failed; or what the function raises.
    """
    given = items if isinstance(items, Features) else as_items(items)
    if isinstance(by, Local) or not len(given):
        return store
    there = kept_in(store)
    if there is None:
        raise XgapError("several processes find each other's features in a store, and store is None; use engine local")
    if isinstance(by, Ranks):
        return _by_rank(by, model, given, lambda some, own: function(model, some, store=own, **options), there, options)
    from xgap_analysis.views.remote import by_workers

    contents_of(model, given.select(given.ids[:1]), "skip")  # refuses what is never kept
    by_workers(by, model, given, function, options, there, modules)
    return Store(there.root)


def _by_rank(
    by: Ranks, model: Any, items: Any, made: Callable[[Any, Store], Any], there: Store, options: Mapping[str, Any]
) -> Store:
    contents = contents_of(model, items, options.get("on_error", "raise"))

    def some(owns: Callable[[int], bool]) -> Any:
        return items.select(item for item, content in contents.items() if owns(by.owner(content)))

    def lacks(rank: int, entries: frozenset[str]) -> bool:
        share = some(lambda owner: owner == rank)
        try:
            with contextlib.suppress(NothingRead):
                if len(share):
                    made(share, there.reading())
        except Lacking as lacking:
            return not entries.isdisjoint(lacking.entries)
        return False

    mine = some(lambda owner: owner == by.rank)
    with contextlib.suppress(NothingRead):
        if len(mine):
            made(mine, there)
    if by.waits:
        gone, waiting = gone_ranks(by, there), waiting_store(by, there, lacks)
        if not gone:
            return waiting
        awaited = some(lambda owner: owner not in gone)
        with contextlib.suppress(NothingRead):
            if len(awaited):
                made(awaited, waiting)
        return there
    total, owed = len(items), 0
    try:
        made(items, there.reading())
    except Lacking as lacking:
        owed = lacking.n
    raise end_of_share(by, len(mine), total, owed)


def gone_ranks(by: Ranks, store: Store) -> set[int]:
    """The ranks that this process has waited for in vain, in any call so far: no later call waits for one of them.

    What such a rank stores later is found all the same, by content.
    """
    return _GONE.setdefault((str(store.root.absolute()), by.world), set())


def waiting_store(by: Ranks, store: Store, lacks: Callable[[int, frozenset[str]], bool]) -> Store:
    """The store of a rank that waits for the rows of others, and remembers those for whom it waited in vain.

    Args:
        by: this rank.
        store: of all ranks.
        lacks: whether rows of a rank are lacking in one of some entries, of what is waited for at present. A rank that
            is at work on what comes after them is not gone.
    """
    gone = gone_ranks(by, store)

    def in_vain(entries: frozenset[str]) -> None:
        late = [rank for rank in range(by.world) if rank not in {by.rank, *gone} and lacks(rank, entries)]
        gone.update(late)
        if len(gone) == by.world - 1:  # nobody is left to wait for, in this call either
            made.patience = 0.0
        if late:
            who = f"rank{'s' * (len(late) > 1)} {', '.join(map(str, late))}"
            what = f"no row of {who} has come for {by.patience:g} s, and what is lacking is computed here"
            sys.stderr.write(f"xgap: {by}: {what}; later views do not wait for {who}\n")

    made = store.waiting(by.patience, in_vain)
    return made


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
