"""Model x items -> Features: batched, decoded ahead by threads, kept in the store, resumed after a kill."""

import hashlib
import math
import os
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.progress import tell
from xgap_analysis.datasets.contents import of_file, of_image
from xgap_analysis.datasets.images import UNREAD, UNREADABLE, as_rgb, is_picture, open_picture
from xgap_analysis.datasets.items import Images, Texts
from xgap_analysis.models.threads import suited
from xgap_analysis.models.tower import Model
from xgap_analysis.store import Rows, Store, compute, entry_key, key_of

SHARD = 1024  # items; a killed run loses at most this much work
BATCH = 64  # batch boundaries are fixed inside a shard, so that a rerun gives the same bits

Items = Images | Texts | Sequence[str] | Sequence[Image.Image] | Sequence[Path] | str | Image.Image | Path


def encode(
    model: Model,
    items: Items,
    *,
    project: bool = True,
    on_error: str = "raise",
    store: Store | str | None = "default",
    progress: bool = True,
) -> Features:
    """The model's features of images or texts.

    Args:
        model: from `load_model`.
        items: `Images` or `Texts` of a data set; or a list of captions (str), of PIL images, or of paths (Path) to
            images; or one of these.
        project: False gives the features before the linear projection (towers that have one).
        on_error: `"raise"` on an unreadable image, or `"skip"` it with a warning that counts and names.
        store: where features are kept and found again, item by item and by content; by default the user's store, None
            keeps nothing. Images of which nothing says what they are (`Images` without `content`) are never kept.
        progress: show a bar over the items when something has to be computed.

    Returns:
        Features `[n, d]` in the items' order, space and origin `"image"` or `"text"`; skipped images are left out.

    Raises:
        XgapError: no items, an id given twice, an unreadable image, or a tower without a linear projection.
    """
    if on_error not in ("raise", "skip"):
        raise XgapError(f'on_error is "raise" or "skip", not {on_error!r}')
    listed = not isinstance(items, Images | Texts)
    items = as_items(items)
    if not len(items):
        raise XgapError("there is nothing to encode: the split or list is empty")
    twice = next((i for i, n in Counter(items.ids).items() if n > 1), None)
    if twice is not None:
        raise XgapError(f"id {twice!r} stands for more than one item; ids must be distinct")
    space = "image" if isinstance(items, Images) else "text"
    made_by: dict[str, Any] = {  # what determines the numbers, besides an item
        "view": space,
        "fingerprint": model.fingerprint,
        "precision": model.precision,
        "projected": project,
    }
    lost: dict[str, str] = {}
    if isinstance(items, Images):
        made_by["preprocess"] = _preprocess_digest(model)
        contents, lost = _contents(items, on_error)
        rows = [i for i, item in enumerate(items.ids) if item not in lost]

        def worker(places: Sequence[int], _: Collection[str]) -> dict[str, Rows]:
            return {space: _encode_images(model, items, [rows[place] for place in places], project, on_error)}
    else:
        tokens = model.tokenize(list(items.captions)).cpu()
        contents = [hashlib.sha256(row.numpy().tobytes()).hexdigest() for row in tokens]  # two captions may be one

        def worker(places: Sequence[int], _: Collection[str]) -> dict[str, Rows]:
            return {space: _encode_texts(model, tokens[places], project)}

    if store == "default":
        store = Store()
    assert store is None or isinstance(store, Store)
    known = all(contents)
    found = Rows({})
    if contents:
        found = compute(
            {space: made_by},
            contents if known else [str(place) for place in range(len(contents))],
            worker,
            shard_size=SHARD,
            store=store if known else None,
            description=f"encode {space}s with {model.name}",
            progress=progress,
            notes={"model": model.name, "device": str(model.device)},
        )[space]
    ids = [item for item in items.ids if item not in lost]
    lost |= {ids[place]: reason for place, reason in found.failed.items()}
    if lost:
        first = next(item for item in items.ids if item in lost)
        if len(lost) == len(items):
            raise XgapError(f"none of the {len(items)} images could be read, the first is {first!r} ({lost[first]})")
        if on_error == "raise":  # an earlier run skipped them
            what = f"{len(lost)} images cannot be read, the first is {first!r} ({lost[first]})"
            raise XgapError(f'{what}; repair or remove them, or pass on_error="skip"')
        warnings.warn(f"{len(lost)} unreadable images were skipped, the first is {first!r}", stacklevel=2)
    content = {item: digest for item, digest in zip(ids, contents, strict=True) if item not in lost}
    provenance = {"model": model.name, "weights": model.weights_digest, "activation": model.activation, **made_by}
    if known:
        provenance |= {"entry": entry_key(made_by), "digest": key_of({**made_by, "items": list(content.items())})}
    # Of a list without ids, an item is known by its place, which says nothing of another list.
    numbered = listed and tuple(items.ids) == tuple(map(str, range(len(items))))
    one_list = key_of({"items": list(content.values())}) if numbered else ""
    return Features(found.tensors["vectors"], content, space, space, provenance, one_list)


def as_items(items: Items) -> Images | Texts:
    """Items of a data set as they are; a plain list as items with ids of its own (a path, or a running number).

    An image is the same whether it comes as a file or as a PIL image that was opened from it (see `as_rgb`).

    Raises:
        XgapError: items of another kind, or strings that name files of images.
    """
    if isinstance(items, Images | Texts):
        return items
    listed: list[object] = [items] if isinstance(items, str | Image.Image | Path) else list(items)
    if all(isinstance(x, str) for x in listed):
        captions = [str(x) for x in listed]
        _check_captions(captions)
        return Texts([str(i) for i in range(len(captions))], captions)
    paths = [x for x in listed if isinstance(x, Path)]
    if len(paths) == len(listed):
        return Images([str(p) for p in paths], open_picture, of_file)
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
    what = "items must be Images, Texts, or a list of captions (str), of PIL images, or of paths (Path)"
    raise XgapError(f"{what}, all of one kind; this list holds: {kinds}")


