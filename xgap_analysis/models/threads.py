"""How many of torch's threads a pass is worth: sharing out small products takes longer than computing them."""

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from xgap_analysis.errors import XgapError

if TYPE_CHECKING:
    from xgap_analysis.models.tower import Tower

# Floating-point operations of one product that are worth a thread. One core does them in a few milliseconds, against
# which a meeting of threads costs nothing, and is still shorter than what a busy core keeps a thread waiting.
WORTH_A_THREAD = 2e8

_LOCK = threading.Lock()
_BUSY = 0  # blocks that are open, in all threads of Python
_BEFORE = 1  # torch's number of threads before the first of them
_OWN = threading.local()  # blocks of this thread


def worth(tower: "Tower", n: int) -> int:
    """The number of threads that passes of n items through a tower are worth, at most what torch has.

    Reckoned from the largest product of a transformer's block, `[n length, width] @ [width, 4 width]`; a tower whose
    tokens are not known (a ResNet) gets all.
    """
    try:
        product = 8.0 * n * tower.length * tower.width**2
    except XgapError:
        return torch.get_num_threads()
    return max(1, min(torch.get_num_threads(), int(product / WORTH_A_THREAD)))


@contextlib.contextmanager
def suited(tower: "Tower", n: int, device: torch.device) -> Iterator[None]:
    """Within, torch has the threads that passes of n items through a tower are worth; after, as many as before.

    Torch keeps the number for the thread that sets it and, for threads that are yet to begin, for the process. So what
    is given back is the number before the first of the blocks that are open anywhere, and not what another block left.
    """
    global _BUSY, _BEFORE
    n_threads = worth(tower, n) if device.type == "cpu" else torch.get_num_threads()
    if n_threads == torch.get_num_threads():
        yield
        return
    with _LOCK:
        if not _BUSY:
            _BEFORE = torch.get_num_threads()
        inside = getattr(_OWN, "depth", 0)
        outside = torch.get_num_threads() if inside else _BEFORE
        _BUSY, _OWN.depth = _BUSY + 1, inside + 1
        torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        with _LOCK:
            _BUSY, _OWN.depth = _BUSY - 1, inside
            torch.set_num_threads(outside)
