"""Model x items -> Features: batched, decoded ahead by threads, kept in the store, resumed after a kill."""

import hashlib
import math
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from xgap_analysis.datasets.pictures import UNREAD, UNREADABLE, as_rgb, is_picture, open_picture
from xgap_analysis.datasets.records import Images, Texts
from xgap_analysis.errors import XgapError
from xgap_analysis.features import Features
from xgap_analysis.models.tower import DualEncoder
from xgap_analysis.progress import tell
from xgap_analysis.store import Store, key_of, run_shards

SHARD = 1024  # items; a killed run loses at most this much work
BATCH = 64  # batch boundaries are fixed inside a shard, so that a rerun gives the same bits

Items = Images | Texts | Sequence[str] | Sequence[Image.Image] | Sequence[Path] | str | Image.Image | Path


def encode(
    model: DualEncoder,
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
        store: where features are kept and found again; by default the user's store, None keeps nothing. Items whose
            content is not known by a digest (PIL images) are never kept.
        progress: show a bar over the items when something has to be computed.

    Returns:
        Features `[n, d]` in the items' order, space and origin `"image"` or `"text"`; skipped images are left out.

    Raises:
        XgapError: no items, an id given twice, an unreadable image, or a tower without a linear projection.
    """
    if on_error not in ("raise", "skip"):
        raise XgapError(f'on_error is "raise" or "skip", not {on_error!r}')
    items = as_items(items)
    if not len(items):
        raise XgapError("there is nothing to encode: the split or list is empty")
    twice = next((i for i, n in Counter(items.ids).items() if n > 1), None)
    if twice is not None:
        raise XgapError(f"id {twice!r} stands for more than one item; ids must be distinct")
    space = "image" if isinstance(items, Images) else "text"
    provenance: dict[str, Any] = {
        "model": model.name,
        "weights": model.weights_digest,
        "precision": model.precision,
        "activation": model.activation,
        "view": space,
        "projected": project,
        "items": items.digest,
    }
    position = {item: i for i, item in enumerate(items.ids)}
    if isinstance(items, Images):
        provenance["preprocess"] = _preprocess_digest(model)

        def worker(ids: tuple[str, ...]) -> dict[str, Tensor]:
            return _encode_images(model, items, [position[i] for i in ids], project, on_error)
    else:
        tokens = model.tokenize(list(items.captions))
        provenance["tokens"] = hashlib.sha256(tokens.cpu().numpy().tobytes()).hexdigest()

        def worker(ids: tuple[str, ...]) -> dict[str, Tensor]:
            own = tokens[[position[i] for i in ids]]
            batches = (model.text.encode(b.to(model.device), project=project).float() for b in own.split(BATCH))
            with torch.inference_mode():
                return {"vectors": torch.cat(list(batches)).cpu()}

    if store == "default":
        store = Store()
    if not items.digest:  # two lists of the same ids would be one entry
        store = None
    assert store is None or isinstance(store, Store)
    found = run_shards(
        provenance,
        items.ids,
        worker,
        shard_size=SHARD,
        store=store,
        description=f"encode {space}s with {model.name}",
        progress=progress,
        notes={"device": str(model.device)},
    )
    readable = found.get("readable", torch.ones(len(items), dtype=torch.bool))
    ids = [i for i, ok in zip(items.ids, readable.tolist(), strict=True) if ok]
    if len(ids) < len(items):
        lost = [i for i, ok in zip(items.ids, readable.tolist(), strict=True) if not ok]
        if not ids:
            raise XgapError(f"none of the {len(items)} images could be read, the first is {lost[0]!r}")
        if on_error == "raise":  # an earlier run skipped them
            what = f"{len(lost)} images cannot be read, the first is {lost[0]!r}"
            raise XgapError(f'{what}; repair or remove them, or pass on_error="skip"')
        warnings.warn(f"{len(lost)} unreadable images were skipped, the first is {lost[0]!r}", stacklevel=2)
    if items.digest:
        provenance["digest"] = key_of({**provenance, "ids": ids})
    return Features(found["vectors"][readable], ids, space, space, provenance)


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
        stamps = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) if p.exists() else str(p) for p in paths]
        return Images([str(p) for p in paths], open_picture, hashlib.sha256(repr(stamps).encode()).hexdigest())
    by_id = {str(i): x for i, x in enumerate(listed) if isinstance(x, Image.Image)}
    if len(by_id) == len(listed):
        locks = {id(image): Lock() for image in by_id.values()}  # an opened file is decoded when it is first read

        def opened(item: str) -> Image.Image:
            image = by_id[item]
            with locks[id(image)]:  # one that is listed twice is read by two threads
                return as_rgb(image)

        return Images(list(by_id), opened)
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


def _preprocess_digest(model: DualEncoder) -> str:
    """What the preprocess makes of a fixed picture: its name or text would not tell two functions apart."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    pixels = model.preprocess(Image.fromarray(noise))
    return hashlib.sha256(pixels.numpy().tobytes()).hexdigest()


def _encode_images(
    model: DualEncoder, images: Images, rows: Sequence[int], project: bool, on_error: str
) -> dict[str, Tensor]:
    """Features `[len(rows), d]` before normalisation, and whether each image was readable."""
    done: list[Tensor] = []
    could: list[Tensor] = []
    with torch.inference_mode():
        for pixels, readable in _batches(model, images, rows, on_error):
            done.append(model.image.encode(pixels.to(model.device, non_blocking=True), project=project).float())
            could.append(readable)
            tell(f"encode images with {model.name}", sum(map(len, could)), len(rows))
    return {"vectors": torch.cat(done).cpu(), "readable": torch.cat(could)}  # one wait for the device in a shard


def _batches(model: DualEncoder, images: Images, rows: Sequence[int], on_error: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of pixels `[b, 3, h, w]` and whether each was readable; the next batch is decoded meanwhile."""

    def load(row: int) -> Tensor | None:
        try:
            return model.preprocess(images[row])
        except UNREADABLE as error:
            if on_error == "raise":
                what = f"image {images.ids[row]!r} cannot be read ({error})"
                raise XgapError(f'{what}; repair or remove it, or pass on_error="skip"') from error
            return None

    def load_all(some: Sequence[int]) -> list[Tensor | None]:
        return [load(row) for row in some]

    workers = min(16, os.cpu_count() or 1)

    def submit(pool: ThreadPoolExecutor, start: int) -> list["Future[list[Tensor | None]]"]:
        batch = rows[start : start + BATCH]
        # One task a thread: small pictures are mostly Python's work, and handing its lock over for each takes time.
        share = max(1, math.ceil(len(batch) / workers))
        return [pool.submit(load_all, batch[i : i + share]) for i in range(0, len(batch), share)]

    with ThreadPoolExecutor(max_workers=workers) as pool:
        coming = submit(pool, 0)
        for start in range(0, len(rows), BATCH):
            loaded = [picture for future in coming for picture in future.result()]
            coming = submit(pool, start + BATCH)
            some = next((x for x in loaded if x is not None), None)
            blank = torch.zeros_like(some) if some is not None else _blank(model)
            pixels = torch.stack([blank if x is None else x for x in loaded])
            if model.device.type == "cuda":  # the copy runs beside the computation, in the layout convolutions like
                pixels = pixels.contiguous(memory_format=torch.channels_last).pin_memory()
            yield pixels, torch.tensor([x is not None for x in loaded])


def _blank(model: DualEncoder) -> Tensor:
    """What the model sees of an empty image: a stand-in where a whole batch is unreadable."""
    return torch.zeros_like(model.preprocess(Image.new("RGB", (64, 64))))


def provenance_of(features: Features) -> Mapping[str, Any]:
    """What a table says of where features come from (model, weights, precision, activation, view)."""
    kept = ("model", "weights", "precision", "activation", "view")
    return {key: features.provenance[key] for key in kept if key in features.provenance}
