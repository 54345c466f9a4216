"""What an image is, whatever it is called: digests of content, by which the store finds an item again."""

import hashlib
import json
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from xgap_analysis.core.tags import tags_of
from xgap_analysis.datasets.images import as_rgb

_KEPT: OrderedDict[tuple[object, ...], str] = OrderedDict()  # digests of the files that this process has read
_MOST_KEPT = 2**20
_LOCK = threading.Lock()
SETTLED = 2 * 10**9  # nanoseconds; a file just written may be written again within one tick of a file system's clock


def of_file(path: str | Path, way: str = "") -> str:
    """The digest of a file's bytes; they are read once as long as the file is the same one, unchanged.

    Args:
        path: the file.
        way: how the image is made from it, where `open_image(path)` is not the way.

    Raises:
        OSError: a file that cannot be read.
    """
    return of_part(path, 0, None, way)


def of_part(path: str | Path, offset: int, size: int | None, way: str = "") -> str:
    """The digest of `size` bytes of a file from `offset` on (all of them, for None); see `of_file`."""

    def read() -> bytes:
        with Path(path).open("rb") as file:
            file.seek(offset)
            return file.read(-1 if size is None else size)

    return once(path, (offset, size, way), lambda: of_bytes(read(), way))


def of_bytes(content: bytes, way: str = "") -> str:
    """The digest of an image file's content."""
    digest = hashlib.sha256(content).hexdigest()
    return of_values(digest, way) if way else digest


def of_image(image: Image.Image) -> str:
    """The digest of a decoded image: size and pixels, as `as_rgb` gives them, and its tags, if it carries any."""
    made = as_rgb(image)
    return of_values("pixels", made.mode, *made.size, hashlib.sha256(made.tobytes()).hexdigest(), *tags_of(image))


def of_values(*values: object) -> str:
    """The digest of strings and numbers that say together what an item is."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def once(path: str | Path, part: object, digest: Callable[[], str]) -> str:
    """A digest of a part of a file, kept as long as the file is the same one, unchanged.

    Size and time of change alone do not say so (an archive sets the time); nobody sets the time at which the system
    last touched the file's entry, or the number of its place on the disk.

    Raises:
        OSError: no such file.
    """
    status = os.stat(path)  # noqa: PTH116  a path as text is as good
    key = (str(path), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, part)
    with _LOCK:
        if key in _KEPT:
            return _KEPT[key]
    made = digest()
    if time.time_ns() - status.st_ctime_ns < SETTLED:
        return made
    with _LOCK:
        _KEPT[key] = made
        while len(_KEPT) > _MOST_KEPT:
            _KEPT.popitem(last=False)
    return made
