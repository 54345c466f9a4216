"""Terms of features whose dimensions are words: contrast of sparse with full codes, and words that all items use."""

import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.models.adaptation.lexical import strongest
from xgap_analysis.training.objectives.batch import BatchFeatures
from xgap_analysis.training.objectives.contrast import clip_loss
from xgap_analysis.training.objectives.term import Needs, register_objective


def sparse_contrast(images: Float[Tensor, "n v"], texts: Float[Tensor, "n v"], top: int) -> Float[Tensor, ""]:
    """Contrast of the strongest words of one modality with all words of the other, the mean of both ways round.

    Formula: `(clip_loss(top(x), y, 1) + clip_loss(x, top(y), 1)) / 2`, where `top` keeps the largest of a row.
    With `top = V` it is `clip_loss(x, y, 1)`.

    Args:
        images, texts: unit codes, not below 0, pairs by index.
        top: words of an item that stay.

    Source: Zhou et al., VDR, ICLR 2024; there two further parts keep the words that a text has itself.
    """
    both = clip_loss(strongest(images, top), texts, 1.0), clip_loss(images, strongest(texts, top), 1.0)
    return (both[0] + both[1]) / 2


def overuse(codes: Float[Tensor, "n v"]) -> Float[Tensor, ""]:
    """How much the items use the same words: `sum over words of p^3 / sum of p`, p the mean activation of a word.

    For a given sum it is largest where one word has it all; 0 where no word is active.

    Args:
        codes: not below 0.

    Source: Li et al., LexVLA, NeurIPS 2024 (its overuse penalty; the form is that of its reviews and of two other
    implementations).

    Example:
        >>> overuse(torch.tensor([[1.0, 0, 0, 0]])).item(), overuse(torch.full((1, 4), 0.25)).item()
        (1.0, 0.0625)
    """
    mean = codes.mean(dim=0)
    return mean.pow(3).sum() / mean.sum().clamp(min=1e-12)


@register_objective("vdr")
def _vdr(batch: BatchFeatures, *, top: int = 768) -> Tensor:
    """Contrast of the strongest words of one modality with all words of the other (VDR).

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> batch = xg.BatchFeatures(unit[None], unit[:, None], torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> round(float(xg.objective("vdr").loss(batch)), 3)  # log(1 + e) - 1: all logits are cosines
        0.313
    """
    return batch.mean_over_pairs(lambda images, texts: sparse_contrast(images, texts, top))


@register_objective("overuse", needs=Needs())
def _overuse(batch: BatchFeatures) -> Tensor:
    """How much all items activate the same words; the mean of images and texts (LexVLA).

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> batch = xg.BatchFeatures(unit[None], unit[:, None], torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> round(float(xg.objective("overuse").loss(batch)), 3)  # each of the two words has a mean of 1/2
        0.25
    """
    return torch.stack([overuse(batch.images[0].clamp(min=0)), overuse(batch.texts[:, 0].clamp(min=0))]).mean()
