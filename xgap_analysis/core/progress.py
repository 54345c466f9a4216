"""Progress of long work: shown as a bar, or reported to a watcher (a widget), which may cancel the work."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm.auto import tqdm

Watcher = Callable[[str, int, int], None]  # what is done, how much of it, of how much
IN_NOTEBOOK = "tqdm.notebook" in {base.__module__ for base in tqdm.__mro__}
EVERY = 30  # seconds between two lines where standard error is no terminal
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
    """tqdm's bar, which shows nothing where somebody watches, and a line every half minute in a log file.

    Args:
        total: of the work.
        desc: what is done.
        unit: of the total.
        disable: show nothing.
        initial: what was done before.
    """

    def __init__(self, *, total: int, desc: str, unit: str, disable: bool = False, initial: int = 0) -> None:
        hidden = disable or _WATCHER.get() is not None
        self._lines = not hidden and not IN_NOTEBOOK and not sys.stderr.isatty()
        super().__init__(total=total, desc=desc, unit=unit, disable=hidden or self._lines, initial=initial)
        self._what, self._total = desc, total
        self.n, self._next_line = initial, time.monotonic() + EVERY  # tqdm does not count where it shows nothing

    def update(self, n: Any = 1) -> Any:
        """Moves the bar by n."""
        if self.disable:
            self.n += n
        else:
            super().update(n)
        if self._lines and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + EVERY
            sys.stderr.write(f"{self._what}: {int(self.n)} of {self._total}\n")
        report(self._what, int(self.n), self._total)
