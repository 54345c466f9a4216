"""MeVTR (Me-Retriever): a video as its key events, so that a text about one of them is not drowned."""

from weakref import WeakKeyDictionary

from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.scoring.rows import score_rows
from xgap_analysis.scoring.scorer import Scorer, register_scorer, scorer
from xgap_analysis.scoring.token_maps import medoids

_KEPT: "WeakKeyDictionary[TokenFeatures, dict[int, TokenFeatures]]" = WeakKeyDictionary()  # for all blocks of queries
_TAKEN = {
    "mean": scorer("pooled", weights="uniform"),
    "max": scorer("late_interaction", inner="max"),
}


@register_scorer("mevtr", takes="features")
def mevtr(query: TokenFeatures, gallery: TokenFeatures, *, k: int = 4, take: str = "mean") -> Float[Tensor, "b m"]:
    """The cosine of a text with the mean of a video's k key events, or with the best of them.

    The key events are medoids of its frames (see `token_maps.medoids`): events weigh alike, however many frames each
    has. Formula: `cos(t, mean_j v_j)` or `max_j cos(t, v_j)` over medoids j. A query of several tokens has the mean.

    How to read it: in [-1, 1]; higher is nearer. With k as many as the frames, it is the plain mean of frames, or the
    best frame. The order of frames counts in one case: of two frames that are a group, the first is the medoid.

    Left out: padded frames, which the authors cluster too. Its loss, which takes all texts of a video as positives, is
    the objective `multi-event`.

    Args:
        query: texts, one an event.
        gallery: videos, with a token per frame and the frames' lengths, which the clustering reads.
        k: key events; the authors take 16 of 64 frames.
        take: `"mean"`, or `"max"` (their evaluation's other form).

    Raises:
        XgapError: a video of fewer than k frames, another word for `take`, or key events that cancel out.

    Example:
        >>> import torch, xgap_analysis as xg
        >>> video = xg.TokenFeatures(torch.eye(3)[[0, 0, 0, 0, 0, 1]], [0, 6], ["v"], "image", "video")
        >>> text = xg.Features(torch.eye(3)[1:2], ["t"], "text", "text")
        >>> [round(xg.score(text, video, by).item(), 3) for by in ("pooled(weights=uniform)", "mevtr(k=2)")]
        [0.196, 0.707]

    Source: Zhang et al., Multi-event video-text retrieval, ICCV 2023.
    """
    if take not in _TAKEN:
        raise XgapError(f"take is mean or max, not {take!r}")
    kept = _KEPT.setdefault(gallery, {})
    if k not in kept:
        kept[k] = medoids(gallery, k)
    scoring: Scorer = _TAKEN[take]
    return score_rows(query, kept[k], scoring)
