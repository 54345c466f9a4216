"""A tower with a head of an adapter behind it: a `Tower`, and an `Invertible` one where the base is."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.adaptation.attached import Attached
from xgap_analysis.models.fingerprint import modules_of
from xgap_analysis.models.tower import TOKEN_PARTS

FORWARDED = ("tokenize", "preprocess", "probes", "width", "length", "embed", "blocks")  # of the base, where it has them


class HeadTower:
    """See `Tower`. What else of a tower the base has (`tokenize`, `preprocess`, `probes`, ...) is the base's own;
    `hidden`, where it has that, gives the base's tokens after the head.

    Args:
        base: the tower.
        own: the adapter, with a head for the modality.
        modality: of the tower in its model.
    """

    def __init__(self, base: Any, own: Attached, modality: str) -> None:
        self.base = base
        self._after = lambda features: own.after(modality, features)
        # Where the base has weights that can be seen, the whole is distinguished from others by those and the head's.
        known = modules_of(base)
        self.weights = nn.ModuleList([*known, own.modules[modality]]) if known else None

    def __getattr__(self, name: str) -> Any:
        if name == "hidden":
            return partial(self._hidden, self.base.hidden)
        if name not in FORWARDED:
            raise AttributeError(f"{type(self).__name__} has no {name}")
        return getattr(self.base, name)

    def _hidden(self, of_base: Callable[[Any], tuple[Tensor, Tensor]], batch: Any) -> tuple[Tensor, Tensor]:
        """See `Tower.hidden`: tokens `[n, L, d]` of the base, each through the head, and the base's mask."""
        tokens, mask = of_base(batch)
        return self._after(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2]), mask

    @property
    def space(self) -> str:
        """See `Tower.space`."""
        space: str = self.base.space
        return space

    @property
    def projection(self) -> Tensor:
        """See `Invertible.projection`.

        Raises:
            XgapError: always, as the tower ends in the adapter's head.
        """
        raise XgapError("this tower ends in the head of an adapter and not in one linear map; correct the base instead")

    def prepare(self, items: Sequence[Any]) -> Any:
        """See `Tower.prepare`."""
        return self.base.prepare(items)

    def encode(self, batch: Any, project: bool = True, layer: int | None = None) -> Tensor:
        """See `Tower.encode`; features of a layer of the base go through the head too."""
        if not project:
            return self.projection  # which says that there is none
        return self._after(self.base.encode(batch) if layer is None else self.base.encode(batch, layer=layer))


class InvertibleHeadTower(HeadTower):
    """See `Invertible`: tokens go through the base, then through the head."""

    def encode_tokens(self, tokens: Tensor, batch: Tensor | None = None) -> Tensor:
        """See `Invertible.encode_tokens`."""
        return self._after(self.base.encode_tokens(tokens, batch))

    def shortcut(self, ids: Tensor, start: int, count: int) -> Callable[[Tensor], Tensor] | None:
        """See `Invertible`; None where the base has none."""
        make = getattr(self.base, "shortcut", None)
        quick = None if make is None else make(ids, start, count)
        return None if quick is None else lambda pseudo: self._after(quick(pseudo))


def head_tower(base: Any, own: Attached, modality: str) -> HeadTower:
    """The tower of a modality with the adapter's head; the tower itself where the adapter does not enter it."""
    kind = InvertibleHeadTower if all(hasattr(base, part) for part in TOKEN_PARTS) else HeadTower
    return kind(base, own, modality)
