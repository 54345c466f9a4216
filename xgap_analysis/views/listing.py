"""Plain lists of captions, images and paths as items with ids."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from PIL import Image

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.contents import of_file, of_image
from xgap_analysis.datasets.images import UNREAD, as_rgb, is_image_file, open_image
from xgap_analysis.datasets.items import AnyItems, Images, Texts
from xgap_analysis.store import key_of

Listed = AnyItems | Sequence[str] | Sequence[Image.Image] | Sequence[Path] | str | Image.Image | Path


def has_ids(items: Any) -> bool:
    """Whether something is items already: list-like, with ids and the name of a modality."""
    return all(hasattr(items, part) for part in ("ids", "modality", "__len__"))


def as_items(items: Listed) -> Any:
    """Items with ids and a modality as they are; a plain list as items with ids of its own (a path, a running number).

    An image is the same whether it comes as a file or as a PIL image that was opened from it (see `as_rgb`).

    Raises:
        XgapError: items of another kind, or strings that name files of images.
    """
    if has_ids(items):
        return items
    listed = _as_list(items)
    if all(isinstance(x, str) for x in listed):
        captions = [x for x in listed if isinstance(x, str)]  # as they are: a text may carry tags
        _check_captions(captions)
        return Texts([str(i) for i in range(len(captions))], captions)
    paths = [x for x in listed if isinstance(x, Path)]
    if len(paths) == len(listed):
        return Images([str(p) for p in paths], open_image, of_file)
    by_id = {str(i): x for i, x in enumerate(listed) if isinstance(x, Image.Image)}
    if len(by_id) == len(listed):
        locks = {id(image): Lock() for image in by_id.values()}  # an opened file is decoded when it is first read

        def opened(item: str) -> Image.Image:
            image = by_id[item]
            with locks[id(image)]:  # one that is listed twice is read by two threads
                return as_rgb(image)

        def content(item: str) -> str:
            image = by_id[item]
            with locks[id(image)]:
                return of_image(image)

        return Images(list(by_id), opened, content)
    kinds = ", ".join(sorted({type(x).__name__ for x in listed}))
    what = "items must be Images, Texts, Items, or a list of captions (str), of PIL images, or of paths (Path)"
    raise XgapError(f"{what}, all of one kind; this list holds: {kinds}")


def digest_of_list(listed: Listed, contents: Sequence[str]) -> str:
    """What identifies a plain list, by its contents; empty where items have their own names.

    In a list without ids an item is known by its place, which says nothing of another list.
    """
    if has_ids(listed):
        return ""
    if any(isinstance(x, Path) for x in _as_list(listed)):
        return ""
    return key_of({"items": list(contents)})


def _as_list(given: Any) -> list[object]:
    return [given] if isinstance(given, str | Image.Image | Path) else list(given)


def _check_captions(captions: Sequence[str]) -> None:
    """Refuse strings that name files of images, and say it where all of them are named like such files."""
    named = [x for x in captions if len(x) < 4096 and (is_image_file(x) or Path(x).suffix.lower() in UNREAD)]
    there = next((x for x in named if _is_file(x)), None)
    how = "give paths as pathlib.Path, as in encode(model, [Path(name) for name in names])"
    if there is not None:
        raise XgapError(f"{there!r} is a file of an image, and a string is read as a caption; {how}")
    if named and len(named) == len(captions):
        what = f"{len(named)} strings that end like files of images, such as {named[0]!r}, are encoded as captions"
        warnings.warn(f"{what}; if they are meant as files, {how}", stacklevel=4)


def _is_file(name: str) -> bool:
    try:
        return Path(name).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):  # a name too long, with a NUL, or of an unknown user
        return False
