"""Pseudo-patches: a few learnt tokens spread over all patches of the image tower (OVI)."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.tower import Invertible


def expand(pseudo: Tensor, length: int) -> Tensor:
    """P pseudo-patches `[n, P, width]` to U patches `[n, length, width]`, by nearest interpolation along the tokens.

    Patch u (in reading order) is pseudo-patch floor(u P / U), so each one fills a band of the image.
    """
    return F.interpolate(pseudo.transpose(1, 2), size=length, mode="nearest").transpose(1, 2)


def pseudo_forward(tower: Invertible, count: int) -> Callable[[Tensor], Tensor]:
    """A function from pseudo-patches `[n, P, width]` to features `[n, d]`, not normalised.

    They stand for the output of the patch embedding: class token and positional embedding come after them.

    Raises:
        XgapError: no pseudo-patch, or more than the tower has patches.
    """
    if not 1 <= count <= tower.length:
        raise XgapError(f"an image tower of {tower.length} patches takes from 1 to as many pseudo-patches, not {count}")
    return lambda pseudo: tower.encode_tokens(expand(pseudo, tower.length))
