"""Features cut down to the leading directions of their batch, beside short captions (Long-CLIP)."""

import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.training.objectives.batch import BatchFeatures
from xgap_analysis.training.objectives.matching import match
from xgap_analysis.training.objectives.term import Needs, register_objective

CLOSE = 1e-6  # of two eigenvalues beside the largest: their directions are not distinct


def principal(vectors: Float[Tensor, "n d"], rank: int = 32) -> Float[Tensor, "n d"]:
    """Rows with no more than the leading directions in which they differ; themselves where `n - 1 <= rank`.

    Formula: `mean + P (v - mean)`, P onto the `rank` first principal components of the n rows. The rows are not scaled
    to unit length again, as in the authors' code.

    Args:
        vectors: `[n, d]`.
        rank: directions kept.

    Source: Zhang et al., Long-CLIP, ECCV 2024.

    Example:
        >>> rows = torch.tensor([[1.0, 0.1], [-1.0, 0.1], [0.0, -0.2]])
        >>> principal(rows, rank=1)[:, 0].round(decimals=3).tolist()  # the second dimension is left out
        [1.0, -1.0, 0.0]
    """
    mean = vectors.mean(dim=0)
    rest = vectors - mean
    if len(vectors) - 1 <= rank:
        return vectors
    gram = rest @ rest.T  # P (v - mean) of all rows is Q rest, Q onto the leading eigenvectors of gram
    with torch.no_grad():
        # On the processor, in double precision: small, and not every device has it.
        values, directions = (found.to(gram) for found in torch.linalg.eigh(gram.cpu().double()))
        dropped, kept = directions[:, :-rank], directions[:, -rank:]
        apart = values[-rank:, None] - values[None, :-rank]
        # The derivative of a projector divides by how far eigenvalues lie apart; equal ones have no direction of their
        # own, so that none is chosen among them.
        good = apart > CLOSE * values[-1].clamp_min(torch.finfo(values.dtype).tiny)
        inverse = torch.where(good, 1 / torch.where(good, apart, 1), 0)
    change = gram - gram.detach()  # zero, but for its gradient
    turned = kept @ ((kept.T @ change @ dropped) * inverse) @ dropped.T
    return mean + (kept @ kept.T + turned + turned.T) @ rest


def long_and_short_loss(
    images: Float[Tensor, "n d"],
    long: Float[Tensor, "n d"],
    short: Float[Tensor, "n d"],
    scale: Float[Tensor, ""] | float,
    rank: int = 32,
    smoothing: float = 0.1,
    short_weight: float = 1.0,
) -> Float[Tensor, ""]:
    """InfoNCE of images with long captions, and of their leading directions with short ones.

    Formula: `L(images, long) + short_weight * L(principal(images, rank), short)`, L symmetric InfoNCE with smoothed
    targets. A short caption says what matters most, so it is compared with what is left of an image by its main
    directions.

    Args:
        images, long, short: unit rows, items by index.
        scale: 1 / temperature.
        rank: see `principal`; a batch of up to `rank + 1` items is left as it is.
        smoothing: of the targets.
        short_weight: of the second part.

    Source: Zhang et al., Long-CLIP, ECCV 2024.

    Example:
        >>> same = torch.eye(3)
        >>> round(long_and_short_loss(same, same, same, 0.0).item(), 3)  # twice log 3
        2.197
    """

    def contrast(of: Tensor, captions: Tensor) -> Tensor:
        logits = scale * of @ captions.T
        target = torch.arange(len(of), device=of.device)
        return (match(logits, target, smooth=smoothing) + match(logits.T, target, smooth=smoothing)) / 2

    return contrast(images, long) + short_weight * contrast(principal(images, rank), short)


def _two(*, rank: int = 32) -> Needs:
    if rank < 1:
        raise XgapError(f"rank of long-and-short is 1 or more directions, not {rank}")
    return Needs(captions=2, scaled=True, ids=True)


@register_objective("long-and-short", needs=_two)
def _long_and_short(
    batch: BatchFeatures, *, rank: int = 32, smoothing: float = 0.1, short_weight: float = 1.0
) -> Tensor:
    """Contrast of images with the longer of two captions, and of their leading directions with the shorter (Long-CLIP).

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> texts = unit[:, None].expand(2, 2, 2)  # two captions of each image, equal to it
        >>> is_word = torch.tensor([[True, True], [True, False]]).expand(2, 2, 2)  # the first one is longer
        >>> given = (unit[None], texts, torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> batch = xg.BatchFeatures(*given, is_word=is_word)
        >>> round(float(xg.objective("long-and-short(smoothing=0.0)")(batch)), 3)
        0.0
    """
    words = batch.needed("is_word").sum(dim=2)[:, :2]
    longer = words.argmax(dim=1)
    rows = torch.arange(len(longer), device=longer.device)
    long, short = batch.texts[rows, longer], batch.texts[rows, 1 - longer]
    return long_and_short_loss(batch.images[0], long, short, batch.scale, rank, smoothing, short_weight)
