"""How many items go through a tower at once: what fits the memory of its device."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from xgap_analysis.core.errors import XgapError, notice

MOST = 512  # items; beyond, a GPU is no faster
BYTES = 64  # of memory for each number of a token: float32 of a block's input, output and four times wider middle
SHARE = 0.5  # of the free memory


def batch_that_fits(tower: Any, device: torch.device, free: int | None = None) -> int | None:
    """The number of items that go through a tower at once on a GPU, a power of two up to `MOST`.

    Reckoned from the tokens of an item (`length`, `width`); None on other devices, and for a tower whose tokens are not
    known. It is an estimate: see `Fitting`.

    Args:
        tower: the tower.
        device: where it computes.
        free: bytes; by default what is free on a CUDA device.
    """
    if free is None and device.type != "cuda":
        return None
    try:
        item = BYTES * tower.length * tower.width
    except (XgapError, AttributeError):
        return None
    if free is None:
        # what torch has set aside is free to it as well
        free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
        free -= torch.cuda.memory_allocated(device)
    fitting = max(1, int(SHARE * free / item))
    return min(MOST, 1 << (fitting.bit_length() - 1))


class Fitting:
    """Passes that fit the device's memory: one that does not is made in halves, as all later ones of its size are."""

    def __init__(self) -> None:
        self._fits: int | None = None

    def run(self, through: Callable[[Any, int], Tensor], batch: Any, n: int, device: torch.device) -> Tensor:
        """What `through` gives `[n, d]` for a batch of n items.

        Raises:
            XgapError: one item does not fit.
        """
        if self._fits is None or n <= self._fits:
            try:
                return through(batch, n)
            except torch.OutOfMemoryError as error:
                if n == 1 or not isinstance(batch, Tensor):
                    what = "one item" if n == 1 else f"a batch of {n} items"
                    raise XgapError(
                        f"{what} does not fit the memory of {device} ({str(error).splitlines()[0]}): free some of it, "
                        "or choose a smaller batch_size, a smaller model or another device"
                    ) from error
            self._fits = n // 2
            notice(f"a batch of {n} items does not fit the memory of {device}; {self._fits} at a time are encoded")
            if device.type == "cuda":  # outside the handler, whose traceback would hold the tensors of the attempt
                torch.cuda.empty_cache()
        assert isinstance(batch, Tensor)
        return torch.cat([self.run(through, part, len(part), device) for part in batch.split(self._fits)])
