"""CLIP-S and RefCLIP-S: how well a caption fits an image, and other captions of it, by a model's own cosines."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

WEIGHT = 2.5


def clip_score(
    images: Float[Tensor, "*n d"], texts: Float[Tensor, "*m d"], weight: float = WEIGHT
) -> Float[Tensor, "..."]:
    """How well each caption fits its image: 0 where they point apart, `weight` where they are the same.

    Formula: `weight * max(0, cos(image, text))`, row by row. A cosine of 0.5 is 1.25. Compare values of one model only:
    the cosines of pairs differ from model to model, and the gap bounds them from above.

    Args:
        images, texts: unit rows `[n, d]`, pairs by index, or shapes that are broadcast.
        weight: stretches the range.

    Source: Hessel et al., CLIPScore, EMNLP 2021 (the authors write "A photo depicts" before each caption).

    Example:
        >>> clip_score(torch.eye(2), torch.tensor([[0.6, 0.8], [0.0, -1.0]])).tolist()
        [1.5, 0.0]
    """
    return rectified((images * texts).sum(dim=-1), weight)


def ref_clip_score(
    images: Float[Tensor, "*n d"],
    texts: Float[Tensor, "*n d"],
    references: Float[Tensor, "*n r d"],
    mask: Bool[Tensor, "*n r"] | None = None,
    weight: float = WEIGHT,
) -> Float[Tensor, "*n"]:
    """How well each caption fits its image and the nearest of the image's reference captions.

    Formula: the harmonic mean `2 / (1 / s + 1 / r)` of `s = clip_score(image, text)` and of r, the largest `clip_score`
    of the caption with a reference; 0 where either is 0. Where both are equal it is that number.

    Args:
        images, texts: unit rows `[n, d]`, pairs by index.
        references: unit rows `[n, r, d]`, r captions of each image.
        mask: which of the references there are; a caption without any has a score of 0.
        weight: of both scores, as in the code of CLIP reward (CLIPScore itself leaves the weight out of r).

    Source: Hessel et al., CLIPScore, EMNLP 2021; Cho et al., CLIP reward, Findings of NAACL 2022.

    Example:
        >>> image, text = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]])
        >>> round(ref_clip_score(image, text, image[:, None]).item(), 3)
        1.5
    """
    each = clip_score(texts[..., None, :], references, weight)
    best = (each if mask is None else each * mask).amax(dim=-1)
    return harmonic(clip_score(images, texts, weight), best)


def rectified(cosines: Float[Tensor, "..."], weight: float = WEIGHT) -> Float[Tensor, "..."]:
    """CLIP-S of cosines: `weight * max(0, cosine)`."""
    return weight * cosines.clamp_min(0)


def harmonic(first: Float[Tensor, "..."], second: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The harmonic mean of numbers of 0 or more; 0 where either is 0."""
    total = first + second
    return torch.where(total > 0, 2 * first * second / torch.where(total > 0, total, 1), 0)
