"""Progress of long work: shown as a bar, or reported to a watcher (a widget), which may cancel the work."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from tqdm.auto import tqdm

Watcher = Callable[[str, int, int], None]  # what is done, how much of it, of how much
IN_NOTEBOOK = "tqdm.notebook" in {base.__module__ for base in tqdm.__mro__}
Result = TypeVar("Result")
OFTEN = 0.1  # seconds between two reports of a call that reports nothing itself
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


def is_watched() -> bool:
    """Whether a watcher of this thread sees the progress, so that nothing is printed."""
    return _WATCHER.get() is not None


def report(what: str, done: int, total: int) -> None:
    """Report to the watcher, if there is one, that `done` of `total` is finished."""
    watcher = _WATCHER.get()
    if watcher is not None:
        watcher(what, done, total)


def while_reporting(what: str, call: Callable[[], Result]) -> Result:
    """The result of a call that reports nothing itself, such as the fit of another library: the wait can be cancelled.

    Where somebody watches, the call runs on a thread of its own. No thread can be ended from outside: after a cancel it
    goes on to its end, and what it keeps can be used by the next call. Without a watcher it is called at once.

    Args:
        what: is done.
        call: does it; it reports to nobody.

    Raises:
        Cancelled: the watcher does not want it any more. Whatever the call raises is raised here.
    """
    if _WATCHER.get() is None:
        return call()
    outcome: Future[Result] = Future()

    def thread() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # it is raised where the result is waited for
            outcome.set_exception(error)

    threading.Thread(target=thread, daemon=True).start()
    while not outcome.done():
        report(what, 0, 1)
        wait([outcome], timeout=OFTEN)
    return outcome.result()


class Bar(tqdm):  # type: ignore[type-arg,misc]
    """tqdm's bar, which shows nothing where somebody watches, and a line every half minute in a log file.

    In a notebook a finished bar goes away: a cell shows one, that of the work at present.

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
        shown = {"disable": hidden or self._lines, "leave": not IN_NOTEBOOK}
        super().__init__(total=total, desc=desc, unit=unit, initial=initial, **shown)
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
