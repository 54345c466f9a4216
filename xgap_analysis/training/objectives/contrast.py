"""Contrastive terms: of images with texts, of images with images, of texts with texts."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.contrast import both_ways
from xgap_analysis.training.objectives.batch import BatchFeatures
from xgap_analysis.training.objectives.matching import match
from xgap_analysis.training.objectives.term import Needs, register_objective, several_captions

Weighting = Literal["equal", "published"]


def clip_loss(
    images: Float[Tensor, "n d"], texts: Float[Tensor, "n d"], scale: Float[Tensor, ""] | float
) -> Float[Tensor, ""]:
    """Symmetric InfoNCE between paired images and texts.

    Formula: mean of the cross-entropies of rows and of columns of `scale * images @ texts.T`, targets on the diagonal.
    It couples each image with texts only: nothing in it compares two images or two texts.

    Args:
        images, texts: unit rows, pairs by index.
        scale: 1 / temperature.

    Source: Radford et al., 2021 (CLIP), section 2.3.
    """
    return both_ways(scale * images @ texts.T)


def siglip_loss(
    images: Float[Tensor, "n d"],
    texts: Float[Tensor, "n d"],
    scale: Float[Tensor, ""] | float,
    bias: Float[Tensor, ""] | float,
) -> Float[Tensor, ""]:
    """Sigmoid loss: each image-text pair of the batch is classified on its own, without a softmax over the others.

    Formula: `-1/n sum over i, j of log sigmoid(z_ij (scale * images_i . texts_j + bias))`, z = 1 on the diagonal and -1
    elsewhere.

    Args:
        images, texts: unit rows, pairs by index.
        scale, bias: 1 / temperature and offset; training starts at 10 and -10.

    Source: Zhai et al., 2023 (SigLIP), section 3.2.
    """
    sign = 2 * torch.eye(len(images), dtype=images.dtype, device=images.device) - 1
    return -F.logsigmoid(sign * (scale * images @ texts.T + bias)).sum() / len(images)


def one_to_many_loss(
    images: Float[Tensor, "n d"],
    texts: Float[Tensor, "n k d"],
    scale: Float[Tensor, ""] | float,
    weighting: Weighting = "equal",
) -> Float[Tensor, ""]:
    """Contrast of one image with all of its k captions at once; `clip_loss` where k = 1.

    Formula: `(A + B) / 2`, A the mean over images and their captions of `-log softmax` over all n k texts, and B the
    mean over texts of the cross-entropy over the n images. The published code gives texts a k-th of that weight:
    `(A + B / k) / 2` (`weighting="published"`).

    Args:
        images: unit rows.
        texts: unit rows; `texts[i]` are the captions of image i.
        scale: 1 / temperature.
        weighting: of the two halves.

    Source: Nie et al., 1-to-K contrastive learning for cross-lingual cross-modal retrieval, KDD 2024.

    Example:
        >>> same = torch.eye(4)[[0, 0]]
        >>> both = [one_to_many_loss(same, same[:, None].expand(2, 3, 4), 1.0, w) for w in ("equal", "published")]
        >>> [round(float(loss), 4) for loss in both]
        [1.2425, 1.0114]
    """
    n, k, _ = texts.shape
    logits = scale * images @ texts.flatten(0, 1).T  # [n, n k]
    own = torch.arange(n, device=images.device).repeat_interleave(k)
    shares = F.one_hot(own, n).T.to(logits.dtype) / k
    to_images = match(logits.T, own) / (1 if weighting == "equal" else k)
    return (match(logits, shares) + to_images) / 2


def simclr_loss(
    first: Float[Tensor, "n d"], second: Float[Tensor, "n d"], temperature: float = 0.1
) -> Float[Tensor, ""]:
    """NT-Xent between two views of the same items: an intra-modal term.

    Formula: for each of the 2n views, cross-entropy of its similarities to the 2n - 1 others over the temperature,
    with the other view of its item as the target.

    Args:
        first, second: unit rows; row i of both is one item, augmented twice.

    Source: Chen et al., 2020 (SimCLR), section 2.1; as the image-image term of SLIP (Mu et al., 2022).
    """
    views = torch.cat([first, second])
    n = len(first)
    logits = views @ views.T / temperature
    itself = torch.eye(2 * n, dtype=torch.bool, device=views.device)
    target = torch.arange(2 * n, device=views.device).roll(n)
    return match(logits.masked_fill(itself, float("-inf")), target)


@register_objective("clip", needs=Needs(scaled=True))
def _clip(batch: BatchFeatures) -> Tensor:
    """Symmetric InfoNCE between images and their captions (CLIP).

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> batch = xg.BatchFeatures(unit[None], unit[:, None], torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> round(float(xg.objective("clip").loss(batch)), 3)  # each image equals its caption
        0.0
    """
    return batch.mean_over_pairs(lambda images, texts: clip_loss(images, texts, batch.scale))


@register_objective("siglip", needs=Needs(scaled=True, biased=True))
def _siglip(batch: BatchFeatures) -> Tensor:
    """Sigmoid loss, each image-text pair by itself (SigLIP).

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> batch = xg.BatchFeatures(unit[None], unit[:, None], torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> round(float(xg.objective("siglip").loss(batch)), 3)
        0.693
    """
    return batch.mean_over_pairs(lambda images, texts: siglip_loss(images, texts, batch.scale, batch.bias))


@register_objective("one-to-many", needs=several_captions)
def _one_to_many(batch: BatchFeatures, *, weighting: Weighting = "equal") -> Tensor:
    """Contrast of an image with all of its captions at once (1-to-K).

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> texts = unit[:, None].expand(2, 2, 2)  # two captions of each image, equal to it
        >>> batch = xg.BatchFeatures(unit[None], texts, torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> round(float(xg.objective("one-to-many").loss(batch)), 3)  # log 2 of an image, 0 of a caption: the mean
        0.347
    """
    each = [one_to_many_loss(images, batch.texts, batch.scale, weighting) for images in batch.images]
    return torch.stack(each).mean()


@register_objective("image-image", needs=Needs(images=2, captions=0))
def _image_image(batch: BatchFeatures, *, temperature: float = 0.1) -> Tensor:
    """NT-Xent between two augmentations of an image (SimCLR).

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> two = torch.stack([unit, unit])
        >>> batch = xg.BatchFeatures(two, two, torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> round(float(xg.objective("image-image").loss(batch)), 3)  # both augmentations agree
        0.0
    """
    return simclr_loss(batch.images[0], batch.images[1], temperature)


@register_objective("text-text", needs=Needs(images=0, captions=2))
def _text_text(batch: BatchFeatures, *, temperature: float = 0.1) -> Tensor:
    """NT-Xent between two captions of an image.

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> two = torch.stack([unit, unit])
        >>> batch = xg.BatchFeatures(two, two.transpose(0, 1), torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> round(float(xg.objective("text-text").loss(batch)), 3)  # both captions agree
        0.0
    """
    return simclr_loss(batch.texts[:, 0], batch.texts[:, 1], temperature)


@register_objective("mixed-views", needs=Needs(images=2, captions=2))
def _mixed_views(batch: BatchFeatures, *, temperature: float = 0.5) -> Tensor:
    """NT-Xent between two augmentations of an image and between two captions, all of them in one softmax.

    The rows of the other modality are negatives, those of the same item among them, so that it spreads the modalities
    apart while it draws the views of an item together (the `mixed` pre-training of audio-sheet retrieval).

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(4)
        >>> images, texts = unit[:2].expand(2, 2, 4), unit[2:, None].expand(2, 2, 4)
        >>> batch = xg.BatchFeatures(images, texts, torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> round(float(xg.objective("mixed-views(temperature=0.1)").loss(batch, temperature=0.1)), 3)
        0.0
    """
    first, second = (torch.cat([batch.images[v], batch.texts[:, v]]) for v in (0, 1))
    return simclr_loss(first, second, temperature)
