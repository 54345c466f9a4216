"""Towers with a part of an adapter inside."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.adaptation.attached import Attached
from xgap_analysis.models.adaptation.backbone import Backbone
from xgap_analysis.models.adaptation.part import ENCODERS, PartTokenizer
from xgap_analysis.models.adapters.openclip import ImageTower, TextTower
from xgap_analysis.models.locks import lock_of
from xgap_analysis.models.precision import autocast
from xgap_analysis.models.tower import Model


class EnteredTower:
    """See `Invertible`: a tower over an open_clip model, which each pass enters with the part in it.

    Args:
        base: the tower without it.
        own: the adapter, with a part for the modality.
        modality: of the tower.
    """

    def __init__(self, base: ImageTower | TextTower, own: Attached, modality: str) -> None:
        self.module, self.space = base.module, base.space
        self._own, self._modality, self._whole = own, modality, own.is_whole(base.module, modality)
        # A shortcut goes through blocks, positions and MLPs as they are shown, but around a pass that is another.
        self.base: ImageTower | TextTower
        if isinstance(base, TextTower):
            self.base = base.again(not self._whole, own.tokenizer(base.tokenize.silent))
        else:
            self.base = base.again(not self._whole)
        self.weights = nn.ModuleList([base.module, own.modules[modality]])

    def __getattr__(self, name: str) -> Any:
        forwarded = ("preprocess",) if self._modality == "image" else ("tokenize", "words")
        if name not in forwarded:
            raise AttributeError(f"{type(self).__name__} has no {name}")
        return getattr(self.base, name)

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        with lock_of(self.module), self._own.within(self.module, self._modality):
            yield

    @property
    def width(self) -> int:
        """See `Invertible.width`."""
        return self.base.width

    @property
    def length(self) -> int:
        """See `Invertible.length`."""
        return self.base.length

    @property
    def projection(self) -> Tensor:
        """See `Invertible.projection`.

        Raises:
            XgapError: the adapter has another head, or the base no linear one.
        """
        if self._whole:
            raise XgapError("this tower ends in the head of an adapter and not in one linear map; correct the base")
        return self.base.projection

    @property
    def blocks(self) -> int:
        """See `Tower`: those of the base, with what the adapter puts before, into or behind them."""
        return self.base.blocks

    def prepare(self, items: Sequence[Any]) -> Tensor:
        """See `Tower.prepare`."""
        return self.base.prepare(items)

    def encode(self, batch: Tensor, project: bool = True, layer: int | None = None) -> Tensor:
        """See `Tower.encode`."""
        if not project:
            _ = self.projection
        # The base's blocks are skipped first: an adapter wraps them as they are then.
        with lock_of(self.module), self.base.depth.first(layer), self._inside():
            return self.base.encode(batch, project)

    def embed(self, batch: Tensor) -> Tensor:
        """See `Invertible.embed`."""
        with self._inside():
            return self.base.embed(batch)

    def encode_tokens(self, tokens: Tensor, batch: Tensor | None = None) -> Tensor:
        """See `Invertible.encode_tokens`."""
        with self._inside():
            return self.base.encode_tokens(tokens, batch)

    def hidden(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """See `Tower`."""
        if self._whole:
            raise XgapError("this tower ends in the head of an adapter, which gives one vector per item")
        with self._inside():
            return self.base.hidden(batch)

    def shortcut(self, ids: Tensor, start: int, count: int) -> Callable[[Tensor], Tensor] | None:
        """See `Invertible`; None where the tower is no longer plain and causal."""
        if not isinstance(self.base, TextTower):
            return None
        with self._inside():
            quick = self.base.shortcut(ids, start, count)
        if quick is None:
            return None

        def features(pseudo: Tensor) -> Tensor:
            with self._inside():
                return quick(pseudo)

        return features


class ReplacedTower:
    """See `Tower`: a text tower of an adapter's own; the base's tokens know nothing of it, so it is not invertible.

    Args:
        base: the tower in whose place it stands.
        own: the adapter, with a part for texts.
    """

    space = "text"

    def __init__(self, base: TextTower, own: Attached) -> None:
        self.module, self.weights, self._precision = base.module, own.modules["text"], base.precision
        self._own, self.tokenize = own, own.tokenizer(base.tokenize.silent)

    def prepare(self, items: Sequence[str]) -> Tensor:
        """See `Tower.prepare`."""
        return self.tokenize(items)

    def encode(self, batch: Tensor) -> Tensor:
        """See `Tower.encode`."""
        ids = batch.to(next(self.module.parameters()).device)
        with lock_of(self.module), autocast(ids.device, self._precision), self._own.within(self.module, "text"):
            made: Tensor = self.module.encode_text(ids)
        return made.float()


def entered_tower(base: Any, own: Attached, modality: str) -> Any:
    """The tower of a modality with the adapter's part inside."""
    part: Any = own.modules[modality]
    return ReplacedTower(base, own) if part.replaces else EnteredTower(base, own, modality)


def backbone_of(model: Model, dims: dict[str, int]) -> Backbone | None:
    """The open_clip model that a model is made of; None where it is another one."""
    towers = [tower for tower in model.towers.values() if isinstance(tower, ImageTower | TextTower)]
    if len(towers) < len(dims) or len({id(tower.module) for tower in towers}) != 1:
        return None
    texts = [tower.tokenize for tower in towers if isinstance(tower, TextTower)]
    return Backbone(dims, towers[0].module, texts[0] if texts else None)


__all__ = ["ENCODERS", "EnteredTower", "PartTokenizer", "ReplacedTower", "backbone_of", "entered_tower"]
