"""What an adapter can enter of a model: the modules of open_clip and timm by what they are, whatever their names."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.adaptation.part import Passing
from xgap_analysis.models.shadows import shadowed

Module = Any  # a module of open_clip, timm or transformers


@dataclass(frozen=True, eq=False)
class Backbone:
    """The base of an adapter.

    Args:
        dims: modality to the dimensions d of the features of its tower.
        module: open_clip's model.
        tokenize: captions to token ids `[n, length]`; None without a text tower.
    """

    dims: dict[str, int]
    module: Module
    tokenize: Callable[[list[str]], Tensor] | None

    def has(self, modality: str) -> bool:
        """Whether there is a tower of a modality."""
        return modality in self.dims

    def ids(self, captions: Sequence[str]) -> Tensor:
        """Token ids `[n, length]`, cut without a word.

        Raises:
            XgapError: a model without a text tower.
        """
        if self.tokenize is None:
            raise XgapError("this adapter reads captions, and the model has no text tower")
        tokenize = getattr(self.tokenize, "silent", self.tokenize)
        return tokenize(list(captions)).to(next(self.module.parameters()).device)


def text_part(module: Module) -> Module:
    """The text part of an open_clip model, which `CLIP` holds itself.

    Raises:
        XgapError: it is a model of transformers, or there is none.
    """
    text = getattr(module, "text", module)
    if not hasattr(text, "token_embedding"):
        kind = "no text tower" if text is None else f"a text tower of another library ({type(text).__name__})"
        raise XgapError(f"this adapter enters a text transformer of open_clip's, and the model has {kind}")
    return text


def blocks_of(module: Module, modality: str) -> tuple[Module, str, list[Module]]:
    """The blocks of a transformer: what holds them, under which name, and the blocks in their order.

    Raises:
        XgapError: no transformer of open_clip's or timm's.
    """
    if modality == "text":
        owner, name = text_part(module).transformer, "resblocks"
    else:
        trunk = getattr(module.visual, "trunk", None)
        own = getattr(module.visual, "transformer", None)  # a ResNet has neither
        owner, name = (own, "resblocks") if trunk is None else (trunk, "blocks")
    if not hasattr(owner, name):
        raise XgapError(f"this adapter enters the blocks of a ViT, and the {modality} tower of the model has none")
    return owner, name, list(getattr(owner, name))


def shown(owner: Module, name: str, blocks: Sequence[Any]) -> tuple[Module, str, Any]:
    """The shadow by which a transformer goes through other blocks, which timm may also call as one."""
    return (owner, name, list(blocks) if name == "resblocks" else _Chain(blocks))


class _Chain:
    def __init__(self, blocks: Sequence[Any]) -> None:
        self._blocks = blocks

    def __iter__(self) -> Iterator[Any]:
        return iter(self._blocks)

    def __call__(self, x: Tensor) -> Tensor:
        for block in self._blocks:
            x = block(x)
        return x


def width_of(module: Module, modality: str) -> int:
    """Dimensions of the tokens of a transformer."""
    _, _, blocks = blocks_of(module, modality)
    first = getattr(blocks[0], "ln_1", None) or blocks[0].norm1
    return int(first.weight.shape[0])


def vocabulary(module: Module) -> int:
    """Rows of the token table of an open_clip model, whatever its text tower is made of."""
    text: Module = getattr(module, "text", module)
    table = getattr(text, "token_embedding", None) or text.transformer.get_input_embeddings()
    return int(table.num_embeddings)


def mlp_of(block: Module) -> nn.Module:
    """The MLP of a block: open_clip's and timm's have one name for it.

    Raises:
        XgapError: a block without one.
    """
    mlp = getattr(block, "mlp", None)
    if not isinstance(mlp, nn.Module):
        raise XgapError(f"this adapter enters the MLP of a block, and {type(block).__name__} has none")
    return mlp


def first_word(base: Backbone) -> int:
    """The position of the first word of a caption: 1 behind a start token, else 0."""
    one, other = base.ids(["a", "b"])
    return int((one != other).nonzero()[0])


def embedded(base: Backbone, caption: str, count: int) -> Tensor:
    """The embeddings `[count, width]` of the first tokens of a caption, without what stands before the words."""
    start = first_word(base)
    with torch.no_grad():
        rows: Tensor = text_part(base.module).token_embedding(base.ids([caption])[0, start : start + count])
    return rows.detach().clone()


def last_tokens(module: Module, modality: str, batch: Tensor) -> Tensor:
    """What comes out of the last block of a tower for each patch or each place of a caption: `[n, L, width]`.

    Class and register tokens are left out; start, end and padding of a caption are not.

    Args:
        module: open_clip's model, whose pass is gone through as it is now.
        modality: of the tower.
        batch: pixels `[n, 3, h, w]` or token ids `[n, L]`.
    """
    seen: list[Tensor] = []
    owner, name, blocks = blocks_of(module, modality)
    blocks[-1] = Passing(blocks[-1], behind=lambda x: seen.append(x) or x)  # type: ignore[func-returns-value]
    with shadowed([shown(owner, name, blocks)]):
        type(module).encode_image(module, batch) if modality == "image" else type(module).encode_text(module, batch)
    if modality == "text":
        return seen[0][:, : batch.shape[1]]  # CoCa appends a token of its own
    trunk = getattr(module.visual, "trunk", None)
    return seen[0][:, 1 if trunk is None else trunk.num_prefix_tokens :]
