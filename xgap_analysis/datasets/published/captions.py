"""Images with several captions (COCO, Flickr30k, nocaps): the first caption is the query, the others the gallery."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.assemble import assemble
from xgap_analysis.datasets.dataset import Dataset, in_splits
from xgap_analysis.datasets.items import NO_IMAGES
from xgap_analysis.datasets.published.files import first_folder, listed_images, read_json
from xgap_analysis.datasets.published.protocols import Protocol

LABEL_SET = "image"  # items are relevant to each other when they belong to one image

Captioned = Mapping[str, tuple[str, Sequence[str]]]  # image id -> path under the image folder, captions


def load_karpathy(name: str, protocol: Protocol, folder: Path) -> Dataset:
    """COCO or Flickr30k from Karpathy's JSON, with its splits; "test" is the one that the paper evaluates.

    An image's id is its file name, a caption's `<file name>#<number from 0>`. Without the folder of images the
    captions are there alone, which is enough for text retrieval.

    Raises:
        XgapError: a damaged JSON, or some of the images missing.
    """
    file = next(folder / path for path in protocol.reads["captions"].split("|") if (folder / path).exists())
    content = read_json(file)
    rows = content.get("images") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows:
        raise XgapError(f"{file} is damaged: it has no list 'images' with captions and splits")
    parts: dict[str, dict[str, tuple[str, list[str]]]] = {}
    for row in rows:
        try:
            image, split = _text(row["filename"]), _text(row["split"])
            path = f"{row['filepath']}/{image}" if protocol.reads["nested"] else image
            captions = [_text(sentence["raw"]).strip() for sentence in row["sentences"]]
        except (TypeError, KeyError) as error:
            raise XgapError(f"{file} is damaged: an image lacks {error} in {row!r:.80}") from error
        if image in parts.setdefault("train" if split == "restval" else split, {}):
            raise XgapError(f"{file} is damaged: it lists {image!r} twice")
        parts["train" if split == "restval" else split][image] = (path, captions)
    base = first_folder(folder, protocol.reads["images"].split("|"))
    if base is not None and protocol.reads["nested"]:  # val2014/COCO_val2014_000000000042.jpg
        base = base.parent
    evaluated = protocol.reads["evaluated"]
    if evaluated not in parts:
        raise XgapError(f"{file} is damaged: no image is in its split {evaluated!r}")
    names = {"test": evaluated} | {split if split != "test" else "karpathy-test": split for split in parts}
    if evaluated == "test":
        del names["karpathy-test"]
    return in_splits({split: partial(_part, name, part, base, parts[part], file) for split, part in names.items()})


def load_nocaps(name: str, protocol: Protocol, folder: Path) -> Dataset:
    """nocaps, its 4,500 validation images with ten captions each, as the split test (there is no other).

    Raises:
        XgapError: as `load_karpathy`.
    """
    file = folder / protocol.reads["captions"]
    content = read_json(file)
    captioned: dict[str, tuple[str, list[str]]] = {}
    try:
        image_of = {row["id"]: _text(row["file_name"]) for row in content["images"]}
        for row in content["annotations"]:
            image = image_of[row["image_id"]]
            captioned.setdefault(image, (image, []))[1].append(_text(row["caption"]).strip())
    except (TypeError, KeyError) as error:
        raise XgapError(
            f"{file} is damaged: it lacks {error} (expected images and annotations, as COCO has)"
        ) from error
    if not captioned:
        raise XgapError(f"{file} is damaged: it has no annotation")
    base = first_folder(folder, protocol.reads["images"].split("|"))
    return in_splits({"test": partial(_part, name, "val", base, captioned, file)})


def _part(name: str, split: str, base: Path | None, captioned: Captioned, file: Path) -> Dataset:
    paths = {image: path for image, (path, _) in captioned.items()}
    images = NO_IMAGES if base is None else listed_images(base, paths, str(file))
    captions = {image: own for image, (_, own) in captioned.items()}
    return assemble(name, split, images, captions=captions, labels={LABEL_SET: {image: image for image in captions}})


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text where {value!r:.40} stands")
    return value
