"""The ranking-aware adapter: how two images stand to each other under a text, and a score of each that follows it."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.scoring.learned.attention import attention, check_heads, widened
from xgap_analysis.scoring.learned.fit import Learned, register_learned
from xgap_analysis.scoring.learned.loop import descend, seeded
from xgap_analysis.scoring.learned.pairs import Paired
from xgap_analysis.scoring.scorer import Scorer
from xgap_analysis.scoring.tokens import TokenBlock

WEIGHT = 0.2  # of the score's own loss


def ranking_loss(
    relations: Float[Tensor, "n n"], scores: Float[Tensor, " n"], values: Float[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Whether pairs are in the right order, and scores are right.

    Formula: `BCE(relations_ij, y_i > y_j) + 0.2 log(1 + SmoothL1(scores, y))`, over all pairs; where all y are equal
    each pair's target is 0.

    Args:
        relations: logits that item i ranks above item j.
        scores: of each item.
        values: y, what they are to be ranked by.

    Source: Yu et al., Ranking-aware adapter for text-driven image ordering with CLIP, ICLR 2025.
    """
    targets = (values[:, None] > values[None, :]).to(relations.dtype)
    return F.binary_cross_entropy_with_logits(relations, targets) + WEIGHT * F.smooth_l1_loss(scores, values).log1p()


class Relations(nn.Module):
    """Images read under a text, compared two by two; see `ranking_aware`."""

    takes = "tokens"

    def __init__(self, dim: int, heads: int, registers: int) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(dim) for _ in range(3)])
        self.first, self.second = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.registers = nn.Parameter(0.02 * torch.randn(registers, dim))
        self.pair_key, self.pair_value = nn.Linear(dim, dim), nn.Linear(dim, dim, bias=False)
        self.project, self.relation, self.score = nn.Linear(dim, dim), nn.Linear(dim, 1), nn.Linear(dim, 1)

    def read(self, text: TokenBlock, images: TokenBlock) -> Float[Tensor, "b m t d"]:
        """The tokens of m images under each of b texts: `x = LN(v + attention(v; text))`, then `LN(x + MLP(x))`."""
        b, m, t = len(text), len(images), images.vectors.shape[1]
        tokens, words = widened(images.vectors), widened(text.vectors)
        queries = self.query(self.norms[0](tokens)).reshape(1, m * t, -1).expand(b, -1, -1)
        seen = attention(queries, self.key(words), self.value(words), text.mask, heads=self.heads)
        under = self.norms[1](tokens[None] + seen.unflatten(1, (m, t)))
        made: Tensor = self.norms[2](under + self.second(F.relu(self.first(under))))
        return made

    def difference(
        self, first: Float[Tensor, "n t d"], second: Float[Tensor, "n t d"], masks: tuple[Tensor, Tensor]
    ) -> Float[Tensor, "n r d"]:
        """What registers see of two images: values of the first, less those of the second; swapped, its negative."""
        keys = torch.cat([self.pair_key(first), self.pair_key(second)], dim=1)
        values = torch.cat([self.pair_value(first), -self.pair_value(second)], dim=1)
        registers = self.registers.expand(len(first), -1, -1)
        return attention(registers, keys, values, torch.cat(masks, dim=1), heads=self.heads)

    def relations(self, read: Float[Tensor, "m t d"], mask: Tensor) -> Float[Tensor, "m m"]:
        """Logits that image i ranks above image j, under one text."""
        m = len(read)
        i, j = (x.flatten() for x in torch.meshgrid(torch.arange(m), torch.arange(m), indexing="ij"))
        seen = self.difference(read[i], read[j], (mask[i], mask[j]))
        made: Tensor = self.relation(F.relu(self.project(seen)).mean(dim=1))
        return made.view(m, m)

    def forward(self, query: TokenBlock, gallery: TokenBlock) -> Float[Tensor, "b m"]:
        """The score of each image under each text: a linear map of the sum of its tokens, over their number."""
        read = self.read(query, gallery) * gallery.mask[None, ..., None]
        made: Tensor = self.score(read.sum(dim=2) / gallery.counts[None, :, None])[..., 0]
        return made + query.directions @ gallery.directions.T


@register_learned("ranking_aware")
def ranking_aware(
    pairs: Paired,
    *,
    heads: int = 4,
    registers: int = 16,
    epochs: int = 5,
    batch: int = 8,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> Learned:
    """Images ordered under a text by how they stand to each other, two by two, fitted.

    Tokens of images attend those of the text. Under each text, registers attend the tokens of two images at once, whose
    values are taken from each other, so that exchanged images give the negative; from that a logit says which ranks
    higher. A second head scores one image, beside the cosine of the means; a gallery is ranked by that score.

    The values that it is fitted to are 1 for the text's own image and 0 for others, where the paper has numbers
    (counts, ages, quality). One layer of attention stands where the paper has two and an encoder; a batch is small, as
    all pairs of its images are compared under all of its texts.

    Args:
        pairs: texts, and images with a token per patch.
        heads, registers: of the attention.
        epochs, batch, learning_rate, seed: of the fit.

    Raises:
        XgapError: registers below 1, or heads that do not divide the dimensions.

    Source: Yu et al., Ranking-aware adapter for text-driven image ordering with CLIP, ICLR 2025.

    Example:
        >>> import torch, xgap_analysis as xg
        >>> x = torch.randn(6, 8)
        >>> texts, images = (xg.Features(x, "abcdef", space, space) for space in ("text", "image"))
        >>> fitted = xg.fit_scorer("ranking_aware(registers=2, epochs=0)", texts, images)
        >>> tuple(xg.score(texts, images, fitted).shape)
        (6, 6)
    """
    if registers < 1:
        raise XgapError(f"ranking_aware has 1 register or more, not {registers}")
    with seeded(seed) as generator:
        module = Relations(pairs.dim, heads, registers)
        nn.init.zeros_(module.score.weight)
        nn.init.zeros_(module.score.bias)

        def loss(query: TokenBlock, gallery: TokenBlock) -> Tensor:
            read, scores = module.read(query, gallery), module(query, gallery)
            values = torch.eye(len(scores), device=scores.device)
            costs = [
                ranking_loss(module.relations(own, gallery.mask), row, value)
                for own, row, value in zip(read, scores, values, strict=True)
            ]
            return torch.stack(costs).mean()

        losses = descend(module, loss, pairs, generator, epochs=epochs, batch=batch, learning_rate=learning_rate)
    return Learned(module, Scorer("ranked", module), losses)
