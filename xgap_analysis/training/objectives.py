"""Training objectives: small pure functions of unit features."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


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
    logits = scale * images @ texts.T
    target = torch.arange(len(images), device=images.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


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
    return F.cross_entropy(logits.masked_fill(itself, float("-inf")), target)


def siglip_loss(
    images: Float[Tensor, "n d"],
    texts: Float[Tensor, "n d"],
    scale: Float[Tensor, ""] | float,
    bias: Float[Tensor, ""] | float,
) -> Float[Tensor, ""]:
    """Sigmoid loss: each image-text pair of the batch is judged alone, without a softmax over the others.

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
    images: Float[Tensor, "n d"], texts: Float[Tensor, "n k d"], scale: Float[Tensor, ""] | float
) -> Float[Tensor, ""]:
    """Contrast of one image with all of its k captions at once; `clip_loss` where k = 1.

    Formula: half the mean over images and their captions of `-log softmax` over all n k texts, and half the mean over
    texts of the cross-entropy over the n images.

    Args:
        images: unit rows.
        texts: unit rows; `texts[i]` are the captions of image i.
        scale: 1 / temperature.

    Source: Nie et al., 1-to-K contrastive learning for cross-lingual cross-modal retrieval, KDD 2024.
    """
    n, k, _ = texts.shape
    logits = scale * images @ texts.flatten(0, 1).T  # [n, n k]
    own = torch.arange(n, device=images.device).repeat_interleave(k)
    to_texts = logits.log_softmax(dim=1)[own, torch.arange(n * k, device=images.device)]
    return (F.cross_entropy(logits.T, own) - to_texts.mean()) / 2


def in_modal_consistency(images: Float[Tensor, "n d"], texts: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Two images should be as similar as their two captions.

    Formula: `1/n sum over j, k of (images_j . images_k - texts_j . texts_k)^2`.

    Args:
        images, texts: unit rows, pairs by index.

    Source: Goel et al., 2022 (CyCLIP), section 2.2, in-modal cyclic consistency.
    """
    return (images @ images.T - texts @ texts.T).square().sum() / len(images)


def cross_modal_consistency(images: Float[Tensor, "n d"], texts: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """An image should be as similar to another's caption as the other image to its own.

    Formula: `1/n sum over j, k of (images_j . texts_k - images_k . texts_j)^2`.

    Args:
        images, texts: unit rows, pairs by index.

    Source: Goel et al., 2022 (CyCLIP), section 2.2, cross-modal cyclic consistency.
    """
    across = images @ texts.T
    return (across - across.T).square().sum() / len(images)


def alignment_loss(first: Float[Tensor, "n d"], second: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Mean squared distance of pairs: `mean over i of ||first_i - second_i||^2`, in [0, 4].

    Args:
        first, second: unit rows, pairs by index.

    Source: Wang and Isola, 2020, section 4.1 (alpha = 2).
    """
    return (first - second).square().sum(dim=1).mean()


def uniformity_loss(vectors: Float[Tensor, "n d"], t: float = 2.0) -> Float[Tensor, ""]:
    """How unevenly one side covers the sphere: `log mean over i < j of exp(-t ||v_i - v_j||^2)`, in [-4 t, 0].

    Args:
        vectors: unit rows, 2 at least.
        t: sharpness of the kernel.

    Source: Wang and Isola, 2020, section 4.1.
    """
    first, second = torch.triu_indices(len(vectors), len(vectors), offset=1, device=vectors.device)
    squares = 2 - 2 * (vectors @ vectors.T)[first, second]
    return (-t * squares).logsumexp(dim=0) - math.log(len(first))


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


def temperature_at(step: int, steps: int, start: float, end: float) -> float:
    """A temperature that goes from `start` to `end` along half a cosine; a high end closes the modality gap.

    Formula: `end + (start - end) (1 + cos(pi step / (steps - 1))) / 2`.

    Args:
        step: from 0 to steps - 1.
        steps: of the whole run.
        start, end: temperatures.

    Source: that temperature drives the gap, Liang et al., 2022 (Mind the Gap), section 4.2, and Yaras et al.,
    Explaining and mitigating the modality gap in contrastive multimodal learning, 2024.
    """
    share = step / (steps - 1) if steps > 1 else 1.0
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
