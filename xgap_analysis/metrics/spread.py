"""How widely one modality is spread over the sphere. Each distinct vector counts once; all is read block by block.

Sums are taken in double precision. What runs over all pairs of items is exact, in closed form or in blocks, and the
matrix of a spectrum is never held: each block is folded into a triangle `[d, d]` that has the same singular values.
"""

import hashlib
import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import ROWS, Features, FeaturesLike, as_features
from xgap_analysis.core.precision import exact
from xgap_analysis.scoring.blocks import block_of

COLUMNS = 2**15  # rows beside each other in a tile of pairs


def uniformity(x: FeaturesLike, *, block: int | None = None) -> float:
    """How evenly a modality covers the sphere: `log E exp(-2 ||u - v||^2)` over its pairs of distinct vectors.

    In [-8, 0]: 0 where all vectors are the same, about -4 for many even directions in high dimension. Lower is more
    uniform.

    Args:
        x: `[n, d]`, n at least 2.
        block: rows at a time; memory grows with it, and by default it stays within half a GiB.

    Source: Wang and Isola, Understanding contrastive representation learning, ICML 2020, section 4 (t = 2).

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> square = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
        >>> narrow = square * 0.1 + [1.0, 0.0]
        >>> round(xg.metrics.uniformity(square), 2), round(xg.metrics.uniformity(narrow), 2)
        (-4.4, -0.04)
    """
    x = as_features(x)
    _check(x)
    x = distinct(x)
    if len(x) < 2:
        return 0.0
    block = block_of(min(len(x), COLUMNS), cell=24, most=1024) if block is None else block
    total = 0.0
    for first in range(0, len(x), COLUMNS):  # the upper triangle, a tile at a time
        columns = exact(x.block(first, min(first + COLUMNS, len(x))))
        norms = columns.square().sum(dim=1)
        for start in range(0, first + len(columns), block):
            rows = exact(x.block(start, min(start + block, first + len(columns))))
            distances = (rows @ columns.T).mul_(-2).add_(norms).add_(rows.square().sum(dim=1)[:, None])
            near = distances.clamp_(min=0).mul_(-2).exp_()
            total += float(near.triu_(diagonal=start - first + 1).sum())
            del distances, near  # before the next
    return math.log(2 * total / (len(x) * (len(x) - 1)))


def cone(x: FeaturesLike) -> float:
    """Mean cosine between two distinct vectors of a modality: how narrow its cone is.

    Formula: `(||sum of rows||^2 - sum of ||row||^2) / (n (n - 1))` over the n distinct rows, which is the mean over all
    pairs. In [-1 / (n - 1), 1]: 0 for even directions, 1 where all vectors are the same.

    Source: the cone effect, Liang et al., Mind the Gap, NeurIPS 2022, section 2.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> square = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
        >>> round(xg.metrics.cone(square), 3), round(xg.metrics.cone(square * 0.1 + [1.0, 0.0]), 3)
        (-0.333, 0.99)
    """
    x = as_features(x)
    _check(x)
    x = distinct(x)
    if len(x) < 2:
        return 1.0
    n, squares = len(x), sum(float(exact(block).square().sum()) for block in blocks_of(x))
    return (float((n * mean_of(x)).square().sum()) - squares) / (n * (n - 1))


def effective_rank(x: FeaturesLike, *, centred: bool = False) -> float:
    """Number of dimensions that a modality really uses: the exponential of the entropy of its spectrum.

    Formula: `exp(-sum p_i log p_i)`, `p_i = s_i / sum s`, with the singular values s (not their squares) of the matrix
    `[n, d]` of distinct rows. In [1, min(n, d)]: 1 where all vectors lie on a line, min(n, d) for an even spectrum.

    Args:
        x: `[n, d]`.
        centred: subtract the mean first, so that the direction of the cone does not count. The source does not.

    Raises:
        XgapError: no vectors, or only equal ones that are centred.

    Source: Roy and Vetterli, The effective rank, EUSIPCO 2007; as RankMe for representations in Garrido et al., 2023.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> round(xg.metrics.effective_rank(np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])), 3)
        2.0
    """
    x = distinct(x)
    if not len(x):
        raise XgapError("there are no vectors to take a spectrum of")
    mean = mean_of(x) if centred else 0
    triangle = None
    for block in blocks_of(x):
        rows = exact(block) - mean
        triangle = torch.linalg.qr(rows if triangle is None else torch.cat([triangle, rows]), mode="r").R
    values = torch.linalg.svdvals(triangle)
    if not float(values.sum()):
        raise XgapError("all vectors are the same: centred, they have no spectrum")
    p = values / values.sum()
    return float(torch.special.entr(p).sum().exp())


def distinct(x: FeaturesLike) -> Features:
    """One row of each vector that stands several times, bit for bit, such as a class text beside each of its images."""
    x = as_features(x)
    first: dict[bytes, int] = {}
    number = 0
    for block in blocks_of(x):
        for row in block.cpu().numpy():
            first.setdefault(hashlib.blake2b(row.tobytes(), digest_size=16).digest(), number)
            number += 1
    return x if len(first) == len(x) else x.select(x.ids[i] for i in first.values())


def blocks_of(x: Features) -> Iterator[Float[Tensor, "b d"]]:
    """The vectors, some at a time."""
    for start in range(0, len(x), ROWS // 4):
        yield x.block(start, min(start + ROWS // 4, len(x)))


def mean_of(x: Features) -> Float[Tensor, " d"]:
    """The mean in double precision."""
    return sum((exact(block).sum(dim=0) for block in blocks_of(x)), torch.zeros(())) / len(x)


def _check(x: Features) -> None:
    if len(x) < 2:
        raise XgapError(f"a modality has {len(x)} vectors; at least 2 are needed")
