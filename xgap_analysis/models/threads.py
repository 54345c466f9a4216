"""How many of torch's threads a pass is worth: sharing out small products takes longer than computing them."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch

from xgap_analysis.core.errors import XgapError

# Floating-point operations of one product that are worth a thread. One core does them in a few milliseconds, against
# which a meeting of threads costs nothing, and is still shorter than what a busy core keeps a thread waiting.
WORTH_A_THREAD = 2e8

_LOCK = threading.Lock()
_BUSY = 0  # blocks that are open, in all threads of Python
_BEFORE = 1  # torch's number of threads before the first of them
_OWN = threading.local()  # blocks of this thread


def worth(tower: Any, n: int, most: int) -> int:
    """The number of threads, `most` at most, that passes of n items through a tower are worth.

    Reckoned from the largest product of a transformer's block, `[n length, width] @ [width, 4 width]`; a tower whose
    tokens are not known (a ResNet, a tower of one's own) gets all.
    """
    try:
        product = 8.0 * n * tower.length * tower.width**2
    except (XgapError, AttributeError):
        return most
    return max(1, min(most, int(product / WORTH_A_THREAD)))


@contextlib.contextmanager
def suited(tower: Any, n: int, device: torch.device) -> Iterator[None]:
    """Within, torch has the threads that passes of n items through a tower are worth; after, as many as before.

    Torch keeps the number for the thread that sets it and, for threads that are yet to begin, for the process. So a
    thread that begins beside an open block would find the block's number, and keep it: what counts as the number
    before is the one before the first of the blocks that are open anywhere.
    """
    global _BUSY, _BEFORE
    if device.type != "cpu":
        yield
        return
    with _LOCK:
        inside = getattr(_OWN, "depth", 0)
        if not _BUSY:
            _BEFORE = torch.get_num_threads()
        outside = torch.get_num_threads() if inside else _BEFORE
        _BUSY, _OWN.depth = _BUSY + 1, inside + 1
    try:
        torch.set_num_threads(worth(tower, n, outside))
        yield
    finally:
        with _LOCK:
            _BUSY, _OWN.depth = _BUSY - 1, inside
            torch.set_num_threads(outside)
