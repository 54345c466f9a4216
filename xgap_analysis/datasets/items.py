"""The items of a dataset, by modality: opened when they are needed, or there already, with stable ids."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar

from PIL import Image

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.features import Features
from xgap_analysis.datasets.contents import of_values
from xgap_analysis.datasets.parts import Parts

Own = TypeVar("Own", bound="Items")


@dataclass(frozen=True)
class Items:
    """Items of any modality with stable ids, opened one at a time.

    Args:
        ids: n distinct strings.
        opener: gives the object of an id, as the tower of the modality takes it; an unreadable one raises an OSError
            or a ValueError.
        content: gives the digest of what an id's object is made of (see `datasets.contents`), by which what is computed
            from it is found again, whatever it is called; equal digests, equal objects. Or a word (a version, say) that
            stands, with the id, for the content of each. Without one, nothing computed from the items is kept.
        modality: whose tower encodes them.
        parts: what the items consist of, by name (`"regions"`, `"frames"`); see `parts_of`.

    Example:
        >>> sounds = Items(["a", "b"], {"a": [0.1, 0.3], "b": [0.2, 0.0]}.__getitem__, "version 1", "audio")
        >>> len(sounds), sounds[1]
        (2, [0.2, 0.0])

    Raises:
        XgapError: no modality is given.
    """

    ids: Sequence[str]
    opener: Callable[[str], Any] = field(repr=False)
    content: str | Callable[[str], str] = field(default="", repr=False)
    modality: str = ""
    parts: Mapping[str, Parts] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.modality:
            raise XgapError('items need the name of their modality, as in Items(ids, opener, content, "audio")')

    def __repr__(self) -> str:
        """One line: how many, and the first."""
        return _brief(self)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Any:
        return self.opener(self.ids[index])

    def select(self: Own, ids: Iterable[str]) -> Own:
        """The items of these ids, in this order (an id that is not there is an error)."""
        ids = tuple(ids)
        _check_known(ids, self.ids, self.modality)
        return replace(self, ids=ids)

    def parts_of(self, name: str) -> Parts:
        """The parts of these items by name, item by item.

        Raises:
            XgapError: no parts of this name (the nearest are given), or an item without any.
        """
        return _parts_of(self, name)

    def digest_of(self, item: str) -> str:
        """The digest of an item's content; empty where nothing says what it is.

        Raises:
            OSError: a file that cannot be read.
        """
        if isinstance(self.content, str):
            return of_values(self.content, item) if self.content else ""
        return self.content(item)

    @property
    def digest(self) -> str:
        """A fingerprint of ids and content, all of which is read; empty where nothing says what the content is."""
        if not self.content:
            return ""
        lines = []
        for item in self.ids:
            try:
                lines.append(f"{item}\x1f{self.digest_of(item)}")
            except OSError:  # a missing file is said when it is opened
                lines.append(item)
        return hashlib.sha256("\x1e".join(lines).encode(errors="surrogateescape")).hexdigest()


@dataclass(frozen=True, repr=False)
class Images(Items):
    """Images with stable ids, opened one at a time as RGB; see `Items`. Equal digests, equal pixels.

    Example:
        >>> import xgap_analysis as xg
        >>> from PIL import Image
        >>> images = xg.Images(["red", "blue"], lambda i: Image.new("RGB", (8, 8), i), "plain squares")
        >>> images[1].getpixel((0, 0)), images.select(["red"]).ids
        ((0, 0, 255), ('red',))
    """

    opener: Callable[[str], Image.Image] = field(repr=False)
    modality: str = "image"


@dataclass(frozen=True)
class Texts:
    """Captions with stable ids: `captions[i]` belongs to `ids[i]`. For `parts`, see `Items`.

    Example:
        >>> import xgap_analysis as xg
        >>> texts = xg.Texts(["t1", "t2"], ["a cat", "a dog"])
        >>> texts[0], len(texts)
        ('a cat', 2)
    """

    ids: Sequence[str]
    captions: Sequence[str]
    parts: Mapping[str, Parts] = field(default_factory=dict, repr=False, compare=False)
    modality: ClassVar[str] = "text"

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.captions):
            raise XgapError(f"{len(self.ids)} ids were given for {len(self.captions)} captions")

    def __repr__(self) -> str:
        """One line: how many, and the first."""
        return _brief(self)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> str:
        return self.captions[index]

    def __iter__(self) -> Iterator[str]:
        return iter(self.captions)

    @property
    def digest(self) -> str:
        """A fingerprint of ids and captions."""
        lines = (f"{i}\x1f{c}" for i, c in zip(self.ids, self.captions, strict=True))
        return hashlib.sha256("\x1e".join(lines).encode()).hexdigest()

    def select(self, ids: Iterable[str]) -> "Texts":
        """The captions of these ids, in this order (an id that is not there is an error)."""
        ids = tuple(ids)
        _check_known(ids, self.ids, "caption")
        caption = dict(zip(self.ids, self.captions, strict=True))
        return Texts(ids, tuple(caption[i] for i in ids), self.parts)

    def parts_of(self, name: str) -> Parts:
        """The parts of these texts by name; see `Items.parts_of`."""
        return _parts_of(self, name)


@dataclass(frozen=True, eq=False)
class Vectors:
    """Items that are known by their features alone, computed elsewhere: any modality, one vector per item."""

    features: Features

    def __repr__(self) -> str:
        """One line: how many, and the first."""
        return _brief(self)

    @property
    def ids(self) -> Sequence[str]:
        """The items' ids."""
        return self.features.ids

    @property
    def modality(self) -> str:
        """What the features were made from."""
        return self.features.origin

    def __len__(self) -> int:
        return len(self.features)

    def select(self, ids: Iterable[str]) -> "Vectors":
        """The items of these ids, in this order (an id that is not there is an error)."""
        return Vectors(self.features.select(ids))


AnyItems = Items | Texts | Vectors


def _brief(items: AnyItems) -> str:
    first = f", the first {items.ids[0]!r}" if len(items) else ""
    return f"{type(items).__name__}({len(items)} of modality {items.modality!r}{first})"


def _check_known(chosen: Sequence[str], known: Sequence[str], what: str) -> None:
    there = set(known)
    missing = [i for i in chosen if i not in there]
    if missing:
        raise XgapError(f"{len(missing)} ids have no {what} here, the first is {missing[0]!r}")


def _parts_of(items: "Items | Texts", name: str) -> Parts:
    if name not in items.parts:
        raise unknown_name(f"parts of {items.modality} items:", name, items.parts)
    return items.parts[name].of(items.ids)


def _no_image(item: str) -> Image.Image:
    raise XgapError(f"there is no image {item!r}: this dataset has texts alone")


NO_IMAGES, NO_TEXTS = Images((), _no_image), Texts((), ())  # of a dataset of one modality
