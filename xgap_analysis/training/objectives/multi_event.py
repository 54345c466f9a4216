"""Videos of several events: every text of a video is a positive of it (MeVTR)."""

from jaxtyping import Bool, Float
from torch import Tensor

from xgap_analysis.training.objectives.batch import BatchFeatures
from xgap_analysis.training.objectives.matching import match
from xgap_analysis.training.objectives.term import register_objective, several_captions


def multi_event_loss(
    scores: Float[Tensor, "t v"], own: Bool[Tensor, "t v"], alpha: float = 1.0, *, unbalanced: bool = False
) -> Float[Tensor, ""]:
    """Contrast of texts with videos, where a video has any number of texts.

    Formula: `video + alpha * text`. video is the mean over videos v of the mean over its texts of `-log softmax` over
    all texts; text is the same with texts and videos exchanged. With one text per video and alpha = 1 it is twice
    `clip_loss`. The mean over a video's own texts first makes videos count alike, however many texts they have.

    Args:
        scores: similarities times 1 / temperature.
        own: which text belongs to which video; each has one at least.
        alpha: weight of the text half.
        unbalanced: leave the other positives out of each softmax, so that the texts of a video do not compete.

    Source: Zhang et al., Multi-event video-text retrieval (MeVTR), ICCV 2023.

    Example:
        >>> import torch
        >>> scores, own = torch.zeros(3, 2), torch.tensor([[True, False], [True, False], [False, True]])
        >>> round(multi_event_loss(scores, own).item(), 3)  # log 3 over texts, log 2 over videos
        1.792
    """
    return _one_way(scores.T, own.T, unbalanced) + alpha * _one_way(scores, own, unbalanced)


def _one_way(scores: Float[Tensor, "a b"], own: Bool[Tensor, "a b"], unbalanced: bool) -> Tensor:
    """The mean over rows of the mean over own columns of `-log softmax`."""
    shares = own / own.sum(dim=1, keepdim=True).to(scores.dtype)
    if not unbalanced:
        return match(scores, shares)
    others = scores.masked_fill(own, float("-inf")).logsumexp(dim=1, keepdim=True)
    return -(shares * (scores - scores.logaddexp(others))).sum(dim=1).mean()


@register_objective("multi-event", needs=several_captions)
def _multi_event(batch: BatchFeatures, *, alpha: float = 1.0, unbalanced: bool = False) -> Tensor:
    """Contrast of an image with all captions of its label as positives, however many there are (MeVTR).

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> texts = unit[:, None].expand(2, 2, 2)  # two captions of each image, equal to it
        >>> batch = xg.BatchFeatures(unit[None], texts, torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> round(float(xg.objective("multi-event").loss(batch)), 3)  # log 2: an image has two captions
        0.693
    """
    scores = batch.scale * batch.texts.flatten(0, 1) @ batch.images[0].T
    own = batch.labels.repeat_interleave(batch.texts.shape[1])[:, None] == batch.labels
    return multi_event_loss(scores, own, alpha, unbalanced=unbalanced)
