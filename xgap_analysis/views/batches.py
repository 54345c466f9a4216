"""Items as a tower is to see them: what each of them is, by content, and batches, opened while others are computed.

Three ways lead to a batch. Captions of a tower that says how it tokenizes are token ids at once. Items of a tower that
says how it prepares one (`preprocess`) are prepared by the threads that open them. For any other tower they are opened
by threads, and `prepare` makes a batch of them.
"""

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.progress import report
from xgap_analysis.datasets.images import UNREADABLE
from xgap_analysis.datasets.items import Texts
from xgap_analysis.datasets.reading.readers import Readers, cores
from xgap_analysis.models.memory import Fitting, batch_that_fits
from xgap_analysis.models.precision import without_tf32
from xgap_analysis.models.threads import suited
from xgap_analysis.models.tower import Model, features_of
from xgap_analysis.store import Rows
from xgap_analysis.views.pace import Pace
from xgap_analysis.views.waiting import Waiting

BATCH = 64  # on a processor; batch boundaries are fixed inside a shard, so that a rerun gives the same bits there
AHEAD = 2  # batches that are opened while one is computed, so that no reader waits for the slowest of a batch
DIGESTED = 64  # items whose contents a thread reads at a time


@dataclass(frozen=True, eq=False)
class Source:
    """Items on their way into a tower.

    Args:
        contents: the digest of each item that is there; empty where nothing says what it is.
        rows: from places among them, their features `[m, d]` before normalisation, and why some have none.
        lost: by id, why an item is not there.
        made_by: what determines the numbers, besides model and item.
    """

    contents: Sequence[str]
    rows: Callable[[Sequence[int]], Rows]
    lost: dict[str, str] = field(default_factory=dict)
    made_by: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Passage:
    """How items go through the tower of their modality; a context manager, at whose end its readers end.

    Args:
        model: whose tower it is.
        items: list-like, with ids and a modality.
        on_error: `"raise"` or `"skip"` on an unreadable item.
        project: False for the features before the tower's projection.
        layer: blocks that the items go through; None for all of them.
        decoder: see `encode`.
        pace: items that go through at once (by default what fits the device, `BATCH` on a processor), and readers.
    """

    model: Model
    items: Any
    on_error: str = "raise"
    project: bool = True
    layer: int | None = None
    decoder: str = "full"
    pace: Pace = field(default_factory=lambda: Pace().filled())
    waiting: Waiting = field(default_factory=Waiting, init=False)
    _fitting: Fitting = field(default_factory=Fitting, init=False)

    def __enter__(self) -> "Passage":
        return self

    def __exit__(self, *error: object) -> None:
        self.readers.__exit__(*error)

    @property
    def tower(self) -> Any:
        """The tower of the items' modality."""
        return self.model.tower(self.items.modality)

    @cached_property
    def readers(self) -> Readers:
        """What opens the items, and prepares them where the tower says how one is prepared."""
        own = getattr(self.tower, "preprocess", None)
        # What a tower prepares as a whole batch would go to it as Python's objects: slower from processes than threads.
        return Readers(self.items, own or _as_it_is, 0 if own is None else self.pace.num_workers, self._edge)

    @property
    def _edge(self) -> int:
        """The edge down to which JPEGs are decoded at a smaller size: twice the model's, as in Pillow's thumbnails."""
        return 0 if self.decoder == "full" else 2 * int(_blank(self.model).shape[-1])

    @cached_property
    def size(self) -> int:
        """The number of items in a batch."""
        return self.pace.batch_size or batch_that_fits(self.tower, self.model.device) or BATCH

    def features(self, batch: Any, n: int) -> Tensor:
        """Features `[n, d]` in float32 of a batch of n items, on the device."""
        how: dict[str, Any] = {} if self.project else {"project": False}
        how |= {} if self.layer is None else {"layer": self.layer}
        device = self.model.device

        def through(part: Any, m: int) -> Tensor:
            return features_of(self.tower, on_device(part, device), m, device, **how)

        with suited(self.tower, n, device), without_tf32(device), self.waiting.passing(device):
            return self._fitting.run(through, batch, n, device)


def on_device(batch: Any, device: torch.device) -> Any:
    """A batch of images on a GPU, in the layout that convolutions like there; any other as it is."""
    if device.type != "cuda" or not isinstance(batch, Tensor) or batch.ndim != 4:
        return batch
    return batch.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)


def _as_it_is(item: Any) -> Any:
    return item


def source_of(way: Passage) -> Source:
    """The items, ready to be encoded.

    Raises:
        XgapError: a modality that the model has no tower of, or an item that cannot be read.
    """
    if isinstance(way.items, Texts) and hasattr(way.tower, "tokenize"):
        tokens = way.tower.tokenize(list(way.items.captions)).cpu()
        contents = [hashlib.sha256(row.numpy().tobytes()).hexdigest() for row in tokens]  # two captions may be one
        return Source(contents, lambda places: _of_tokens(way, tokens[places]))
    if isinstance(way.items, Texts):
        captions = way.items.captions
        contents = [hashlib.sha256(caption.encode(errors="surrogatepass")).hexdigest() for caption in captions]
        return Source(contents, lambda places: _of_opened(way, places))
    contents, lost = _contents(way)
    rows = [i for i, item in enumerate(way.items.ids) if item not in lost]
    return Source(contents, lambda places: _of_opened(way, [rows[place] for place in places]), lost, _prepared_by(way))


def _prepared_by(way: Passage) -> dict[str, Any]:
    """What a tower makes of a fixed image: the name or text of its preprocess does not identify a function."""
    if way.items.modality != "image":
        return {}
    noise = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    pixels = way.model.preprocess(Image.fromarray(noise))
    return {"preprocess": hashlib.sha256(pixels.numpy().tobytes()).hexdigest()} if isinstance(pixels, Tensor) else {}


