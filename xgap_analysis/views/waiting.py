"""How long a model waits for the images that it is to encode."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch

from xgap_analysis.core.progress import is_watched

LONG = 10.0  # seconds of work that are worth a line


class Waiting:
    """Seconds in all, and of them in the model's passes: on a GPU by its own clock, which passes do not wait for."""

    def __init__(self) -> None:
        self.seconds, self.in_model = 0.0, 0.0
        self._events: list[tuple[Any, Any]] = []

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Around opening and encoding; the device has finished at its end."""
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start
        self.in_model += sum(begin.elapsed_time(end) for begin, end in self._events) / 1000
        self._events.clear()

    @contextlib.contextmanager
    def passing(self, device: torch.device) -> Iterator[None]:
        """Around one pass of the model."""
        if device.type != "cuda":
            start = time.perf_counter()
            yield
            self.in_model += time.perf_counter() - start
            return
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        stream = torch.cuda.current_stream(device)
        begin.record(stream)
        yield
        end.record(stream)
        self._events.append((begin, end))

    def say(self, what: str, readers: str) -> None:
        """One line to standard error on the model's wait, where it was worth one and nobody watches.

        Args:
            what: was encoded.
            readers: what opened the items.
        """
        if self.seconds >= LONG and not is_watched():
            share = f"{self.share:.0%} of the time ({self.share * self.seconds:.0f} of {self.seconds:.0f} s)"
            sys.stderr.write(f"encode {what}: the model waited for {readers} {share}\n")

    @property
    def share(self) -> float:
        """The share of the time in which the model waited, in [0, 1]; 0 where nothing was opened."""
        return max(0.0, 1 - self.in_model / self.seconds) if self.seconds else 0.0
