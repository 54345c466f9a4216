"""The gap between every pair of any number of modalities, with intervals.

One draw of groups (concepts, say) is used for all modalities and all measures, so that what two pairs of modalities
share is drawn together. A resample draws whole groups with replacement, and the intervals are percentiles. Two things
make them intervals of what they are said to be of:

- A distance of means is too large in a sample by the noise of the means, and in a resample by as much again. The
  intervals of `modality_gap`, `centroid_cosine` and `mean_cosine` are therefore of the same quantity over pairs of
  items of *different* groups, which the noise is not in. With few items they can lie below the value itself.
- A group that is drawn twice is no pair of two groups: pairs of its two copies are left out everywhere, as `cone`
  leaves out the pair of an item with itself, and pairs within a group keep their share of all pairs.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import (
    Features,
    FeaturesLike,
    as_modalities,
    check_modalities,
    modality_name,
    where_doubles_are,
)
from xgap_analysis.core.relevance import UNLABELLED, Relevance, labels_by_id
from xgap_analysis.core.seeds import generator
from xgap_analysis.core.table_values import label_text
from xgap_analysis.metrics.gap import held_out_hits
from xgap_analysis.metrics.resampling import chunks
from xgap_analysis.metrics.retrieval import counted_elsewhere, retrieval
from xgap_analysis.metrics.spread import distinct

PLAIN = ("modality_gap", "centroid_cosine", "mean_cosine", "cone_x", "cone_y")  # of all items, paired or not
PAIRED = ("cross_cosine", "rmg")
RETRIEVAL = ("ap_x_to_y", "ap_y_to_x", "ap")
MEASURES = (*PLAIN, *PAIRED, "separability", *RETRIEVAL)
LabelsOf: TypeAlias = Mapping[str, Hashable] | Sequence[Hashable] | NDArray[Any] | pd.Series


def gap_table(
    features: Mapping[str, FeaturesLike] | Sequence[FeaturesLike],
    labels: LabelsOf | None = None,
    *,
    groups: LabelsOf | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """The gap between every pair of modalities, with bootstrap intervals over groups of items; one row per measure.

    | measure | formula | range |
    |---|---|---|
    | `modality_gap` | distance of the means (`metrics.modality_gap`) | [0, 2], 0: no gap |
    | `centroid_cosine` | cosine of the two means | [-1, 1], 1: one direction |
    | `mean_cosine` | mean cosine of every x with every y | [-1, 1] |
    | `cone_x`, `cone_y` | mean cosine within a modality (`metrics.cone`) | [-1, 1], 1: one point |
    | `cross_cosine` | mean cosine of pairs: the mean of each label in x with that in y, over labels | [-1, 1] |
    | `rmg` | `D / (D + D_intra)`, as `metrics.relative_modality_gap`, with the cosine of pairs above | [0, 1] |
    | `separability` | held-out accuracy of a hyperplane (`metrics.separability`) | [0, 1] |
    | `ap_x_to_y`, `ap_y_to_x` | mean AP of retrieval in each direction; items of one label are relevant | (0, 1] |
    | `ap` | mean of the two | (0, 1] |

    Of unit rows, `modality_gap^2 = cone'_x + cone'_y - 2 mean_cosine`, where `cone' = ((n - 1) cone + 1) / n` counts an
    item with itself. The distance of two means is never quite 0 in a sample: its interval is of the gap without the
    noise of the means, and can lie below the value where items are few. The interval of `separability` is over held-out
    vectors, with the hyperplanes as they were fitted.

    Args:
        features: `[n, d]` each, of one dimension d: a mapping from the modality's name, or a list, of `Features` or
            arrays. Row i of each array is item i.
        labels: id to label, of all modalities, or one list where they all have the same items. Items of one label in
            two modalities are pairs, and relevant to each other. Without labels, those of one id are. An item without
            a label has no pair.
        groups: id to group, likewise, where labels belong together (the scenes of one film): groups are what is drawn.
            By default labels.
        level: of the intervals, in (0, 1).
        resamples: bootstrap draws.
        seed: of the draws.

    Returns:
        Columns `x`, `y`, `measure`, `value`, `low`, `high`, `level`, `n_x`, `n_y`, `n_groups`. Measures of pairs
        are NaN where two modalities have no label in common. With few groups intervals are too narrow
        (`metrics.verdict`).

    Raises:
        XgapError: fewer than two modalities, two of one name, different dimensions, fewer than two items, items of one
            label in two groups, or a level out of range.

    Source: the measures' own; the bootstrap of groups, Davison and Hinkley, Bootstrap methods and their application,
    1997, section 3.8; leaving out the pairs of copies is ours.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> shared = random.normal(size=(40, 16))
        >>> sets = {name: shared + random.normal(size=(40, 16)) + move for name, move in [("image", 1), ("text", 0)]}
        >>> table = xg.gap_table({**sets, "audio": shared - 1}).set_index(["x", "y", "measure"])
        >>> table.loc[("image", "text", "modality_gap"), ["value", "low", "high"]].astype(float).round(2).tolist()
        [0.58, 0.5, 0.64]
    """
    if not 0 < level < 1 or resamples < 1:
        raise XgapError(f"level lies between 0 and 1 and resamples are 1 or more, not {level} and {resamples}")
    names, sets = _named(features)
    label_of, group_of = _labels_and_groups(sets, labels, groups)
    row_of = {group: row for row, group in enumerate(dict.fromkeys(group_of[k][i] for k, i in _all(sets)))}
    codes = [np.array([row_of[group_of[k][i]] for i in f.ids]) for k, f in enumerate(sets)]
    n = len(row_of)
    within = [_within(f, rows, n) for f, rows in zip(sets, codes, strict=True)]
    between = {(a, b): _between(sets, label_of, codes, a, b, n) for a, b in combinations(range(len(sets)), 2)}
    value = _measured(within, between, np.ones((1, n)))
    rng = generator(seed)
    draws = (rng.multinomial(n, np.full(n, 1 / n), size=size).astype(float) for size in chunks(resamples, n))
    parts = [_measured(within, between, weights, across=True) for weights in draws]
    rows = []
    for a, b in between:
        about = {"x": names[a], "y": names[b]}
        counts = {"n_x": len(sets[a]), "n_y": len(sets[b]), "n_groups": len(set(codes[a]) | set(codes[b]))}
        for measure in MEASURES:
            drawn = np.concatenate([part[a, b][measure] for part in parts])
            found = float(value[a, b][measure][0])
            low, high = _interval(found, drawn, level)
            rows.append(
                {**about, "measure": measure, "value": found, "low": low, "high": high, "level": level, **counts}
            )
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class _Within:
    """Sums over the groups of a modality: of its rows, and of its distinct rows, which the cone is of."""

    sums: NDArray[np.float64]  # [G, d]
    counts: NDArray[np.float64]  # [G]
    own_sums: NDArray[np.float64]  # [G, d], distinct rows
    own_counts: NDArray[np.float64]
    lengths: NDArray[np.float64]  # [G], squared lengths of the distinct rows


@dataclass(frozen=True)
class _Between:
    """Sums over the groups of two modalities, and the number of what was summed, each `[G]`, by measure."""

    sums: Mapping[str, NDArray[np.float64]]
    counts: Mapping[str, NDArray[np.float64]]


def _named(features: Mapping[str, FeaturesLike] | Sequence[FeaturesLike]) -> tuple[list[str], list[Features]]:
    sets = [where_doubles_are(f) for f in as_modalities(features)]
    if len(sets) < 2:
        raise XgapError(f"a gap lies between two modalities or more, not {len(sets)}")
    check_modalities(sets)
    few = next((f for f in sets if len(f) < 2), None)
    if few is not None:
        raise XgapError(f"{few.space} has {len(few)} vectors; at least 2 are needed")
    names = [str(name) for name in features] if isinstance(features, Mapping) else [modality_name(f) for f in sets]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise XgapError(f"two of the modalities are called {twice!r}; give a mapping from other names to features")
    return names, sets


def _all(sets: Sequence[Features]) -> list[tuple[int, str]]:
    return [(k, i) for k, f in enumerate(sets) for i in f.ids]


def _labels_and_groups(
    sets: Sequence[Features], labels: LabelsOf | None, groups: LabelsOf | None
) -> tuple[list[dict[str, Hashable]], list[dict[str, Hashable]]]:
    """Label and group by id, of each modality; an item without a label has a group of its own."""
    given = None if labels is None else labels_by_id(labels, sets)
    drawn = None if groups is None else labels_by_id(groups, sets)
    label_of: list[dict[str, Hashable]] = [
        {i: UNLABELLED if (own := _known(given, i)) is None else own for i in f.ids} for f in sets
    ]
    shared: dict[Hashable, Hashable] = {}
    for k, i in _all(sets):
        label, group = label_of[k][i], None if drawn is None else label_text(drawn.get(i))
        if label is not UNLABELLED and group is not None and shared.setdefault(label, group) != group:
            raise XgapError(f"items of label {label!r} lie in two groups; a group holds labels whole")
    group_of: list[dict[str, Hashable]] = [{} for _ in sets]
    for k, i in _all(sets):
        label = label_of[k][i]
        if label is UNLABELLED:
            group = None if drawn is None else label_text(drawn.get(i))
            group_of[k][i] = ("item", k, i) if group is None else ("group", group)
        else:
            group_of[k][i] = ("group", shared[label]) if label in shared else ("label", label)
    return label_of, group_of


def _known(labels: Mapping[str, Hashable] | None, item: str) -> Hashable:
    """The label of an item, which is its id where there are no labels; None where it has none."""
    return item if labels is None else label_text(labels.get(item))


def _doubles(features: Features) -> NDArray[np.float64]:
    return features.vectors.cpu().numpy().astype(np.float64)


def _summed(rows: NDArray[np.float64], codes: NDArray[np.int64], n_groups: int) -> NDArray[np.float64]:
    """Rows `[n, ...]` summed over the groups `[G, ...]`."""
    sums = np.zeros((n_groups, *rows.shape[1:]))
    np.add.at(sums, codes, rows)
    return sums


def _within(features: Features, codes: NDArray[np.int64], n_groups: int) -> _Within:
    own = distinct(features)
    row = dict(zip(features.ids, codes.tolist(), strict=True))
    own_codes = np.array([row[item] for item in own.ids])
    vectors, own_vectors = _doubles(features), _doubles(own)
    return _Within(
        _summed(vectors, codes, n_groups),
        np.bincount(codes, minlength=n_groups).astype(float),
        _summed(own_vectors, own_codes, n_groups),
        np.bincount(own_codes, minlength=n_groups).astype(float),
        _summed(np.square(own_vectors).sum(axis=1), own_codes, n_groups),
    )


def _between(
    sets: Sequence[Features],
    label_of: Sequence[Mapping[str, Hashable]],
    codes: Sequence[NDArray[np.int64]],
    a: int,
    b: int,
    n_groups: int,
) -> _Between:
    x, y = sets[a], sets[b]
    sums, counts = {}, {}
    hits = np.concatenate(held_out_hits(x, y))
    both = np.concatenate([codes[a], codes[b]])
    # A fold's accuracy counts once, however many items it has, so that this is `separability`.
    sums["separability"], counts["separability"] = (_summed(hits[:, k], both, n_groups) for k in (0, 1))
    cosines, rows = _cosines_of_pairs(x, y, label_of[a], label_of[b], codes[a])
    sums["cross_cosine"] = _summed(cosines, rows, n_groups)
    counts["cross_cosine"] = np.bincount(rows, minlength=n_groups).astype(float)
    for name, one, other in (("ap_x_to_y", a, b), ("ap_y_to_x", b, a)):
        values = _average_precision(sets[one], sets[other], label_of[one], label_of[other])
        known = ~np.isnan(values)
        sums[name] = _summed(values[known], codes[one][known], n_groups)
        counts[name] = np.bincount(codes[one][known], minlength=n_groups).astype(float)
    return _Between(sums, counts)


def _cosines_of_pairs(
    x: Features,
    y: Features,
    label_x: Mapping[str, Hashable],
    label_y: Mapping[str, Hashable],
    codes_x: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Of each label that both modalities have: the mean cosine of its items in the two, and its group."""
    known: dict[Hashable, int] = {}
    for label in label_x.values():
        if label is not UNLABELLED:
            known.setdefault(label, len(known))
    rows_x = np.array([known.get(label_x[i], -1) for i in x.ids])
    rows_y = np.array([known.get(label_y[i], -1) for i in y.ids])
    there = np.intersect1d(rows_x[rows_x >= 0], rows_y[rows_y >= 0])
    means = []
    for features, rows in ((x, rows_x), (y, rows_y)):
        sums = _summed(_doubles(features)[rows >= 0], rows[rows >= 0], len(known))
        means.append(sums[there] / np.bincount(rows[rows >= 0], minlength=len(known))[there, None])
    group = np.zeros(len(known), dtype=np.int64)
    group[rows_x[rows_x >= 0]] = codes_x[rows_x >= 0]
    return (means[0] * means[1]).sum(axis=1), group[there]


