"""Any object that encodes a list of items, as a model of the modalities that it is named for."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.tower import Model

LISTS = "has encode(list of items) -> array [n, d], as those of sentence-transformers have, or is such a function"


class EncoderTower:
    """A tower over `encode(list) -> array`, which is called by one thread at a time.

    Args:
        encoder: the object, or the function itself.
        space: the modality of its items, and where their features lie.
        probes: see `Tower`.
    """

    def __init__(self, encoder: Any, space: str, probes: Sequence[Any] = ()) -> None:
        self.space, self.encoder = space, encoder
        self._call: Callable[[list[Any]], Any] = getattr(encoder, "encode", encoder)
        self._turn = threading.Lock()
        if len(probes):
            self.probes = probes

    def prepare(self, items: Sequence[Any]) -> list[Any]:
        """The items as they are."""
        return list(items)

    def encode(self, batch: list[Any]) -> Tensor:
        """Features `[n, d]`, as float32.

        Raises:
            XgapError: the encoder gives something else than numbers in a rectangle.
        """
        with self._turn:
            made = self._call(batch)
        try:
            array = made.detach() if isinstance(made, Tensor) else np.stack([np.asarray(row) for row in made])
            return torch.as_tensor(array).float()
        except (TypeError, ValueError, RuntimeError) as error:
            kind = type(self.encoder).__name__
            raise XgapError(f"the encoder ({kind}) gives a {type(made).__name__}; an encoder {LISTS}") from error


def as_model(
    encoder: Any, modalities: Sequence[str] = ("text",), name: str = "", *, probes: Sequence[Any] = ()
) -> Model:
    """A model of an object with `encode(list) -> array`, such as one of sentence-transformers.

    Args:
        encoder: it has `encode(list of items) -> array [n, d]`, or is such a function.
        modalities: whose items it encodes, all on one sphere: `("text",)`, `("image", "text")`, `("audio",)`, ...
        name: as in tables; the encoder's kind by default.
        probes: a few items of a modality that is neither images nor texts, by which the encoder is identified if
            it is not a torch module; without them its features are not stored.

    Towers of several such models, or of one's own, go together as
    `Model("mine", {**as_model(words).towers, **as_model(sounds, ["audio"]).towers})`.

    Raises:
        XgapError: something that encodes nothing, or no modality.

    Example:
        >>> import numpy as np
        >>> lengths = as_model(lambda captions: np.array([[len(c), c.count(" ") + 1] for c in captions]))
        >>> lengths.text.encode(["a red cat"])
        tensor([[9., 3.]])
    """
    if isinstance(modalities, str) or not len(modalities):
        raise XgapError(f'modalities is a list of names, such as ["text"], not {modalities!r}')
    if not callable(getattr(encoder, "encode", encoder)):
        raise XgapError(f"{type(encoder).__name__} is no encoder: an encoder {LISTS}")
    given = name or getattr(encoder, "__name__", type(encoder).__name__)
    return Model(given, {modality: EncoderTower(encoder, modality, probes) for modality in modalities})
