"""Several captions of an image, each beside the image as a whole and beside the patches that it groups (DreamLIP)."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from xgap_analysis.core.calls import Call
from xgap_analysis.scoring.pooled import token_weights
from xgap_analysis.scoring.tokens import TokenBlock
from xgap_analysis.training.objectives.batch import BatchFeatures
from xgap_analysis.training.objectives.contrast import clip_loss
from xgap_analysis.training.objectives.term import Needs, register_objective, several_captions


def multi_positive_loss(
    images: Float[Tensor, "n d"], texts: Float[Tensor, "n k d"], scale: Float[Tensor, ""] | float
) -> Float[Tensor, ""]:
    """The mean over the k captions of an image of `clip_loss`: each caption among the captions of its own place.

    In `one_to_many_loss` the captions of an image compete with each other; here they do not.

    Args:
        images: unit rows.
        texts: unit rows; `texts[i]` are the captions of image i.
        scale: 1 / temperature.

    Source: Zheng et al., DreamLIP, ECCV 2024.

    Example:
        >>> images, captions = torch.eye(2), torch.eye(2)[:, None].expand(2, 3, 2)
        >>> bool(multi_positive_loss(images, captions, 5.0).isclose(clip_loss(images, images, 5.0)))
        True
    """
    return torch.stack([clip_loss(images, own, scale) for own in texts.unbind(dim=1)]).mean()


def grouped(texts: Float[Tensor, "n k d"], patches: TokenBlock, delta: float = 0.0) -> Float[Tensor, "n k d"]:
    """The patches of each image that each of its captions groups, as one unit vector per caption.

    Formula: `g_k = u(sum_p w_kp v_p)`, w as in the scorer `dreamlip`: the similarities of caption and patches, scaled
    from 0 to 1 over the patches, those below delta set to zero, over their sum; equal weights where all are alike.

    Args:
        texts: unit rows, k captions of each image.
        patches: of the n images.
        delta: scaled similarities below it do not count; below 0, one over the number of patches.
    """
    if delta < 0:
        delta = 1 / patches.vectors.shape[1]
    values = (texts @ patches.vectors.transpose(1, 2))[..., None]  # [n, k, p, 1]: each image is its own gallery
    whole = torch.ones(*texts.shape[:2], 1, 1, dtype=torch.bool, device=texts.device)
    weights = token_weights(values, patches.mask[:, None, :, None], whole, Call("minmax", (float(delta),)))
    return normalize(weights[..., 0] @ patches.vectors, dim=-1)


def grouping_loss(
    texts: Float[Tensor, "n k d"], patches: TokenBlock, scale: Float[Tensor, ""] | float, delta: float = 0.0
) -> Float[Tensor, ""]:
    """Symmetric InfoNCE between captions and the patches that they group, over all n k captions of the batch.

    With one patch per image it is InfoNCE between captions and that patch. The released code gives items the captions
    of other images; the formula of the paper stands here.

    Args:
        texts: unit rows, k captions of each image.
        patches: of the n images.
        scale: 1 / temperature.
        delta: see `grouped`.

    Source: Zheng et al., DreamLIP, ECCV 2024.

    Example:
        >>> patches = TokenBlock(torch.eye(2)[:, None], torch.ones(2, 1, dtype=torch.bool))
        >>> captions = torch.eye(2)[:, None]
        >>> bool(grouping_loss(captions, patches, 5.0).isclose(clip_loss(torch.eye(2), torch.eye(2), 5.0)))
        True
    """
    return clip_loss(grouped(texts, patches, delta).flatten(0, 1), texts.flatten(0, 1), scale)


def _grouped(*, k: int = 2) -> Needs:
    return Needs(captions=k, scaled=True, image_tokens=True)


@register_objective("multi-positive", needs=several_captions)
def _multi_positive(batch: BatchFeatures) -> Tensor:
    """Contrast of an image with each of its captions, the mean (DreamLIP).

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> texts = unit[:, None].expand(2, 2, 2)  # two captions of each image, equal to it
        >>> batch = xg.BatchFeatures(unit[None], texts, torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> round(float(xg.objective("multi-positive").loss(batch)), 3)
        0.0
    """
    return torch.stack([multi_positive_loss(images, batch.texts, batch.scale) for images in batch.images]).mean()


@register_objective("grouping", needs=_grouped)
def _grouping(batch: BatchFeatures, *, delta: float = 0.0) -> Tensor:
    """InfoNCE between captions and the patches that each of them groups (DreamLIP).

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> from xgap_analysis.scoring import TokenBlock
        >>> tokens = TokenBlock(unit[:, None], torch.ones(2, 1, dtype=torch.bool))  # one token of each item
        >>> given = (unit[None], unit[:, None], torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> batch = xg.BatchFeatures(*given, image_tokens=tokens)
        >>> round(float(xg.objective("grouping").loss(batch)), 3)  # the only patch of each image equals its caption
        0.0
    """
    return grouping_loss(batch.texts, batch.needed("image_tokens"), batch.scale, delta)
