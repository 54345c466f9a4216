"""FDP: patches pooled with a focus, and a learned shift that separates text in images from the rest."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from xgap_analysis.core.contrast import both_ways
from xgap_analysis.core.errors import XgapError
from xgap_analysis.scoring.cosine import cosine
from xgap_analysis.scoring.learned.attention import widened
from xgap_analysis.scoring.learned.fit import Learned, register_learned
from xgap_analysis.scoring.learned.fitted import Mapped
from xgap_analysis.scoring.learned.loop import Scale, descend, seeded
from xgap_analysis.scoring.learned.pairs import Paired
from xgap_analysis.scoring.scorer import Scorer
from xgap_analysis.scoring.tokens import TokenBlock


def focused(block: TokenBlock, tau: float) -> Float[Tensor, "b d"]:
    """Tokens pooled by an attention of their mean, with a prior where an item's tokens have weights.

    Formula: `u(sum_p softmax_p(m . v_p / tau + prior_p) v_p)`, m the direction of the mean token, prior the weights (0
    without any, which is plain attention). The mask enters before the softmax.
    """
    logits = torch.einsum("bd,btd->bt", block.directions, block.vectors) / tau
    logits = logits if block.weights is None else logits + block.weights
    weight = torch.softmax(logits.masked_fill(~block.mask, -torch.inf), dim=1)
    return normalize(torch.einsum("bt,btd->bd", weight, block.vectors), dim=-1)


class Shift(nn.Module):
    """`f + LN(f + c)`, with a learned constant c that begins at zero."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(dim))
        self.norm = nn.LayerNorm(dim)
        self.scale = Scale()

    def forward(self, vectors: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """The shifted vectors, of unit length."""
        wide = widened(vectors)
        return normalize(wide + self.norm(wide + self.shift), dim=-1)


@register_learned("fdp")
def fdp(
    pairs: Paired,
    *,
    tau: float = 0.1,
    epochs: int = 20,
    batch: int = 48,
    learning_rate: float = 2e-3,
    seed: int = 0,
) -> Learned:
    """Images pooled with a focus, and shifted by a learned constant, beside texts as they are.

    Focus: `f = u(sum_p softmax_p(m . v_p / tau + prior_p) v_p)`, m the mean token's direction, prior the tokens'
    `weights` (a map of where text is, in (0, 1)). Distinguish: `f' = f + LN(f + c)`, which is all that attention to one
    key leaves of it; f has length sqrt(d) there. Score: `cos(f', t)`. A text of several tokens is their mean.

    Only c and the norm's scale and shift are fitted, by symmetric cross entropy with a learned scale: a trained shift
    of one modality, to be set beside the corrections `gap-shift` and `center`. At first, c = 0.

    In the paper the mean token is a key of this attention too, and learned projections of the tower's pool stand before
    it; here the mean is the query alone, and tokens are read as they are.

    Left out: the branch that finds text in images (give its map as weights), function words apart from content words,
    and learned context tokens, which need the text tower; and the spelling loss.

    Args:
        pairs: texts, and images with a token per patch.
        tau: of the focus.
        epochs, batch, learning_rate, seed: of the fit.

    Raises:
        XgapError: a tau that is not greater than 0.

    Source: Zeng et al., Focus, distinguish, and prompt, ACM Multimedia 2024.

    Example:
        >>> import torch, xgap_analysis as xg
        >>> x = torch.randn(6, 8)
        >>> texts, images = (xg.Features(x, "abcdef", space, space) for space in ("text", "image"))
        >>> fitted = xg.fit_scorer("fdp(epochs=0)", texts, images)
        >>> tuple(xg.score(texts, images, fitted).shape)
        (6, 6)
    """
    if not tau > 0:
        raise XgapError(f"tau of fdp must be greater than 0, not {tau}")
    with seeded(seed) as generator:
        module = Shift(pairs.dim)

        def loss(query: TokenBlock, gallery: TokenBlock) -> Tensor:
            scores = query.directions @ module(focused(gallery, tau)).T
            return both_ways(scores, module.scale())

        losses = descend(module, loss, pairs, generator, epochs=epochs, batch=batch, learning_rate=learning_rate)

    def of_query(block: TokenBlock) -> Float[Tensor, "b 1 d"]:
        return block.vectors.sum(dim=1, keepdim=True)

    def of_gallery(block: TokenBlock) -> Float[Tensor, "b 1 d"]:
        return module(focused(block, tau))[:, None]

    return Learned(module, Scorer("shifted", Mapped(Scorer("cosine", cosine), of_query, of_gallery)), losses)
