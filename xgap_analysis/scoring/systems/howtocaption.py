"""HowToCaption: captions aligned with windows of frames, and the best aligned kept."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.scoring.scorer import register_scorer
from xgap_analysis.scoring.token_maps import reflected
from xgap_analysis.scoring.tokens import TokenBlock, similarities

if TYPE_CHECKING:
    import pandas as pd

SIZE, REACH = 8, 10


@register_scorer("howtocaption", takes="tokens")
def howtocaption(query: TokenBlock, gallery: TokenBlock, *, size: int = SIZE) -> Float[Tensor, "b m"]:
    """The best window of a clip: the largest mean cosine of a text with `size` neighbouring frames.

    Formula: `max_w mean_{f in w} t . v_f`, w from 0 to F: the frames from `w - ceil(size / 2)` on, reflected at both
    ends of the clip. A window is a mean of unit vectors that is not scaled again, so that frames that disagree lower
    it. A query of several tokens has the mean of their scores.

    How to read it: in [-1, 1]; higher is nearer. Between the mean of cosines (a window as long as the clip, nearly) and
    the best frame (`size=1`). The order of frames counts.

    Args:
        query, gallery: blocks of tokens; those of the gallery in the order of time.
        size: frames of a window (8 seconds there, a frame each).

    Raises:
        XgapError: a size below 1.

    Example:
        >>> import torch, xgap_analysis as xg
        >>> frames = xg.TokenFeatures(torch.eye(4)[[0, 1, 1, 2]], [0, 4], ["clip"], "image", "video")
        >>> text = xg.Features(torch.eye(4)[1:2], ["t"], "text", "text")
        >>> [round(xg.score(text, frames, f"howtocaption(size={n})").item(), 2) for n in (1, 2, 4)]
        [1.0, 1.0, 0.75]

    Source: Shvetsova et al., HowToCaption, ECCV 2024.
    """
    shares = torch.zeros(len(gallery), gallery.vectors.shape[1] + 1, gallery.vectors.shape[1])
    for row, count in enumerate(gallery.counts.tolist()):
        shares[row, : count + 1, :count] = windows(count, size)
        shares[row, count + 1 :] = shares[row, 0]  # padding repeats a window
    values = similarities(query, gallery)
    means = torch.einsum("mwf,btfm->btwm", shares.to(values.device, values.dtype), values).amax(dim=2)
    return (means * query.mask[:, :, None]).sum(dim=1) / query.counts[:, None]


def windows(frames: int, size: int = SIZE) -> Float[Tensor, "w f"]:
    """The shares of frames in each of `frames + 1` windows; each row adds up to one.

    Raises:
        XgapError: a size below 1.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise XgapError(f"the size of a window must be a whole number of 1 or more, not {size!r}")
    places = torch.from_numpy(reflected(frames, size, frames + 1))
    return torch.zeros(frames + 1, frames).scatter_add_(1, places, torch.full(places.shape, 1 / size))


def aligned(
    captions: Features,
    frames: TokenFeatures,
    owners: Mapping[str, str],
    *,
    middles: Mapping[str, float] | None = None,
    reach: int = REACH,
    size: int = SIZE,
) -> "pd.DataFrame":
    """The best window of its own clip for each caption.

    Args:
        captions: one vector each.
        frames: of the clips, one frame per unit of time.
        owners: from caption id to clip id.
        middles: the time of each caption, in frames; None searches the whole clip.
        reach: number of windows before and after that time that are searched.
        size: frames of a window.

    Returns:
        One row per caption, under its id: `item`, `window` (its first frame, which may lie before the clip's first),
        `score` (the mean cosine). A caption whose time lies outside of its clip has no row.

    Raises:
        XgapError: a caption without a clip or time, or a size below 1.
    """
    import pandas as pd

    place = {item: i for i, item in enumerate(frames.ids)}
    rows: dict[str, tuple[str, int, float]] = {}
    for i, caption in enumerate(captions.ids):
        item = owners.get(caption)
        if item not in place or (middles is not None and caption not in middles):
            raise XgapError(f"caption {caption!r} has no {'clip' if item not in place else 'time'}")
        own = slice(int(frames.offsets[place[item]]), int(frames.offsets[place[item] + 1]))
        cosines = frames.vectors[own] @ captions.vectors[i]
        means = windows(len(cosines), size).to(cosines.device) @ cosines
        middle = None if middles is None else int(np.floor(middles[caption]))
        start = 0 if middle is None else max(0, middle - reach)
        means = means[start:] if middle is None else means[start : max(0, middle + 1 + reach)]
        if len(means):
            best = int(means.argmax())
            rows[caption] = (item, start + best - (size + 1) // 2, float(means[best]))
    return pd.DataFrame.from_dict(rows, orient="index", columns=["item", "window", "score"])


def kept(scores: Sequence[float], share: float) -> np.ndarray:
    """Which alignments to keep: those at or above the quantile that leaves a share of them.

    Args:
        scores: of alignments; see `aligned`.
        share: in (0, 1]; 1 keeps all.

    Raises:
        XgapError: a share out of range, or nothing to keep.

    Example:
        >>> kept([0.1, 0.4, 0.2, 0.3], 0.5).tolist()
        [False, True, False, True]
    """
    values = np.asarray(scores, dtype=float)
    if not 0 < share <= 1 or not len(values):
        raise XgapError(f"the share of alignments to keep lies in (0, 1], of one or more, not {share} of {len(values)}")
    return np.asarray(values >= np.quantile(values, 1 - share))
