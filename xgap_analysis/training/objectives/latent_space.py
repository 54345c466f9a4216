"""Contrast that also keeps the items of a modality apart and rebuilds them from a latent space (after CLSR)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from xgap_analysis.core.errors import XgapError
from xgap_analysis.training.objectives.batch import BatchFeatures
from xgap_analysis.training.objectives.matching import match
from xgap_analysis.training.objectives.term import Needs, Sizes, register_objective


def separability_loss(vectors: Float[Tensor, "n d"], scale: Float[Tensor, ""] | float) -> Float[Tensor, ""]:
    """How little the items of one modality are separated from each other, 0 or more.

    Formula: `mean_i log(1 + sum over j != i of exp(scale (v_i . v_j - 1)))`: the cross-entropy of each item among all
    items of its modality with itself as the target. n equal rows give log n.

    Args:
        vectors: unit rows.
        scale: 1 / temperature.

    Example:
        >>> round(separability_loss(torch.ones(3, 1), 5.0).item(), 3)  # log 3
        1.099
    """
    return match(scale * vectors @ vectors.T, torch.arange(len(vectors), device=vectors.device))


def adaptive_contrast(
    images: Float[Tensor, "n d"], texts: Float[Tensor, "n d"], scale: Float[Tensor, ""] | float, guidance: float = 1.0
) -> Float[Tensor, ""]:
    """Symmetric InfoNCE in which an item among many like it has a higher temperature.

    Formula: `clip_loss` with the logits of row i divided by `1 + guidance * max(0, m_i)`, m_i the mean cosine of item i
    with the other items of its modality, without gradient. It is `clip_loss` at `guidance=0`, and where the items of
    each modality are orthogonal.

    Args:
        images, texts: unit rows, 2 pairs at least, by index.
        scale: 1 / temperature.
        guidance: how much the temperature rises.

    Example:
        >>> alike = normalize(torch.eye(2) + 1, dim=1)
        >>> bool(adaptive_contrast(alike, alike, 5.0) > adaptive_contrast(alike, alike, 5.0, guidance=0.0))
        True
    """
    target = torch.arange(len(images), device=images.device)

    def one_way(queries: Tensor, gallery: Tensor) -> Tensor:
        alike = (queries @ queries.T).detach().fill_diagonal_(0).sum(dim=1) / (len(queries) - 1)
        higher = 1 + guidance * alike.clamp_min(0)
        return match(scale * (queries @ gallery.T) / higher[:, None], target)

    return (one_way(images, texts) + one_way(texts, images)) / 2


class Reconstruction(nn.Module):
    """A latent space that both modalities share: an encoder and a decoder for each of the two.

    Args:
        sizes: d of the features.
        width: dimensions of the latent space; half of d by default.
    """

    def __init__(self, sizes: Sizes, *, width: int | None = None) -> None:
        super().__init__()
        width = max(1, sizes.dim // 2) if width is None else width
        if width < 1:
            raise XgapError(f"width of latent-reconstruction is 1 or more dimensions, not {width}")
        self.encoders = nn.ModuleDict({name: nn.Linear(sizes.dim, width) for name in ("image", "text")})
        self.decoders = nn.ModuleDict({name: nn.Linear(width, sizes.dim) for name in ("image", "text")})

    def forward(self, vectors: Float[Tensor, "n d"], of: str, to: str) -> Float[Tensor, "n d"]:
        """The features of one modality read from the latent space of the other, or of the same; unit rows."""
        return normalize(self.decoders[to](torch.tanh(self.encoders[of](vectors))), dim=1)


def reconstruction_loss(
    own: Reconstruction, images: Float[Tensor, "n d"], texts: Float[Tensor, "n d"]
) -> Float[Tensor, ""]:
    """The mean of `1 - cosine` of each modality with what is rebuilt of it from itself and from the other, in [0, 2].

    The features are the input and the target; as a target they have no gradient.

    Args:
        own: encoders and decoders.
        images, texts: unit rows, pairs by index.
    """
    given = {"image": images, "text": texts}
    each = [
        1 - (own(given[of], of, to) * given[to].detach()).sum(dim=1).mean()
        for of in ("image", "text")
        for to in ("image", "text")
    ]
    return torch.stack(each).mean()


@register_objective("separability", needs=Needs(scaled=True))
def _separability(batch: BatchFeatures) -> Tensor:
    """How close images are to other images, and captions to other captions; the mean of both (after CLSR).

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> batch = xg.BatchFeatures(unit[None], unit[:, None], torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> round(float(xg.objective("separability").loss(batch)), 3)  # all images are orthogonal, and all captions
        0.0
    """
    each = (batch.images[0], batch.texts[:, 0])
    return torch.stack([separability_loss(vectors, batch.scale) for vectors in each]).mean()


def _guided(*, guidance: float = 1.0) -> Needs:
    if guidance < 0:
        raise XgapError(f"guidance of adaptive-contrast is 0 or more, not {guidance}")
    return Needs(scaled=True)


@register_objective("adaptive-contrast", needs=_guided)
def _adaptive_contrast(batch: BatchFeatures, *, guidance: float = 1.0) -> Tensor:
    """InfoNCE with a higher temperature for an item that has many similar items (after CLSR).

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> batch = xg.BatchFeatures(unit[None], unit[:, None], torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> round(float(xg.objective("adaptive-contrast").loss(batch)), 3)  # each image equals its caption alone
        0.0
    """
    return batch.mean_over_pairs(lambda images, texts: adaptive_contrast(images, texts, batch.scale, guidance))


@register_objective("latent-reconstruction", parameters=Reconstruction)
def _latent_reconstruction(batch: BatchFeatures, own: Reconstruction) -> Tensor:
    """The error of reconstructing each modality from itself and the other through a small latent space (after CLSR).

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> batch = xg.BatchFeatures(unit[None], unit[:, None], torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> from xgap_analysis.training.objectives import Sizes
        >>> term = xg.objective("latent-reconstruction")
        >>> own = term.made(Sizes(dim=2, labels=2))  # its encoders and decoders, at random weights
        >>> 0 <= term(batch, own).item() <= 2
        True
    """
    return reconstruction_loss(own, batch.images[0], batch.texts[:, 0])
