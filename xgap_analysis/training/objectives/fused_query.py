"""A term of a query of two modalities against a third: music for a video and a text that steers it."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from xgap_analysis.core.errors import XgapError
from xgap_analysis.training.objectives.batch import BatchFeatures
from xgap_analysis.training.objectives.contrast import clip_loss
from xgap_analysis.training.objectives.term import Needs, register_objective


def fused_query_loss(
    images: Float[Tensor, "n d"],
    texts: Float[Tensor, "n d"],
    gallery: Float[Tensor, "n d"],
    scale: Float[Tensor, ""] | float,
    weight: float = 0.5,
) -> Float[Tensor, ""]:
    """Symmetric InfoNCE between a fused query of image and text and the items of a third modality.

    Formula: `clip_loss(u((1 - w) x + w t), g)`, u the scaling to unit length. A text that is left out is a row of
    zeros: it is not scaled, so that the image alone is the query, and gets no gradient. With w = 0 it is `clip_loss` of
    images and the third modality.

    Args:
        images, texts: unit rows, or rows of zeros, pairs by index.
        gallery: unit rows of the third modality.
        scale: 1 / temperature.
        weight: w, the share of the text, in [0, 1].

    Raises:
        XgapError: a weight out of range.

    Source: McKee, Salamon, Sivic and Russell, Language-guided music recommendation for video via prompt analogies,
    CVPR 2023 (its fusion is a transformer).

    Example:
        >>> same = torch.eye(4)
        >>> round(float(fused_query_loss(same, torch.zeros(4, 4), same, 20.0)), 3)  # the texts are left out
        0.0
    """
    if not 0 <= weight <= 1:
        raise XgapError(f"the weight of a fused query, the share of the text, lies in [0, 1], not {weight}")
    return clip_loss(normalize((1 - weight) * images + weight * texts, dim=-1), gallery, scale)


@register_objective("fused-query", needs=Needs(scaled=True, extra=1, dropped=("image", "text")))
def _fused_query(batch: BatchFeatures, *, weight: float = 0.5) -> Tensor:
    """Symmetric InfoNCE between image and caption as one query and each further modality (music for video).

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> batch = xg.BatchFeatures(
        ...     unit[None], unit[:, None], torch.tensor(10.0), torch.tensor(0.0), torch.arange(2), extra={"audio": unit}
        ... )
        >>> round(float(xg.objective("fused-query").loss(batch)), 3)
        0.0
    """
    extra = batch.needed("extra").values()

    def loss(images: Tensor, texts: Tensor) -> Tensor:
        return torch.stack([fused_query_loss(images, texts, own, batch.scale, weight) for own in extra]).mean()

    return batch.mean_over_pairs(loss)
