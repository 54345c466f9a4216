"""Heads whose dimensions are the words of a vocabulary: what an image or a text activates (VDR, LexVLA)."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.adaptation.adapter import register_adapter
from xgap_analysis.models.adaptation.backbone import Backbone, last_tokens, text_part, width_of
from xgap_analysis.models.adaptation.part import Part, whole_pass
from xgap_analysis.models.adapters.hidden import are_words
from xgap_analysis.models.shadows import Shadow

AT_ONCE = 8  # items whose tokens are compared with all words


def elu1p(x: Tensor) -> Tensor:
    """`x + 1` above 0 and `exp(x)` below: positive, with a gradient everywhere."""
    return F.elu(x) + 1


def strongest(codes: Tensor, k: int | None) -> Tensor:
    """Codes `[n, V]` of which the k largest of each row stay and all others are 0; None leaves all."""
    if k is None or k >= codes.shape[1]:
        return codes
    best = codes.topk(k, dim=1)
    return torch.zeros_like(codes).scatter(1, best.indices, best.values)


def vocabulary_codes(tokens: Tensor, mask: Tensor, words: Tensor) -> Tensor:
    """Unit codes `[n, V]`: `elu1p(max over the tokens of an item of token . word)`, then of length 1.

    The maximum is over what the mask keeps, so that padding changes nothing; the released code lets padding take part.

    Args:
        tokens: `[n, L, width]`.
        mask: `[n, L]`, which of them count; an item without any counts them all.
        words: `[V, width]`.

    Source: Zhou et al., Retrieval-based disentangled representation learning with natural language supervision (VDR),
    ICLR 2024.
    """
    mask = torch.where(mask.any(1, keepdim=True), mask, True)
    made = [
        (part @ words.T).masked_fill(~kept[..., None], float("-inf")).amax(dim=1)
        for part, kept in zip(tokens.split(AT_ONCE), mask.split(AT_ONCE), strict=True)
    ]
    return F.normalize(elu1p(torch.cat(made)), dim=1)


class Lexical(Part):
    """A head to the words of the base's vocabulary, over the tokens of its last block.

    Args:
        modality: of the tower.
        maps: what goes before the products with the words: tokens `[n, L, width]` to `[n, L, a]`.
        words: `[V, a]`, trained; None for the base's own token table, as it is.
        special: ids that are no words (start, end, padding).
        top: words of an item that stay.
    """

    def __init__(self, modality: str, maps: nn.Module, words: Tensor | None, special: Tensor, top: int | None) -> None:
        super().__init__()
        self.modality, self.maps, self.top = modality, maps, top
        self.words = None if words is None else nn.Parameter(words)
        self.register_buffer("special", special, persistent=False)

    def shadows(self, module: Any) -> list[Shadow]:
        """See `Part.shadows`."""
        return [whole_pass(module, self.modality, lambda batch: self._codes(module, batch))]

    def _codes(self, module: Any, batch: Tensor) -> Tensor:
        tokens = last_tokens(module, self.modality, batch)
        assert isinstance(self.special, Tensor)
        if self.modality == "text":
            mask = are_words(batch, self.special)
        else:
            mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        table = valid_words(module, self.special) if self.words is None else self.words
        with torch.autocast(tokens.device.type, enabled=False):
            codes = vocabulary_codes(self.maps(tokens.float()), mask, table)
        return strongest(codes, self.top)


def valid_words(module: Any, special: Tensor) -> Tensor:
    """The rows `[V, width]` of a token table without special tokens."""
    table: Tensor = text_part(module).token_embedding.weight
    kept = torch.ones(len(table), dtype=torch.bool, device=table.device)
    kept[special.to(table.device)] = False
    return table[kept]


@register_adapter("vdr", place="tower", starts_as_base=())
def vdr(base: Backbone, *, top: int | None = None) -> Mapping[str, nn.Module]:
    """Features that are activations of the words of the vocabulary, for images and texts (VDR).

    Both are the largest product over an item's tokens, behind a layer norm: a text's with the base's token table, which
    stays as it is, an image's with rows that are trained and start as ones. Train it with the objective `vdr`.

    Args:
        base: a model with transformers of open_clip's or timm's.
        top: words of an item that stay (768 as published, after training); None for all V, as its objective needs.

    Returns:
        The heads, with `2 a + 2 b + V b` parameters for widths a of a text's token and b of an image's.

    Raises:
        XgapError: `top` below 1.

    Source: Zhou et al., Retrieval-based disentangled representation learning with natural language supervision (VDR),
    ICLR 2024.
    """
    special, a, b = _sizes(base, top)
    words = len(valid_words(base.module, special))
    image = Lexical("image", nn.LayerNorm(b), torch.ones(words, b), special, top)
    return {"image": image, "text": Lexical("text", nn.LayerNorm(a), None, special, top)}


@register_adapter("lexvla", place="tower", starts_as_base=())
def lexvla(base: Backbone, *, top: int | None = None) -> Mapping[str, nn.Module]:
    """Features that are activations of words, with a codebook for images that starts as that of texts (LexVLA).

    Patches go through two layers into the space of text tokens; their codebook starts as the base's token table and is
    trained, that of texts stays. The objective `overuse` keeps single words from being activated by everything.

    Args:
        base: a model with transformers of open_clip's or timm's.
        top: words of an item that stay; None for all V.

    Returns:
        The heads, with `b^2 + b + a b + a + V a + 4 a` parameters for widths a of a text's token and b of an image's.

    Raises:
        XgapError: `top` below 1.

    Source: Li et al., Unified lexical representation for interpretable visual-language alignment (LexVLA), NeurIPS
    2024. No code of its training is published; its towers are DINOv2 and Llama 2, here the base's.
    """
    special, a, b = _sizes(base, top)
    maps = nn.Sequential(nn.Linear(b, b), nn.GELU(), nn.Linear(b, a), nn.LayerNorm(a))
    words = valid_words(base.module, special).detach().clone()
    image = Lexical("image", maps, words, special, top)
    return {"image": image, "text": Lexical("text", nn.LayerNorm(a), None, special, top)}


def _sizes(base: Backbone, top: int | None) -> tuple[Tensor, int, int]:
    """Special ids, and the widths of text and image tokens."""
    if top is not None and not (isinstance(top, int) and top >= 1):
        raise XgapError(f"an item keeps 1 word or more (top), or None for all, not {top!r}")
    text_part(base.module)
    return base.ids([""]).unique(), width_of(base.module, "text"), width_of(base.module, "image")
