"""DreamLIP: each sub-caption with the patches that it groups."""

from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.calls import Call
from xgap_analysis.scoring.pooled import pooled
from xgap_analysis.scoring.scorer import register_scorer
from xgap_analysis.scoring.tokens import TokenBlock


@register_scorer("dreamlip", takes="tokens")
def dreamlip(query: TokenBlock, gallery: TokenBlock, *, delta: int | float = 0.0) -> Float[Tensor, "b m"]:
    """The mean over sub-captions of the cosine with the patches that each groups for itself.

    Formula: `mean_k cos(t_k, sum_p w_kp v_p)`, w the similarities `t_k . v_p` of caption k scaled from 0 (the lowest of
    the item's patches) to 1 (the highest), those below delta set to zero, over their sum; equal weights where all
    patches are alike. It is the similarity that DreamLIP's grouping loss compares; its authors rank by the plain
    cosine.

    How to read it: in [-1, 1]; higher is nearer. One sub-caption and `delta=1` is the best patch; one patch, the mean
    cosine.

    Args:
        query: texts with a token per sub-caption (view `captions`).
        gallery: images with a token per patch (view `patches`) or region.
        delta: scaled similarities below it do not count.

    Raises:
        XgapError: a delta outside of [0, 1], or patches that cancel out.

    Example:
        >>> import torch, xgap_analysis as xg
        >>> patches = xg.TokenFeatures(torch.eye(3), [0, 3], ["image"], "image", "image")
        >>> captions = xg.TokenFeatures(torch.eye(3)[:2], [0, 2], ["text"], "text", "text")
        >>> round(xg.score(captions, patches, "dreamlip").item(), 3)  # each has a patch to itself
        1.0

    Source: Zheng et al., DreamLIP, ECCV 2024.
    """
    return pooled(query, gallery, weights=Call("minmax", (delta,)), outer="mean")
