"""Exact shortcuts through open_clip's own transformers, for the passes that inversion repeats a thousand times.

They rest on three facts. In a causal tower nothing after the pooled position matters, so a prompt ends there. Nothing
before the pseudo-tokens changes, so its keys and values are computed once. After the last attention only the pooled
position is read, so the last block computes no other. Each function says whether a tower is of the plain kind that it
knows; any other takes the general way.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Module = Any  # a module of open_clip; what it is made of has no static types
Cache = tuple[Tensor, Tensor]  # keys and values [n, heads, positions, w / heads] of one block


def causal_prompt(text: Module, ids: Tensor, start: int, count: int) -> Callable[[Tensor], Tensor] | None:
    """Features of a prompt as a function of the pseudo-tokens in it, or None where the shortcut does not hold.

    Args:
        text: open_clip's `CLIP` (its text parts are inlined) or `TextTransformer`.
        ids: token ids `[length]` of the prompt; the pooled position is found in them.
        start, count: the pseudo-tokens stand at positions start to start + count.

    Returns:
        A function from `[n, count, width]` to features `[n, d]`, not normalised.
    """
    end = _pooled_position(text, ids)
    if end is None or start + count > end:
        return None
    blocks = list(text.transformer.resblocks)
    positions = text.positional_embedding
    fixed = text.token_embedding(ids)[None] + positions  # [1, length, width]
    suffix = fixed[:, start + count : end + 1]
    prefix: list[Cache | None] = []
    x = fixed[:, :start]
    for block in blocks:
        if start:
            x, cache = _block(block, x, causal=True)
            prefix.append(cache)
        else:
            prefix.append(None)

    def features(pseudo: Tensor) -> Tensor:
        own = pseudo + positions[start : start + count]
        x = torch.cat([own, suffix.expand(len(own), -1, -1)], dim=1)
        for block, past in zip(blocks[:-1], prefix[:-1], strict=True):
            x, _ = _block(block, x, past, causal=True)
        x, _ = _block(blocks[-1], x, prefix[-1], rows=slice(-1, None))  # the pooled position sees all the others
        return _project(text.ln_final(x[:, 0]), text.text_projection)

    return features


def class_token_features(visual: Module, tokens: Tensor) -> Tensor | None:
    """Features `[n, d]` of patch tokens `[n, U, width]`, or None where `visual` is not a plain class-token ViT."""
    if not is_class_token_vit(visual):
        return None
    class_token = visual.class_embedding.expand(len(tokens), 1, -1)
    x = visual.ln_pre(torch.cat([class_token, tokens], dim=1) + visual.positional_embedding)
    *blocks, last = visual.transformer.resblocks
    for block in blocks:  # not the library's forward: its transposed input makes a slow batched product of a fast one
        x, _ = _block(block, x)
    x, _ = _block(last, x, rows=slice(0, 1))
    return _project(visual.ln_post(x[:, 0]), visual.proj)


def is_class_token_vit(visual: Module) -> bool:
    """Whether this is open_clip's own ViT with plain blocks, whose feature is that of the class token."""
    from open_clip.transformer import VisionTransformer

    return (
        type(visual) is VisionTransformer
        and visual.attn_pool is None
        and visual.pool_type == "tok"
        and _is_plain(visual.transformer)
    )


def _pooled_position(text: Module, ids: Tensor) -> int | None:
    """Where a plain causal tower pools, or None for any other tower."""
    from open_clip.model import CLIP
    from open_clip.transformer import TextTransformer

    if type(text) is CLIP:
        pool, end_id = text.text_pool_type, text.text_eos_id
    elif type(text) is TextTransformer and text.cls_emb is None:
        pool, end_id = text.pool_type, text.eos_id
    else:
        return None
    mask = text.attn_mask
    if mask is None or pool not in ("argmax", "eos") or not _is_plain(text.transformer):
        return None
    if not torch.equal(mask, torch.full_like(mask, float("-inf")).triu(1)):
        return None
    return int(ids.argmax() if pool == "argmax" else (ids == end_id).int().argmax())


def _is_plain(transformer: Module) -> bool:
    from open_clip.transformer import ResidualAttentionBlock, Transformer

    return (
        type(transformer) is Transformer
        and transformer.batch_first
        and all(
            type(block) is ResidualAttentionBlock
            and not hasattr(block, "ln_1_kv")
            and type(block.attn) is nn.MultiheadAttention
            and block.attn.in_proj_weight is not None
            and block.attn.bias_k is None
            and not block.attn.add_zero_attn
            for block in transformer.resblocks
        )
    )


def _block(
    block: Module, x: Tensor, past: Cache | None = None, *, rows: slice = slice(None), causal: bool = False
) -> tuple[Tensor, Cache]:
    """A pre-norm attention block for the positions `rows` of x `[n, m, w]`, after the positions whose cache is `past`.

    Returns:
        The new values of those positions, and the keys and values of x.
    """
    attention, (n, m, width) = block.attn, x.shape
    normed = block.ln_1(x)
    weight, bias = attention.in_proj_weight, attention.in_proj_bias

    def heads(part: slice, of: Tensor) -> Tensor:
        made = F.linear(of, weight[part], None if bias is None else bias[part])
        return made.unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)

    if rows == slice(None):
        query, keys, values = heads(slice(None), normed).chunk(3, dim=1)
    else:
        query = heads(slice(0, width), normed[:, rows])
        keys, values = heads(slice(width, 3 * width), normed).chunk(2, dim=1)
    cache, mask = (keys, values), None
    if past is not None:
        keys, values = (torch.cat([p.expand(n, -1, -1, -1), own], dim=2) for p, own in zip(past, cache, strict=True))
    if causal:
        mask = torch.ones(m, keys.shape[2], dtype=torch.bool, device=x.device).tril(keys.shape[2] - m)[rows]
    seen = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
    x = x[:, rows] + block.ls_1(attention.out_proj(seen.transpose(1, 2).flatten(2)))
    return x + block.ls_2(block.mlp(block.ln_2(x))), cache


def _project(pooled: Tensor, head: Tensor | nn.Module | None) -> Tensor:
    if head is None:
        return pooled
    return head(pooled) if isinstance(head, nn.Module) else pooled @ head
