"""Training objectives: small pure functions of unit features."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
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
