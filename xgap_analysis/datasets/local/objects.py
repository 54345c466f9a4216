"""Datasets that other libraries hold in memory: torchvision's, or any object with a length and items."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
from PIL import Image

from xgap_analysis.core.errors import XgapError, notice
from xgap_analysis.core.table_values import caption_texts, id_text, label_text
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.images import as_rgb
from xgap_analysis.datasets.items import Images
from xgap_analysis.datasets.local.columns import USUAL
from xgap_analysis.datasets.local.records import Record, dataset_of
from xgap_analysis.datasets.local.rows import cleaned


class MapStyle(Protocol):
    """What PyTorch calls a map-style dataset."""

    def __len__(self) -> int:
        """The number of items."""
        ...

    def __getitem__(self, index: int, /) -> Any:
        """An item: `(image, label)`, `(image, captions)`, or a mapping with `image`, `label`, `caption`."""
        ...


def as_dataset(
    source: MapStyle,
    name: str | None = None,
    *,
    ids: Iterable[object] | None = None,
    labels: Iterable[object] | None = None,
    class_names: Sequence[str] | None = None,
    digest: str = "",
    train_share: float = 0.0,
) -> Dataset:
    """A torchvision dataset, or any map-style one, as a `Dataset`; its items are opened when they are needed.

    An item is `(image, label)`, `(image, caption or captions)`, or a mapping with the keys `image`, `label`,
    `caption(s)` (or their usual names in tables); the image is a Pillow image (or an array `[h, w]` or `[h, w, 3]` of
    bytes), before any transform. Labels are read from `source.targets` where there are such, and otherwise every item
    is opened once. Targets and class names of what a `Subset` or a `ConcatDataset` of torch holds are its own too.
    Missing labels (None, NaN, -1) and captions are counted in a warning. Splits and texts: see `load_dataset` on own
    data.

    Args:
        source: with `len(source)` and `source[i]`.
        name: for tables; the class's by default.
        ids: a name of each item, such as its file; by default its running number, which is stable as long as the
            source's order is.
        labels: of each item, in place of the source's.
        class_names: the words of numbered labels; by default `source.classes`, or the names that the label has in
            `source.features` (Hugging Face).
        digest: what stands for the content (a version, say); without one, features are not kept in the store.
        train_share: the share of the items that are split `train`, by a hash of their ids.

    Raises:
        XgapError: an empty source, items of another form, ids or labels that do not fit, an item of several labels, or
            parts of a source that name their classes differently.

    Example:
        >>> import xgap_analysis as xg
        >>> from PIL import Image
        >>> pairs = [(Image.new("RGB", (8, 8), colour), label) for colour, label in (("red", 0), ("blue", 1))]
        >>> data = xg.as_dataset(pairs, "squares", class_names=["warm", "cold"])
        >>> dict(data.labels_of())
        {'0': 'warm', '1': 'cold', 'class/cold': 'cold', 'class/warm': 'warm'}
    """
    n = len(source)
    named = [id_text(i) for i in ids] if ids is not None else [str(i) for i in range(n)]
    words = class_names if class_names is not None else _classes(source)
    if class_names is None and words and _changes_items(source):
        what = f"class names are those of what {type(source).__name__} wraps ({', '.join(map(str, words[:3]))}, ...)"
        notice(f"{what}; pass class_names where its labels are others")
    given = labels if labels is not None else _targets(source)
    if given is None:
        items = [_parts_of(source[i], named[i] if i < len(named) else str(i)) for i in range(n)]
    else:
        items = [([], label) for label in (given.tolist() if hasattr(given, "tolist") else given)]
    for what, found in (("ids", named), ("labels", items)):
        if len(found) != n:
            raise XgapError(f"{len(found)} {what} were given for {n} items")
    name = name or type(source).__name__
    labelled = [
        _of(item, partial(label_text, names=words), label) for item, (_, label) in zip(named, items, strict=True)
    ]
    captions = cleaned([texts for texts, _ in items], name)
    lacking = sum(label is None for label in labelled)
    if lacking and any(label is not None for _, label in items):
        notice(f"{lacking} of {n} items of {name} have no label (None, NaN or -1); they belong to no class")
    if any(captions) and not all(captions):
        notice(f"{sum(not texts for texts in captions)} of {n} items of {name} have no caption")
    records = [Record(*of) for of in zip(named, captions, labelled, strict=True)]
    place = {item: i for i, item in enumerate(named)}
    images = Images(tuple(named), partial(_open, source, place), digest)
    return dataset_of(name, records, images, train_share=train_share)


def _of(name: str, read: Callable[[Any], Any], value: Any) -> Any:
    """What a reader makes of a value; the item stands in its error."""
    try:
        return read(value)
    except XgapError as error:
        raise XgapError(f"item {name!r}: {error}") from error


def _classes(source: Any) -> Sequence[Any]:
    """The words of numbered labels, as a source or what it is made of has them; ImageNet's are tuples of synonyms."""
    own = getattr(source, "classes", None)
    if own is None and isinstance(features := getattr(source, "features", None), Mapping):
        own = next((features[key].names for key in USUAL["label"] if hasattr(features.get(key), "names")), None)
    if own is not None:
        return [word if isinstance(word, str) else str(word[0]) for word in own]
    parts = [_classes(part) for part in _parts(source)]
    if any(part != parts[0] for part in parts):
        raise XgapError(f"the parts of {type(source).__name__} name their classes differently; pass class_names")
    return parts[0] if parts else ()


