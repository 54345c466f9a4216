"""MAFT+: a text that depends on the image it is compared with, and brakes on what a tuned image tower forgets."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from xgap_analysis.core.contrast import both_ways
from xgap_analysis.core.errors import XgapError
from xgap_analysis.scoring.learned.attention import attention, check_heads, widened
from xgap_analysis.scoring.learned.fit import Learned, register_learned
from xgap_analysis.scoring.learned.loop import Scale, descend, seeded
from xgap_analysis.scoring.learned.pairs import Paired
from xgap_analysis.scoring.scorer import Scorer
from xgap_analysis.scoring.tokens import TokenBlock

SCALES = (1, 2, 4)


def representation_compensation(
    features: Float[Tensor, "n d h w"], frozen: Float[Tensor, "n d h w"]
) -> Float[Tensor, ""]:
    """How far a map of features went from the frozen copy's, in sums over its rows and columns at three scales.

    Formula: the mean, over scales s of 1, 2 and 4 and over sums of rows and of columns, of
    `SmoothL1(sum(pool_s(relu(x))), sum(pool_s(relu(y))))`, pool_s the average over s x s places. 0 for equal maps.

    Args:
        features, frozen: of the tuned and of the frozen tower.

    Raises:
        XgapError: maps of fewer than 4 places in a row or a column.

    Source: Jiao et al., Collaborative vision-text representation optimizing for open-vocabulary segmentation (MAFT+),
    ECCV 2024.
    """
    if min(features.shape[-2:]) < max(SCALES):
        raise XgapError(f"representation compensation needs maps of 4 x 4 places or more, not {[*features.shape[-2:]]}")
    costs = []
    for scale in SCALES:
        own, other = (F.avg_pool2d(F.relu(x), scale) for x in (features, frozen.detach()))
        costs += [F.smooth_l1_loss(own.sum(dim), other.sum(dim)) for dim in (-1, -2)]
    return torch.stack(costs).mean()


def mask_aware(scores: Float[Tensor, " n"], overlaps: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """How far the scores of masks are from how well the masks fit: `SmoothL1(score, (o - min o) / (max o - min o))`.

    Args:
        scores: softmax scores of the true class of n masks.
        overlaps: their intersections over unions; no gradient reaches them.

    Source: Jiao et al., MAFT+, ECCV 2024.
    """
    overlaps = overlaps.detach()
    span = (overlaps.max() - overlaps.min()).clamp(min=1e-12)
    return F.smooth_l1_loss(scores, (overlaps - overlaps.min()) / span)


class Dependent(nn.Module):
    """Texts that read the tokens of an image: `t + LN(MLP(attention(t; tokens)))`, the MLP 0 at first; see `maft`."""

    takes = "tokens"

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.first, self.last, self.norm = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.LayerNorm(dim)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.scale = Scale()

    def texts(self, query: Float[Tensor, "b d"], gallery: TokenBlock) -> Float[Tensor, "m b d"]:
        """What each text becomes for each image, of unit length."""
        wide, tokens = widened(query), widened(gallery.vectors)
        queries = self.query(wide).expand(len(gallery), -1, -1)
        read = attention(queries, self.key(tokens), self.value(tokens), gallery.mask, heads=self.heads)
        return normalize(wide + self.norm(self.last(F.relu(self.first(read)))), dim=-1)

    def forward(self, query: TokenBlock, gallery: TokenBlock) -> Float[Tensor, "b m"]:
        """Cosines of the dependent texts with the mean token of their images."""
        return torch.einsum("mbd,md->bm", self.texts(query.directions, gallery), gallery.directions)


@register_learned("maft")
def maft(
    pairs: Paired,
    *,
    heads: int = 8,
    epochs: int = 5,
    batch: int = 32,
    learning_rate: float = 1e-4,
    weight_decay: float = 0.05,
    seed: int = 0,
) -> Learned:
    """Texts that read each image before they are compared with it (MAFT+), fitted; at first plain cosines.

    Formula, for a text t and tokens v: `a = sum_p softmax_p(q(t) . k(v_p) / sqrt(d / heads)) value(v_p)`,
    `t' = u(t + LN(MLP(a)))`, score = `cos(t', mean v)`. The last map of the MLP is zero at first, so that t' = t.

    It scores a pair and gives no vectors of items, so measures of the gap do not apply to it.

    Left out: sine positions of the tokens; the training of the image tower and its mask head, for which
    `representation_compensation` and `mask_aware` are here.

    Args:
        pairs: texts, and images with a token per patch.
        heads: of the attention.
        epochs, batch, learning_rate, weight_decay, seed: of the fit.

    Raises:
        XgapError: heads that do not divide the dimensions.

    Source: Jiao et al., MAFT+, ECCV 2024 (content-dependent transfer, in the form that starts as the text).

    Example:
        >>> import torch, xgap_analysis as xg
        >>> x = torch.randn(6, 8)
        >>> texts, images = (xg.Features(x, "abcdef", space, space) for space in ("text", "image"))
        >>> fitted = xg.fit_scorer("maft(epochs=0)", texts, images)
        >>> xg.score(texts, images, fitted).argmax(dim=1).tolist()  # at first plain cosines
        [0, 1, 2, 3, 4, 5]
    """
    with seeded(seed) as generator:
        module = Dependent(pairs.dim, heads)

        def loss(query: TokenBlock, gallery: TokenBlock) -> Tensor:
            return both_ways(module(query, gallery), module.scale())

        losses = descend(
            module,
            loss,
            pairs,
            generator,
            epochs=epochs,
            batch=batch,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
        )
    return Learned(module, Scorer("dependent", module), losses)
