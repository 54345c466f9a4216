"""The modality gap: where two modalities lie on the sphere, how far apart, and how widely each is spread.

x is one modality (images) and y the other (texts), as `Features` or as arrays. Pairs are by id, and by position only
where two arrays of as many rows, which have no ids, are given side by side. What is measured within one
modality counts each distinct vector once, so that a class text that stands beside a hundred images is one text. Sums of
float32 vectors are taken in double precision; whatever runs over all pairs of items is exact, in closed form or in
blocks.
"""

import math
import warnings
from collections.abc import Collection, Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features, FeaturesLike, as_pair, side_by_side
from xgap_analysis.core.precision import exact
from xgap_analysis.core.seeds import check_seed, generator
from xgap_analysis.core.table_values import id_text
from xgap_analysis.metrics.sampled import sampled_uniformity
from xgap_analysis.metrics.spread import blocks_of, cone, effective_rank, mean_of, uniformity


def gap_vector(x: FeaturesLike, y: FeaturesLike) -> Float[Tensor, " d"]:
    """The vector from the centre of y to the centre of x: `mean(x) - mean(y)`, `[d]`.

    Source: Liang et al., Mind the Gap, NeurIPS 2022, section 4.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> x, y = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[-1.0, 0.0], [0.0, -1.0]])
        >>> np.asarray(xg.metrics.gap_vector(x, y)).round(2).tolist()
        [1.0, 1.0]
    """
    x, y = as_pair(x, y)
    _check(x, y)
    return (mean_of(x) - mean_of(y)).float()


def modality_gap(x: FeaturesLike, y: FeaturesLike) -> float:
    """Distance between the means of the two modalities, `||mean(x) - mean(y)||`.

    In [0, 2]: 0 where the means are equal, about 0.8 for CLIP. It shrinks when a modality spreads out, whether or not
    pairs come closer together; see `relative_modality_gap`. Vectors need not be paired.

    Source: Liang et al., Mind the Gap, NeurIPS 2022, section 4.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> x, y = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[-1.0, 0.0], [0.0, -1.0]])
        >>> round(xg.metrics.modality_gap(x, y), 3)  # means (0.5, 0.5) and (-0.5, -0.5)
        1.414
        >>> round(xg.metrics.modality_gap(x, x), 3)
        0.0
    """
    x, y = as_pair(x, y)
    _check(x, y)
    return float((mean_of(x) - mean_of(y)).norm())


def relative_modality_gap(
    x: FeaturesLike, y: FeaturesLike, pairs: Mapping[Any, Collection[Hashable]] | None = None
) -> float:
    """RMG: the distance within pairs, relative to the distances within each modality.

    Formula: `D_match / (D_intra + D_match)` with `d(u, v) = (1 - cos(u, v)) / 2`, `D_match` the mean of d over the
    pairs, and `D_intra` the mean over the two modalities of the mean of d over their distinct items. In [0, 1]: 0 where
    pairs coincide, 0.5 where a pair is as far apart as two items of a modality, 1 where each is one point. NaN where
    all vectors are the same.

    Args:
        x, y: `[n, d]` and `[m, d]`; by default paired by id.
        pairs: id of x to the ids of y that are its pairs, where an image has several captions
            (`Relevance.pairs`); each pair counts once in `D_match`, and each distinct vector of a pair in `D_intra`.

    Raises:
        XgapError: different dimensions, no pair, one id in place of several, or an id of `pairs` without a vector.

    Source: Schrodi et al., Two Effects, One Trigger, ICLR 2025.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> x = np.array([[1.0, 0.0], [0.0, 1.0]])
        >>> round(xg.metrics.relative_modality_gap(x, x), 3)  # pairs coincide
        0.0
        >>> round(xg.metrics.relative_modality_gap(x, -x), 3)  # pairs are farther apart than items of a modality
        0.667
    """
    x, y = paired(x, y) if pairs is None else as_pair(x, y)
    _check(x, y)
    if pairs is None:
        cosine = cross_cosine(x, y)
    else:
        x, y, cosine = with_several(x, y, pairs)
    match = max(0.0, (1 - cosine) / 2)
    intra = max(0.0, (1 - (cone(x) + cone(y)) / 2) / 2)
    return match / (intra + match) if intra + match > 0 else math.nan


