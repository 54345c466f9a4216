"""Whether two sets of vectors of the same items are the same: of two libraries, two precisions, two versions."""

import math
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from xgap_analysis.core.arrays import matrix
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features, FeaturesLike
from xgap_analysis.core.precision import exact
from xgap_analysis.metrics.structure import mutual_knn, rotation
from xgap_analysis.scoring.blocks import score_blocks

SAME, SCALED, TURNED, ORDER, DIFFERENT = (
    "same vectors",
    "same up to scale",
    "same up to rotation",
    "same in another order",
    "different",
)
LOW = 0.99  # a cosine below which a row is counted as different


@dataclass(frozen=True, eq=False)
class VectorComparison:
    """What `compare_vectors` found.

    Args:
        verdict: `"same vectors"`, `"same up to scale"`, `"same up to rotation"`, `"same in another order"` or
            `"different"`.
        sentence: the verdict with the numbers that it rests on.
        rows: one row per item, under its id: `cosine` of its two vectors in [-1, 1] (NaN where dimensions differ), and
            `scale`, the length in b over that in a.
        overlap: share of an item's k nearest neighbours that both have in common, mean over items (`mutual_knn`).
        residual: root mean square distance of unit vectors after the best rotation, in [0, 1.42].
        k: of the neighbours.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> x = np.random.default_rng(0).normal(size=(20, 4))
        >>> xg.compare_vectors(x, 2 * x).rows["scale"].round(2).unique().tolist()
        [2.0]
    """

    verdict: str
    sentence: str
    rows: pd.DataFrame = field(repr=False)
    overlap: float
    residual: float
    k: int


def compare_vectors(a: FeaturesLike, b: FeaturesLike, *, k: int = 10, tolerance: float = 5e-3) -> VectorComparison:
    """Whether two sets of vectors of the same items are the same, and if not, up to what.

    The first that holds is the verdict, with t the tolerance and u(x) the unit vector of x:

    | verdict | holds where |
    |---|---|
    | same vectors | `a_i - b_i` is at most t as long as `a_i`, of every item |
    | same up to scale | `u(a_i) - u(b_i)` has length t at most, of every item: cosines and rankings are the same |
    | same in another order | every `u(a_i)` is within t of one `u(b_j)`, each j once: rows are mismatched |
    | same up to rotation | `residual <= t`: the same similarities within a and within b, not between them |
    | different | otherwise |

    The default tolerance is the rounding of half precision (bfloat16 included).

    Args:
        a, b: `[n, d]` and `[n, e]`, of any length: arrays, whose rows are matched by position, or data frames by their
            index, or `Features` by id, whose rows have unit length already.
        k: neighbours of the rank overlap; fewer where there are fewer items.
        tolerance: see above.

    Raises:
        XgapError: other items, fewer than three, or a row that is zero or holds a NaN.

    Source: reports of two serving stacks that disagree, as vllm-project/vllm#16406; the best rotation, Schoenemann,
    Psychometrika 1966.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> x = np.random.default_rng(0).normal(size=(20, 4))
        >>> xg.compare_vectors(x, x.astype(np.float16)).verdict
        'same vectors'
        >>> xg.compare_vectors(x, x[:, ::-1].copy()).verdict
        'same up to rotation'
        >>> xg.compare_vectors(x, x[::-1].copy()).verdict
        'same in another order'
    """
    ids, first, second = _matched(a, b)
    one, other = (Features(x, ids, "vectors", "vectors") for x in (first, second))
    lengths = [np.linalg.norm(x, axis=1) for x in (first, second)]
    k = min(k, len(ids) - 1)
    alike = first.shape[1] == second.shape[1]
    units = [exact(f.vectors).cpu().numpy() for f in (one, other)]
    cosine = (units[0] * units[1]).sum(axis=1) if alike else np.full(len(ids), math.nan)
    rows = pd.DataFrame({"cosine": cosine, "scale": lengths[1] / lengths[0]}, index=pd.Index(ids, name="id"))
    residual = rotation(*_as_wide(one, other)).residual
    overlap = mutual_knn(one, other, k)
    apart = np.linalg.norm(units[0] - units[1], axis=1) if alike else np.full(len(ids), math.inf)
    moved = np.linalg.norm(first - second, axis=1) / lengths[0] if alike else np.full(len(ids), math.inf)
    sizes = "" if alike else f"a has {first.shape[1]} dimensions and b {second.shape[1]}; "
    neighbours = f"{overlap:.1%} of {k} nearest neighbours in common"
    if moved.max() <= tolerance:
        found = SAME, f"the largest difference of a row is {moved.max():.1e} of its length; {neighbours}"
    elif apart.max() <= tolerance:
        found = SCALED, f"{_scales(rows['scale'])}, cosines at least {cosine.min():.6f}; {neighbours}"
    elif alike and (order := _order(one, other, tolerance)) is not None:
        wrong = int((order != np.arange(len(ids))).sum())
        row = int(np.flatnonzero(order != np.arange(len(ids)))[0])
        found = ORDER, f"{wrong} of {len(ids)} rows stand elsewhere, {ids[row]!r} of a at {ids[order[row]]!r} of b"
    elif residual <= tolerance:
        found = (
            TURNED,
            f"{sizes}mean cosine {_mean(cosine)}, {residual:.1e} apart after the best rotation; {neighbours}",
        )
    else:
        why = f"{sizes}{_low(rows['cosine'])}{residual:.3f} apart after the best rotation"
        found = DIFFERENT, f"{why}; {neighbours}"
    verdict, why = found
    return VectorComparison(verdict, f"{verdict}: {why}", rows, overlap, residual, k)


