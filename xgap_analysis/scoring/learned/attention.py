"""Attention over a set of tokens: one function, and learned queries that read a set by it."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from xgap_analysis.core.errors import XgapError
from xgap_analysis.scoring.tokens import TokenBlock


def attention(
    query: Float[Tensor, "b n d"],
    key: Float[Tensor, "b t d"],
    value: Float[Tensor, "b t d"],
    mask: Bool[Tensor, "b t"],
    *,
    heads: int = 1,
) -> Float[Tensor, "b n d"]:
    """Values weighed by how well their keys fit a query: `softmax_t(q . k_t / sqrt(d / heads))`, per head.

    Padding gets no weight: the mask enters before the softmax.
    """
    bias = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, -math.inf)
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    return scaled_dot_product_attention(q, k, v, attn_mask=bias[:, None, None]).transpose(1, 2).flatten(2)


def widened(vectors: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
    """Unit vectors with a length of sqrt(d): values near one, beside which the constant of a layer norm is nothing."""
    return vectors * math.sqrt(vectors.shape[-1])


def check_heads(dim: int, heads: int) -> None:
    """Raises an `XgapError` where heads do not divide the width."""
    if heads < 1 or dim % heads:
        raise XgapError(f"heads must divide the {dim} dimensions of the features, and {heads} does not")


class Reader(nn.Module):
    """Learned queries that read a set of tokens: a small transformer decoder, norms after each part.

    Args:
        dim: d of tokens and queries.
        queries: their number.
        layers, heads: of the decoder.
        width: of its inner layer.
        dropout: while it is fitted.
    """

    def __init__(self, dim: int, queries: int, layers: int, heads: int, width: int, dropout: float = 0.1) -> None:
        super().__init__()
        check_heads(dim, heads)
        if queries < 1 or layers < 1:
            raise XgapError(f"a learned reader has one query and one layer or more, not {queries} and {layers}")
        self.queries = nn.Parameter(torch.randn(queries, dim) * 0.02)
        layer = nn.TransformerDecoderLayer(dim, heads, width, dropout, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, layers)

    def forward(self, vectors: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b q d"]:
        """What each query reads from each set; padding is not read."""
        queries = self.queries.expand(len(vectors), -1, -1)
        return self.decoder(queries, widened(vectors), memory_key_padding_mask=~mask)

    def of(self, block: TokenBlock) -> Float[Tensor, "b q d"]:
        """The same of a block of tokens."""
        return self(block.vectors, block.mask)
