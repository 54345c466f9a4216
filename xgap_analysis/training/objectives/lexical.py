"""Terms of features whose dimensions are words: contrast of sparse with full codes, and words that all items use."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from xgap_analysis.models.adaptation.lexical import strongest
from xgap_analysis.models.adapters.hidden import are_words
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

    Source: Zhou et al., VDR, ICLR 2024; for the words that a text has itself see `own_words`.
    """
    both = clip_loss(strongest(images, top), texts, 1.0), clip_loss(images, strongest(texts, top), 1.0)
    return (both[0] + both[1]) / 2


def own_words(ids: Int[Tensor, "n length"], empty: Int[Tensor, "length"], dim: int) -> Float[Tensor, "n v"]:
    """Codes of length 1 in which the words of a caption are alike, however often it has them, and all others are 0.

    Dimensions are the token ids without those that are no words (start, end, padding), as the adapter `vdr` has them.
    A caption without words is all zeros.

    Args:
        ids: token ids.
        empty: those of an empty caption, none of which is a word.
        dim: v, how many words there are.

    Source: Zhou et al., VDR, ICLR 2024, in the released code's form.

    Example:
        >>> ids = torch.tensor([[9, 2, 2, 5, 0]])  # of ten, of which 9 is the start and 0 the padding
        >>> own_words(ids, torch.tensor([9, 0, 0, 0, 0]), 8)[0].nonzero().flatten().tolist()
        [1, 4]
    """
    special = empty.unique()
    rows, places = are_words(ids, empty).nonzero(as_tuple=True)
    words = ids[rows, places]
    made = torch.zeros(len(ids), dim, device=ids.device)
    made[rows, words - torch.searchsorted(special, words)] = 1.0
    return F.normalize(made, dim=1)


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


@register_objective("own-words", needs=Needs(ids=True))
def _own_words(batch: BatchFeatures) -> Tensor:
    """Contrast of images with the words that a caption has itself, whatever the text tower makes of it (VDR).

    Features are activations of the words of the vocabulary, as the adapter `vdr` gives them.

    Example:
        >>> import xgap_analysis as xg
        >>> xg.objective("own-words").needed.ids
        True
    """
    ids, empty = batch.needed("ids"), batch.needed("empty")
    codes = [own_words(ids[:, v], empty, batch.images.shape[-1]) for v in range(ids.shape[1])]
    return torch.stack([clip_loss(x, codes[v % len(codes)], 1.0) for v, x in enumerate(batch.images)]).mean()


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
