"""Towers over any open_clip model, with nothing of the model written again.

"Tokens in" is the library's own forward pass with the output of its embedding module (the token table of a text tower,
the patch embedding of an image tower) replaced by ours, through a forward hook that lives for one call. So it is exact
for every architecture, and gradients reach the tokens. A hook is there for every thread, so all that passes through a
model's modules holds the model's lock; what comes after a pass (the way back, an update) does not.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.adapters.depth import Blocks, image_blocks, text_blocks
from xgap_analysis.models.adapters.halves import with_half_weights
from xgap_analysis.models.adapters.heads import Head, image_head, text_head
from xgap_analysis.models.adapters.hidden import are_words, features_and_patches, features_and_words
from xgap_analysis.models.adapters.shortcut import causal_prompt, class_token_features
from xgap_analysis.models.captions import Tokenizer
from xgap_analysis.models.fingerprint import architecture, weights_digest
from xgap_analysis.models.locks import lock_of
from xgap_analysis.models.precision import AUTOCAST, autocast, is_full
from xgap_analysis.models.tower import Model

Module = Any  # a module of open_clip; what it is made of has no static types


def from_open_clip(
    model: Module,
    tokenize: Callable[[list[str]], Tensor],
    preprocess: Callable[[Image.Image], Tensor],
    *,
    name: str,
    precision: str = "fp32",
    settings: Mapping[str, Any] | None = None,
    shortcuts: bool = True,
) -> Model:
    """A dual encoder from an open_clip model, which is frozen and set to evaluation.

    Args:
        model: open_clip's `CLIP`, `CustomTextCLIP` or `CoCa`, on its device, weights in float32.
        tokenize: its tokenizer.
        preprocess: its transform for evaluation.
        name: what tables call it.
        precision: `"fp32"`, or `"bf16"` / `"fp16"`: autocast over a copy whose products have weights in half precision
            (see `models.adapters.halves`), which is made at the first pass.
        settings: see `Model`; with `image_only` the text tower, which was never trained, is left out.
        shortcuts: False takes the general way everywhere (to check the shortcuts, which give the same numbers).

    Raises:
        XgapError: an unknown precision.
    """
    if precision not in AUTOCAST:
        raise XgapError(f"precision is one of {', '.join(AUTOCAST)}, not {precision!r}")
    model.eval().requires_grad_(False)
    bias = getattr(model, "logit_bias", None)
    settings = dict(settings or {})
    towers: dict[str, Any] = {"image": ImageTower(model, preprocess, precision, shortcuts)}
    if not settings.get("image_only"):
        towers["text"] = TextTower(model, tokenize, name, precision, shortcuts)
    return Model(
        name=name,
        towers=towers,
        logit_scale=math.exp(float(model.logit_scale)),
        logit_bias=0.0 if bias is None else float(bias),
        weights_digest=weights_digest(model),
        device=next(model.parameters()).device,
        precision=precision,
        activation="quickgelu" if any(type(m).__name__ == "QuickGELU" for m in model.modules()) else "gelu",
        settings=settings,
        architecture=architecture(model),
    )


class _OpenClipTower:
    """What both towers of an open_clip model have: the model with its lock and precision, and its copy in halves."""

    def __init__(self, model: Module, head: Head, depth: Blocks, precision: str, shortcuts: bool, halves: bool) -> None:
        self._model, self._head, self.depth = model, head, depth
        self._precision, self._shortcuts, self._halves = precision, shortcuts, halves

    @property
    def module(self) -> Module:
        """The whole model of open_clip's."""
        return self._model

    @property
    def blocks(self) -> int:
        """See `Tower`."""
        with lock_of(self._model):  # within another thread's pass there are fewer
            return len(self.depth)

    @property
    def half_weights(self) -> bool:
        """Whether its passes go through a copy whose products have weights in half precision."""
        return self._halves and self._precision != "fp32"

    @property
    def _passing(self) -> Any:
        """The tower whose modules a pass goes through: this one, or the same over half-precision weights."""
        if not self.half_weights or is_full():
            return self
        return self._over_halves

    @cached_property
    def _over_halves(self) -> Any:
        return self._over(with_half_weights(self._model, self._precision))

    def _over(self, model: Module) -> Any:
        raise NotImplementedError

    @property
    def projection(self) -> Tensor:
        """See `Invertible.projection`."""
        with lock_of(self._model):
            return self._head.weight()