def _average_precision(
    query: Features, gallery: Features, label_q: Mapping[str, Hashable], label_g: Mapping[str, Hashable]
) -> NDArray[np.float64]:
    """AP of each query; NaN for all where none has a relevant item."""
    labels = [label_q[i] for i in query.ids], [label_g[i] for i in gallery.ids]
    if not {label for label in labels[0] if label is not UNLABELLED} & set(labels[1]):
        return np.full(len(query), np.nan)
    with counted_elsewhere():
        try:
            return retrieval(query, gallery, Relevance.from_labels(*labels))["ap"].to_numpy(dtype=np.float64)
        except XgapError:  # of one origin and one item of each label, a query is its own and only pair
            return np.full(len(query), np.nan)


def _measured(
    within: Sequence[_Within],
    between: Mapping[tuple[int, int], _Between],
    weights: NDArray[np.float64],
    *,
    across: bool = False,
) -> dict[tuple[int, int], dict[str, NDArray[np.float64]]]:
    """Every measure of every pair, where group g counts `weights[r, g]` times: `[R]` each.

    Args:
        within, between, weights: the sums of groups, and how often each counts.
        across: means and their distances by pairs of items of different groups alone.
    """
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw without items of a modality has no value
        cones = [_cone(of, weights) for of in within]
        found = {}
        for (a, b), pair in between.items():
            square_x, square_y, dot = (_dot(within[i], within[j], weights, across) for i, j in ((a, a), (b, b), (a, b)))
            of = {
                "modality_gap": np.sqrt(np.clip(square_x + square_y - 2 * dot, 0, None)),
                "centroid_cosine": np.clip(dot / np.sqrt(square_x * square_y), -1, 1),
                "mean_cosine": dot,
                "cone_x": cones[a],
                "cone_y": cones[b],
            }
            of |= {name: (weights @ sums) / (weights @ pair.counts[name]) for name, sums in pair.sums.items()}
            match = np.clip((1 - of["cross_cosine"]) / 2, 0, None)
            intra = np.clip((1 - (cones[a] + cones[b]) / 2) / 2, 0, None)
            of["rmg"] = match / (intra + match)
            of["ap"] = (of["ap_x_to_y"] + of["ap_y_to_x"]) / 2
            found[a, b] = of
    return found


