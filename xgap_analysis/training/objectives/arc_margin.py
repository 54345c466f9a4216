"""Classification by the angle to learned class centres."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from xgap_analysis.training.objectives.batch import BatchFeatures
from xgap_analysis.training.objectives.term import Needs, Sizes, register_objective


def arc_margin_loss(
    vectors: Float[Tensor, "n d"],
    centres: Float[Tensor, "c d"],
    labels: Int[Tensor, " n"],
    scale: float = 64.0,
    margin: float = 0.5,
) -> Float[Tensor, ""]:
    """ArcFace: classification by the angle to learned class centres, the own class pushed away by a margin.

    Formula: cross-entropy of `scale * cos(angle_ic + margin [c = labels_i])`. Where the angle and the margin exceed
    half a turn, `cos(angle) - margin sin(margin)` stands for the cosine, so that the logit keeps falling.

    Args:
        vectors: unit rows.
        centres: class centres, of any length.
        labels: class numbers.
        scale: of the logits.
        margin: radians.

    Source: Deng et al., 2019 (ArcFace), section 3.1; as the first stage of tuning for retrieval in Schall et al.,
    Optimizing CLIP models for image retrieval with maintained joint-embedding alignment, SISAP 2024.
    """
    cosine = (vectors @ F.normalize(centres, dim=1).T).clamp(-1 + 1e-7, 1 - 1e-7)
    own = cosine.gather(1, labels[:, None])
    moved = own * math.cos(margin) - (1 - own.square()).sqrt() * math.sin(margin)
    moved = torch.where(own > math.cos(math.pi - margin), moved, own - margin * math.sin(margin))
    return F.cross_entropy(scale * cosine.scatter(1, labels[:, None], moved), labels)


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