def separability(x: FeaturesLike, y: FeaturesLike, *, folds: int = 5, seed: int = 0) -> float:
    """How well a hyperplane separates the modalities: accuracy of logistic regression on held-out vectors.

    Formula: mean accuracy over the folds of a stratified, shuffled cross-validation of scikit-learn's
    `LogisticRegression` (C = 1). In [0, 1]: 1 where the modalities are linearly separable, the share of the larger
    one (0.5 for equal numbers) where they are not separable at all. Lower is better for a shared space.

    Args:
        x, y: `[n, d]` and `[m, d]`, no pairs needed.
        folds: at most this many; fewer where a modality has fewer vectors.
        seed: of the shuffle.

    Source: Shi et al., Towards understanding the modality gap in CLIP, ICLR 2023 workshops; LS in An et al., I0T,
    ACL 2025.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> x = np.random.default_rng(0).normal([3.0, 0.0], 0.5, (40, 2))
        >>> round(xg.metrics.separability(x, -x), 2)  # two separate clusters
        1.0
    """
    hits, weights = np.concatenate(held_out_hits(x, y, folds=folds, seed=seed)).T
    return float(hits.sum() / weights.sum())


def held_out_hits(
    x: FeaturesLike, y: FeaturesLike, *, folds: int = 5, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What each vector adds to `separability`: `[n, 2]` and `[m, 2]`, first its weight where it is right.

    The second column is the weight. A fold counts once, however many vectors are in it: the weight is 1 over the number
    of folds and that of the fold's vectors.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    x, y = as_pair(x, y)
    _check(x, y, least=2)
    check_seed(seed)
    vectors = np.concatenate([x.vectors.cpu().numpy(), y.vectors.cpu().numpy()])
    modality = np.repeat([0, 1], [len(x), len(y)])
    split = StratifiedKFold(min(folds, len(x), len(y)), shuffle=True, random_state=seed)
    predicted = cross_val_predict(LogisticRegression(max_iter=1000), vectors, modality, cv=split)
    weights = np.empty(len(vectors))
    for _, held_out in split.split(vectors, modality):
        weights[held_out] = 1 / (split.get_n_splits() * len(held_out))
    rows = np.stack([weights * (predicted == modality), weights], axis=1)
    return rows[: len(x)], rows[len(x) :]


def alignment(x: FeaturesLike, y: FeaturesLike) -> float:
    """Mean squared distance of the pairs, `E ||x_i - y_i||^2` = `2 - 2 E cos(x_i, y_i)`.

    In [0, 4]: 0 where pairs coincide, 2 where they are orthogonal. Lower is better.

    Source: Wang and Isola, Understanding contrastive representation learning, ICML 2020, section 4 (alpha = 2).

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> x, y = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 0.0], [1.0, 0.0]])
        >>> round(xg.metrics.alignment(x, y), 3)  # squared distances 0 and 2
        1.0
    """
    x, y = paired(x, y)
    blocks = zip(blocks_of(x), blocks_of(y), strict=True)
    return sum(float((exact(a) - exact(b)).square().sum()) for a, b in blocks) / len(x)


def cross_cosine(x: FeaturesLike, y: FeaturesLike) -> float:
    """Mean cosine of the pairs, `E cos(x_i, y_i)`, in [-1, 1]; 1 is best.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> x, y = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 0.0], [1.0, 0.0]])
        >>> round(xg.metrics.cross_cosine(x, y), 3)  # cosines 1 and 0
        0.5
    """
    x, y = paired(x, y)
    blocks = zip(blocks_of(x), blocks_of(y), strict=True)
    return sum(float((exact(a) * exact(b)).sum()) for a, b in blocks) / len(x)


def gap_report(x: FeaturesLike, y: FeaturesLike, *, sample: int | None = None, seed: int = 0) -> pd.DataFrame:
    """Every gap metric of two modalities; one row.

    Columns: `modality_gap`, `rmg`, `separability`, `alignment`, `uniformity_x`, `uniformity_y`, `cone_x`, `cone_y`,
    `cross_cosine`, `effective_rank_x`, `effective_rank_y` (see the functions of these names) and `n`, the number of
    pairs.

    Pairs have the same id, and only items with a pair are used; a warning counts those that are left out.
    Two arrays of as many rows are pairs by position. Of Features, equal lengths alone make no pairs: where no id is on
    both modalities (nor where two arrays differ in length), `rmg`, `alignment` and `cross_cosine` are NaN, `n`
    is 0, and a warning says so.

    Args:
        x, y: `[n, d]` and `[m, d]`, at least two vectors each; a pair has the same id in both, or, in two
            arrays of as many rows, the same position.
        sample: what takes long for many items is estimated: uniformity from so many pairs of vectors
            (`sampled_uniformity`, with its interval in the columns `..._low` and `..._high`), separability from so many
            vectors of each modality. By default all is exact, however many items there are: uniformity then takes
            `n^2 d` operations, about a day of a processor for a million items of 512 dimensions.
        seed: of the sample.

    Returns:
        One row; `attrs` holds `paired`, `n_x`, `n_y` and, if it is given, `sample`.

    Raises:
        XgapError: different dimensions, or fewer than two vectors.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> x = xg.Features(random.normal(0, 1, (30, 8)) + 1, range(30), space="image", origin="image")
        >>> y = xg.Features(random.normal(0, 1, (30, 8)) - 1, range(30), space="text", origin="text")
        >>> xg.gap_report(x, y)[["modality_gap", "rmg", "separability", "cone_x"]].round(2)
           modality_gap   rmg  separability  cone_x
        0           1.4  0.74           1.0    0.47
    """
    x, y = side_by_side(x, y)
    _check(x, y, least=2)
    n_x, n_y = len(x), len(y)
    both = set(x.ids) & set(y.ids)
    if both:
        x, y = paired(x, y)
        _check(x, y, least=2)
        if len(both) < max(n_x, n_y):
            what = f"{n_x - len(both)} of {n_x} vectors of x and {n_y - len(both)} of {n_y} of y"
            warnings.warn(f"{what} have no partner with the same id and are left out", stacklevel=2)
    else:
        warnings.warn(f"{_no_pairs(x, y)}; rmg, alignment and cross_cosine are NaN", stacklevel=2)
    row = {
        "modality_gap": modality_gap(x, y),
        "rmg": relative_modality_gap(x, y) if both else math.nan,
        "separability": separability(*(_some(of, sample, seed) for of in (x, y))),
        "alignment": alignment(x, y) if both else math.nan,
        **_uniformities(x, y, sample, seed),
        "cone_x": cone(x),
        "cone_y": cone(y),
        "cross_cosine": cross_cosine(x, y) if both else math.nan,
        "effective_rank_x": effective_rank(x),
        "effective_rank_y": effective_rank(y),
        "n": len(both),
    }
    report = pd.DataFrame([row])
    report.attrs = {"paired": bool(both), "n_x": n_x, "n_y": n_y} | ({} if sample is None else {"sample": sample})
    return report


def _some(x: Features, sample: int | None, seed: int) -> Features:
    """So many rows, drawn without replacement, or all."""
    if sample is None or len(x) <= sample:
        return x
    return x.select(x.ids[i] for i in np.sort(generator(seed).permutation(len(x))[:sample]).tolist())


def _uniformities(x: Features, y: Features, sample: int | None, seed: int) -> dict[str, float]:
    if sample is None:
        return {"uniformity_x": uniformity(x), "uniformity_y": uniformity(y)}
    row: dict[str, float] = {}
    for name, of in (("uniformity_x", x), ("uniformity_y", y)):
        found = sampled_uniformity(of, pairs=sample, seed=seed)
        row |= {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
    return row


def paired(x: FeaturesLike, y: FeaturesLike) -> tuple[Features, Features]:
    """The items that x and y have in common, in the order of x.

    Raises:
        XgapError: different dimensions, or no id in common.
    """
    x, y = side_by_side(x, y)
    _check(x, y)
    if x.ids == y.ids:
        return x, y
    known = set(y.ids)
    both = [i for i in x.ids if i in known]
    if not both:
        raise XgapError(_no_pairs(x, y))
    return x.select(both), y.select(both)


def with_several(
    x: Features, y: Features, pairs: Mapping[Any, Collection[Hashable]]
) -> tuple[Features, Features, float]:
    """The vectors of x and of y that are in a pair, and the mean cosine of all pairs.

    Raises:
        XgapError: no pair, one id in place of several, or an id without a vector.
    """
    single = next((a for a, of in pairs.items() if isinstance(of, str)), None)
    if single is not None:
        raise XgapError(f"the pairs of {single!r} are {pairs[single]!r} and no list of ids; give [{pairs[single]!r}]")
    both = list(dict.fromkeys((id_text(a), id_text(b)) for a, of in pairs.items() for b in of))
    if not both:
        raise XgapError("there are no pairs: give each id of x the ids of y that belong to it")
    x, y = x.select(dict.fromkeys(a for a, _ in both)), y.select(dict.fromkeys(b for _, b in both))
    row, column = ({i: place for place, i in enumerate(of.ids)} for of in (x, y))
    left, right = exact(x.vectors)[[row[a] for a, _ in both]], exact(y.vectors)[[column[b] for _, b in both]]
    return x, y, float((left * right.to(left.device)).sum(dim=1).mean())


def _no_pairs(x: Features, y: Features) -> str:
    what = f"pairs are by id, and no id of x (such as {x.ids[0]!r}) is one of y (such as {y.ids[0]!r})"
    return f"{what}; give the two vectors of a pair the same id (arrays of as many rows are paired by position)"


def _check(x: Features, y: Features, *, least: int = 1) -> None:
    if x.dim != y.dim:
        raise XgapError(f"x has {x.dim} dimensions and y {y.dim}; they must be the same")
    if min(len(x), len(y)) < least:
        raise XgapError(f"a modality has {min(len(x), len(y))} vectors; at least {least} are needed")
