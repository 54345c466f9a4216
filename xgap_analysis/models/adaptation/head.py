"""A small residual network behind a tower."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.adaptation.adapter import register_adapter


class Residual(nn.Module):
    """`f + |f| B(gelu(A(f / |f|)))`, or `f + |f| B(f / |f|)` without hidden layer; B and its bias start at zero.

    So its features start as those that come in, and the length of a feature, which no cosine sees, changes nothing of
    what is added.

    Args:
        dim: dimensions d of a feature.
        width: of the hidden layer, w; None for a linear map. It has `w (2 d + 1) + d` parameters, or `d (d + 1)`.
    """

    def __init__(self, dim: int, width: int | None) -> None:
        super().__init__()
        self.hidden = None if width is None else nn.Linear(dim, width)
        self.out = nn.Linear(dim if width is None else width, dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Features `[n, d]` of features `[n, d]`, not normalised."""
        length = features.norm(dim=1, keepdim=True)
        unit = features / length.clamp(min=1e-12)
        return features + length * self.out(unit if self.hidden is None else F.gelu(self.hidden(unit)))


@register_adapter("head")
def head(dims: Mapping[str, int], *, width: int | None = 64, towers: str = "all") -> Mapping[str, nn.Module]:
    """A residual network with one hidden layer after each tower, which does nothing at first.

    A feature f becomes `f + |f| B(gelu(A(f / |f|)))`, A and B linear with biases. The published form mixes
    `a relu(B relu(A f)) + (1 - a) f` and starts away from the base.

    Args:
        dims: dimensions d of each tower's features, by modality.
        width: of the hidden layer; None for a linear map `f + |f| B(f / |f|)`.
        towers: `"all"`, or the modality of the only tower that gets one.

    Returns:
        The module of each tower, with `width (2 d + 1) + d` parameters.

    Raises:
        XgapError: a width below 1, or a tower that the model does not have.

    Source: Gao et al., CLIP-Adapter: better vision-language models with feature adapters, IJCV 2024, section 3.2.
    """
    if width is not None and not (isinstance(width, int) and width >= 1):
        raise XgapError(f"the width of a head is 1 or more, or None for a linear map, not {width!r}")
    if towers != "all" and towers not in dims:
        raise XgapError(f"the towers of a head are all or one of {', '.join(dims)}, not {towers!r}")
    return {modality: Residual(dim, width) for modality, dim in dims.items() if towers in ("all", modality)}
