"""X-Pool: frames pooled by an attention that the query conditions, with learned projections."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from xgap_analysis.core.contrast import both_ways
from xgap_analysis.core.errors import XgapError
from xgap_analysis.scoring.learned.attention import attention, check_heads, widened
from xgap_analysis.scoring.learned.fit import Learned, register_learned
from xgap_analysis.scoring.learned.loop import Scale, descend, seeded
from xgap_analysis.scoring.learned.pairs import Paired
from xgap_analysis.scoring.scorer import Scorer
from xgap_analysis.scoring.tokens import TokenBlock

NUMBERS = 2**24  # of the vectors of pairs that are held at a time


class XPool(nn.Module):
    """The pooled vector of an item for each query token, and its cosine with that token; see `x_pool`."""

    takes = "tokens"

    def __init__(self, dim: int, heads: int = 1, dropout: float = 0.3) -> None:
        super().__init__()
        check_heads(dim, heads)
        if not 0 <= dropout < 1:
            raise XgapError(f"dropout of x_pool lies in [0, 1), not {dropout}")
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.query, self.key, self.value, self.out, self.mix = (_identity(dim) for _ in range(5))
        self.dropout = nn.Dropout(dropout)
        self.scale = Scale()

    def pooled(self, query: Float[Tensor, "n d"], gallery: TokenBlock) -> Float[Tensor, "m n d"]:
        """The vector that each item becomes for each query vector."""
        tokens = self.norms[0](widened(gallery.vectors))
        sought = self.query(self.norms[0](widened(query))).expand(len(gallery), -1, -1)
        read = attention(sought, self.key(tokens), self.value(tokens), gallery.mask, heads=self.heads)
        read = self.norms[1](self.out(read))
        return self.norms[2](read + self.dropout(self.mix(read)))

    def forward(self, query: TokenBlock, gallery: TokenBlock) -> Float[Tensor, "b m"]:
        """The mean over an item's query tokens of their cosines with what the gallery item becomes for each."""
        b, t, d = query.vectors.shape
        vectors = query.vectors.reshape(b * t, d)
        rows = max(1, NUMBERS // vectors.numel())
        cosines = []
        for start in range(0, len(gallery), rows):
            part = slice(start, start + rows)
            own = self.pooled(vectors, TokenBlock(gallery.vectors[part], gallery.mask[part]))
            cosines.append(cosine_similarity(own, vectors, dim=-1).view(-1, b, t))
        return (torch.cat(cosines) * query.mask).sum(dim=2).T / query.counts[:, None]


def _identity(dim: int) -> nn.Linear:
    layer = nn.Linear(dim, dim)
    nn.init.eye_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


@register_learned("x_pool")
def x_pool(
    pairs: Paired,
    *,
    heads: int = 1,
    dropout: float = 0.3,
    epochs: int = 5,
    batch: int = 32,
    learning_rate: float = 1e-4,
    weight_decay: float = 0.2,
    seed: int = 0,
) -> Learned:
    """Text-conditioned attention over the frames of a clip (or any tokens), fitted.

    Formula, for a query vector t and tokens v: `q = Q LN1(t)`, `k, u = K LN1(v), V LN1(v)`,
    `a = LN2(O sum_f softmax_f(q . k_f / sqrt(d / heads)) u_f)`, score = `cos(t, LN3(a + dropout(W a)))`. All
    projections begin as the identity, so that at first one frame scores as the cosine with that frame less its mean
    over dimensions. Vectors are unit rows times `sqrt(d)` before LN1, which forgets lengths.

    The loss is symmetric cross entropy with a learned scale. Defaults are the authors' but for the learning rate (1e-5
    there, for some 100,000 captions). A query of several tokens has the mean of their scores.

    Cost: `n m (F d + d^2)`; use it behind `rerank`.

    Source: Gorti et al., X-Pool, CVPR 2022.

    Example:
        >>> import torch, xgap_analysis as xg
        >>> x = torch.randn(6, 8)
        >>> texts, clips = (xg.Features(x, "abcdef", space, space) for space in ("text", "image"))
        >>> fitted = xg.fit_scorer("x_pool(epochs=0)", texts, clips)
        >>> tuple(xg.score(texts, clips, fitted).shape)
        (6, 6)
    """
    with seeded(seed) as generator:
        module = XPool(pairs.dim, heads, dropout)
        losses = descend(
            module,
            lambda query, gallery: both_ways(module(query, gallery), module.scale()),
            pairs,
            generator,
            epochs=epochs,
            batch=batch,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
        )
    return Learned(module, Scorer("x_pool", module), losses)
