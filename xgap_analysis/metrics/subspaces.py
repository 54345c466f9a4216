"""Subspaces: the directions that a modality uses, and the angles between those of two modalities."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features, FeaturesLike, as_pair
from xgap_analysis.core.precision import exact
from xgap_analysis.core.seeds import generator
from xgap_analysis.metrics.gap import gap_vector
from xgap_analysis.metrics.spread import distinct, effective_rank

RANKS = ("energy", "effective")
DRAWS = 20  # pairs of random subspaces, whose angles are those of chance


@dataclass(frozen=True)
class PrincipalAngles:
    """Angles between the subspaces of two modalities.

    Args:
        degrees: ascending, as many as the smaller subspace has dimensions, in [0, 90].
        rank_x, rank_y: dimensions of the two subspaces, of the `dim` that there are.
        chance: the mean angles of pairs of random subspaces of these ranks, in the same order.
        note: what the numbers of dimensions alone decide; empty where they decide nothing.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> x, y = np.eye(4)[:2], np.eye(4)[2:]
        >>> [round(angle) for angle in xg.metrics.principal_angles(x, y).degrees]
        [90, 90]
    """

    degrees: tuple[float, ...]
    rank_x: int
    rank_y: int
    dim: int
    chance: tuple[float, ...]
    note: str = ""


def principal_angles(
    x: FeaturesLike,
    y: FeaturesLike,
    *,
    rank: str | int = "energy",
    energy: float = 0.95,
    centred: bool = False,
    seed: int = 0,
) -> PrincipalAngles:
    """Principal angles between the subspaces in which two modalities lie: which directions they have in common.

    How to read it: 0 degrees is a direction that both use, 90 one that the other does not use at all. Compare with
    `chance`: subspaces of high rank have small angles wherever they lie, and where one fills the space all are 0 and
    say nothing (`note`). Uncentred subspaces hold the direction of the cone; centred ones hold the variation within
    each modality. Items need not be paired.

    Formula: `cos(theta_k)` are the singular values of `U_x' U_y`, U `[d, r]` the leading right singular vectors of the
    distinct rows. The rank r holds the share `energy` of the sum of squared singular values, or is the rounded
    `effective_rank`, or a number.

    Args:
        x, y: `[n, d]` and `[m, d]`.
        rank: `"energy"`, `"effective"`, or the rank of both.
        energy: share of the squared singular values.
        centred: subtract the mean of each modality first.
        seed: of the random subspaces.

    Raises:
        XgapError: different dimensions, an unknown rank, one that the vectors do not span, or vectors that are all the
            same.

    Source: Bjorck and Golub, Numerical methods for computing angles between linear subspaces, 1973; between modalities,
    Decipher the modality gap in multimodal contrastive learning, 2025.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> x = np.eye(5)[:3]
        >>> turned = x.copy()
        >>> turned[2] = [0, 0, np.cos(0.4), np.sin(0.4), 0]  # one of three directions by 0.4
        >>> np.radians(xg.metrics.principal_angles(x, turned).degrees).round(3).tolist()
        [0.0, 0.0, 0.4]
    """
    x, y = as_pair(x, y)
    if x.dim != y.dim:
        raise XgapError(f"x has {x.dim} dimensions and y {y.dim}; they must be the same")
    first, second = (_basis(own, rank, energy, centred) for own in (x, y))
    degrees = _angles(first, second)
    rng = generator(seed)
    sizes = first.shape[1], second.shape[1]
    drawn = [_angles(*(_random(x.dim, size, rng) for size in sizes)) for _ in range(DRAWS)]
    chance = np.mean([[float(angle) for angle in angles] for angles in drawn], axis=0)
    forced = max(0, sum(sizes) - x.dim)
    note = f"{forced} of {len(degrees)} angles are 0 by the number of dimensions" if forced else ""
    note = "full rank, no information" if max(sizes) == x.dim else note
    return PrincipalAngles(tuple(degrees.tolist()), *sizes, x.dim, tuple(chance.tolist()), note)


def principal_angles_table(
    x: FeaturesLike, y: FeaturesLike, *, rank: str | int = "energy", energy: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """The principal angles of uncentred and of centred subspaces in figures: one row each.

    Columns: `rows` (`"uncentred"`, `"centred"`), `rank_x`, `rank_y`, `dim`, the `smallest`, `mean` and `largest` angle
    in degrees, `smallest_by_chance` and `mean_by_chance` of random subspaces of these ranks, and the `note`.

    Args:
        x, y, rank, energy, seed: as in `principal_angles`.

    Raises:
        XgapError: as `principal_angles`.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> x, y = random.normal(size=(2, 50, 3)) @ random.normal(size=(2, 3, 12))
        >>> xg.metrics.principal_angles_table(x, y, rank=2)[["rows", "rank_x", "dim"]]
                rows  rank_x  dim
        0  uncentred       2   12
        1    centred       2   12
    """
    rows = []
    for name, centred in (("uncentred", False), ("centred", True)):
        found = principal_angles(x, y, rank=rank, energy=energy, centred=centred, seed=seed)
        rows.append(
            {
                "rows": name,
                "rank_x": found.rank_x,
                "rank_y": found.rank_y,
                "dim": found.dim,
                "smallest": found.degrees[0],
                "mean": float(np.mean(found.degrees)),
                "largest": found.degrees[-1],
                "smallest_by_chance": found.chance[0],
                "mean_by_chance": float(np.mean(found.chance)),
                "note": found.note,
            }
        )
    return pd.DataFrame(rows)


def variance_along_gap(x: FeaturesLike, y: FeaturesLike) -> float:
    """Share of the variance of both modalities together that lies along the gap vector.

    Formula: `var(z . g) / sum over dimensions of var(z)`, z the rows of x and y, g the unit vector from one mean to the
    other. In [0, 1]: near 1 almost all differences between vectors are due to the gap; 1 / d for an average direction.

    Args:
        x, y: `[n, d]` and `[m, d]`.

    Raises:
        XgapError: no vectors, or different dimensions.

    Source: the observation that few directions carry the gap, Schrodi et al., Two Effects, One Trigger, ICLR 2025.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> x = np.random.default_rng(0).normal([3.0, 0.0], 0.5, (40, 2))
        >>> round(xg.metrics.variance_along_gap(x, -x), 2)
        0.98
    """
    x, y = as_pair(x, y)
    gap = exact(gap_vector(x, y))
    z = torch.cat([exact(x.vectors), exact(y.vectors)])
    along = z @ (gap / gap.norm())
    return float(along.var(correction=0) / z.var(dim=0, correction=0).sum())


def _basis(x: Features, rank: str | int, energy: float, centred: bool) -> Float[Tensor, "d r"]:
    vectors = exact(distinct(x).vectors.cpu())
    if centred:
        vectors = vectors - vectors.mean(dim=0)
    _, values, directions = torch.linalg.svd(vectors, full_matrices=False)
    noise = math.sqrt(vectors.numel()) * torch.finfo(torch.float32).eps  # of unit vectors in single precision
    spanned = int((values > noise).sum())
    if not spanned:
        raise XgapError("all vectors of a modality are the same: centred, they span no direction")
    return directions[: min(spanned, _rank(x, values, rank, energy, centred, spanned))].T


def _rank(x: Features, values: Float[Tensor, " s"], rank: str | int, energy: float, centred: bool, spanned: int) -> int:
    if isinstance(rank, int) and not isinstance(rank, bool):
        if not 1 <= rank <= spanned:
            raise XgapError(f"the vectors span {spanned} directions; a rank lies between 1 and that, and is not {rank}")
        return rank
    if rank == "effective":
        return max(1, round(effective_rank(x, centred=centred)))
    if rank != "energy" or not 0 < energy <= 1:
        known = f"a number or one of {', '.join(RANKS)}"
        raise XgapError(f"the rank is {known}, and an energy lies in (0, 1]; not {rank!r} and {energy}")
    share = values.square().cumsum(dim=0) / values.square().sum()
    return int((share < energy - 1e-12).sum()) + 1


def _angles(u: Float[Tensor, "d r"], v: Float[Tensor, "d s"]) -> Float[Tensor, " k"]:
    """Degrees, ascending; small angles from their sines and large ones from their cosines, which are exact there."""
    if v.shape[1] > u.shape[1]:
        u, v = v, u
    cosines = torch.linalg.svdvals(u.T @ v).clamp(max=1)
    sines = torch.linalg.svdvals(v - u @ (u.T @ v)).clamp(max=1).flip(dims=(0,))
    small = cosines.square() > 0.5
    return torch.where(small, sines.arcsin(), cosines.arccos()).rad2deg()


def _random(d: int, rank: int, rng: np.random.Generator) -> Float[Tensor, "d r"]:
    return torch.linalg.qr(torch.from_numpy(rng.normal(size=(d, rank)))).Q