def _matched(a: FeaturesLike, b: FeaturesLike) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]:
    """Ids and both sets of rows in one order, as doubles and not scaled."""
    sets = [(_ids(x), exact(matrix(x.vectors if isinstance(x, Features) else x)).cpu().numpy()) for x in (a, b)]
    n = [len(rows) for _, rows in sets]
    named = [ids for ids, _ in sets if ids is not None]
    if n[0] != n[1] or (len(named) == 2 and set(named[0]) != set(named[1])):
        raise XgapError(f"a has {n[0]} rows and b {n[1]}, and they must be of the same items; select those of both")
    if n[0] < 3:
        raise XgapError(f"vectors are compared of three items or more, not {n[0]}")
    ids = named[0] if named else tuple(map(str, range(n[0])))
    (_, first), (_, second) = sets
    if len(named) == 2 and named[0] != named[1]:
        at = {item: row for row, item in enumerate(named[1])}
        second = second[[at[item] for item in ids]]
    return tuple(ids), first, second


def _ids(x: FeaturesLike) -> tuple[str, ...] | None:
    """The names of the rows; None where they are numbers, or there are none."""
    named = x.ids if isinstance(x, Features) else x.index if isinstance(x, pd.DataFrame) else ()
    ids = tuple(map(str, named))
    return None if ids == tuple(map(str, range(len(ids)))) else ids


def _as_wide(one: Features, other: Features) -> tuple[Features, Features]:
    """Both with as many dimensions, zeros behind those of the narrower."""
    dim = max(one.dim, other.dim)
    wide = [torch.nn.functional.pad(f.vectors, (0, dim - f.dim)) for f in (one, other)]
    return tuple(Features(x, one.ids, "vectors", "vectors") for x in wide)  # type: ignore[return-value]


def _order(one: Features, other: Features, tolerance: float) -> NDArray[np.int64] | None:
    """The row of b that each row of a is; None where some row is none, or two are one."""
    found = []
    for _, _, scores in score_blocks(one, other):
        best, place = scores.max(dim=1)
        if float(best.min()) < 1 - tolerance**2:  # a little wide, since single precision rounds
            return None
        found.append(place.cpu().numpy())
    order = np.concatenate(found)
    return order if len(set(order.tolist())) == len(order) else None


def _scales(scale: pd.Series) -> str:
    low, high = float(scale.min()), float(scale.max())
    if high / low < 1.01:
        return f"b is {(low + high) / 2:.4g} times a"
    return f"b is {low:.4g} to {high:.4g} times a, a factor for each row"


def _mean(cosine: NDArray[np.float64]) -> str:
    return "unknown" if np.isnan(cosine).any() else f"{cosine.mean():.3f}"


def _low(cosine: pd.Series) -> str:
    if cosine.isna().any():
        return ""
    below = int((cosine < LOW).sum())
    worst = f"the lowest {cosine.min():.3f} of row {cosine.idxmin()!r}"
    return f"mean cosine of a row {cosine.mean():.3f}, {below} of {len(cosine)} below {LOW}, {worst}; "
