"""What the tokens of an item are: names, boxes on its image, images of their own, for figures and explorers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.items import AnyItems
from xgap_analysis.datasets.parts import Parts
from xgap_analysis.models.captions import pieces
from xgap_analysis.models.tower import Model
from xgap_analysis.views.view import View, view

Box = tuple[float, float, float, float]  # left, top, right, bottom, from 0 to 1
NAMED_BY = ("name", "caption", "time", "concept", "label")  # columns of parts that name them, the first that is there


@dataclass(frozen=True, eq=False)
class DescribedItem:
    """One item and what its tokens are.

    Args:
        item: its id.
        names: one per token: a word, a caption, the name of a region, the time of a frame, or a number.
        image: the item, where it is an image; as the model sees it, where its tokens are patches.
        boxes: of the tokens on that image; none where they are no places.
        images: of the tokens, where each is an image and no place (frames).
    """

    item: str
    names: Sequence[str]
    image: Image.Image | None = None
    boxes: Sequence[Box] = ()
    images: Sequence[Image.Image] = ()


def described(model: Model | Any, items: AnyItems, item: str, of: str | View, count: int) -> DescribedItem:
    """What the tokens of an item are, as far as the model and the items say.

    Parts have the names and boxes of their columns, patches the places of a grid, words the pieces of the tokenizer;
    tokens of other views have numbers, and a caption that is one vector its words.

    Args:
        model: that gave the tokens.
        items: of the view's modality.
        item: id of one of them.
        of: the view that gave the tokens.
        count: how many there are.

    Raises:
        XgapError: an id that is not there.
    """
    of = view(of)
    one: Any = items.select([item])
    if of.name in getattr(one, "parts", {}):
        made = _of_parts(item, one, one.parts_of(of.name))
    elif one.modality == "image" and hasattr(one, "opener"):
        made = _of_patches(model, item, one[0], count if of.name == "patches" else 0)
    elif one.modality == "text" and hasattr(one, "captions"):
        made = DescribedItem(item, _words(model, str(one[0]), count) if of.name == "words" else [str(one[0])])
    else:
        made = DescribedItem(item, ())
    if len(made.names) == count:
        return made
    numbered = [item] if count == 1 else [f"token {i}" for i in range(1, count + 1)]
    return DescribedItem(item, numbered, made.image)  # a view that merges parts, say: places are not known


def _of_parts(item: str, one: Any, parts: Parts) -> DescribedItem:
    items: Any = parts.items
    if parts.modality == "text":
        return DescribedItem(item, [str(text) for text in items])
    column = next((name for name in NAMED_BY if name in parts.columns), None)
    names = list(items.ids) if column is None else [f"{column} {x}" for x in parts.columns[column]]
    if column not in (None, "time"):
        names = [str(x) for x in parts.columns[column]]  # type: ignore[index]
    if "box" in parts.columns and one.modality == "image":
        image = one[0]
        by = (*image.size, *image.size)
        boxes = [tuple(x / length for x, length in zip(box, by, strict=True)) for box in parts.columns["box"]]
        return DescribedItem(item, names, image, boxes)  # type: ignore[arg-type]
    images = [items[i] for i in range(len(items))] if parts.modality == "image" else []
    return DescribedItem(item, names, images=images)


def _of_patches(model: Model | Any, item: str, image: Image.Image, count: int) -> DescribedItem:
    """The grid of patches over the image that the tower sees, row by row; one token, the whole, where count is 0."""
    seen = _as_seen(model, image) if count else None
    rows = 0 if seen is None else next((r for r in range(1, count + 1) if r * r * seen.width == count * seen.height), 0)
    if seen is None or not rows or count % rows:
        return DescribedItem(item, [item], image)
    columns = count // rows
    places = [(row, column) for row in range(rows) for column in range(columns)]
    boxes = [(c / columns, r / rows, (c + 1) / columns, (r + 1) / rows) for r, c in places]
    return DescribedItem(item, [f"row {r + 1}, column {c + 1}" for r, c in places], seen, boxes)


def _as_seen(model: Model | Any, image: Image.Image) -> Image.Image | None:
    """The image after resizing and cropping; None where the tower takes no pixels.

    What the tower makes of black and of white undoes its normalisation.
    """
    try:
        shown = torch.as_tensor(model.preprocess(image))
        if shown.ndim != 3 or shown.shape[0] != 3:
            return None
        black, white = (model.preprocess(Image.new("RGB", image.size, colour)) for colour in ("black", "white"))
    except (AttributeError, XgapError, TypeError, ValueError):  # a tower of one's own, which reads something else
        return None
    scaled = ((shown - black) / (white - black)).clamp(0, 1).mul(255).round().byte()
    return Image.fromarray(scaled.permute(1, 2, 0).cpu().numpy())


def _words(model: Model | Any, caption: str, count: int) -> list[str]:
    tower = model.tower("text")
    if hasattr(tower, "tokenize"):
        found = pieces(tower.tokenize, caption)
        if len(found) == count:
            return found
    return caption.split()
