"""Model x items -> Features: batched, opened ahead, kept in the store, resumed after a kill."""

import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.tokens import AnyFeatures
from xgap_analysis.models.fingerprint import is_known
from xgap_analysis.models.precision import rounding
from xgap_analysis.models.tower import Model, check_model
from xgap_analysis.store import Engine, Rows, Store, compute, entry_key, key_of
from xgap_analysis.store import engine as named_engine
from xgap_analysis.store.engines import Local
from xgap_analysis.views.batches import Passage, Source, source_of
from xgap_analysis.views.keeping import kept_in
from xgap_analysis.views.listing import Listed, as_items, digest_of_list
from xgap_analysis.views.pace import Pace
from xgap_analysis.views.sharing import NothingRead, stored_by

SHARD = 1024  # items; a killed run loses at most this much work
DECODERS = ("full", "draft")
SHARDS = {"cuda": 8192}  # a few seconds of work as well; readers come to rest at the end of each


def encode(
    model: Model,
    items: Listed,
    *,
    project: bool = True,
    layer: int | None = None,
    on_error: str = "raise",
    decoder: str = "full",
    batch_size: int | None = None,
    num_workers: int | None = None,
    store: Store | str | None = "default",
    engine: str | Engine = "local",
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
        decoder: `"full"`, or `"draft"`, which decodes JPEGs at a half, a quarter or an eighth of their size where their
            shorter edge keeps at least twice the model's input. It takes 25 ms instead of 47 for 2,000 x 1,500 pixels
            and an input of 224, and changes the features (a cosine above 0.9999 there; 0.9997 for `tiny` with 64), so
            they have an entry of their own in the store. Smaller images gain nothing.
        batch_size: items that go through the tower at once; by default 64 on a processor, and what fits the memory of a
            GPU. One that does not fit is halved, with a warning. It changes features by rounding only (less than 1e-5
            in float32), so rows of any batch size are found again in the store.
        num_workers: processes that read images; 0 reads them in threads. By default processes are started where a
            thousand images or more are to be read and there are four cores or more. It changes no feature: items that
            cannot be handed to a process, such as functions of a notebook, or lists of more than 256 MiB in memory, are
            read in threads.
        store: where features are kept and found again, item by item and by content; by default the user's store, None
            keeps nothing. Items of which nothing says what they are (`Images` without `content`) are never kept.
        engine: `"local"`, or `"ranks"` where a launcher has started several processes (see `store.engines`): each
            computes its share, waits for the others', and gets all features. A task of a Slurm array does not wait, but
            ends (`ShareStored`). With `"ray"`, workers of a Ray cluster load the model by its name, and are handed the
            items: paths, captions, items of a dataset. `invert` and views take the same words.
        progress: show a bar over the items when something has to be computed, and where that took a while, one sentence
            on how long the model waited for images.

    Returns:
        Features `[n, d]` in the items' order, with their modality as origin and the tower's space; skipped items are
        left out.

    Raises:
        XgapError: no items, an id given twice, an unreadable image, a modality that the model has no tower of, a tower
            without a linear projection, or one without blocks that can be read, or not so many; a batch of one that
            does not fit the device, or a process that was ended while it read.

    Example:
        >>> import xgap_analysis as xg
        >>> model = xg.load_model("tiny")
        >>> features = xg.encode(model, ["a cat", "a dog"], progress=False)
        >>> features.space, tuple(features.vectors.shape)
        ('text', (2, 512))
    """
    check_model(model)
    if on_error not in ("raise", "skip"):
        raise XgapError(f'on_error is "raise" or "skip", not {on_error!r}')
    if decoder not in DECODERS:
        raise XgapError(f'decoder is "full" or "draft", not {decoder!r}')
    by = named_engine(engine)
    if not isinstance(by, Local):
        how: dict[str, Any] = {"project": project, "layer": layer, "on_error": on_error, "progress": progress}
        how |= {"decoder": decoder, "batch_size": batch_size, "num_workers": num_workers}
        store = stored_by(by, model, items, encode, how, store=store)
    given = as_items(items)
    if decoder != "full" and given.modality != "image":
        raise XgapError(f"the decoder {decoder!r} is of images, and these items are {given.modality}s: leave it out")
    if not len(given):
        raise XgapError("there is nothing to encode: the split or list is empty")
    twice = next((i for i, n in Counter(given.ids).items() if n > 1), None)
    if twice is not None:
        raise XgapError(f"id {twice!r} stands for more than one item; ids must be distinct")
    layer = _layer(model, given.modality, layer)
    with Passage(model, given, on_error, project, layer, decoder, Pace(batch_size, num_workers).filled()) as way:
        space = way.tower.space
        source = source_of(way)
        made_by: dict[str, Any] = {  # what determines the numbers, besides an item
            "view": given.modality,
            "fingerprint": model.fingerprint,
            "precision": model.precision,
            "projected": project,
            **({} if way.layer is None else {"layer": way.layer}),
            **({} if decoder == "full" else {"decoder": decoder}),
            **rounding(way.tower, model.device),
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

    found = compute(
        {modality: made_by},
        source.contents if all(source.contents) else [str(place) for place in range(n)],
        worker,
        shard_size=SHARDS.get(model.device.type, SHARD),
        store=store,
        description=f"encode {modality}s with {model.name}",
        progress=progress,
        notes={"model": model.name, "device": str(model.device), "batch_size": way.size},
    )
    if progress:
        way.waiting.say(f"{modality}s with {model.name}", way.readers.about)
    return found[modality]


def _say_lost(items: Any, lost: Mapping[str, str], on_error: str) -> None:
    """Refuse items that could not be read, or say that they are left out."""
    what, first = f"{items.modality}s", next(item for item in items.ids if item in lost)
    if len(lost) == len(items):
        kind = XgapError if on_error == "raise" else NothingRead
        raise kind(f"none of the {len(items)} {what} could be read, the first is {first!r} ({lost[first]})")
    if on_error == "raise":  # an earlier run skipped them
        unread = f"{len(lost)} {what} cannot be read, the first is {first!r} ({lost[first]})"
        raise XgapError(f'{unread}; repair or remove them, or pass on_error="skip"')
    warnings.warn(f"{len(lost)} unreadable {what} were skipped, the first is {first!r}", stacklevel=3)


def provenance_of(features: AnyFeatures) -> Mapping[str, Any]:
    """What a table says of where features come from (model, weights, precision, activation, view)."""
    kept = ("model", "weights", "precision", "activation", "view")
    return {key: features.provenance[key] for key in kept if key in features.provenance}
