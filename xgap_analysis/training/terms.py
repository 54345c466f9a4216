"""The terms that an objective may be made of, by name, and their weighted sum."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.training import objectives


@dataclass(frozen=True)
class Views:
    """What the towers made of one batch: unit vectors of n items.

    Args:
        images: `[v, n, d]`, v augmentations of each image.
        texts: `[n, k, d]`, k captions of each image.
        scale, bias: of the logits.
        labels: class numbers `[n]`.
        centres: class centres `[c, d]`, where a term asks for them.
    """

    images: Tensor
    texts: Tensor
    scale: Tensor
    bias: Tensor
    labels: Tensor
    centres: Tensor | None = None

    def mean_over_pairs(self, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The mean of a loss of images and texts over the augmentations, each with a caption of its own in turn."""
        k = self.texts.shape[1]
        return torch.stack([loss(images, self.texts[:, v % k]) for v, images in enumerate(self.images)]).mean()


@dataclass(frozen=True)
class Term:
    """One term of an objective.

    Args:
        loss: from the views of a batch to a number.
        images, captions: augmentations of an image, and captions, that it needs at least; 0 leaves a tower out.
        scaled: the temperature matters to it.
    """

    loss: Callable[[Views], Tensor]
    images: int = 1
    captions: int = 0
    scaled: bool = False


def _arc_margin(views: Views) -> Tensor:
    assert views.centres is not None
    each = [objectives.arc_margin_loss(images, views.centres, views.labels) for images in views.images]
    return torch.stack(each).mean()


def _both_sides(views: Views) -> Tensor:
    sides = (*views.images[:1], views.texts[:, 0])
    return torch.stack([objectives.uniformity_loss(side) for side in sides]).mean()


TERMS: dict[str, Term] = {
    "clip": Term(
        lambda v: v.mean_over_pairs(lambda x, y: objectives.clip_loss(x, y, v.scale)), captions=1, scaled=True
    ),
    "siglip": Term(
        lambda v: v.mean_over_pairs(lambda x, y: objectives.siglip_loss(x, y, v.scale, v.bias)),
        captions=1,
        scaled=True,
    ),
    "one-to-many": Term(
        lambda v: torch.stack([objectives.one_to_many_loss(x, v.texts, v.scale) for x in v.images]).mean(),
        captions=2,
        scaled=True,
    ),
    "image-image": Term(lambda v: objectives.simclr_loss(v.images[0], v.images[1]), images=2),
    "text-text": Term(lambda v: objectives.simclr_loss(v.texts[:, 0], v.texts[:, 1]), images=0, captions=2),
    "in-modal": Term(lambda v: v.mean_over_pairs(objectives.in_modal_consistency), captions=1),
    "cross-modal": Term(lambda v: v.mean_over_pairs(objectives.cross_modal_consistency), captions=1),
    "alignment": Term(lambda v: v.mean_over_pairs(objectives.alignment_loss), captions=1),
    "uniformity": Term(_both_sides, captions=1),
    "arc-margin": Term(_arc_margin),
}


def active(weights: Mapping[str, float]) -> dict[str, float]:
    """The terms that count: those of a weight of 0 are left out, so that they change nothing, to the bit.

    Raises:
        XgapError: an unknown term (the nearest are told), a negative weight, or no term left.
    """
    for name, weight in weights.items():
        if name not in TERMS:
            raise unknown_name("term of an objective", name, TERMS)
        if not weight >= 0:
            raise XgapError(f"the weight of term {name!r} is 0 or more, not {weight}")
    kept = {name: float(weight) for name, weight in weights.items() if weight}
    if not kept:
        raise XgapError('an objective needs a term with a weight above 0, {"clip": 1} for one')
    return kept


def objective(weights: Mapping[str, float], views: Views) -> dict[str, Tensor]:
    """Each active term, unweighted, and their weighted sum under `"loss"`."""
    parts = {name: TERMS[name].loss(views) for name in active(weights)}
    return {
        **parts,
        "loss": sum((weights[name] * part for name, part in parts.items()), torch.zeros(()).to(views.scale)),
    }