class ImageTower(_OpenClipTower):
    """The image tower of an open_clip model; see `Invertible`.

    Args:
        model: open_clip's.
        preprocess: its transform for evaluation.
        precision, shortcuts: see `from_open_clip`.
        halves: False for modules that half-precision weights are no copy of: they are one, or parts are replaced.
    """

    space = "image"

    def __init__(
        self,
        model: Module,
        preprocess: Callable[[Image.Image], Tensor],
        precision: str = "fp32",
        shortcuts: bool = True,
        halves: bool = True,
    ) -> None:
        visual = model.visual
        super().__init__(model, image_head(visual), image_blocks(visual), precision, shortcuts, halves)
        self.preprocess, self._visual = preprocess, visual
        size = model.visual.image_size
        self._size: tuple[int, int] = (size, size) if isinstance(size, int) else tuple(size)

    def again(self, shortcuts: bool) -> "ImageTower":
        """The same over the same model, whose parts may be replaced around a pass, with its shortcuts or without."""
        return ImageTower(self._model, self.preprocess, self._precision, shortcuts and self._shortcuts, halves=False)

    def _over(self, model: Module) -> "ImageTower":
        return ImageTower(model, self.preprocess, self._precision, self._shortcuts, halves=False)

    @property
    def visual(self) -> Module:
        """The image part of the library's model."""
        return self._visual

    @property
    def width(self) -> int:
        """Dimensions of a patch token."""
        return self._grid[1]

    @property
    def length(self) -> int:
        """Number of patches U."""
        return math.prod(self._grid[0])

    def prepare(self, items: Sequence[Image.Image]) -> Tensor:
        """Pixels `[n, 3, h, w]` of images."""
        return torch.stack([self.preprocess(image) for image in items])

    def encode(self, batch: Tensor, project: bool = True, layer: int | None = None) -> Tensor:
        """See `Tower.encode`."""
        if self._passing is not self:
            return self._passing.encode(batch, project, layer)
        pixels = batch.to(_device(self._model))
        head = contextlib.nullcontext() if project else self._head.removed()
        with lock_of(self._model), autocast(pixels.device, self._precision), head, self.depth.first(layer):
            return self._model.encode_image(pixels, normalize=False).float()

    def embed(self, batch: Tensor) -> Tensor:
        """See `Invertible.embed`."""
        with lock_of(self._model):
            made = self._patching(batch.to(_device(self._model)))
        if made.ndim == 4:
            made = made.flatten(2).transpose(1, 2) if self._channels_first else made.flatten(1, 2)
        return made

    def encode_tokens(self, tokens: Tensor, batch: Tensor | None = None) -> Tensor:
        """See `Invertible.encode_tokens`."""
        if self._passing is not self:
            return self._passing.encode_tokens(tokens, batch)
        _check_tokens(tokens, self.length, self.width)
        tokens = tokens.to(_device(self._model))
        with lock_of(self._model), autocast(tokens.device, self._precision):
            features = class_token_features(self._visual, tokens) if self._shortcuts else None
            if features is None:
                blank = torch.zeros((), device=tokens.device).expand(len(tokens), 3, *self._size)
                with _emitting(self._patching, self._as_emitted(tokens)):
                    features = self._model.encode_image(blank, normalize=False)
        return features.float()

    def hidden(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """See `Tower`: the patches, projected as the class token is."""
        if self._passing is not self:
            return self._passing.hidden(batch)
        pixels = batch.to(_device(self._model))
        with lock_of(self._model), autocast(pixels.device, self._precision):
            tokens = features_and_patches(self._visual, pixels)[1].float()
        return tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)

    @property
    def _patching(self) -> nn.Module:
        """The module that turns pixels into patch tokens."""
        module = getattr(self._visual, "conv1", None) if hasattr(self._visual, "class_embedding") else None
        module = module or getattr(getattr(self._visual, "trunk", None), "patch_embed", None)
        if not isinstance(module, nn.Module):
            what = f"the image tower ({type(getattr(self._visual, 'trunk', self._visual)).__name__})"
            raise XgapError(f"{what} has no patch tokens, so nothing can be inverted into it; use a ViT")
        return module

    @cached_property
    def _emitted_shape(self) -> tuple[int, ...]:
        device = _device(self._model)
        with lock_of(self._model), torch.no_grad(), autocast(device, self._precision):
            return tuple(self._patching(torch.zeros(1, 3, *self._size, device=device)).shape[1:])

    @property
    def _channels_first(self) -> bool:
        trunk_width = getattr(getattr(self._visual, "trunk", None), "embed_dim", None)
        return len(self._emitted_shape) == 3 and self._emitted_shape[-1] != trunk_width

    @property
    def _grid(self) -> tuple[tuple[int, ...], int]:
        """The shape of the patches and their width."""
        shape = self._emitted_shape
        return (shape[1:], shape[0]) if self._channels_first else (shape[:-1], shape[-1])

    def _as_emitted(self, tokens: Tensor) -> Tensor:
        if self._channels_first:
            tokens = tokens.transpose(1, 2)
        return tokens.reshape(len(tokens), *self._emitted_shape)


