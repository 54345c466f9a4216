"""The number of items that are optimised together: as many as the free memory of a GPU holds, up to what fills it."""

import math
from collections.abc import Callable

import torch

ON_PROCESSOR = 64  # items; more are no faster there
FULL = 2**17  # positions of all sequences: a step of so many fills any GPU, and a killed run loses at most such a batch
MOST = 2048  # items
SHARE = 0.7  # of the free memory; the rest is for what is uneven in the allocator, and for others
PROBES = 2, 6  # items of the two steps whose memory is measured


def most_rows(device: torch.device, length: int) -> int:
    """The most items at once on a device, whatever its memory, for sequences of this length."""
    return ON_PROCESSOR if device.type != "cuda" else max(1, min(MOST, FULL // length))


def rows_within(bytes_of: Callable[[int], int], free: int, most: int) -> int:
    """The number of items whose step fits in `free` bytes, from 1 to `most`.

    What a step takes is a line in the number of items (activations, beside what does not grow), drawn through two small
    steps.

    Args:
        bytes_of: n to the bytes that a step of n items takes.
        free: bytes that may be taken.
        most: see `most_rows`.
    """
    try:
        bytes_of(PROBES[0])  # libraries take workspaces at their first call, which are not the step's
        few, more = (bytes_of(n) for n in PROBES)
    except torch.OutOfMemoryError:
        return 1
    each = max((more - few) / (PROBES[1] - PROBES[0]), 1.0)
    rest = max(few - PROBES[0] * each, 0.0)
    return max(1, min(most, int((free - rest) / each)))


def evened(n: int, most: int) -> int:
    """The size of batches of n items: as few batches as `most` allows, and nearly equal ones."""
    return math.ceil(n / math.ceil(n / most))


def free_bytes(device: torch.device) -> int:
    """What may be taken of a GPU's memory: a share of what is free, and of what the allocator keeps unused."""
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(SHARE * (torch.cuda.mem_get_info(device)[0] + unused))


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """Bytes of a GPU's memory that a run takes at its peak, beyond what is taken already."""
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    return torch.cuda.max_memory_allocated(device) - before
