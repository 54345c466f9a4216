"""Many events, one call."""

import asyncio
from collections.abc import Callable
from typing import Any


class Debounced:
    """Calls a function once events have paused, with the last one; without an event loop it calls at once.

    Args:
        call: what to call.
        seconds: the pause.
    """

    def __init__(self, call: Callable[[Any], Any], seconds: float = 0.3) -> None:
        self._call, self._seconds = call, seconds
        self._waiting: asyncio.TimerHandle | None = None

    def __call__(self, event: Any) -> None:
        """Takes note of an event."""
        if self._waiting is not None:
            self._waiting.cancel()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._call(event)
            return
        self._waiting = loop.call_later(self._seconds, self._call, event)
