"""What a model is here: frozen towers by modality. A tower turns items into features; some can be entered by tokens."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from xgap_analysis.core.errors import XgapError

TOKEN_PARTS = ("width", "length", "embed", "encode_tokens")  # what an `Invertible` has beyond a `Tower`


class Tower(Protocol):
    """One frozen encoder, of one modality. It may be called from several threads at once.

    It may also have `preprocess(item)`, one item's part of a batch as a tensor, so that `prepare` stacks them: it is
    called in several threads while the device computes. And `probes`, a few items by which a tower without known
    weights is distinguished from others (towers of any image and any text need none). And `hidden(batch) -> (tokens
    [n, length, d], mask [n, length])`, the parts of each item (patches, words) in the space of its features, not
    normalised; the mask says which positions are parts. And `blocks`, a number, where `encode(batch, layer=3)` gives
    the features after that many blocks, through what follows the last one.
    """

    @property
    def space(self) -> str:
        """The modality in whose space its features lie: `"image"`, `"text"`, `"audio"`, ..."""
        ...

    def prepare(self, items: Sequence[Any]) -> Any:
        """A batch for `encode`: pixels `[n, 3, h, w]` of PIL images, token ids `[n, length]` of captions, or anything
        else of other items.
        """
        ...

    def encode(self, batch: Any) -> Tensor:
        """Features `[n, d]`, not normalised, of a batch. A tower with a `projection` may take `project=False`, which
        gives the pooled features `[n, p]` before it.
        """
        ...


class Invertible(Tower, Protocol):
    """A tower that can be entered by tokens. Gradients flow from a feature to the tokens, never into the weights.

    The law that ties its methods: `encode(batch) == encode_tokens(embed(batch), batch)`; `check_tower` runs it.

    A text tower may also have `shortcut(ids, start, count)`: a function from pseudo-tokens `[n, count, width]`, put at
    positions `start` to `start + count` of the prompt `ids [length]`, to features `[n, d]`, equal to the way through
    `encode_tokens` and faster; or None where there is no such function.
    """

    @property
    def width(self) -> int:
        """Dimensions of a token."""
        ...

    @property
    def length(self) -> int:
        """Tokens that a feature is made from: the context length L, or the number of patches U."""
        ...

    @property
    def projection(self) -> Tensor:
        """The linear head `[p, d]`: `encode(batch, project=False) @ projection == encode(batch)`. Only corrections of
        projections (`isoclip`) read it.

        Raises:
            XgapError: the head is not one linear map without bias.
        """
        ...

    def embed(self, batch: Tensor) -> Tensor:
        """Tokens `[n, length, width]` of a batch, before the positional embedding is added."""
        ...

    def encode_tokens(self, tokens: Tensor, batch: Tensor | None = None) -> Tensor:
        """Features `[n, d]`, not normalised, of tokens `[n, length, width]` (as `embed` gives them).

        Args:
            tokens: before the positional embedding is added.
            batch: token ids `[n, length]` or `[length]`, which say where a text tower pools and what it masks; an
                image tower needs none.
        """
        ...


@dataclass(frozen=True, eq=False)
class Model:
    """Towers that share a sphere, by modality.

    Args:
        name: what it was loaded by; a table names it so.
        towers: modality of the items (`"image"`, `"text"`, `"audio"`, ...) to the tower that encodes them.
        logit_scale, logit_bias: a pair's logit is `logit_scale * cosine + logit_bias` (the scale is 1 / temperature).
        weights_digest: SHA-256 of the weights; by default of the torch modules that the towers hold, if they do.
        device: where the towers compute.
        precision: `"fp32"`, or `"bf16"` / `"fp16"` for autocast (the weights that a tower holds stay in float32).
        activation: `"quickgelu"` or `"gelu"`, where it is known.
        settings: what the field uses this model with: `oti_tokens` and `ovi_tokens`, the numbers of pseudo-tokens and
            pseudo-patches, and `isoclip`, `(k_top, k_bottom)` by space; `image_only` where there is no text tower.
        architecture: the digest of its configuration (see `models.fingerprint`).

    Raises:
        XgapError: no tower, or something that is not one.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> model = xg.as_model(lambda images: np.ones((len(images), 4)), ["image"], name="constant")
        >>> model.name, list(model.towers)
        ('constant', ['image'])
    """

    name: str
    towers: Mapping[str, Any]
    logit_scale: float = 1.0
    logit_bias: float = 0.0
    weights_digest: str = ""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: str = "fp32"
    activation: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    architecture: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.towers, Mapping) or not self.towers:
            example = 'Model("mine", {"image": pixels, "text": words})'
            raise XgapError(f"a model has one tower or more, by modality, as in {example}, not {self.towers!r}")
        for modality, tower in self.towers.items():
            lacking = [part for part in ("prepare", "encode") if not callable(getattr(tower, part, None))]
            if lacking:
                what = f"the {modality} tower of model {self.name!r} ({type(tower).__name__}) has no {lacking[0]}"
                raise XgapError(f"{what}: a tower has prepare(items) -> batch and encode(batch) -> features [n, d]")
        object.__setattr__(self, "device", torch.device(self.device))
        if not self.weights_digest:
            from xgap_analysis.models.fingerprint import weights_of

            object.__setattr__(self, "weights_digest", weights_of(self.towers))

    @cached_property
    def fingerprint(self) -> str:
        """What the model computes, whatever it is called: equal fingerprints, equal features (in one precision)."""
        from xgap_analysis.models.fingerprint import fingerprint

        return fingerprint(self)

    @property
    def image(self) -> Any:
        """The tower of images; see `tower`."""
        return self.tower("image")

    @property
    def text(self) -> Any:
        """The tower of texts; see `tower`."""
        return self.tower("text")

    @property
    def tokenize(self) -> Callable[[Sequence[str]], Tensor]:
        """Captions to token ids `[n, length]`, as the text tower prepares them."""
        return tokenizer_of(self.text)

    @property
    def preprocess(self) -> Callable[[Any], Tensor]:
        """An image to pixels `[3, h, w]`, as the image tower prepares it."""
        own: Callable[[Any], Tensor] | None = getattr(self.image, "preprocess", None)
        return own or (lambda image: self.image.prepare([image])[0])

    def tower(self, modality: str) -> Any:
        """The tower of the items of a modality.

        Raises:
            XgapError: a modality that this model has no tower of.
        """
        if modality not in self.towers:
            what = f"model {self.name!r} has no {modality} tower"
            raise XgapError(f"{what}: only comparisons without one can be made (it has: {', '.join(self.towers)})")
        return self.towers[modality]

    def invertible(self, modality: str) -> Invertible:
        """The tower of a modality that can be entered by tokens.

        Raises:
            XgapError: no such tower, or one of features alone.
        """
        tower: Invertible = self.tower(modality)
        lacking = [part for part in TOKEN_PARTS if not hasattr(tower, part)]
        if lacking:
            what = f"the {modality} tower of model {self.name!r} has no {', '.join(lacking)}"
            raise XgapError(f"{what}, so nothing can be inverted into it; see models.tower.Invertible")
        return tower

    def __repr__(self) -> str:
        return f"Model({self.name!r}, device={str(self.device)!r}, precision={self.precision!r})"


def check_model(model: Any) -> None:
    """Refuse what is not a model, such as the name of one.

    Raises:
        XgapError: it has no towers.
    """
    if not hasattr(model, "towers"):
        name = repr(model) if isinstance(model, str) else '"tiny"'
        raise XgapError(f"a model is loaded first, as by xg.load_model({name}), and {model!r:.60} is none")


def tokenizer_of(tower: Any) -> Callable[[Sequence[str]], Tensor]:
    """Captions to token ids `[n, length]` of a text tower; `silent` of it, where it has that, says nothing of cuts."""
    own: Callable[[Sequence[str]], Tensor] = getattr(tower, "tokenize", None) or tower.prepare
    return own


def tokens_of(tower: Any, batch: Any, n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens `[n, length, d]` in float32 of a batch of n items, and a mask `[n, length]`; see `Tower`.

    Raises:
        XgapError: a tower without `hidden`, or one that gives something else.
    """
    if not hasattr(tower, "hidden"):
        what = f"the {tower.space} tower ({type(tower).__name__}) gives one vector per item"
        raise XgapError(f"{what}; for a set of vectors it needs hidden(batch) -> (tokens [n, length, d], mask)")
    made = tower.hidden(batch.to(device, non_blocking=True) if isinstance(batch, Tensor) else batch)
    tokens, mask = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    shapes = [list(part.shape) if isinstance(part, Tensor) else type(part).__name__ for part in (tokens, mask)]
    if (
        not isinstance(tokens, Tensor)
        or not isinstance(mask, Tensor)
        or tokens.ndim != 3
        or shapes[1] != shapes[0][:2]
        or len(tokens) != n
    ):
        what = f"hidden of the {tower.space} tower ({type(tower).__name__}) gives {shapes[0]} and {shapes[1]}"
        raise XgapError(f"{what} for {n} items, not tokens [n, length, d] and a mask [n, length]")
    return tokens.float(), mask.bool()


def features_of(tower: Any, batch: Any, n: int, device: torch.device, **how: Any) -> Tensor:
    """Features `[n, d]` in float32 of a batch of n items, not normalised.

    Args:
        tower: the tower.
        batch: as its `prepare` gives it; a tensor is moved to the device.
        n: number of items.
        device: where the tower computes.
        how: further arguments of its `encode`.

    Raises:
        XgapError: the tower gives something else than a matrix with one row per item.
    """
    made = tower.encode(batch.to(device, non_blocking=True) if isinstance(batch, Tensor) else batch, **how)
    if not isinstance(made, Tensor) or made.ndim != 2 or len(made) != n:
        shape = f"a tensor {list(made.shape)}" if isinstance(made, Tensor) else f"a {type(made).__name__}"
        what = f"encode of the {tower.space} tower ({type(tower).__name__}) gives {shape} for {n} items"
        raise XgapError(f"{what}; features are a tensor [n, d], one row per item")
    return made.float()
