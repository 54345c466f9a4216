"""The settings of an inversion: the paper's by default, checked, and what of them determines its numbers."""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from xgap_analysis.core.counts import check_count
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.seeds import check_seed
from xgap_analysis.models.precision import AUTOCAST, rounding
from xgap_analysis.models.tower import Model
from xgap_analysis.store import key_of
from xgap_analysis.views.inversion.loop import check_stop
from xgap_analysis.views.inversion.textual import Prompt

INTO = {"image": "text", "text": "image"}  # by the space of the features: the space they are inverted into
STEPS = {"text": 150, "image": 1000}  # by the space inverted into: OTI, OVI (the paper's configurations)
OPTIMISERS = ("adamw", "l-bfgs")
NAMES = {"text": "oti", "image": "ovi"}


def space_into(space: str) -> str:
    """The space that features of a space are inverted into.

    Raises:
        XgapError: a space that nothing is inverted from.
    """
    if space not in INTO:
        raise XgapError(f'only features of space "image" or "text" can be inverted, not of space {space!r}')
    return INTO[space]


@dataclass(frozen=True)
class Settings:
    """What `invert` was given, with the defaults of the space inverted into.

    Args:
        space: inverted into.
        steps, tokens, template, lr, weight_decay, init_std, seed, stop, start, optimiser, batch_size, precision: see
            `invert`.
        snapshots: sorted, each once.
    """

    space: str
    steps: int
    tokens: int
    template: str
    lr: float
    weight_decay: float
    init_std: float
    seed: int
    snapshots: tuple[int, ...]
    stop: str | float
    start: str
    optimiser: str
    batch_size: int | None
    precision: str

    @classmethod
    def of(
        cls,
        model: Model,
        features: Features,
        *,
        steps: int | None,
        tokens: int | None,
        snapshots: Iterable[int],
        stop: str | float,
        **others: Any,
    ) -> "Settings":
        """The settings for these features.

        Raises:
            XgapError: features of another space, no features, or a parameter out of range.
        """
        _check_features(features)
        space = space_into(features.space)
        steps = STEPS[space] if steps is None else steps
        if tokens is None:
            tokens = int(model.settings.get("ovi_tokens", 1)) if space == "image" else 1
        wanted = _sorted_steps(snapshots)
        made = cls(space=space, steps=steps, tokens=tokens, snapshots=wanted, stop=check_stop(stop), **others)
        made._check(len(features))
        # NumPy's numbers are kept under the keys of Python's.
        return replace(made, steps=int(made.steps), tokens=int(made.tokens), seed=int(made.seed))

    @property
    def name(self) -> str:
        """Of the view: `"oti"` or `"ovi"`."""
        return NAMES[self.space]

    @property
    def drawn(self) -> bool:
        """Whether an item's start is drawn from (seed, id)."""
        return self.start == "normal"

    @property
    def between(self) -> tuple[int, ...]:
        """The snapshots before the last step."""
        return tuple(step for step in self.snapshots if step < self.steps)

    def made_by(self, model: Model, tower: Any, prompt: Prompt | None) -> dict[str, Any]:
        """What determines the numbers, besides an item."""
        adamw = {"lr": self.lr, "weight_decay": self.weight_decay}
        return {
            "view": self.name,
            "fingerprint": model.fingerprint,
            "precision": model.precision,
            "steps": self.steps,
            "tokens": self.tokens,
            **(adamw if self.optimiser == "adamw" else {"optimiser": self.optimiser}),
            "stop": self.stop,
            "loop_precision": self.precision,
            **rounding(tower, model.device),
            **({"init_std": self.init_std, "seed": self.seed} if self.drawn else {"start": self.start}),
            **({} if prompt is None else {"prompt": [prompt.ids.tolist(), prompt.start]}),
        }

    def items(self, features: Features) -> list[str]:
        """Digests of the items: an item is its target, and where its start is drawn from (seed, id) its id. A start
        that is computed from the target depends on neither.
        """
        return [
            key_of(
                {"target": hashlib.sha256(row.numpy().tobytes()).hexdigest(), **({"id": item} if self.drawn else {})}
            )
            for item, row in zip(features.ids, features.vectors.cpu(), strict=True)
        ]

    def _check(self, n: int) -> None:
        steps, snapshots = self.steps, list[int](self.snapshots)
        if not n:
            raise XgapError("there is nothing to invert: the features are empty")
        check_count(steps, "the number of steps")
        check_count(self.tokens, "the number of pseudo-tokens")
        check_seed(self.seed)
        for name in ("lr", "weight_decay", "init_std"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise XgapError(f"{name} is a number of 0 or more, not {value!r}")
        if snapshots and not (snapshots[0] >= 0 and snapshots[-1] <= steps):
            raise XgapError(f"snapshots are steps from 0 to {steps}, not {snapshots}")
        if self.batch_size is not None and self.batch_size < 1:
            raise XgapError(f"batch_size is at least 1, or None for what the device holds, not {self.batch_size}")
        if self.precision not in AUTOCAST:
            raise XgapError(f"precision is one of {', '.join(AUTOCAST)}, not {self.precision!r}")
        if self.optimiser not in OPTIMISERS:
            raise XgapError(f"optimiser is {' or '.join(map(repr, OPTIMISERS))}, not {self.optimiser!r}")
        if not isinstance(self.start, str) or self.start not in ("normal", "closed-form"):
            raise XgapError(f'start is "normal" or "closed-form", not {self.start!r}')


def _check_features(given: Any) -> None:
    if not isinstance(given, Features):
        what = "what is inverted are Features of a space, as of encode or xg.Features(vectors, ids, space, origin)"
        raise XgapError(f"{what}, not {type(given).__name__}")


def _sorted_steps(given: Any) -> tuple[int, ...]:
    """Snapshots, each once."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise XgapError(f"snapshots are a list of steps, such as [50, 100], not {given!r}")
    wanted = set(given)
    for step in wanted:
        check_count(step, "a snapshot", 0)
    return tuple(sorted(map(int, wanted)))


__all__ = ["INTO", "NAMES", "STEPS", "Settings", "space_into"]
