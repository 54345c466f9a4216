"""Progress of long work: shown as a bar, or reported to a watcher (a widget), which may cancel the work."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm.auto import tqdm

Watcher = Callable[[str, int, int], None]  # what is done, how much of it, of how much
_WATCHER: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


class Cancelled(Exception):
    """Raised by a watcher to end the work; what is stored already stays."""


@contextmanager
def watched(by: Watcher) -> Iterator[None]:
    """Report progress of all work inside (in this thread) to `by`, without bars; it may raise `Cancelled`."""
    token = _WATCHER.set(by)
    try:
        yield
    finally:
        _WATCHER.reset(token)


def report(what: str, done: int, total: int) -> None:
    """Report to the watcher, if there is one, that `done` of `total` is finished."""
    watcher = _WATCHER.get()
    if watcher is not None:
        watcher(what, done, total)


class Bar(tqdm):  # type: ignore[type-arg,misc]
    """tqdm's bar, which is silent where somebody watches."""

    def __init__(self, *, total: int, desc: str, unit: str, disable: bool = False) -> None:
        super().__init__(total=total, desc=desc, unit=unit, disable=disable or _WATCHER.get() is not None)
        self._told = (desc, total)

    def update(self, n: Any = 1) -> Any:
        """Moves the bar by n."""
        if self.disable:
            self.n += n  # tqdm does not count where it shows nothing
        else:
            super().update(n)
        what, total = self._told
        report(what, int(self.n), total)
