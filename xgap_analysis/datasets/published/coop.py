"""The classification sets in CoOp's splits: test images are queries, train images the gallery, classes have names."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.assemble import assemble
from xgap_analysis.datasets.dataset import Dataset, in_splits
from xgap_analysis.datasets.items import Images
from xgap_analysis.datasets.published.files import listed_images, read_json, read_rows, read_text
from xgap_analysis.datasets.published.protocols import Protocol

LABEL_SET = "class"


@dataclass(frozen=True)
class Listed:
    """What a split's files say: image path to label, by split, and label to class name."""

    images: dict[str, dict[str, str]]
    names: dict[str, str]


def load_coop(name: str, protocol: Protocol, folder: Path) -> Dataset:
    """A set with a `split_zhou_*.json`: splits test (queries from test, gallery from train), train and val.

    Raises:
        XgapError: a damaged split file, or images that are not there.
    """
    return _dataset(name, protocol, folder / protocol.reads["images"], _zhou(folder / protocol.reads["split"]))


def load_aircraft(name: str, protocol: Protocol, folder: Path) -> Dataset:
    """FGVC-Aircraft, whose published text files are CoOp's splits.

    Raises:
        XgapError: as `load_coop`.
    """
    variants = [line.strip() for line in read_text(folder / "variants.txt").splitlines() if line.strip()]
    images: dict[str, dict[str, str]] = {}
    for split in ("train", "val", "test"):
        file = folder / f"images_variant_{split}.txt"
        images[split] = {f"{image}.jpg": variant for image, variant in read_rows(file, 2)}
        unknown = next((v for v in images[split].values() if v not in variants), None)
        if unknown is not None:
            raise XgapError(f"{file} names the variant {unknown!r}, which {folder / 'variants.txt'} does not list")
    return _dataset(name, protocol, folder / "images", Listed(images, {v: v for v in variants}))


def load_imagenet(name: str, protocol: Protocol, folder: Path) -> Dataset:
    """ImageNet in class folders: in "test" the validation images are the queries, the training images the gallery.

    Raises:
        XgapError: a class folder that `classnames.txt` does not name, or no images.
    """
    names = dict(read_rows(folder / "classnames.txt", 2))
    images: dict[str, dict[str, str]] = {}
    for split, part in (("train", "train"), ("test", "val")):
        base = folder / "images" / part
        images[split] = {}
        for wnid in sorted(entry.name for entry in os.scandir(base) if entry.is_dir()):
            if wnid not in names:
                raise XgapError(f"{folder / 'classnames.txt'} does not name the class of the folder {base / wnid}")
            files = sorted(entry.name for entry in os.scandir(base / wnid) if not entry.name.startswith("."))
            images[split] |= {f"{part}/{wnid}/{file}": wnid for file in files}
        if not images[split]:
            raise XgapError(f"expected folders of images by class (n01440764, ...) in {base}, and there are none")
    return _dataset(name, protocol, folder / "images", Listed(images, names))


def _zhou(path: Path) -> Listed:
    """A `split_zhou_*.json`: lists of [path, label, class name] under train, val and test; the name is the label."""
    content = read_json(path)
    images: dict[str, dict[str, str]] = {}
    names: dict[int, str] = {}
    for split in ("train", "val", "test"):
        rows = content.get(split) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not rows:
            raise XgapError(f"{path} is damaged: it has no list {split!r} of [path, label, class name]")
        images[split] = {}
        for row in rows:
            if not (isinstance(row, list) and [type(x) for x in row] == [str, int, str]):
                raise XgapError(f"{path} is damaged: {split} holds {row!r:.80}, not [path, label, class name]")
            image, label, words = row
            if names.setdefault(label, words) != words:
                raise XgapError(f"{path} is damaged: label {label} is both {names[label]!r} and {words!r}")
            images[split][image] = words
    if len(set(names.values())) < len(names):
        raise XgapError(f"{path} is damaged: two labels share a class name")
    return Listed(images, {names[label]: names[label] for label in sorted(names)})


def _dataset(name: str, protocol: Protocol, base: Path, listed: Listed) -> Dataset:
    """The dataset in its splits; all share one list of files, so that what is encoded for one serves the others."""
    label_of = {image: label for part in listed.images.values() for image, label in part.items()}
    if len(label_of) < sum(map(len, listed.images.values())):
        raise XgapError(f"the split files of dataset {name!r} list an image in two splits, or twice in one")
    every = listed_images(base, {image: image for image in label_of}, f"dataset {name!r}")
    makers = {"test": partial(_part, name, protocol, listed, label_of, every, "test", ("test", "train"))}
    makers |= {
        s: partial(_part, name, protocol, listed, label_of, every, s, (s,)) for s in listed.images if s != "test"
    }
    return in_splits(makers)


def _part(
    name: str,
    protocol: Protocol,
    listed: Listed,
    label_of: dict[str, str],
    every: Images,
    split: str,
    members: Iterable[str],
) -> Dataset:
    return assemble(
        name,
        split,
        every.select(image for part in members for image in listed.images[part]),
        labels={LABEL_SET: label_of},
        classes={LABEL_SET: {label: words.replace("_", " ") for label, words in listed.names.items()}},
        image_queries=tuple(listed.images["test"]) if split == "test" else (),
        prompt=protocol.prompt,
    )
