"""An objective: terms with their weights, and the weighted sum of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.training.objectives.batch import BatchFeatures
from xgap_analysis.training.objectives.term import Term, objective
from xgap_analysis.training.objectives.weights import Weight, counts, weight_of

TAKEN = (  # columns of a curve that are no terms
    *("loss", "gap", "scale", "step", "stage", "seconds"),
    *("image_to_image", "image_to_text", "text_to_image", "modality_gap"),
)


def active(weights: Mapping[Any, Any]) -> list[tuple[Term, Weight]]:
    """The terms that count: those of a weight of 0 are left out, so that they change nothing, to the bit.

    Args:
        weights: a term, as `objective` takes it, to its weight (see `weight_of`).

    Raises:
        XgapError: an unknown term (the nearest are given), one that is there twice, a negative weight, or no term left.
    """
    kept: dict[str, tuple[Term, Weight]] = {}
    for wanted, weight in weights.items():
        term = objective(wanted)
        name = str(term)
        own = weight_of(weight, name)
        if name in TAKEN:
            raise XgapError(f"a term cannot be named {name!r}, which is a column of the curve; rename its function")
        if name in kept:
            raise XgapError(f"term {name!r} is in the objective twice; give it one weight")
        if counts(own):
            kept[name] = term, own
    if not kept:
        raise XgapError('an objective needs a term with a weight above 0, {"clip": 1} for one')
    return list(kept.values())


def total(terms: Sequence[tuple[Term, float]], batch: BatchFeatures, own: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Each term, unweighted, and their weighted sum under `"loss"`.

    Args:
        terms: with their weights at this step.
        batch: what they are computed from.
        own: the modules of terms that bring parameters, by the name of the term.
    """
    parts = {str(term): term(batch, own.get(str(term))) for term, _ in terms}
    zero = torch.zeros(()).to(batch.scale)
    return {**parts, "loss": sum((weight * parts[str(term)] for term, weight in terms), zero)}
