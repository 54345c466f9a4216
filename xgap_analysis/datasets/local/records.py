"""Records of one's own items, and the dataset in its splits that they make: what every reader of own data shares."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.assemble import PROMPT, assemble
from xgap_analysis.datasets.dataset import Dataset, in_splits
from xgap_analysis.datasets.items import Images

SPLITS = {  # what folders, columns and shards call a split, and what it is called here
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
CLASS, PAIR = "class", "pair"  # label sets: one class of items, and one image with its captions


@dataclass(frozen=True)
class Record:
    """One item: an image, its captions, or both; what is not known is left empty."""

    id: str
    captions: Sequence[str] = ()
    label: str | None = None
    split: str | None = None
    has_image: bool = True


def dataset_of(name: str, records: Sequence[Record], images: Images, *, train_share: float = 0.0) -> Dataset:
    """A dataset of local records, whole; `.split(...)` gives its parts.

    Labels: label set `"class"` where items are labelled; label set `"pair"` (an image and its captions) where there are
    captions. Where there are none, the texts are the prompts `a photo of <class>`. In text retrieval the first caption
    of each item is the query and the others are the gallery, if some item has two. Retrieval is within a split: each
    image is a query, and all others are its gallery.

    Splits: those of the records. Where there is no `test`, `val` is evaluated instead. Where there is one split
    only, whatever it is called, all of it is `test` and there is no `train`; `train_share` cuts one off. `all` holds
    everything, also the items that name no split where others do.

    Args:
        name: for tables.
        records: with distinct ids.
        images: those of the records that have one, at least.
        train_share: the share of the items that go to `train`, chosen by a hash of their ids, where there is one split.

    Raises:
        XgapError: no records, an id given twice, or a share where there are splits already.
    """
    if not records:
        raise XgapError(f"dataset {name!r} holds no items")
    twice = next((i for i, n in Counter(r.id for r in records).items() if n > 1), None)
    if twice is not None:
        raise XgapError(f"dataset {name!r} has more than one item with the id {twice!r}")
    members: dict[str, list[Record]] = {}
    named = any(record.split for record in records)
    for record in records:
        if record.split or not named:  # where others name theirs, an item without a split is in `all` alone
            members.setdefault(record.split or "test", []).append(record)
    if len(members) == 1:
        members = _cut(next(iter(members.values())), train_share)
    elif train_share:
        raise XgapError(f"dataset {name!r} has splits already ({', '.join(members)}); leave train_share out")
    # Zero-shot classification is among all classes, also those that a split lacks.
    classes = sorted({r.label for r in records if r.label is not None})
    words = {label: label.replace("_", " ") for label in classes}
    captioned = any(r.captions for r in records)

    def part(split: str, chosen: Sequence[Record]) -> Dataset:
        there = {r.label for r in chosen if r.label is not None}
        prompts = {} if captioned else {f"class/{label}": label for label in classes if label in there}
        of_class = {r.id: r.label for r in chosen if r.label is not None}
        return assemble(
            name,
            split,
            images.select(r.id for r in chosen if r.has_image),
            texts={item: PROMPT.replace("{}", words[label]) for item, label in prompts.items()},
            captions={r.id: r.captions for r in chosen},
            labels={CLASS: of_class | prompts, PAIR: {r.id: r.id for r in chosen} if captioned else {}},
            classes={CLASS: words} if words else {},
        )

    makers = {split: partial(part, split, chosen) for split, chosen in members.items()}
    if "test" not in makers and "val" in makers:
        makers["test"] = makers["val"]
    return in_splits({**makers, "all": partial(part, "all", records)}, first="all")


def _cut(records: Sequence[Record], share: float) -> dict[str, list[Record]]:
    """One split cut in two by a hash of the ids, so that an item stays where it is when others come and go."""
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
        what = "train_share is the share of the items that go to train"
        raise XgapError(f"{what}, a number of at least 0 and below 1, not {share!r}")

    def trains(record: Record) -> bool:
        digest = hashlib.sha256(record.id.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:6], "big") / 2**48 < share

    cut = {"train": [r for r in records if trains(r)], "test": [r for r in records if not trains(r)]}
    return {split: chosen for split, chosen in cut.items() if chosen}


def split_named(word: str) -> str | None:
    """The split that a folder, a part of a file name or a cell of a table names; None where it names none."""
    return SPLITS.get(word.strip().lower())


def split_in(path: PurePath) -> str | None:
    """The split that a word of a path names, as in `data/train-00000-of-00002.parquet` or `val/0.tar`."""
    words = (word for part in path.with_suffix("").parts for word in re.split(r"[-_.]", part))
    return next((split for word in words if (split := split_named(word))), None)
