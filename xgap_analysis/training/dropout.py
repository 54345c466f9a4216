"""Which modality of an item a step leaves out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from xgap_analysis.core.calls import options_alone, parse
from xgap_analysis.core.errors import XgapError

NONE = "none"


@dataclass(frozen=True)
class Dropout:
    """A policy: one modality of an item is left out, its features zero, with a probability.

    Args:
        modality: `image`, `text`, or the name of a further one; empty for none.
        p: the probability, in [0, 1].
    """

    modality: str = ""
    p: float = 0.0

    def kept(self, n: int, generator: torch.Generator) -> Bool[Tensor, " n"]:
        """Which of n items keep the modality; all at p = 0, none at p = 1."""
        return torch.rand(n, generator=generator) >= self.p


def dropout_of(text: str) -> Dropout:
    """A policy by name: `"none"`, or a modality with its probability, `"text(p=0.5)"`.

    Raises:
        XgapError: another option, or a probability out of range.

    Example:
        >>> dropout_of("text(p=0.2)")
        Dropout(modality='text', p=0.2)
    """
    if text == NONE:
        return Dropout()
    call = parse(text)
    given: Mapping[str, Any] = options_alone(call, "a dropout of a modality")
    p = given.get("p")
    if set(given) != {"p"} or isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p <= 1:
        raise XgapError(f'dropout is "none" or a modality with its probability, "text(p=0.5)", not {text!r}')
    return Dropout(call.name, float(p))
