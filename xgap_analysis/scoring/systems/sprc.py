"""SPRC: a reference image and a text made one query by a learned sentence-level prompt."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import mse_loss, normalize

from xgap_analysis.core.contrast import one_way
from xgap_analysis.core.errors import XgapError
from xgap_analysis.scoring.late_interaction import late_interaction
from xgap_analysis.scoring.learned.attention import Reader
from xgap_analysis.scoring.learned.fit import Learned, register_learned
from xgap_analysis.scoring.learned.fitted import Mapped
from xgap_analysis.scoring.learned.loop import Scale, descend, seeded
from xgap_analysis.scoring.learned.pairs import Paired
from xgap_analysis.scoring.scorer import Scorer
from xgap_analysis.scoring.tokens import TokenBlock


class Composer(nn.Module):
    """Makes a composed query one vector; see `sprc`."""

    def __init__(self, dim: int, prompts: int, layers: int, heads: int) -> None:
        super().__init__()
        self.kinds = nn.Parameter(torch.randn(2, dim) * 0.02)  # of the reference, of the text
        self.fuser = Reader(dim, prompts, layers, heads, 4 * dim)
        self.prompts = nn.Parameter(torch.randn(prompts, dim) * 0.02)
        self.sentence = Reader(dim, 1, layers, heads, 4 * dim)
        self.of_prompt, self.out = _zero(dim), _zero(dim)
        self.scale = Scale()

    def fused(self, block: TokenBlock) -> Float[Tensor, "b p d"]:
        """The sentence-level prompt, unit vectors: the reference, and what learned queries read from it and the text.

        Raises:
            XgapError: a query of one token (the item is named).
        """
        if bool((block.counts < 2).any()):
            what = f"{block.name(int((block.counts < 2).nonzero()[0]))} has one token"
            raise XgapError(f"{what}: a composed query is a reference, then the tokens of a text (see xg.stacked)")
        kind = self.kinds[(torch.arange(block.vectors.shape[1], device=self.kinds.device) > 0).long()]
        read = self.fuser(block.vectors + kind, block.mask)
        return normalize(block.vectors[:, :1] + self.of_prompt(read), dim=-1)

    def learned(self) -> Float[Tensor, "p d"]:
        """The prompts that stand beside a text without a reference, unit vectors."""
        return normalize(self.prompts, dim=-1)

    def query(self, prompt: Float[Tensor, "b p d"], block: TokenBlock) -> Float[Tensor, "b d"]:
        """The query that a prompt and the text make: their means, and what one learned query reads in both."""
        text, mask = block.vectors[:, 1:], block.mask[:, 1:]
        seen = torch.ones(prompt.shape[:2], dtype=torch.bool, device=mask.device)
        read = self.sentence(torch.cat([prompt, text], 1), torch.cat([seen, mask], 1))[:, 0]
        return normalize(prompt.mean(dim=1) + _mean(text, mask) + self.out(read), dim=-1)

    def forward(self, block: TokenBlock) -> Float[Tensor, "b 1 d"]:
        """The query of a reference and a text."""
        return self.query(self.fused(block), block)[:, None]


def _zero(dim: int) -> nn.Linear:
    layer = nn.Linear(dim, dim)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _mean(vectors: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b d"]:
    return (vectors * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp_min(1)


def _best(query: Float[Tensor, "b d"], gallery: TokenBlock) -> Float[Tensor, "b m"]:
    """The maximum over tokens."""
    one = torch.ones(len(query), 1, dtype=torch.bool, device=query.device)
    return late_interaction(TokenBlock(query[:, None], one), gallery)


@register_learned("sprc", plain=False)
def sprc(
    pairs: Paired,
    *,
    prompts: int = 8,
    layers: int = 2,
    heads: int = 8,
    alone: float = 0.4,
    align: float = 0.4,
    epochs: int = 10,
    batch: int = 32,
    learning_rate: float = 1e-4,
    seed: int = 0,
) -> Learned:
    """A composed query (a reference image, and a text that changes it) as one vector, scored with each target token.

    A small fuser reads reference r and text with learned queries, which gives the sentence-level prompt of several
    vectors, `P = u(r + A read)`; a second one reads P and the text t, which gives the query `q(P) = u(mean P + mean t +
    O read)`. A and O begin at zero, so that the query is at first the late fusion `u(r + mean t)`. Score:
    `max_j q . g_j` over the tokens of a target (one token: the cosine).

    Loss: `CE(q(P)) + alone * CE(q(P')) + align * mse(mean P, mean P')`, CE from query to target alone, with a learned
    scale; P' are learned prompts beside the text without a reference, and the last term moves P towards them, not them.
    Both queries are read at the same place (the authors' text-only one is read at a prompt).

    Left out: the Q-Former and its language model; fuser and reader here are small decoders over given features.

    Args:
        pairs: composed queries, whose first token is the reference (`xg.stacked(images, texts)`), and targets.
        prompts, layers, heads: of the decoders; the authors' prompt has 32 tokens.
        alone, align: weights of the second and third loss.
        epochs, batch, learning_rate, seed: of the fit.

    Raises:
        XgapError: a query of one token, or heads that do not divide the width.

    Source: Bai et al., Sentence-level prompts benefit composed image retrieval, ICLR 2024.

    Example:
        >>> import torch, xgap_analysis as xg
        >>> x = torch.randn(6, 8)
        >>> texts, images = (xg.Features(x, "abcdef", space, space) for space in ("text", "image"))
        >>> queries = xg.stacked(images, texts)  # a reference image, then the text that changes it
        >>> fitted = xg.fit_scorer("sprc(prompts=2, heads=2, epochs=0)", queries, images)
        >>> tuple(xg.score(queries, images, fitted).shape)
        (6, 6)
    """
    with seeded(seed) as generator:
        module = Composer(pairs.dim, prompts, layers, heads)

        def loss(query: TokenBlock, gallery: TokenBlock) -> Tensor:
            scale = module.scale()
            prompt, learned = module.fused(query), module.learned().expand(len(query), -1, -1)
            composed, text = (one_way(_best(module.query(p, query), gallery), scale) for p in (prompt, learned))
            near = mse_loss(prompt.mean(dim=1), learned.mean(dim=1).detach())
            return composed + alone * text + align * near

        losses = descend(module, loss, pairs, generator, epochs=epochs, batch=batch, learning_rate=learning_rate)
    best = Scorer("late_interaction", late_interaction)
    return Learned(module, Scorer("composed", Mapped(best, of_query=module)), losses)
