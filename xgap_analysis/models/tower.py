"""What a model is here: two frozen towers, each seen as tokens in, feature out, with what stands before and after."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from xgap_analysis.core.errors import XgapError


class Tower(Protocol):
    """One frozen encoder. Gradients flow from a feature to the tokens, never into the weights.

    The law that ties its methods: `encode(batch) == encode_tokens(embed(batch), batch)`. They may be called from
    several threads at once.

    A text tower may also have `shortcut(ids, start, count)`: a function from pseudo-tokens `[n, count, width]`, put at
    positions `start` to `start + count` of the prompt `ids [length]`, to features `[n, d]`, equal to the way through
    `encode_tokens` and faster; or None where there is no such function.

    """

    @property
    def space(self) -> str:
        """The side of the sphere its features lie on: `"image"`, `"text"` or another modality's name."""
        ...

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
        """The linear head `[p, d]`: `encode(batch, project=False) @ projection == encode(batch)`.

        Raises:
            XgapError: the head is not one linear map without bias.
        """
        ...

    def encode(self, batch: Tensor, project: bool = True) -> Tensor:
        """Features `[n, d]`, not normalised, of token ids `[n, length]` or pixels `[n, 3, h, w]`.

        Args:
            batch: what `tokenize` or `preprocess` of the model gives; moved to the tower's device.
            project: False gives the pooled features `[n, p]` before the linear head.
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
class DualEncoder:
    """An image tower and a text tower that share a sphere.

    Args:
        name: what it was loaded by; a table names it so.
        image, text: the towers.
        tokenize: captions to token ids `[n, length]`.
        preprocess: a picture to pixels `[3, h, w]`.
        logit_scale, logit_bias: a pair's logit is `logit_scale * cosine + logit_bias` (the scale is 1 / temperature).
        weights_digest: SHA-256 of the weights.
        device: where the towers compute.
        precision: `"fp32"`, or `"bf16"` / `"fp16"` for autocast (the weights stay in float32).
        activation: `"quickgelu"` or `"gelu"`.
        settings: what the field uses this model with: `oti_tokens` and `ovi_tokens`, the numbers of pseudo-tokens and
            pseudo-patches, and `isoclip`, `(k_top, k_bottom)` by space; `image_only` where there is no text tower.
        architecture: the digest of its configuration (see `models.fingerprint`).
    """

    name: str
    image: Tower
    text: Tower
    tokenize: Callable[[Sequence[str]], Tensor]
    preprocess: Callable[[Image.Image], Tensor]
    logit_scale: float
    logit_bias: float
    weights_digest: str
    device: torch.device
    precision: str
    activation: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    architecture: str = ""

    @cached_property
    def fingerprint(self) -> str:
        """What the model computes, whatever it is called: equal fingerprints, equal features (in one precision)."""
        from xgap_analysis.models.fingerprint import fingerprint

        return fingerprint(self)

    def tower(self, space: str) -> Tower:
        """The tower whose features lie on this side of the sphere.

        Raises:
            XgapError: a side this model does not have.
        """
        if space not in ("image", "text"):
            raise XgapError(f'model {self.name!r} has towers for "image" and "text", not for {space!r}')
        return self.image if space == "image" else self.text

    def __repr__(self) -> str:
        return f"DualEncoder({self.name!r}, device={str(self.device)!r}, precision={self.precision!r})"
