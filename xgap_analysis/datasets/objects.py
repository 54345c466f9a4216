"""Data sets that other libraries hold in memory: torchvision's, or any object with a length and items."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
from PIL import Image

from xgap_analysis.datasets.assemble import Record, assemble
from xgap_analysis.datasets.pictures import as_rgb
from xgap_analysis.datasets.records import Dataset
from xgap_analysis.errors import XgapError


class MapStyle(Protocol):
    """What PyTorch calls a map-style data set."""

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
    """A torchvision data set, or any map-style one, as a `Dataset`; its items are opened when they are needed.

    An item is `(image, label)`, `(image, caption or captions)`, or a mapping with the keys `image`, `label`,
    `caption(s)`; the image is a picture (or an array `[h, w]` or `[h, w, 3]` of bytes), before any transform. Labels
    are read from `source.targets` where there are such, and otherwise every item is opened once. Splits and texts: see
    `load_dataset` on own data.

    Args:
        source: with `len(source)` and `source[i]`.
        name: for tables; the class's by default.
        ids: a name of each item, such as its file; by default its running number, which is stable as long as the
            source's order is.
        labels: of each item, in place of the source's.
        class_names: the words of numbered labels; `source.classes` by default.
        digest: what stands for the content (a version, say); without one, features are not kept in the store.
        train_share: the share of the items that are split `train`, by a hash of their ids.

    Raises:
        XgapError: an empty source, items of another form, or ids or labels that do not fit.
    """
    n = len(source)
    named = [str(i) for i in ids] if ids is not None else [str(i) for i in range(n)]
    words = class_names if class_names is not None else getattr(source, "classes", None) or ()
    given = labels if labels is not None else getattr(source, "targets", None)
    if given is None:
        told = [_told(source[i], named[i] if i < len(named) else str(i)) for i in range(n)]
    else:
        told = [((), label) for label in (given.tolist() if hasattr(given, "tolist") else given)]
    for what, found in (("ids", named), ("labels", told)):
        if len(found) != n:
            raise XgapError(f"{len(found)} {what} were given for {n} items")

    def word(label: Any) -> str | None:
        if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(words):
            first = words[label]
            return str(first if isinstance(first, str) else first[0])  # ImageNet's classes are tuples of synonyms
        return None if label is None else str(label)

    records = [Record(item, captions, word(label)) for item, (captions, label) in zip(named, told, strict=True)]
    place = {item: i for i, item in enumerate(named)}
    opener = partial(_open, source, place)
    return assemble(name or type(source).__name__, records, opener, digest, train_share=train_share)


def _told(item: Any, name: str) -> tuple[Sequence[str], Any]:
    """Captions and label of an item."""
    if isinstance(item, Mapping):
        captions = next((item[key] for key in ("captions", "caption", "text") if key in item), ())
        return ([captions] if isinstance(captions, str) else list(captions)), _number(item.get("label"))
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise XgapError(f"item {name!r} is a {type(item).__name__}, not (image, label), (image, captions) or a mapping")
    second = item[1]
    if isinstance(second, str):
        return [second], None
    if isinstance(second, tuple | list) and all(isinstance(caption, str) for caption in second):
        return list(second), None
    return (), _number(second)


def _number(label: Any) -> Any:
    """A label as a plain value, where it is a tensor or one of NumPy's numbers."""
    return label.item() if hasattr(label, "item") else label


def _open(source: MapStyle, place: Mapping[str, int], item: str) -> Image.Image:
    found = source[place[item]]
    image = found["image"] if isinstance(found, Mapping) else found[0]
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        image = Image.fromarray(image)
    if not isinstance(image, Image.Image):
        raise XgapError(f"item {item!r} holds a {type(image).__name__}, not a picture; leave the transform out")
    return as_rgb(image)
