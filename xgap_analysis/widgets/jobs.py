"""Long work of a widget: on its own thread, with a progress bar and a cancel button."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import ipywidgets

from xgap_analysis.core.progress import Cancelled, watched

GRACE = 0.2  # seconds that an action may take before the progress bar appears


class Jobs(ipywidgets.HBox):
    """One job at a time; a new one cancels the previous one, whose result is no longer wanted.

    Threads: the kernel's event loop draws the widgets, so work on it would freeze them. A job therefore runs on its
    own thread, and reports progress and result to the loop (`call_soon_threadsafe`): only the loop changes what is on
    screen. A cancelled job ends at its next progress report, so a lock keeps the next one waiting until then. Without
    a running loop (a plain script, a test) the work is done at once.
    """

    def __init__(self) -> None:
        self._what = ipywidgets.Label()
        self._bar = ipywidgets.IntProgress(layout={"width": "260px"})
        self._cancel = ipywidgets.Button(
            description="cancel", icon="stop", tooltip="end this work", layout={"width": "90px"}
        )
        self._cancel.on_click(lambda _: self.cancel())
        super().__init__([self._bar, self._cancel, self._what])
        self.layout.visibility = "hidden"
        self._current: _Job | None = None
        self._one_at_a_time = threading.Lock()

    @property
    def running(self) -> bool:
        """Whether a job has not ended yet."""
        return self._current is not None

    def cancel(self) -> None:
        """End the running job at its next progress report; what it has stored is reused."""
        if self._current is not None:
            self._current.unwanted.set()
            self._what.value = "ending ..."

    def run(self, work: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[Exception], None]) -> None:
        """Do the work, then call `done` with its result, or `failed` with what it raised (also `Cancelled`)."""
        self.cancel()
        try:
            loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        job = _Job(work, done, failed)
        self._current = job
        if loop is None:
            self._compute(job, self._show)
            self._finish(job)
            return
        there = loop

        def soon(call: Callable[..., None], *given: Any) -> None:
            if not there.is_closed():
                there.call_soon_threadsafe(call, *given)

        def thread() -> None:
            with self._one_at_a_time:
                self._compute(job, lambda *progress: soon(self._show_if_current, job, *progress))
            soon(self._finish, job)

        worker = threading.Thread(target=contextvars.copy_context().run, args=(thread,), daemon=True)
        worker.start()
        worker.join(GRACE)
        if not worker.is_alive():
            self._finish(job)
        elif self._current is job:
            self._show("computing ...", 0, 1)

    def _compute(self, job: "_Job", show: Callable[[str, int, int], None]) -> None:
        def on_progress(what: str, done: int, total: int) -> None:
            if job.unwanted.is_set():
                raise Cancelled
            if job.is_news(what, done, total):
                show(what, done, total)

        try:
            with watched(on_progress):
                on_progress("computing ...", 0, 1)
                job.result = job.work()
        except Exception as error:  # it is shown in the widget, whatever it is
            job.error = error

    def _show_if_current(self, job: "_Job", what: str, done: int, total: int) -> None:
        if self._current is job and not job.unwanted.is_set():
            self._show(what, done, total)

    def _show(self, what: str, done: int, total: int) -> None:
        self.layout.visibility = "visible"
        self._bar.max = max(total, 1)
        self._bar.value = done
        self._what.value = f"{what}  {done} / {total}" if total > 1 else what

    def _finish(self, job: "_Job") -> None:
        if job.finished:
            return
        job.finished = True
        if self._current is not job:
            return
        self._current = None
        self.layout.visibility = "hidden"
        if job.error is not None:
            job.failed(job.error)
        elif not job.unwanted.is_set():
            job.done(job.result)
        else:
            job.failed(Cancelled())


class _Job:
    def __init__(
        self, work: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[Exception], None]
    ) -> None:
        self.work, self.done, self.failed = work, done, failed
        self.unwanted = threading.Event()
        self.finished = False
        self.result: Any = None
        self.error: Exception | None = None
        self._last = ("", -1)

    def is_news(self, what: str, done: int, total: int) -> bool:
        """Whether the bar would look different: a percent more, or other work."""
        now = (what, 100 * done // max(total, 1))
        changed, self._last = now != self._last, now
        return changed