def _targets(source: Any) -> Any:
    """The labels of a source that lists them; None where its items must be opened for them."""
    own = getattr(source, "targets", None)
    if own is not None:
        return own
    parts = [_targets(part) for part in _parts(source)]
    if not parts or any(part is None for part in parts):
        return None
    lists = [part.tolist() if hasattr(part, "tolist") else list(part) for part in parts]
    if hasattr(source, "indices"):
        return [lists[0][int(k)] for k in source.indices]
    joined = [label for part in lists for label in part]
    return joined if hasattr(source, "datasets") else None  # another wrapper may choose or change its items


def _changes_items(source: Any) -> bool:
    """Whether a source wraps another in a way that may give its items other labels."""
    own = getattr(source, "classes", None) is not None or hasattr(source, "features")
    return not own and getattr(source, "dataset", None) is not None and not hasattr(source, "indices")


def _parts(source: Any) -> list[Any]:
    """What a `Subset` (or another wrapper) or a `ConcatDataset` holds."""
    whole = getattr(source, "dataset", None)
    return [whole] if whole is not None else list(getattr(source, "datasets", ()))


def _parts_of(item: Any, name: str) -> tuple[list[str], Any]:
    """Captions and label of an item."""
    if isinstance(item, Mapping):
        key = next((key for key in ("captions", *USUAL["caption"]) if key in item), None)
        label = next((item[key] for key in USUAL["label"] if key in item), None)
        return ([] if key is None else _of(name, caption_texts, item[key])), label
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise XgapError(f"item {name!r} is a {type(item).__name__}, not (image, label), (image, captions) or a mapping")
    second = item[1]
    listed = second if isinstance(second, tuple | list) else [second]
    if any(isinstance(part, str) for part in listed) and all(part is None or isinstance(part, str) for part in listed):
        return [caption for part in listed if part for caption in [part.strip()] if caption], None
    return [], second


def _open(source: MapStyle, place: Mapping[str, int], item: str) -> Image.Image:
    found = source[place[item]]
    image = _image(found) if isinstance(found, Mapping) else found[0]
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        image = Image.fromarray(image)
    if not isinstance(image, Image.Image):
        raise XgapError(f"item {item!r} holds a {type(image).__name__}, not an image; leave the transform out")
    return as_rgb(image)


def _image(found: Mapping[str, Any]) -> Any:
    return next((found[key] for key in USUAL["image"] if key in found), None)
