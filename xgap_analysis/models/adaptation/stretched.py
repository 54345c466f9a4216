"""Positions of a text tower, stretched to longer captions (Long-CLIP)."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.adaptation.adapter import register_adapter
from xgap_analysis.models.adaptation.backbone import Backbone, text_part
from xgap_analysis.models.adaptation.part import Part
from xgap_analysis.models.captions import counting
from xgap_analysis.models.shadows import Shadow

SHORTEST = 3  # tokens of a caption of one word


def stretch(table: Tensor, keep: int = 20, factor: int = 4) -> Tensor:
    """A table of positions of which the first rows are kept, and each later one becomes several.

    Row `keep + i` becomes `(1 - r / factor) p_i + (r / factor) p_(i+1)` for r from 0 to factor - 1; the last row goes
    on in the direction from the one before it.

    Args:
        table: `[L, d]`.
        keep: rows that stay; most captions are no longer, so they stay well trained.
        factor: rows of each later one.

    Returns:
        `[keep + factor (L - keep), d]`.

    Raises:
        XgapError: fewer than two rows behind those that are kept, or a factor below 2.

    Source: Zhang et al., Long-CLIP: unlocking the long-text capability of CLIP, ECCV 2024.

    Example:
        >>> stretch(torch.arange(77.0)[:, None])[[19, 23, 243, 247], 0].tolist()
        [19.0, 20.75, 75.75, 76.75]
    """
    if not 0 <= keep <= len(table) - 2:
        raise XgapError(
            f"a table of {len(table)} positions keeps 0 to {len(table) - 2} of them as they are, not {keep}"
        )
    if not (isinstance(factor, int) and factor >= 2):
        raise XgapError(f"positions are stretched by a whole factor of 2 or more, not {factor!r}")
    later = table[keep:]
    step = torch.cat([later.diff(dim=0), later[-1:] - later[-2:-1]])
    share = torch.arange(factor, device=table.device, dtype=table.dtype)[:, None] / factor
    rows = later[:, None] + share * step[:, None]
    return torch.cat([table[:keep], rows.flatten(0, 1)])


class Longer:
    """A tokenizer of more tokens.

    Args:
        tokenize: one that takes `context_length`, as open_clip's do.
        length: tokens of a caption, special ones among them.

    Raises:
        XgapError: a tokenizer that does not.
    """

    def __init__(self, tokenize: Callable[..., Tensor], length: int) -> None:
        if "context_length" not in inspect.signature(tokenize).parameters:
            kind = getattr(tokenize, "__name__", type(tokenize).__name__)
            raise XgapError(
                f"the tokenizer ({kind}) takes no context_length, so it gives no captions of {length} tokens"
            )
        self._tokenize, self._length = tokenize, length
        lengths, _ = counting(tokenize)
        if lengths is not None:
            self.lengths = lengths

    def __call__(self, captions: Sequence[str]) -> Tensor:
        """Token ids `[n, length]`."""
        return self._tokenize(list(captions), context_length=self._length)


class StretchedPositions(Part):
    """The stretched rows of a table of positions `[L', width]`; the first ones stay the base's.

    Args:
        rows: `[L' - keep, width]`.
        keep: rows of the base in front of them.
    """

    def __init__(self, rows: Tensor, keep: int) -> None:
        super().__init__()
        self.rows, self.keep = nn.Parameter(rows), keep

    @property
    def length(self) -> int:
        """Tokens of a caption."""
        return self.keep + len(self.rows)

    def shadows(self, module: Any) -> list[Shadow]:
        """See `Part.shadows`."""
        text = text_part(module)
        mask = torch.full((self.length, self.length), float("-inf"), device=self.rows.device).triu(1)
        table = torch.cat([text.positional_embedding[: self.keep].to(self.rows.device), self.rows])
        return [
            (text, "positional_embedding", table),
            (text, "attn_mask", mask),
            (text, "context_length", self.length),
        ]

    def tokenizer(self, tokenize: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """See `Part.tokenizer`."""
        return Longer(getattr(tokenize, "silent", tokenize), self.length)


@register_adapter("long-clip", place="positions")
def long_clip(base: Backbone, *, keep: int = 20, factor: int = 4) -> Mapping[str, nn.Module]:
    """Text positions interpolated for longer captions; the first ones are kept, the others are trained (Long-CLIP).

    A caption of up to `keep` tokens (start and end among them) has the base's features before training; so has any
    image. The published files train all other weights too, at a rate of 1e-6: see `load_model` for those
    (`LongCLIP-ViT-B-16//path`).

    Args:
        base: a model with a causal text tower of open_clip's.
        keep, factor: see `stretch`.

    Returns:
        The part of the text tower, with `factor (L - keep) width` parameters.

    Raises:
        XgapError: a tower that is not causal, a tokenizer without `context_length`, or values that do not fit.

    Source: Zhang et al., Long-CLIP: unlocking the long-text capability of CLIP, ECCV 2024.
    """
    text = text_part(base.module)
    pooled = getattr(text, "text_pool_type", getattr(text, "pool_type", ""))
    if text.attn_mask is None or pooled not in ("argmax", "eos"):
        raise XgapError("positions are stretched of a causal text tower that pools its end token, and this one is none")
    if keep < SHORTEST:
        raise XgapError(f"long-clip keeps {SHORTEST} positions or more (start, a word, end), not {keep}")
    table = stretch(text.positional_embedding.detach(), keep, factor)
    return {"text": StretchedPositions(table[keep:].clone(), keep)}
