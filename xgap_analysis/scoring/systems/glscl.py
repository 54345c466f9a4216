"""GLSCL: a softmax over frames without weights, and learned concept queries that read both modalities."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import mse_loss, normalize

from xgap_analysis.core.contrast import both_ways
from xgap_analysis.core.errors import XgapError
from xgap_analysis.scoring.combined import weighted_sum
from xgap_analysis.scoring.cosine import cosine
from xgap_analysis.scoring.learned.attention import Reader
from xgap_analysis.scoring.learned.fit import Learned, register_learned
from xgap_analysis.scoring.learned.fitted import Mapped
from xgap_analysis.scoring.learned.loop import Scale, descend, seeded
from xgap_analysis.scoring.learned.pairs import Paired
from xgap_analysis.scoring.scorer import Scorer, scorer
from xgap_analysis.scoring.tokens import TokenBlock

MARGIN, AIM = 0.1, 0.75


class Concepts(nn.Module):
    """One set of queries and one decoder, which read texts and clips alike."""

    def __init__(self, dim: int, queries: int, layers: int, heads: int) -> None:
        super().__init__()
        self.reader = Reader(dim, queries, layers, heads, 4 * dim)
        self.scale = Scale()

    def forward(self, block: TokenBlock) -> Float[Tensor, "b q d"]:
        """The concepts of each item, unit vectors."""
        return normalize(self.reader.of(block), dim=-1)

    def joined(self, block: TokenBlock) -> Float[Tensor, "b 1 e"]:
        """The concepts of an item as one vector: a cosine of two such is the mean over concepts of their cosines."""
        return self(block).flatten(1)[:, None]


def diversity(concepts: Float[Tensor, "b q d"]) -> Tensor:
    """How similar the concepts of an item are to each other.

    Formula: `S` the mean over items of the cosines of their concepts; the sum over i != j of `max(0, 0.1 + S_ij - S_ii)
    + max(0, 0.1 + S_ij - S_jj)`, over `q (q - 1)`. Zero for one concept.
    """
    similar = (concepts @ concepts.transpose(1, 2)).mean(dim=0)
    own, q = similar.diagonal(), len(similar)
    over = (MARGIN + similar - own[:, None]).clamp_min(0) + (MARGIN + similar - own[None]).clamp_min(0)
    return (over.sum() - over.diagonal().sum()) / max(1, q * (q - 1))


def consistency(of_query: Float[Tensor, "b q d"], of_gallery: Float[Tensor, "b q d"], beta: float) -> Tensor:
    """How far the concepts of pairs are from agreeing.

    Formula: the mean squared difference of the batch means of both, plus `beta * sum_q (c_q - 0.75)^2`, where c_q is
    the mean over pairs of the cosine of their concepts q. (The released code divides by q and not by the pairs.)
    """
    paired = (of_query * of_gallery).sum(dim=-1).mean(dim=0)
    return mse_loss(of_query.mean(dim=0), of_gallery.mean(dim=0)) + beta * (paired - AIM).square().sum()


def _whole(block: TokenBlock) -> TokenBlock:
    return TokenBlock(block.vectors[:, :1], block.mask[:, :1], ids=block.ids)


def _others(block: TokenBlock) -> TokenBlock:
    """The tokens behind the first one; of an item of one token, that one."""
    if block.vectors.shape[1] == 1:
        return block
    mask = block.mask[:, 1:].clone()
    single = block.counts == 1
    mask[:, 0] |= single
    vectors = block.vectors[:, 1:].clone()
    vectors[single, 0] = block.vectors[single, 0]
    return TokenBlock(vectors, mask, ids=block.ids)


@register_learned("glscl")
def glscl(
    pairs: Paired,
    *,
    queries: int = 8,
    layers: int = 3,
    heads: int = 8,
    tau: float = 0.05,
    local: float = 0.5,
    alpha: float = 1e-4,
    beta: float = 0.005,
    base: str | None = None,
    epochs: int = 5,
    batch: int = 128,
    learning_rate: float = 1e-4,
    seed: int = 0,
) -> Learned:
    """The sum of a global score without weights and of a local one of learned concepts.

    Formula: `g + local * l`: g is `pooled(weights=softmax, tau=tau)`; l is `mean_q n_q . s_q`, the cosine of concept q
    of the text with concept q of the clip, which the same learned queries read from both by a small decoder. The loss
    is symmetric cross entropy of the scaled sum, with `alpha * diversity` of the clips' concepts and `consistency`.

    How to read it: in [-1 - local, 1 + local]; higher is nearer. With `local=0` it is the global score. An item and
    itself have a local score of 1.

    Args:
        pairs: texts and clips.
        queries, layers, heads: of the decoder.
        tau: of the global softmax, for unit vectors. The authors' (5 or 3) is for raw products.
        local: weight of the local score.
        alpha, beta: of the losses.
        base: None, or `"first"`: a query's first token is the text as a whole, which the global score reads, and the
            others are its words, which the concepts read.
        epochs, batch, learning_rate, seed: of the fit.

    Raises:
        XgapError: another base, or heads that do not divide the width.

    Source: Zhang et al., GLSCL, IEEE TIP 2025.

    Example:
        >>> import torch, xgap_analysis as xg
        >>> x = torch.randn(6, 8)
        >>> texts, clips = (xg.Features(x, "abcdef", space, space) for space in ("text", "image"))
        >>> fitted = xg.fit_scorer("glscl(queries=2, heads=2, local=0.0, epochs=0)", texts, clips)
        >>> xg.score(texts, clips, fitted).argmax(dim=1).tolist()  # the cosine alone
        [0, 1, 2, 3, 4, 5]
    """
    if base not in (None, "first"):
        raise XgapError(f"base is None or first (each query's first token is the text as a whole), not {base!r}")
    globally = scorer("pooled", weights="softmax", tau=tau)
    with seeded(seed) as generator:
        module = Concepts(pairs.dim, queries, layers, heads)

        def loss(query: TokenBlock, gallery: TokenBlock) -> Tensor:
            of_query, of_gallery = module(_others(query) if base else query), module(gallery)
            with torch.no_grad():
                whole = globally(_whole(query) if base else query, gallery)
            both = whole + local * torch.einsum("bqd,mqd->bm", of_query, of_gallery) / queries
            extra = alpha * diversity(of_gallery) + consistency(of_query, of_gallery, beta)
            return both_ways(both, module.scale()) + extra

        losses = descend(module, loss, pairs, generator, epochs=epochs, batch=batch, learning_rate=learning_rate)

    def of_words(block: TokenBlock) -> Float[Tensor, "b 1 e"]:
        return module.joined(_others(block) if base else block)

    def of_whole(query: TokenBlock, gallery: TokenBlock) -> Float[Tensor, "b m"]:
        return globally(_whole(query), gallery)

    of_whole.takes = "tokens"  # type: ignore[attr-defined]
    first = Scorer("whole", of_whole) if base else globally
    second = Scorer("concepts", Mapped(Scorer("cosine", cosine), of_words, module.joined))
    return Learned(module, Scorer("sum", weighted_sum, {"weights": [1.0, local]}, (first, second)), losses)
