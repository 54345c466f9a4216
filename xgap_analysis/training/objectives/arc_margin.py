"""Classification by the angle: to learned class centres, and to the captions of an image."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.training.objectives.batch import BatchFeatures
from xgap_analysis.training.objectives.matching import angular, match
from xgap_analysis.training.objectives.term import Needs, Sizes, register_objective


def arc_margin_loss(
    vectors: Float[Tensor, "n d"],
    centres: Float[Tensor, "c d"],
    labels: Int[Tensor, " n"],
    scale: float = 64.0,
    margin: float = 0.5,
) -> Float[Tensor, ""]:
    """ArcFace: classification by the angle to learned class centres, the own class pushed away by a margin.

    Formula: cross-entropy of the logits that `angular` gives, with the own class as the target.

    Args:
        vectors: unit rows.
        centres: class centres, of any length.
        labels: class numbers.
        scale: of the logits; ArcFace's default, as that of the margin.
        margin: radians.

    Source: Deng et al., 2019 (ArcFace), section 3.1; as the first stage of tuning for retrieval in Schall et al.,
    Optimizing CLIP models for image retrieval with maintained joint-embedding alignment, SISAP 2024, whose code
    defaults to scale 30 and margin 0.1.
    """
    cosine = vectors @ F.normalize(centres, dim=1).T
    own = F.one_hot(labels, len(centres)).bool()
    return match(angular(cosine, own, scale, margin), labels)


def mc_arc_margin_loss(
    images: Float[Tensor, "n d"],
    texts: Float[Tensor, "n k d"],
    is_caption: Bool[Tensor, "n k"] | None = None,
    scale: float = 30.0,
    margin: float = 0.1,
    hardest: float = 0.1,
) -> Float[Tensor, ""]:
    """MC-ArcMargin: classification of an image by the angles to all captions of the batch, several of them its own.

    Formula: `1/n sum over i of (-sum_k t_ik log p_ik + hardest max_k (1 - t_ik)(-log p_ik))`, p the softmax of the
    logits of `angular`, and t equal shares for the image's own captions. The second part lifts the caption that the
    image is farthest from. An image without captions adds that part only; the same caption at two images is foreign
    to each.

    Args:
        images: unit rows.
        texts: unit rows; `texts[i]` are the captions of image i.
        is_caption: which of those are captions, where images have different numbers of them; None: all are.
        scale: of the logits.
        margin: radians.
        hardest: weight of the second part.

    Raises:
        XgapError: no caption at all.

    Source: Schall et al., Optimizing CLIP models for image retrieval with maintained joint-embedding alignment, SISAP
    2024 (MCIP), and its published code.

    Example:
        >>> same = torch.eye(3)[[0, 0]]
        >>> round(float(mc_arc_margin_loss(same, same[:, None], scale=1.0, margin=0.0)), 3)  # 1.1 log 2
        0.762
    """
    n, k, _ = texts.shape
    there = torch.ones(n, k, dtype=torch.bool, device=texts.device) if is_caption is None else is_caption
    kept = there.flatten()
    if not bool(kept.any()):
        raise XgapError('no image of a batch has a caption; with captions="near(...)" lower the threshold')
    own = (
        torch.arange(n, device=texts.device).repeat_interleave(k)[kept] == torch.arange(n, device=texts.device)[:, None]
    )
    logits = angular(images @ texts.flatten(0, 1)[kept].T, own, scale, margin)
    target = own / own.sum(dim=1, keepdim=True).clamp(min=1).to(logits.dtype)
    unlikely = ((1 - target) * -logits.log_softmax(dim=1)).amax(dim=1).mean()
    return match(logits, target) + hardest * unlikely


class ClassCentres(nn.Module):
    """A vector for each class, normal with variance `1 / d` at the start."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(sizes.labels, sizes.dim) * sizes.dim**-0.5)


@register_objective("arc-margin", needs=Needs(captions=0), parameters=ClassCentres)
def _arc_margin(batch: BatchFeatures, own: ClassCentres, *, scale: float = 64.0, margin: float = 0.5) -> Tensor:
    """Classification of images by the angle to learned class centres, with a margin (ArcFace).

    Example:
        >>> import xgap_analysis as xg
        >>> term = xg.objective("arc-margin(margin=0.3)")
        >>> term.needs.images, term.needs.captions  # one image of each item, and no caption
        (1, 0)
    """
    each = [arc_margin_loss(images, own.centres, batch.labels, scale, margin) for images in batch.images]
    return torch.stack(each).mean()


@register_objective("mc-arc-margin", needs=Needs(is_caption=True))
def _mc_arc_margin(batch: BatchFeatures, *, scale: float = 30.0, margin: float = 0.1, hardest: float = 0.1) -> Tensor:
    """Classification of images by the angles to all captions of the batch, whose features are fixed (MCIP).

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> batch = xg.BatchFeatures(unit[None], unit[:, None], torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> round(float(xg.objective("mc-arc-margin(hardest=0.0)")(batch)), 3)  # each image equals its caption alone
        0.0
    """
    texts = batch.texts.detach()
    each = [mc_arc_margin_loss(images, texts, batch.is_caption, scale, margin, hardest) for images in batch.images]
    return torch.stack(each).mean()