def _dot(x: _Within, y: _Within, weights: NDArray[np.float64], across: bool) -> NDArray[np.float64]:
    """Product of two means; or, over pairs of items of different groups, the mean of their products."""
    total = ((weights @ x.sums) * (weights @ y.sums)).sum(axis=1)
    n = (weights @ x.counts) * (weights @ y.counts)
    if across:
        total = total - np.square(weights) @ (x.sums * y.sums).sum(axis=1)
        n = n - np.square(weights) @ (x.counts * y.counts)
    return total / n


def _cone(of: _Within, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean cosine of two items, of which two copies of one group are no pair."""
    squares = np.square(of.own_sums).sum(axis=1)
    inside, counts = squares - of.lengths, of.own_counts * (of.own_counts - 1)
    n = (
        np.square(of.own_counts.sum()) - np.square(of.own_counts).sum(),
        counts.sum(),
    )  # pairs between groups, and within
    if not sum(n):
        return np.ones(len(weights))  # one vector: one point
    own = _Within(of.own_sums, of.own_counts, of.own_sums, of.own_counts, of.lengths)
    between = _dot(own, own, weights, across=True) if n[0] else np.zeros(len(weights))
    within = (weights @ inside) / (weights @ counts) if n[1] else np.zeros(len(weights))
    return (n[0] * between + n[1] * within) / sum(n)


def _interval(value: float, drawn: NDArray[np.float64], level: float) -> tuple[float, float]:
    drawn = drawn[~np.isnan(drawn)]
    if np.isnan(value) or not len(drawn):
        return np.nan, np.nan
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