class TextTower(_OpenClipTower):
    """The text tower of an open_clip model; see `Invertible`. `length` is that of the tokenizer's ids.

    Args:
        model: open_clip's.
        tokenize: its tokenizer.
        name: of the model, for warnings of captions that are cut.
        precision, shortcuts: see `from_open_clip`.
        halves: False for modules that half-precision weights are no copy of: they are one, or parts are replaced.
    """

    space = "text"

    def __init__(
        self,
        model: Module,
        tokenize: Callable[[list[str]], Tensor],
        name: str,
        precision: str = "fp32",
        shortcuts: bool = True,
        halves: bool = True,
    ) -> None:
        text = model.text if hasattr(model, "text") else model  # CLIP holds the parts of its text tower itself
        super().__init__(model, text_head(text), text_blocks(text), precision, shortcuts, halves)
        self._name, self._text = name, text
        table = getattr(self._text, "token_embedding", None)
        self._table: nn.Embedding = self._text.transformer.get_input_embeddings() if table is None else table
        self.width = self._table.embedding_dim
        self.words = self._table.num_embeddings
        self.length: int = tokenize(["a"]).shape[1]
        self.tokenize = Tokenizer(tokenize, name, self.words)

    @property
    def precision(self) -> str:
        """That of its passes."""
        return self._precision

    def again(self, shortcuts: bool, tokenize: Callable[[list[str]], Tensor]) -> "TextTower":
        """The same over the same model, whose parts may be replaced around a pass, and another tokenizer."""
        return TextTower(
            self._model, tokenize, self._name, self._precision, shortcuts and self._shortcuts, halves=False
        )

    def _over(self, model: Module) -> "TextTower":
        return TextTower(model, self.tokenize.silent, self._name, self._precision, self._shortcuts, halves=False)

    def prepare(self, items: Sequence[str]) -> Tensor:
        """Token ids `[n, length]` of captions."""
        return self.tokenize(items)

    def encode(self, batch: Tensor, project: bool = True, layer: int | None = None) -> Tensor:
        """See `Tower.encode`."""
        if self._passing is not self:
            return self._passing.encode(batch, project, layer)
        ids = batch.to(_device(self._model))
        head = contextlib.nullcontext() if project else self._head.removed()
        with lock_of(self._model), autocast(ids.device, self._precision), head, self.depth.first(layer):
            return self._model.encode_text(ids, normalize=False).float()

    def embed(self, batch: Tensor) -> Tensor:
        """See `Invertible.embed`."""
        with lock_of(self._model):
            return self._table(batch.to(_device(self._model)))

    def encode_tokens(self, tokens: Tensor, batch: Tensor | None = None) -> Tensor:
        """See `Invertible.encode_tokens`."""
        if self._passing is not self:
            return self._passing.encode_tokens(tokens, batch)
        _check_tokens(tokens, self.length, self.width)
        if batch is None:
            raise XgapError("a text tower pools by token ids; give the ids of the prompt with the tokens")
        ids = batch.to(_device(self._model)).expand(len(tokens), self.length)
        given = _emitting(self._table, tokens.to(ids.device))
        with lock_of(self._model), autocast(ids.device, self._precision), given:
            return self._model.encode_text(ids, normalize=False).float()

    def hidden(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """See `Tower`: the words, without the tokens that an empty caption has too (start, end, padding)."""
        if self._passing is not self:
            return self._passing.hidden(batch)
        ids = batch.to(_device(self._model))
        with lock_of(self._model), autocast(ids.device, self._precision):
            tokens = features_and_words(self._text, ids, self._model.encode_text)[1].float()
        return tokens, are_words(ids, self.tokenize([""])[0])

    def shortcut(self, ids: Tensor, start: int, count: int) -> Callable[[Tensor], Tensor] | None:
        """See `Invertible`; None for a tower that is not plain and causal."""
        if self._passing is not self:
            return self._passing.shortcut(ids, start, count)
        device = _device(self._model)
        with lock_of(self._model), torch.no_grad(), autocast(device, self._precision):
            quick = causal_prompt(self._text, ids.to(device), start, count) if self._shortcuts else None
        if quick is None:
            return None

        def features(pseudo: Tensor) -> Tensor:
            with lock_of(self._model), autocast(device, self._precision):
                return quick(pseudo.to(device)).float()

        return features


@contextlib.contextmanager
def _emitting(module: nn.Module, value: Tensor) -> Iterator[None]:
    """Within, whatever goes into the module, `value` comes out."""
    hook = module.register_forward_hook(lambda *_: value)
    try:
        yield
    finally:
        hook.remove()


def _device(model: Module) -> torch.device:
    return next(model.parameters()).device


def _check_tokens(tokens: Tensor, length: int, width: int) -> None:
    if tokens.ndim != 3 or tokens.shape[1:] != (length, width):
        raise XgapError(f"tokens must be of shape [n, {length}, {width}], not {list(tokens.shape)}")


__all__ = ["AUTOCAST", "ImageTower", "TextTower", "autocast", "from_open_clip", "weights_digest"]
