"""Model x items -> Features: batched, opened ahead by threads, kept in the store, resumed after a kill."""

import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.tokens import AnyFeatures
from xgap_analysis.datasets.images import UNREADABLE as UNREADABLE
from xgap_analysis.models.fingerprint import is_known
from xgap_analysis.models.tower import Model
from xgap_analysis.store import Rows, Store, compute, entry_key, key_of
from xgap_analysis.views.batches import Passage, Source, source_of
from xgap_analysis.views.keeping import kept_in
from xgap_analysis.views.listing import Listed, as_items, digest_of_list

SHARD = 1024  # items; a killed run loses at most this much work


def encode(
    model: Model,
    items: Listed,
    *,
    project: bool = True,
    layer: int | None = None,
    on_error: str = "raise",
    store: Store | str | None = "default",
    progress: bool = True,
) -> Features:
    """The model's features of items, by the tower of their modality.

    Args:
        model: from `load_model`, `as_model`, or a `Model` of towers of one's own.
        items: `Images`, `Texts` or `Items` of a dataset; or a list of captions (str), of PIL images, or of paths
            (Path) to images; or one of these.
        project: False gives the features before the linear projection (towers that have one).
        layer: the features after this many blocks, from 1 to the number of blocks (the model's own features), through
            the final norm, the pooling and the projection that follow the last block: so every layer lies in one
            space, and the gap can be followed through the blocks. For ViTs and text transformers of open_clip, timm and
            transformers, and what an adapter has made of them.
        on_error: `"raise"` on an unreadable image, or `"skip"` it with a warning that counts and names.
        store: where features are kept and found again, item by item and by content; by default the user's store, None
            keeps nothing. Items of which nothing says what they are (`Images` without `content`) are never kept.
        progress: show a bar over the items when something has to be computed.

    Returns:
        Features `[n, d]` in the items' order, with their modality as origin and the tower's space; skipped items are
        left out.

    Raises:
        XgapError: no items, an id given twice, an unreadable image, a modality that the model has no tower of, a tower
            without a linear projection, or one without blocks that can be read, or not so many.

    Example:
        >>> import xgap_analysis as xg
        >>> model = xg.load_model("tiny")
        >>> features = xg.encode(model, ["a cat", "a dog"], progress=False)
        >>> features.space, tuple(features.vectors.shape)
        ('text', (2, 512))
    """
    if on_error not in ("raise", "skip"):
        raise XgapError(f'on_error is "raise" or "skip", not {on_error!r}')
    given = as_items(items)
    if not len(given):
        raise XgapError("there is nothing to encode: the split or list is empty")
    twice = next((i for i, n in Counter(given.ids).items() if n > 1), None)
    if twice is not None:
        raise XgapError(f"id {twice!r} stands for more than one item; ids must be distinct")
    way = Passage(model, given, on_error, project, _layer(model, given.modality, layer))
    space = way.tower.space
    source = source_of(way)
    made_by: dict[str, Any] = {  # what determines the numbers, besides an item
        "view": given.modality,
        "fingerprint": model.fingerprint,
        "precision": model.precision,
        "projected": project,
        **({} if way.layer is None else {"layer": way.layer}),
        **source.made_by,
    }
    known = all(source.contents) and is_known(model)
    found = _computed(way, source, made_by, kept_in(store) if known else None, progress)
    ids = [item for item in given.ids if item not in source.lost]
    lost = source.lost | {ids[place]: reason for place, reason in found.failed.items()}
    if lost:
        _say_lost(given, lost, on_error)
    content = {item: digest for item, digest in zip(ids, source.contents, strict=True) if item not in lost}
    provenance = {"model": model.name, "weights": model.weights_digest, "activation": model.activation, **made_by}
    if known:
        provenance |= {"entry": entry_key(made_by), "digest": key_of({**made_by, "items": list(content.items())})}
    one_list = digest_of_list(items, list(content.values()))
    return Features(found.tensors["vectors"], content, space, given.modality, provenance, one_list)


def _layer(model: Model, modality: str, layer: int | None) -> int | None:
    """The number of blocks of a pass; None for all of them, also where the last is named."""
    if layer is None:
        return None
    tower = model.tower(modality)
    blocks = getattr(tower, "blocks", 0)
    if not blocks:
        what = f"the {modality} tower of model {model.name!r} ({type(tower).__name__}) has no blocks that can be read"
        raise XgapError(f"{what}; layer= is for ViTs and text transformers of open_clip, timm and transformers")
    if isinstance(layer, bool) or not isinstance(layer, int) or not 1 <= layer <= blocks:
        raise XgapError(f"the {modality} tower has {blocks} blocks, so a layer is from 1 to {blocks}, not {layer!r}")
    return None if layer == blocks else layer


def _computed(way: Passage, source: Source, made_by: Mapping[str, Any], store: Store | None, progress: bool) -> Rows:
    """The rows of the items that are there, as the store has them or the tower gives them."""
    if not source.contents:
        return Rows({})
    modality, model, n = way.items.modality, way.model, len(source.contents)

    def worker(places: Sequence[int], _: Collection[str]) -> dict[str, Rows]:
        return {modality: source.rows(places)}

    return compute(
        {modality: made_by},
        source.contents if all(source.contents) else [str(place) for place in range(n)],
        worker,
        shard_size=SHARD,
        store=store,
        description=f"encode {modality}s with {model.name}",
        progress=progress,
        notes={"model": model.name, "device": str(model.device)},
    )[modality]


def _say_lost(items: Any, lost: Mapping[str, str], on_error: str) -> None:
    """Refuse items that could not be read, or say that they are left out."""
    what, first = f"{items.modality}s", next(item for item in items.ids if item in lost)
    if len(lost) == len(items):
        raise XgapError(f"none of the {len(items)} {what} could be read, the first is {first!r} ({lost[first]})")
    if on_error == "raise":  # an earlier run skipped them
        unread = f"{len(lost)} {what} cannot be read, the first is {first!r} ({lost[first]})"
        raise XgapError(f'{unread}; repair or remove them, or pass on_error="skip"')
    warnings.warn(f"{len(lost)} unreadable {what} were skipped, the first is {first!r}", stacklevel=3)


def provenance_of(features: AnyFeatures) -> Mapping[str, Any]:
    """What a table says of where features come from (model, weights, precision, activation, view)."""
    kept = ("model", "weights", "precision", "activation", "view")
    return {key: features.provenance[key] for key in kept if key in features.provenance}
