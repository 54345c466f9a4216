"""How many items go through a model at once and how many processes read them, for all that is encoded within."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.reading.readers import check_workers


@dataclass(frozen=True)
class Pace:
    """What changes the speed of a computation, and its numbers by rounding only.

    Args:
        batch_size: items that go through a tower at once; None for what suits the device.
        num_workers: processes that read images; None for what suits their number (see `Readers`).

    Raises:
        XgapError: a batch size below 1, or a number of processes below 0.
    """

    batch_size: int | None = None
    num_workers: int | None = None

    def __post_init__(self) -> None:
        size = self.batch_size
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise XgapError(f"batch_size is a number of items, at least 1, not {size!r}")
        check_workers(self.num_workers)

    def filled(self) -> "Pace":
        """The same, with that of the thread where it says nothing."""
        other = _PACE.get()
        return Pace(
            other.batch_size if self.batch_size is None else self.batch_size,
            other.num_workers if self.num_workers is None else self.num_workers,
        )


_PACE = ContextVar("the pace of what is encoded", default=Pace())  # noqa: B039  it is frozen


@contextlib.contextmanager
def paced(pace: Pace) -> Iterator[None]:
    """Within, in this thread, views are computed at this pace, as far as they are not given one of their own."""
    before = _PACE.set(pace.filled())
    try:
        yield
    finally:
        _PACE.reset(before)
