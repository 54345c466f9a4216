"""What most terms are made of: rows of logits that are to match a target, and the margin of an angle."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

Kind = Literal["ce", "forward", "reverse"]
FLOOR = 1e-8  # of a target that the reverse divergence divides by


def match(
    logits: Float[Tensor, "n m"],
    target: Int[Tensor, " n"] | Float[Tensor, "n m"],
    *,
    kind: Kind = "ce",
    smooth: float = 0.0,
    total: Literal["mean", "sum"] = "mean",
) -> Float[Tensor, ""]:
    """How far the softmax p of each row of logits is from a target t: 0 at best for the divergences.

    | kind | of a row |
    |---|---|
    | `ce` | `-sum_j t_j log p_j` |
    | `forward` | `KL(t, p) = sum_j t_j (log t_j - log p_j)` |
    | `reverse` | `KL(p, t) = sum_j p_j (log p_j - log(t_j + 1e-8))` |

    Args:
        logits: a row for each item.
        target: the column that is right, or a distribution over columns; a row of zeros counts nothing, but
            with `reverse` or smoothing.
        kind: of the comparison.
        smooth: the share of the target that is spread over all columns (label smoothing).
        total: over rows.

    Example:
        >>> round(float(match(torch.zeros(2, 6), torch.tensor([0, 3]))), 4)  # log 6
        1.7918
    """
    if kind == "ce":
        return F.cross_entropy(logits, target, reduction=total, label_smoothing=smooth)
    if target.ndim == 1:
        target = F.one_hot(target, logits.shape[1]).to(logits.dtype)
    if smooth:
        target = (1 - smooth) * target + smooth / logits.shape[1]
    log_p = logits.log_softmax(dim=1)
    if kind == "forward":
        rows = (torch.xlogy(target, target) - target * log_p).sum(dim=1)
    else:
        rows = (log_p.exp() * (log_p - (target + FLOOR).log())).sum(dim=1)
    return rows.mean() if total == "mean" else rows.sum()


def angular(
    cosine: Float[Tensor, "n m"], own: Bool[Tensor, "n m"], scale: float, margin: float
) -> Float[Tensor, "n m"]:
    """Logits of cosines, with a margin added to the angle of what is a row's own.

    Formula: `scale * cos(angle_ij + margin [own_ij])`. Where the angle and the margin exceed half a turn,
    `cos(angle) - margin sin(margin)` stands for the cosine, so that the logit keeps falling.

    Args:
        cosine: in [-1, 1].
        own: which columns are the row's own.
        scale: of the logits.
        margin: radians.

    Source: Deng et al., 2019 (ArcFace), section 3.1.

    Example:
        >>> angular(torch.eye(2), torch.eye(2).bool(), 1.0, torch.pi / 3)[0].round(decimals=3).tolist()
        [0.5, 0.0]
    """
    cosine = cosine.clamp(-1 + 1e-7, 1 - 1e-7)
    moved = cosine * math.cos(margin) - (1 - cosine.square()).sqrt() * math.sin(margin)
    moved = torch.where(cosine > math.cos(math.pi - margin), moved, cosine - margin * math.sin(margin))
    return scale * torch.where(own, moved, cosine)
