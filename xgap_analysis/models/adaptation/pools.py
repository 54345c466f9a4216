"""Pools of learned tokens that stand for what the other modality would say (PTUnifier)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.adaptation.adapter import register_adapter
from xgap_analysis.models.adaptation.backbone import Backbone, blocks_of, shown, text_part, width_of
from xgap_analysis.models.adaptation.part import Part, Passing
from xgap_analysis.models.adapters.hidden import are_words
from xgap_analysis.models.shadows import Shadow


def gathered(pool: Tensor, query: Tensor, k: int) -> Tensor:
    """The rows of a pool with the highest products with a query `[n, width]`, best first: `[n, k, width]`.

    The choice carries no gradient, the rows do.

    Args:
        pool: `[P, width]`.
        query: one for each item.
        k: rows of an item.

    Source: Chen et al., Towards unifying medical vision-and-language pre-training via soft prompts, ICCV 2023; the
    released code takes the gradient of the rows away too.
    """
    with torch.no_grad():
        chosen = (query @ pool.T).topk(k, dim=1).indices
    return pool[chosen]


class Pool(Part):
    """A pool of tokens of one tower, of which each item gets those that its own tokens are nearest to.

    Args:
        modality: of the tower.
        pool: `[P, width]`.
        k: tokens of an item.
        empty: ids `[length]` of an empty caption, which say what is no word; None for images.
    """

    def __init__(self, modality: str, pool: Tensor, k: int, empty: Tensor | None) -> None:
        super().__init__()
        self.modality, self.k, self.pool = modality, k, nn.Parameter(pool)
        self.register_buffer("empty", empty, persistent=False)

    def shadows(self, module: Any) -> list[Shadow]:
        """See `Part.shadows`."""
        owner, name, blocks = blocks_of(module, self.modality)
        wrapped: list[Any] = list(blocks)
        seen: list[Tensor] = []
        trunk = getattr(module.visual, "trunk", None)
        first = 1 if trunk is None or self.modality == "text" else trunk.num_prefix_tokens
        wrapped[0] = Passing(wrapped[0], before=lambda x: self._with_pool(x, seen, first))
        wrapped[-1] = Passing(wrapped[-1], behind=lambda x: torch.cat([x[:, :first], x[:, first + self.k :]], dim=1))
        shadows = [shown(owner, name, wrapped)]
        if self.modality == "text":
            text = text_part(module)
            shadows.append((text, "token_embedding", _Noting(text.token_embedding, seen)))
            if text.attn_mask is not None:
                size = len(text.attn_mask) + self.k
                causal = torch.full((size, size), float("-inf"), device=self.pool.device).triu(1)
                shadows.append((text, "attn_mask", causal))
        return shadows

    def _with_pool(self, x: Tensor, seen: list[Tensor], first: int) -> Tensor:
        """Tokens with those of the pool behind the first ones, which are class, register or start tokens."""
        kept = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        kept[:, :first] = False
        if seen:
            assert isinstance(self.empty, Tensor)
            words = are_words(seen.pop(), self.empty)
            kept = torch.where(words.any(1, keepdim=True), words, kept)  # an empty caption is all that it has
        query = (x * kept[..., None]).sum(1) / kept.sum(1, keepdim=True)
        own = gathered(self.pool, query.to(self.pool.dtype), self.k)
        return torch.cat([x[:, :first], own.to(x.dtype), x[:, first:]], dim=1)


class _Noting(Passing):
    """A token table that notes the ids that go through it."""

    def __init__(self, table: Any, seen: list[Tensor]) -> None:
        super().__init__(table)
        self._seen = seen

    def __call__(self, x: Tensor, *more: Any, **how: Any) -> Tensor:
        """The embeddings of ids `[n, L]`."""
        self._seen.append(x)
        return super().__call__(x, *more, **how)


@register_adapter("ptunifier", place="tokens", starts_as_base=())
def ptunifier(
    base: Backbone, *, pool: int = 2048, image_tokens: int = 32, text_tokens: int = 49
) -> Mapping[str, nn.Module]:
    """Tokens from a learned pool, chosen by an item's own tokens, in place of the missing modality (PTUnifier).

    An image gets tokens that stand for its text, behind the class token, and a text those that stand for its image,
    behind the start token; they are taken away behind the last block.

    Args:
        base: a model with transformers of open_clip's or timm's.
        pool: rows P of each pool; both have `P (a + b)` parameters in towers of widths a and b.
        image_tokens, text_tokens: tokens k that an item of each modality gets.

    Raises:
        XgapError: more tokens than a pool has.

    Source: Chen et al., Towards unifying medical vision-and-language pre-training via soft prompts, ICCV 2023.
    There the tokens go into a fusion encoder, here into the tower itself.
    """
    made: dict[str, nn.Module] = {}
    for modality, k in (("image", image_tokens), ("text", text_tokens)):
        if not 1 <= k <= pool:
            raise XgapError(f"an item gets 1 to {pool} tokens of a pool of {pool}, not {k} ({modality}_tokens)")
        if base.has(modality):
            rows = 0.02 * torch.randn(pool, width_of(base.module, modality))
            made[modality] = Pool(modality, rows, k, base.ids([""])[0] if modality == "text" else None)
    return made