def _check_captions(captions: Sequence[str]) -> None:
    """Refuse strings that name files of images, and say it where all of them are named like such files."""
    named = [x for x in captions if len(x) < 4096 and (is_picture(x) or Path(x).suffix.lower() in UNREAD)]
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


def _preprocess_digest(model: Model) -> str:
    """What the preprocess makes of a fixed picture: its name or text would not tell two functions apart."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    pixels = model.preprocess(Image.fromarray(noise))
    return hashlib.sha256(pixels.numpy().tobytes()).hexdigest()


def _contents(images: Images, on_error: str) -> tuple[list[str], dict[str, str]]:
    """Digests of the images that are there, and by id, why one is not."""

    def content(item: str) -> str | Exception:
        try:
            return images.digest_of(item)
        except UNREADABLE as error:
            return error

    parts = [images.ids[i : i + BATCH] for i in range(0, len(images), BATCH)]
    with ThreadPoolExecutor(max_workers=_workers()) as pool:  # files are read
        told = [one for part in pool.map(lambda part: [content(item) for item in part], parts) for one in part]
    lost = {item: error for item, error in zip(images.ids, told, strict=True) if isinstance(error, Exception)}
    if lost and on_error == "raise":
        item, error = next(iter(lost.items()))
        raise _unreadable(item, error) from error
    return [one for one in told if isinstance(one, str)], {item: str(error) for item, error in lost.items()}


def _unreadable(item: str, error: Exception) -> XgapError:
    what = f"image {item!r} cannot be read ({error})"
    return XgapError(f'{what}; repair or remove it, or pass on_error="skip"')


def _workers() -> int:
    return min(16, os.cpu_count() or 1)


def _encode_texts(model: Model, tokens: Tensor, project: bool) -> Rows:
    with torch.inference_mode(), suited(model.text, min(BATCH, len(tokens)), model.device):
        parts = [model.text.encode(b.to(model.device), project=project).float() for b in tokens.split(BATCH)]
        return Rows({"vectors": torch.cat(parts).cpu()})


def _encode_images(model: Model, images: Images, rows: Sequence[int], project: bool, on_error: str) -> Rows:
    """Features `[m, d]` before normalisation, and the reasons of images that could not be read."""
    done: list[Tensor] = []
    readable: list[Tensor] = []
    errors: dict[int, Exception] = {}
    with torch.inference_mode():
        for pixels, failed in _batches(model, images, rows, on_error):
            with suited(model.image, len(pixels), model.device):
                done.append(model.image.encode(pixels.to(model.device, non_blocking=True), project=project).float())
            n = sum(map(len, readable))
            errors |= {n + place: error for place, error in failed.items()}
            readable.append(torch.tensor([place not in failed for place in range(len(pixels))]))
            tell(f"encode images with {model.name}", n + len(pixels), len(rows))
    vectors = torch.cat(done).cpu()[torch.cat(readable)]  # one wait for the device in a shard
    # An error with a number is the system's (a share that is away, too many open files): the bytes may be sound.
    passing = [place for place, error in errors.items() if getattr(error, "errno", None) is not None]
    return Rows({"vectors": vectors}, {place: str(error) for place, error in errors.items()}, passing)


def _batches(
    model: Model, images: Images, rows: Sequence[int], on_error: str
) -> Iterator[tuple[Tensor, dict[int, Exception]]]:
    """Batches of pixels `[b, 3, h, w]` and why some are blank; the next batch is decoded meanwhile."""

    def load(row: int) -> Tensor | Exception:
        try:
            return model.preprocess(images[row])
        except UNREADABLE as error:
            if on_error == "raise":
                raise _unreadable(images.ids[row], error) from error
            return error

    def load_all(some: Sequence[int]) -> list[Tensor | Exception]:
        return [load(row) for row in some]

    workers = _workers()

    def submit(pool: ThreadPoolExecutor, start: int) -> list["Future[list[Tensor | Exception]]"]:
        batch = rows[start : start + BATCH]
        # One task a thread: small pictures are mostly Python's work, and handing its lock over for each takes time.
        share = max(1, math.ceil(len(batch) / workers))
        return [pool.submit(load_all, batch[i : i + share]) for i in range(0, len(batch), share)]

    with ThreadPoolExecutor(max_workers=workers) as pool:
        coming = submit(pool, 0)
        for start in range(0, len(rows), BATCH):
            loaded = [picture for future in coming for picture in future.result()]
            coming = submit(pool, start + BATCH)
            some = next((x for x in loaded if isinstance(x, Tensor)), None)
            blank = torch.zeros_like(some) if some is not None else _blank(model)
            pixels = torch.stack([x if isinstance(x, Tensor) else blank for x in loaded])
            if model.device.type == "cuda":  # the copy runs beside the computation, in the layout convolutions like
                pixels = pixels.contiguous(memory_format=torch.channels_last).pin_memory()
            yield pixels, {place: x for place, x in enumerate(loaded) if isinstance(x, Exception)}


def _blank(model: Model) -> Tensor:
    """What the model sees of an empty image: a stand-in where a whole batch is unreadable."""
    return torch.zeros_like(model.preprocess(Image.new("RGB", (64, 64))))


def provenance_of(features: Features) -> Mapping[str, Any]:
    """What a table says of where features come from (model, weights, precision, activation, view)."""
    kept = ("model", "weights", "precision", "activation", "view")
    return {key: features.provenance[key] for key in kept if key in features.provenance}
