"""The work of an inversion: batches of items through the loop, within the device's memory, and a bar over the steps."""

import functools
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from xgap_analysis.core.errors import notice
from xgap_analysis.core.features import Features
from xgap_analysis.core.progress import Bar
from xgap_analysis.models.threads import suited
from xgap_analysis.models.tower import Invertible, Model
from xgap_analysis.store import Rows
from xgap_analysis.views.inversion.capacity import evened, free_bytes, most_rows, peak_bytes, rows_within
from xgap_analysis.views.inversion.closed_form import ClosedForm
from xgap_analysis.views.inversion.loop import InversionLoop, Optimised, starts
from xgap_analysis.views.inversion.settings import Settings


class Work:
    """Rows of the inversion of some items; `close` it at the end.

    Args:
        model: whose tower it is.
        tower: inverted into.
        forward: pseudo-tokens `[n, tokens, width]` to features `[n, d]`.
        features: the targets.
        settings: of the inversion.
        progress: show a bar when something is computed.
    """

    def __init__(
        self,
        model: Model,
        tower: Invertible,
        forward: Callable[[Tensor], Tensor],
        features: Features,
        settings: Settings,
        progress: bool,
    ) -> None:
        self._tower, self._device, self._features, self._settings = tower, model.device, features, settings
        width = tower.width
        # The Jacobian is taken once, and only where something has to be computed.
        self._computed = functools.cache(lambda: ClosedForm(forward, settings.tokens, width, model.device))
        title = f"{settings.name.upper()} with {model.name}"
        self._bar = StepBar(title, len(features), settings.steps, progress)

        def loop(n: int) -> InversionLoop:
            return InversionLoop(
                forward,
                (n, settings.tokens, width),
                features.dim,
                model.device,
                steps=settings.steps,
                lr=settings.lr,
                weight_decay=settings.weight_decay,
                stop=settings.stop,
                optimiser=settings.optimiser,
                precision=settings.precision,
            )

        self._loop = WithinMemory(loop)
        # Measured only where something has to be computed.
        self._fitting = functools.cache(lambda: rows_that_fit(loop, model.device, tower.length))

    def rows(self, places: Sequence[int], missing: Collection[str]) -> dict[str, Rows]:
        """The inversions of the items in these places, `"whole"`, and the snapshots that are missing, by their step."""
        lacking = [step for step in self._settings.between if str(step) in missing]
        size, parts = self._settings.batch_size or self._size(len(places)), []
        for position in range(0, len(places), size):
            batch = list(places[position : position + size])
            targets = self._features.vectors[batch]
            look = functools.partial(self._bar.at, len(batch))
            with suited(self._tower, len(batch), self._device):
                begin = self._starts([self._features.ids[place] for place in batch], targets)
                parts.append(self._loop.run(begin, targets, lacking, look))
            self._bar.next(len(batch))
        whole = {
            "pseudo_tokens": torch.cat([p.tokens for p in parts]),
            "features": torch.cat([p.features for p in parts]),
            "loss": torch.cat([p.loss.T for p in parts]),
        }
        return {
            "whole": Rows(whole),
            **{str(step): Rows({"features": torch.cat([p.snapshots[step] for p in parts])}) for step in lacking},
        }

    def _size(self, n: int) -> int:
        """The size of batches of n items, where none is given."""
        fitting = self._fitting()
        return fitting if self._device.type != "cuda" else evened(n, fitting)

    def _starts(self, ids: Sequence[str], targets: Tensor) -> Tensor:
        settings = self._settings
        if not settings.drawn:
            return self._computed().starts(targets)
        drawn = starts(ids, settings.tokens, self._tower.width, seed=settings.seed, std=settings.init_std)
        return drawn.to(self._device)

    def close(self) -> None:
        """End the bar."""
        self._bar.close()


def rows_that_fit(loop: Callable[[int], InversionLoop], device: torch.device, length: int) -> int:
    """The number of items at once: what a GPU's memory holds, measured by two small steps; 64 elsewhere."""
    most = most_rows(device, length)
    if device.type != "cuda":
        return most
    return rows_within(lambda n: peak_bytes(lambda: loop(n).probe(), device), free_bytes(device), most)


class WithinMemory:
    """Runs batches; one that does not fit the device's memory goes in halves, which changes no more than rounding.

    Args:
        make: the descent of batches of n items. The last one made serves batches of its size until another is made.
    """

    def __init__(self, make: Callable[[int], InversionLoop]) -> None:
        self._make = functools.lru_cache(maxsize=1)(make)
        self._fits = math.inf  # items, as far as is known

    def run(
        self, start: Tensor, targets: Tensor, snapshots: Collection[int], on_step: Callable[[int], Any] | None
    ) -> Optimised:
        """Optimises one batch; see `InversionLoop.run`."""
        n = len(start)
        if n <= self._fits:
            try:
                return self._make(n).run(start, targets, snapshots=snapshots, on_step=on_step)
            except torch.OutOfMemoryError:
                if n == 1:
                    raise
                self._fits = n - 1
            notice(
                f"{n} items at once do not fit the memory of {start.device}: they are optimised in halves, with the "
                f"same result; batch_size={n // 2} saves the attempt"
            )
            self._make.cache_clear()
            if start.is_cuda:  # outside the handler, whose traceback would hold the tensors of the attempt
                torch.cuda.empty_cache()
        half = n // 2
        first = self.run(start[:half], targets[:half], snapshots, None)
        second = self.run(start[half:], targets[half:], snapshots, on_step)
        return Optimised(
            torch.cat([first.tokens, second.tokens]),
            torch.cat([first.features, second.features]),
            torch.cat([first.loss, second.loss], dim=1),
            {step: torch.cat([first.snapshots[step], second.snapshots[step]]) for step in first.snapshots},
        )


class StepBar:
    """One progress bar over items, moved step by step; it appears with the first batch that is computed."""

    def __init__(self, description: str, n: int, steps: int, shown: bool) -> None:
        self._description, self._n, self._steps, self._shown = description, n, steps, shown
        self._bar: Bar | None = None
        self._before = 0  # steps of the batches that are over

    def at(self, count: int, done: int) -> None:
        """`done` steps of the batch at work, which has `count` items, are done."""
        if self._bar is None:
            self._bar = Bar(total=self._n * self._steps, desc=self._description, unit="step", disable=not self._shown)
        self._bar.update(self._before + count * done - self._bar.n)

    def next(self, count: int) -> None:
        """A batch of `count` items is over."""
        self._before += count * self._steps

    def close(self) -> None:
        """All items are over."""
        if self._bar is not None:
            self._bar.update(self._n * self._steps - self._bar.n)
            self._bar.close()