def _contents(way: Passage) -> tuple[list[str], dict[str, str]]:
    """Digests of the items that are there, and by id, why one is not."""
    digest_of = getattr(way.items, "digest_of", lambda item: "")

    def content(item: str) -> str | Exception:
        try:
            return str(digest_of(item))
        except UNREADABLE as error:
            return error

    ids = way.items.ids
    parts = [ids[i : i + DIGESTED] for i in range(0, len(ids), DIGESTED)]
    with ThreadPoolExecutor(max_workers=min(16, cores())) as pool:  # files are read
        digests = [one for part in pool.map(lambda part: [content(item) for item in part], parts) for one in part]
    lost = {item: error for item, error in zip(ids, digests, strict=True) if isinstance(error, Exception)}
    if lost and way.on_error == "raise":
        item, error = next(iter(lost.items()))
        raise _unreadable(way, item, error) from error
    return [one for one in digests if isinstance(one, str)], {item: str(error) for item, error in lost.items()}


def _unreadable(way: Passage, item: str, error: Exception) -> XgapError:
    what = f"{way.items.modality} {item!r} cannot be read ({error})"
    return XgapError(f'{what}; repair or remove it, or pass on_error="skip"')


def _of_tokens(way: Passage, tokens: Tensor) -> Rows:
    with torch.inference_mode():
        return Rows({"vectors": torch.cat([way.features(part, len(part)) for part in tokens.split(way.size)]).cpu()})


def _of_opened(way: Passage, rows: Sequence[int]) -> Rows:
    """Features `[m, d]` before normalisation, and the reasons of items that could not be read."""
    done: list[Tensor] = []
    kept: list[bool] = []
    errors: dict[int, Exception] = {}
    seen = 0
    with torch.inference_mode(), way.waiting.whole():
        for batch in batches(way, rows):
            if batch.kept:
                done.append(way.features(batch.content, len(batch.kept)))
            errors |= {seen + place: error for place, error in batch.failed.items()}
            kept += batch.kept
            seen += batch.size
            report(f"encode {way.items.modality}s with {way.model.name}", seen, len(rows))
        # One wait for the device in a shard. Where no item could be read, nothing says how a row would look.
        tensors = {"vectors": torch.cat(done).cpu()[torch.tensor(kept)]} if done else {}
    # An error with a number is the system's (a share that is away, too many open files): the bytes may be sound.
    passing = [place for place, error in errors.items() if getattr(error, "errno", None) is not None]
    return Rows(tensors, {place: str(error) for place, error in errors.items()}, passing)


@dataclass(frozen=True, eq=False)
class Batch:
    """What goes through a tower at once.

    Args:
        content: as `prepare` gives it.
        size: the number of items that it was to be of.
        failed: by place among these, why an item could not be read.
        kept: for each item in `content`, whether it is one, and not a stand-in for one that could not be read.
    """

    content: Any
    size: int
    failed: dict[int, Exception]
    kept: list[bool]


def batches(way: Passage, rows: Sequence[int]) -> Iterator[Batch]:
    """Batches of the items in these rows; the next ones are opened meanwhile.

    Raises:
        XgapError: an item that cannot be read, where that is not to be skipped.
    """
    readers, size = way.readers, way.size
    readers.begin(len(rows))
    starts, coming = iter(range(0, len(rows), size)), deque[list[Future[list[Any]]]]()

    def open_next() -> None:
        start = next(starts, None)
        if start is not None:
            batch = rows[start : start + size]
            # One task a thread: small images are mostly Python's work, and handing its lock over for each takes time.
            share = max(1, math.ceil(len(batch) / readers.threads))
            coming.append([readers.submit(batch[i : i + share]) for i in range(0, len(batch), share)])

    for _ in range(AHEAD):
        open_next()
    first = 0
    while coming:
        open_next()
        loaded = [item for future in coming.popleft() for item in future.result()]
        yield _collated(way, loaded, rows[first : first + size])
        first += size


def _collated(way: Passage, loaded: Sequence[Any], rows: Sequence[int]) -> Batch:
    """One batch of what the readers gave: an item, what a tower made of it, or why it could not be read."""
    failed = {place: item for place, item in enumerate(loaded) if isinstance(item, Exception)}
    for place, error in failed.items():
        if way.on_error == "raise":
            raise _unreadable(way, way.items.ids[rows[place]], error) from error
    there = [item for place, item in enumerate(loaded) if place not in failed]
    if not hasattr(way.tower, "preprocess"):
        return Batch(way.tower.prepare(there) if there else None, len(loaded), failed, [True] * len(there))
    if not there and way.items.modality != "image":
        return Batch(None, len(loaded), failed, [])
    # A stand-in for what cannot be read keeps the sizes of batches, and so the bits of the others.
    blank = torch.zeros_like(there[0]) if there else _blank(way.model)
    whole = [blank if place in failed else item for place, item in enumerate(loaded)]
    if way.model.device.type == "cuda":  # copied to the device meanwhile
        pixels = torch.empty((len(whole), *blank.shape), dtype=blank.dtype, pin_memory=True)
        torch.stack(whole, out=pixels)
    else:
        pixels = torch.stack(whole)
    return Batch(pixels, len(loaded), failed, [place not in failed for place in range(len(loaded))])


def _blank(model: Model) -> Tensor:
    """What the model sees of an empty image: a stand-in where a whole batch is unreadable."""
    return torch.zeros_like(model.preprocess(Image.new("RGB", (64, 64))))
