"""From anybody's own items to a `Dataset`: what every reader of own data shares."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from PIL import Image

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.items import Images, Texts

SPLITS = {  # what folders, columns and shards call a split, and what it is called here
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
CLASS, PAIR = "class", "pair"  # levels of labels: one class of items, and one image with its captions


@dataclass(frozen=True)
class Record:
    """One item: an image, its captions, or both; what is not known is left empty."""

    id: str
    captions: Sequence[str] = ()
    label: str | None = None
    split: str | None = None
    has_image: bool = True


def assemble(
    name: str,
    records: Sequence[Record],
    opener: Callable[[str], Image.Image],
    content: str | Callable[[str], str],
    *,
    train_share: float = 0.0,
) -> Dataset:
    """A data set of one's own records, whole; `.split(...)` gives its parts.

    Labels: level `"class"` where items are labelled; level `"pair"` (an image and its captions) where there are
    captions. Where there are none, the texts are the prompts `a photo of <class>`. The first caption of each item asks
    and the others are searched in text retrieval, where some item has two. Retrieval is within a split: each image
    asks, and all others are its gallery.

    Splits: those of the records. Where there is no `test`, `val` is judged in its place. Where there is one split
    only, whatever it is called, all of it is `test` and there is no `train`; `train_share` cuts one off. `all` holds
    everything, also the items that name no split where others do.

    Args:
        name: for tables.
        records: with distinct ids.
        opener: the picture of an id.
        content: see `Images`.
        train_share: the share of the items that go to `train`, chosen by a hash of their ids, where there is one split.

    Raises:
        XgapError: no records, an id given twice, or a share where there are splits already.
    """
    if not records:
        raise XgapError(f"data set {name!r} holds no items")
    twice = next((i for i, n in Counter(r.id for r in records).items() if n > 1), None)
    if twice is not None:
        raise XgapError(f"data set {name!r} has more than one item with the id {twice!r}")
    members: dict[str, list[Record]] = {}
    named = any(record.split for record in records)
    for record in records:
        if record.split or not named:  # where others name theirs, an item without a split is in `all` alone
            members.setdefault(record.split or "test", []).append(record)
    if len(members) == 1:
        members = _cut(next(iter(members.values())), train_share)
    elif train_share:
        raise XgapError(f"data set {name!r} has splits already ({', '.join(members)}); leave train_share out")
    # Zero-shot classification is among all classes, also those that a split lacks.
    classes = sorted({r.label for r in records if r.label is not None})
    words = {label: label.replace("_", " ") for label in classes}
    captioned = any(r.captions for r in records)
    splits: dict[str, Callable[[], Dataset]] = {}

    def part(split: str, chosen: Sequence[Record]) -> Dataset:
        return _part(name, split, chosen, opener, content, words, captioned, splits)

    splits |= {split: partial(part, split, chosen) for split, chosen in members.items()}
    if "test" not in splits and "val" in splits:
        splits["test"] = splits["val"]
    splits["all"] = partial(part, "all", records)
    return part("all", records)


def _cut(records: Sequence[Record], share: float) -> dict[str, list[Record]]:
    """One split cut in two by a hash of the ids, so that an item stays where it is when others come and go."""
    if not 0 <= share < 1:
        raise XgapError(f"train_share is the share of the items that go to train, at least 0 and below 1, not {share}")

    def trains(record: Record) -> bool:
        digest = hashlib.sha256(record.id.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:6], "big") / 2**48 < share

    cut = {"train": [r for r in records if trains(r)], "test": [r for r in records if not trains(r)]}
    return {split: chosen for split, chosen in cut.items() if chosen}


def _part(
    name: str,
    split: str,
    records: Sequence[Record],
    opener: Callable[[str], Image.Image],
    content: str | Callable[[str], str],
    words: Mapping[str, str],
    captioned: bool,
    splits: Mapping[str, Callable[[], Dataset]],
) -> Dataset:
    images = tuple(r.id for r in records if r.has_image)
    captions: dict[str, str] = {}
    by_class = {r.id: r.label for r in records if r.label is not None and r.has_image}
    pairs = {r.id: r.id for r in records if r.has_image}
    for record in records:
        for k, caption in enumerate(record.captions):
            item = f"{record.id}#{k}"
            captions[item], pairs[item] = caption, record.id
            if record.label is not None:
                by_class[item] = record.label
    if not captioned:
        there = {r.label for r in records}
        prompts = {f"class/{label}": label for label in words if label in there}
        captions |= {item: f"a photo of {words[label]}" for item, label in prompts.items()}
        by_class |= prompts
    clash = next((i for i in images if i in captions), None)
    if clash is not None:
        raise XgapError(f"data set {name!r} has an image with the id of a text, {clash!r}; rename it")
    several = any(len(r.captions) > 1 for r in records)
    return Dataset(
        name=name,
        split_name=split,
        images=Images(images, opener, content),
        texts=Texts(tuple(captions), tuple(captions.values())),
        labels={level: of for level, of in ((CLASS, by_class), (PAIR, pairs if captioned else {})) if of},
        class_names={CLASS: words} if words else {},
        text_queries=tuple(f"{r.id}#0" for r in records if r.captions) if several else (),
        splits=splits,
    )


def split_named(word: str) -> str | None:
    """The split that a folder, a part of a file name or a cell of a table names; None where it names none."""
    return SPLITS.get(word.strip().lower())
