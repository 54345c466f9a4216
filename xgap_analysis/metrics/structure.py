"""Structure: whether two sets of features see the same relations among the same items, and how one turned into another.

Items are matched by index. Two sets of one modality (two models, two checkpoints) must have the same ids in the same
order; two modalities (images and their captions) give their own ids to the two halves of a pair.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.counts import check_count
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features, FeaturesLike, as_features, as_pair
from xgap_analysis.core.precision import exact, widest
from xgap_analysis.core.seeds import generator
from xgap_analysis.scoring.blocks import descending, score_blocks
from xgap_analysis.scoring.reductions import top

RIDGE = 1e-6  # pull towards "no turn", a millionth of the data's weight: it decides only where the data are silent


def linear_cka(x: FeaturesLike, y: FeaturesLike) -> float:
    """Linear centred kernel alignment: how alike the two sets of similarities are, up to rotation and scale.

    Formula: `||Y' X||_F^2 / (||X' X||_F ||Y' Y||_F)` with centred columns. In [0, 1]: 1 where one set is a rotation
    of the other. It is biased upwards when n is not much larger than d (see `debiased_cka` and `calibrated`). NaN where
    a set is one point.

    Args:
        x, y: `[n, d]` and `[n, e]`, the same items.

    Raises:
        XgapError: items that do not match.

    Source: Kornblith et al., Similarity of neural network representations revisited, ICML 2019, section 3.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> x = np.random.default_rng(0).normal(size=(20, 4))
        >>> round(xg.metrics.linear_cka(x, x[:, ::-1].copy()), 3)  # the same up to a rotation
        1.0
    """
    x, y = as_pair(x, y)
    check_same_items(x, y)
    a, b = (exact(own.vectors) - exact(own.vectors).mean(dim=0) for own in (x, y))
    return _ratio(float((b.T @ a).norm() ** 2), float((a.T @ a).norm() * (b.T @ b).norm()))


def debiased_cka(x: FeaturesLike, y: FeaturesLike) -> float:
    """Linear centred kernel alignment without its bias: around 0 for unrelated sets, whatever n and the dimensions.

    Formula: `HSIC(x, y) / sqrt(HSIC(x, x) HSIC(y, y))` with the unbiased estimator of Song et al.: similarities of an
    item with itself are left out, and with K and L the remaining ones, `HSIC = (tr(K L) + 1'K1 1'L1 / ((n - 1)(n - 2))
    - 2 1'KL1 / (n - 2)) / (n (n - 3))`. In [-1, 1]: 1 where one set is a rotation of the other, 0 by chance. NaN where
    a set is one point.

    Args:
        x, y: `[n, d]` and `[n, e]`, the same items, 4 at least.

    Raises:
        XgapError: items that do not match, or fewer than 4.

    Source: Song et al., Feature selection via dependence maximization, JMLR 2012, section 4; as CKA, Nguyen, Raghu and
    Kornblith, Do wide and deep networks learn the same things?, ICLR 2021, appendix A.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> x, y = random.normal(size=(60, 128)), random.normal(size=(60, 128))
        >>> round(xg.metrics.linear_cka(x, y), 1), round(xg.metrics.debiased_cka(x, y), 1)
        (0.7, -0.0)
        >>> round(xg.metrics.debiased_cka(x, x), 3)
        1.0
    """
    x, y = as_pair(x, y)
    check_same_items(x, y)
    if len(x) < 4:
        raise XgapError(f"an alignment without bias needs at least 4 items, not {len(x)}")
    a, b = (exact(own.vectors) - exact(own.vectors).mean(dim=0) for own in (x, y))
    return _ratio(_unbiased(a, b), math.sqrt(max(0.0, _unbiased(a, a)) * max(0.0, _unbiased(b, b))))


def _unbiased(a: Float[Tensor, "n d"], b: Float[Tensor, "n e"]) -> float:
    """HSIC of centred rows times `n (n - 3)`, without any matrix `[n, n]`."""
    n, own = len(a), [rows.square().sum(dim=1) for rows in (a, b)]
    sums = [rows @ rows.sum(dim=0) - each for rows, each in zip((a, b), own, strict=True)]  # of each row of K and of L
    both = (a.T @ b).square().sum() - own[0] @ own[1]
    whole = sums[0].sum() * sums[1].sum() / ((n - 1) * (n - 2))
    return float(both + whole - 2 * (sums[0] @ sums[1]) / (n - 2))


def mutual_knn(x: FeaturesLike, y: FeaturesLike, k: int = 10, *, block: int | None = None) -> float:
    """Share of an item's k nearest neighbours that the two sets have in common, mean over the items.

    In [0, 1]: 1 where all neighbourhoods agree, `k / (n - 1)` by chance. An item is not its own neighbour; equal
    similarities keep the items' order.

    Args:
        x, y: `[n, d]` and `[n, e]`, the same items.
        k: size of a neighbourhood, at most n - 1.
        block: items at a time; memory grows with `block * n` (see `retrieval`).

    Raises:
        XgapError: items that do not match, or k out of range.

    Source: Huh et al., The platonic representation hypothesis, ICML 2024, appendix A.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> x = np.random.default_rng(0).normal(size=(20, 4))
        >>> round(xg.metrics.mutual_knn(x, x[:, ::-1].copy(), k=3), 3)
        1.0
    """
    x, y = as_pair(x, y)
    check_same_items(x, y)
    check_count(k, "k, a number of neighbours,")
    if k >= len(x):
        raise XgapError(f"k must lie between 1 and the {len(x) - 1} other items, not {k}")
    shared = 0
    pairs = zip(score_blocks(x, x, block=block), score_blocks(y, y, block=block), strict=True)
    for (start, stop, a), (_, _, b) in pairs:
        here = torch.arange(stop - start)
        for scores in (a, b):
            scores[here, here + start] = -math.inf
        shared += int((top(a, None, 1, k) & top(b, None, 1, k).to(a.device)).sum())
    return shared / (k * len(x))


def similarity_spearman(x: FeaturesLike, y: FeaturesLike, *, sample: int = 2000, seed: int = 0) -> float:
    """Spearman's rank correlation of the two sets' cosine similarities, over all pairs of distinct items.

    In [-1, 1]: 1 where the two sets put all pairs in the same order, 0 where the orders are unrelated. Equal
    similarities share their mean rank. NaN where all similarities of a set are equal.

    Args:
        x, y: `[n, d]` and `[n, e]`, the same items, 3 at least.
        sample: ranks need all `n (n - 1) / 2` pairs at once; of more items than this, a random sample is taken
            (2000 items are 2 million pairs).
        seed: of the sample.

    Raises:
        XgapError: items that do not match, or fewer than 3.

    Source: representational similarity analysis, Kriegeskorte et al., Frontiers in Systems Neuroscience 2008.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> x = np.random.default_rng(0).normal(size=(20, 4))
        >>> round(xg.metrics.similarity_spearman(x, x[:, ::-1].copy()), 3)
        1.0
    """
    x, y = as_pair(x, y)
    check_same_items(x, y)
    if len(x) < 3:
        raise XgapError(f"a rank correlation of pairs needs at least 3 items, not {len(x)}")
    chosen: np.ndarray = np.arange(len(x))
    if len(x) > sample:
        chosen = np.sort(generator(seed).choice(len(x), sample, replace=False))
    ranks = []
    for own in (x, y):
        rank = similarity_ranks(exact(own.vectors.cpu()[torch.from_numpy(chosen)]))
        ranks.append(rank - rank.mean())
    return _ratio(float(ranks[0] @ ranks[1]), math.sqrt(float(ranks[0] @ ranks[0]) * float(ranks[1] @ ranks[1])))


def structure_table(features: Mapping[str, FeaturesLike], *, k: int = 10) -> pd.DataFrame:
    """How alike several sets of features (of several models, say) see the same items: one row for each pair of sets.

    Columns: the names `a` and `b`, `linear_cka`, `mutual_knn`, `spearman` (of the similarities; see the functions of
    these names) and the number of items `n`.

    Args:
        features: name to features of the same items, two sets at least.
        k: size of a neighbourhood.

    Raises:
        XgapError: fewer than two sets, or what the functions refuse.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> x = np.random.default_rng(0).normal(size=(20, 4))
        >>> xg.metrics.structure_table({"one": x, "other": x}, k=3).round(2)
             a      b  linear_cka  mutual_knn  spearman   n
        0  one  other         1.0         1.0       1.0  20
    """
    if len(features) < 2:
        raise XgapError(f"at least two sets of features are compared, not {len(features)}")
    sets = {name: as_features(of) for name, of in features.items()}
    rows = [
        {
            "a": a,
            "b": b,
            "linear_cka": linear_cka(x, y),
            "mutual_knn": mutual_knn(x, y, k),
            "spearman": similarity_spearman(x, y),
            "n": len(x),
        }
        for (a, x), (b, y) in itertools.combinations(sets.items(), 2)
    ]
    return pd.DataFrame(rows)


def similarity_ranks(vectors: Float[Tensor, "n d"]) -> Float[np.ndarray, " p"]:
    """Ranks of the similarities of all p pairs of distinct items, row by row above the diagonal; see `_mid_ranks`."""
    above = torch.ones(len(vectors), len(vectors), dtype=torch.bool).triu(diagonal=1)
    return _mid_ranks((vectors @ vectors.T).float()[above])  # float32, so that ties stay ties


def _mid_ranks(scores: Float[Tensor, " n"]) -> np.ndarray:
    """Ranks by descending score (from 0); equal scores share the mean of theirs."""
    order = descending(scores[None])[0].numpy()
    ordered = scores.numpy()[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    sizes = np.diff(starts, append=len(order))
    ranks = np.empty(len(order))
    ranks[order] = np.repeat(starts + (sizes - 1) / 2, sizes)
    return ranks


@dataclass(frozen=True)
class Rotation:
    """How far the features of a modality rotated between two checkpoints.

    Args:
        mean_degrees: mean angle between an item's vectors before and after, in [0, 180].
        residual: root mean square distance left after the best orthogonal map, in [0, 1.42]; 0 where the features
            rotated rigidly, so that similarities within the modality did not change.
        n: number of items.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> x = np.random.default_rng(0).normal(size=(20, 2))
        >>> round(xg.metrics.rotation(x, x).mean_degrees, 1)
        0.0
    """

    mean_degrees: float
    residual: float
    n: int


def rotation(before: FeaturesLike, after: FeaturesLike) -> Rotation:
    """Intra-modal rotation: how far the vectors of one modality rotated, and how rigidly.

    Formula: `mean_degrees` is the mean over items of `arccos(before_i . after_i)`; `residual` is
    `min over orthogonal Q of ||before Q - after||_F / sqrt(n)` (orthogonal Procrustes).

    Args:
        before, after: `[n, d]`, the same ids, at two checkpoints of one model.

    Raises:
        XgapError: ids or dimensions that differ.

    Source: Ni et al., Continual vision-language representation learning with off-diagonal information (Mod-X), ICML
    2023, section 3; the best map, Schoenemann, Psychometrika 1966.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> x = np.random.default_rng(0).normal(size=(20, 2))
        >>> turned = xg.metrics.rotation(x, x @ np.array([[0.0, 1.0], [-1.0, 0.0]]))
        >>> round(turned.mean_degrees, 1), round(turned.residual, 3)
        (90.0, 0.0)
    """
    before, after = as_pair(before, after)
    check_same_items(before, after, same=True)
    a, b = exact(before.vectors), exact(after.vectors)
    angles = 2 * torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1))  # exact for small angles, unlike the arccosine
    fitted = torch.linalg.svdvals(a.T @ b).sum()
    left = (a.square().sum() + b.square().sum() - 2 * fitted).clamp(min=0)
    return Rotation(float(angles.mean().rad2deg()), float((left / len(a)).sqrt()), len(a))


def deviation(before_x: FeaturesLike, after_x: FeaturesLike, before_y: FeaturesLike, after_y: FeaturesLike) -> float:
    """Inter-modal deviation: how differently two modalities rotated between two checkpoints.

    Formula: `||Q_x - Q_y||_F / (2 sqrt(d))`, with Q the orthogonal map that takes a modality's vectors nearest to
    those after. It is the root mean square of `sin(angle / 2)` over the d turns that lead from one map to the other.
    In [0, 1]: 0 where both rotated in the same way, however far, which preserves similarities across modalities; 1
    where they rotated in opposite ways. Directions that a modality does not use rotate as little as possible.

    Args:
        before_x, after_x: `[n, d]`, the same ids, at two checkpoints.
        before_y, after_y: `[m, d]`, likewise for the other modality; vectors need not be paired.

    Raises:
        XgapError: ids or dimensions that differ.

    Source: the idea, Ni et al. (Mod-X), ICML 2023, section 3; they compare angles and state no such number.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> x, y = random.normal(size=(20, 2)), random.normal(size=(30, 2))
        >>> turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
        >>> round(xg.metrics.deviation(x, x @ turn, y, y @ turn), 3)  # both rotated in the same way
        0.0
        >>> round(xg.metrics.deviation(x, x @ turn, y, y), 3)  # only x rotated, by 90 degrees
        0.707
    """
    before_x, after_x = as_pair(before_x, after_x)
    before_y, after_y = as_pair(before_y, after_y)
    check_same_items(before_x, after_x, same=True)
    check_same_items(before_y, after_y, same=True)
    if before_x.dim != before_y.dim:
        raise XgapError(f"the two modalities have {before_x.dim} and {before_y.dim} dimensions; they must be the same")
    turns = [_best_map(*pair) for pair in ((before_x, after_x), (before_y, after_y))]
    return float((turns[0] - turns[1].to(turns[0].device)).norm() / (2 * math.sqrt(before_x.dim)))


def _best_map(before: Features, after: Features) -> Float[Tensor, "d d"]:
    product = exact(before.vectors).T @ exact(after.vectors)
    still = torch.eye(before.dim, dtype=widest(product.device), device=product.device)
    u, _, vh = torch.linalg.svd(product + RIDGE * len(before) / before.dim * still)
    return u @ vh


def _ratio(top: float, bottom: float) -> float:
    return top / bottom if bottom > 0 else math.nan


def check_same_items(x: Features, y: Features, *, same: bool = False) -> None:
    """Raises an `XgapError` unless the rows of two sets are the same items, of one modality and width if `same`."""
    if len(x) != len(y):
        raise XgapError(f"the two sets have {len(x)} and {len(y)} items; they must be the same items")
    if not len(x):
        raise XgapError("there are no items to compare")
    if (same or x.origin == y.origin) and x.ids != y.ids:
        first = next(i for i, (a, b) in enumerate(zip(x.ids, y.ids, strict=True)) if a != b)
        raise XgapError(
            f"row {first} is {x.ids[first]!r} in one and {y.ids[first]!r} in the other; "
            "the ids must be the same in the same order (use Features.select)"
        )
    if same and x.dim != y.dim:
        raise XgapError(f"the checkpoints have {x.dim} and {y.dim} dimensions; they must be the same")
