"""Contrast of tokens: an image and a text compared patch by patch and word by word (FILIP)."""

import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.scoring.late_interaction import late_interaction
from xgap_analysis.scoring.reductions import Reduction
from xgap_analysis.scoring.tokens import TokenBlock, similarities
from xgap_analysis.training.objectives.batch import BatchFeatures
from xgap_analysis.training.objectives.matching import match
from xgap_analysis.training.objectives.term import Needs, register_objective


def token_max_loss(
    images: TokenBlock, texts: TokenBlock, scale: Float[Tensor, ""] | float, smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """Symmetric InfoNCE in which each token counts by its most similar token of the other modality.

    Formula: the mean of two cross-entropies with targets on the diagonal: of `scale * mean_p max_w I_p . T_w` over
    texts, and of `scale * mean_w max_p T_w . I_p` over images. These are two scores (`late_interaction` each way), not
    one and its transpose. With one token per item it is `clip_loss`. Padding neither wins a maximum nor counts.

    Args:
        images, texts: n items each, pairs by index.
        scale: 1 / temperature.
        smoothing: of the targets; 0.1 in the port that was read.

    Source: Yao et al., FILIP, ICLR 2022, section 3.1.

    Example:
        >>> tokens = TokenBlock(torch.eye(2)[:, None], torch.ones(2, 1, dtype=torch.bool))
        >>> round(token_max_loss(tokens, tokens, 0.0).item(), 3)  # log 2
        0.693
    """
    target = torch.arange(len(images), device=images.vectors.device)
    to_texts = scale * late_interaction(images, texts)
    to_images = scale * late_interaction(texts, images)
    return (match(to_texts, target, smooth=smoothing) + match(to_images, target, smooth=smoothing)) / 2


def nearest_tokens(tokens: TokenBlock, others: TokenBlock, share: float) -> TokenBlock:
    """The share of each item's tokens, one at least, that come nearest to any token of the other modality.

    Args:
        tokens: of n items.
        others: tokens of the other modality, of the whole batch.
        share: of the tokens of an item, rounded up; above 0, at most 1.

    Raises:
        XgapError: another share.

    Source: Yao et al., FILIP, ICLR 2022; as a port of it chooses tokens to save memory in training.
    """
    if not 0 < share <= 1:
        raise XgapError(f"a share of tokens is above 0 and at most 1, not {share}")
    if share == 1:
        return tokens
    with torch.no_grad():
        values = Reduction("max")(similarities(tokens, others), others.mask.T[None, None], 2).amax(dim=2)  # [n, t]
        order = values.masked_fill(~tokens.mask, -torch.inf).argsort(dim=1, descending=True, stable=True)
        kept = (share * tokens.counts).ceil().long()
        mask = torch.arange(int(kept.max()), device=kept.device) < kept[:, None]
        order = order[:, : mask.shape[1], None].expand(-1, -1, tokens.vectors.shape[2])
    return TokenBlock(tokens.vectors.gather(1, order).masked_fill(~mask[..., None], 0), mask)


@register_objective("token-max", needs=Needs(scaled=True, image_tokens=True, text_tokens=True))
def _token_max(batch: BatchFeatures, *, smoothing: float = 0.0, share: float = 1.0) -> Tensor:
    """InfoNCE in which each patch and each word counts by its most similar token of the other modality (FILIP).

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> from xgap_analysis.scoring import TokenBlock
        >>> tokens = TokenBlock(unit[:, None], torch.ones(2, 1, dtype=torch.bool))  # one token of each item
        >>> given = (unit[None], unit[:, None], torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> batch = xg.BatchFeatures(*given, image_tokens=tokens, text_tokens=tokens)
        >>> round(float(xg.objective("token-max").loss(batch)), 3)
        0.0
    """
    images, texts = batch.needed("image_tokens"), batch.needed("text_tokens")
    return token_max_loss(
        nearest_tokens(images, texts, share), nearest_tokens(texts, images, share), batch.scale, smoothing
    )
