"""Calibrated structure: agreement of two sets of features beside what permuted items give by chance.

Raw agreement rises with the number of dimensions and with the number of layers that are searched for the best pair. A
permutation of the items keeps both and destroys the correspondence, so that its scores are those of chance.

Each measure here is the sum of the products of two matrices `[n, n]`, one of each set, which are computed once; a
permuted set is its matrix with permuted rows and columns, so that K permutations cost K n^2, whatever the dimensions.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from xgap_analysis.core.calls import parse
from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.features import FeaturesLike, as_features, where_doubles_are
from xgap_analysis.core.seeds import generator
from xgap_analysis.metrics.groups import Groups
from xgap_analysis.metrics.permutations import cells_of, codes_of, drawn, random_columns, sampled
from xgap_analysis.metrics.relations import Measure, turned_values_of, values_of
from xgap_analysis.metrics.structure import check_same_items

SLACK = 1e-9  # a score in another order of summation is the same score
NULLS = ("permutation", "spectrum")
OVER: dict[str, Callable[..., float]] = {
    "max": lambda s: s.max(),
    "top": lambda s, k=5: np.sort(s, axis=None)[-k:].mean(),
    "mean": lambda s: s.mean(),
    "best": lambda s: s.max(axis=1).mean(),
    "matched": lambda s: s[linear_sum_assignment(s, maximize=True)].mean(),
}


@dataclass(frozen=True)
class Calibrated:
    """Agreement of two sets of features, beside that of permuted items.

    Args:
        value: the measure as it is.
        chance: its mean over the permutations.
        threshold: what it exceeds by chance with the probability `level`.
        score: `(value - threshold) / (best - threshold)`, in [0, 1]; 0 where the agreement could be by chance, 1 where
            it is complete. Without a best value, `value - threshold`, or 0.
        above_chance: `(value - chance) / (best - chance)`, in [-1, 1], whether or not it is significant.
        p_value: of "the items of the two sets do not correspond"; at least 1 / (permutations + 1).
        n, n_groups: items, and the groups that were permuted as wholes.
        n_fixed: items that no permutation could move (a group of a size of its own); they raise the threshold.
        layers: the pair of layers that agrees most, of `calibrated_layers`.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> x = np.random.default_rng(0).normal(size=(20, 4))
        >>> xg.metrics.calibrated(x, x).n_groups
        20
    """

    value: float
    chance: float
    threshold: float
    score: float
    above_chance: float
    p_value: float
    n: int
    n_groups: int
    n_fixed: int = 0
    layers: tuple[str, str] | None = None


def calibrated(
    x: FeaturesLike,
    y: FeaturesLike,
    metric: str | Measure = "linear_cka",
    *,
    groups: Groups | None = None,
    within: Groups | None = None,
    null: str = "permutation",
    permutations: int = 200,
    level: float = 0.05,
    best: float | None = 1.0,
    sample: int = 2000,
    seed: int = 0,
) -> Calibrated:
    """Whether two sets of features agree on the same items by more than chance, and how far above it.

    How to read it: a `score` of 0 says that items in a random order agree as well; 1 is complete agreement. It is above
    0 exactly where `p_value` is at most `level` (10 / 201 by default).

    Formula: the items of y are permuted K times. `threshold` is number `ceil((1 - level) (K + 1))` in ascending order
    of the K + 1 values, the observed one among them; `p = (1 + number of permuted values >= observed) / (K + 1)`.

    Args:
        x, y: `[n, d]` and `[n, e]`, the same items.
        metric: `"linear_cka"`, `"debiased_cka"`, `"mutual_knn"` (`"mutual_knn(k=5)"`), `"spearman"`, or a function of
            two `Features` that gives a number (which is computed K + 1 times).
        groups: n labels; items of one label (drawings of one concept) are permuted as a whole, in the order of their
            rows, with groups of as many items. Without them, items that resemble each other because they are of one
            group make the threshold too low.
        within: n labels; items or whole groups are permuted among those of their own label only (a language, an
            artist), so that what the label explains is no agreement.
        null: `"permutation"`, or `"spectrum"`: y is not permuted but drawn anew, with its mean, the singular values of
            its centred rows and a random basis: is the agreement more than that of two clouds of these shapes? A
            permutation keeps the rows, and so whatever clusters they have; this keeps the spectrum alone. (The rows are
            scaled to unit length again for measures of cosines, all but CKA.)
        permutations: K, the draws.
        level: in (0, 1).
        best: the largest value of the metric; None where it has none.
        sample: memory grows with n^2; of more items than this, a random sample is taken, in whole groups.
        seed: of permutations and sample.

    Raises:
        XgapError: items that do not match, an unknown metric or null, a set that is one point, labels that do not fit,
            nothing that could be permuted, or groups where nothing is permuted.

    Source: Groeger, Wen and Brbic, Revisiting the platonic representation hypothesis: an Aristotelian view, ICML 2026
    (whose spectrum is that of rows as they are, so that a cone becomes a direction in which items differ);
    whole groups of one size, Winkler et al., Multi-level block permutation, NeuroImage 2015.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> x, y = random.normal(size=(60, 128)), random.normal(size=(60, 128))
        >>> round(xg.metrics.linear_cka(x, y), 2)  # unrelated, and yet
        0.68
        >>> xg.metrics.calibrated(x, y).score
        0.0
        >>> found = xg.metrics.calibrated(x, x)
        >>> round(found.score, 3), round(found.p_value * 201)
        (1.0, 1)
    """
    how: dict[str, Any] = {"groups": groups, "within": within, "permutations": permutations, "level": level}
    how["null"] = null
    found = calibrated_layers({"x": x}, {"y": y}, metric, **how, best=best, sample=sample, seed=seed)
    return replace(found, layers=None)


def calibrated_layers(
    x: Mapping[str, FeaturesLike],
    y: Mapping[str, FeaturesLike],
    metric: str | Measure = "linear_cka",
    *,
    over: str = "max",
    groups: Groups | None = None,
    within: Groups | None = None,
    null: str = "permutation",
    permutations: int = 200,
    level: float = 0.05,
    best: float | None = 1.0,
    sample: int = 2000,
    seed: int = 0,
) -> Calibrated:
    """The agreement of the best pair of layers of two models, beside the best pair of permuted items.

    The largest of many values is large by chance, so the largest itself is calibrated: each permutation (or the one
    random basis of a spectrum's draw) is applied to every layer of y alike, and its own largest value counts.

    Args:
        x, y: name of a layer to its features of the same items (`encode(model, items, layer=3)`).
        over: what is calibrated: `"max"` over all pairs, the mean of the largest few, `"top(k=5)"` (of all where there
            are fewer), their `"mean"`, the mean over the layers of x of the `"best"` layer of y, or the mean of the
            layers `"matched"` one to one so that it is largest.
        metric, groups, within, null, permutations, level, best, sample, seed: as in `calibrated`.

    Returns:
        The numbers of `calibrated`, and `layers`, the pair with the largest value.

    Raises:
        XgapError: as `calibrated`, no layer, or an unknown `over`.

    Source: as `calibrated`.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> x = {str(i): random.normal(size=(20, 4)) for i in range(3)}
        >>> xg.metrics.calibrated_layers(x, {"copy": x["1"]}).layers
        ('1', 'copy')
    """
    if not x or not y:
        raise XgapError("a model has at least one layer here, by name, and one of the two has none")
    if permutations < 1 or not 0 < level < 1:
        raise XgapError(f"permutations are 1 or more, and a level lies in (0, 1); not {permutations} and {level}")
    if null not in NULLS:
        raise unknown_name("null", null, NULLS)
    if null == "spectrum" and not (groups is None and within is None):
        raise XgapError('groups and within say what is permuted, and null="spectrum" permutes nothing; leave them out')
    summed = _summed(over)
    first, second = ([where_doubles_are(as_features(of)) for of in layers.values()] for layers in (x, y))
    for own in (*first, *second):
        check_same_items(first[0], own)
    n, rng = len(first[0]), generator(seed)
    codes, strata = codes_of(groups, n, "groups"), codes_of(within, n, "within")
    chosen = sampled(n if groups is None else codes, sample, rng)
    codes, strata = (np.unique(of[chosen], return_inverse=True)[1] for of in (codes, strata))
    cells = cells_of(codes, strata)
    values = values_of(metric, first, second, chosen)
    observed = values(np.arange(len(chosen)))
    value = float(summed(observed))
    if not math.isfinite(value):
        raise XgapError(f"{metric} of these features is not a number: all items of a set are the same")
    if null == "spectrum":
        values, rank = turned_values_of(metric, first, second, chosen)
        draws = (random_columns(len(chosen), rank, rng) for _ in range(permutations))
    else:
        draws = (drawn(cells, len(chosen), rng) for _ in range(permutations))
    by_chance = np.array([float(summed(values(draw))) for draw in draws])
    by_chance = np.where(np.abs(by_chance - value) <= SLACK * max(1.0, abs(value)), value, by_chance)
    threshold = float(np.sort([value, *by_chance])[math.ceil((1 - level) * (permutations + 1) - SLACK) - 1])
    row, column = np.unravel_index(int(observed.argmax()), observed.shape)
    return Calibrated(
        value=value,
        chance=float(by_chance.mean()),
        threshold=threshold,
        score=_share(value, threshold, best, 0.0),
        above_chance=_share(value, float(by_chance.mean()), best, -1.0),
        p_value=float(1 + (by_chance >= value).sum()) / (permutations + 1),
        n=len(chosen),
        n_groups=int(codes.max()) + 1,
        n_fixed=0 if null == "spectrum" else sum(cell.size for cell in cells if len(cell) == 1),
        layers=(str(list(x)[int(row)]), str(list(y)[int(column)])),
    )


def calibrated_table(
    features: Mapping[str, FeaturesLike],
    metrics: Sequence[str] = ("linear_cka", "mutual_knn", "spearman"),
    **how: Any,
) -> pd.DataFrame:
    """Calibrated agreement of several sets of features: one row for each pair of sets and metric.

    Columns: `a`, `b`, `metric`, and the numbers of `Calibrated`.

    Args:
        features: name to features of the same items, two sets at least.
        metrics: as in `calibrated`.
        how: whatever else `calibrated` takes.

    Raises:
        XgapError: fewer than two sets, or what `calibrated` refuses.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> x = np.random.default_rng(0).normal(size=(20, 4))
        >>> table = xg.metrics.calibrated_table({"one": x, "other": x}, ["linear_cka", "mutual_knn(k=3)"])
        >>> table[["metric", "score"]].round(3)
                    metric  score
        0       linear_cka    1.0
        1  mutual_knn(k=3)    1.0
    """
    if len(features) < 2:
        raise XgapError(f"at least two sets of features are compared, not {len(features)}")
    sets = {name: as_features(of) for name, of in features.items()}
    rows = []
    for (a, x), (b, y) in itertools.combinations(sets.items(), 2):
        for metric in metrics:
            found = vars(calibrated(x, y, metric, **how))
            rows.append({"a": a, "b": b, "metric": metric, **{k: v for k, v in found.items() if k != "layers"}})
    return pd.DataFrame(rows)


def with_ceiling(table: pd.DataFrame, recipes: Mapping[str, Any], column: str = "score") -> pd.DataFrame:
    """Agreement as a share of what twins agree on: models of one recipe that differ in nothing but the seed.

    How to read it: a `share` of 1 says that two models agree as well as two trainings of one of them; what is above 1
    is by chance of the seeds. Twins themselves have a share around 1.

    Formula: the ceiling of a pair of models is the mean, over those of their recipes that have twins in the table, of
    the mean agreement of these twins; `share = agreement / ceiling`. NaN where neither recipe has twins, or a ceiling
    is not above 0.

    Args:
        table: from `calibrated_table`.
        recipes: name of each model in it to its recipe.
        column: `"score"`, or `"value"`, whose share is raised by chance.

    Returns:
        The table with `ceiling`, `share`, `twins` (whether the row is of two of them) and `n_twins`, the pairs of twins
        that the ceiling is a mean of.

    Raises:
        XgapError: a model without a recipe, no twins at all, or an unknown column.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> x = random.normal(size=(40, 4))
        >>> noise = {"a": 0.1, "b": 0.1, "c": 1.0}
        >>> sets = {name: x + share * random.normal(size=x.shape) for name, share in noise.items()}
        >>> table = xg.metrics.calibrated_table(sets, ["linear_cka"])
        >>> table = xg.metrics.with_ceiling(table, {"a": "clip", "b": "clip", "c": "noisy"})
        >>> table["twins"].tolist(), round(float(table["share"][0]), 3), bool((table["share"][1:] < 0.9).all())
        ([True, False, False], 1.0, True)
    """
    if column not in table:
        raise unknown_name("column of agreement", column, ["score", "value"])
    nameless = sorted({name for name in (*table["a"], *table["b"]) if name not in recipes})
    if nameless:
        raise XgapError(f"the recipe of {nameless[0]!r} is not given; recipes name that of each model of the table")
    made = table.copy()
    first, second = (made[end].map(recipes) for end in ("a", "b"))
    made["twins"] = first == second
    if not made["twins"].any():
        raise XgapError("no two models of the table have one recipe, so that there is no ceiling; add another seed")
    keys = ["metric"] if "metric" in made else []
    of_recipe: dict[tuple[Any, ...], list[float]] = {}
    for recipe, row in zip(first[made["twins"]], made[made["twins"]].to_dict("records"), strict=True):
        of_recipe.setdefault((recipe, *(row[key] for key in keys)), []).append(row[column])
    ceilings, counts = [], []
    for own, other, row in zip(first, second, made.to_dict("records"), strict=True):
        known = [of_recipe.get((recipe, *(row[key] for key in keys)), []) for recipe in {own: 0, other: 0}]
        ceilings.append(float(np.mean([np.mean(of) for of in known if of])) if any(known) else math.nan)
        counts.append(sum(map(len, known)))
    made["ceiling"] = ceilings
    made["share"] = made[column] / made["ceiling"].where(made["ceiling"] > 0)
    made["n_twins"] = counts
    return made


def _summed(over: str) -> Callable[[np.ndarray], float]:
    """What becomes of the values `[layers of x, layers of y]`."""
    call = parse(over)
    if call.name not in OVER:
        raise unknown_name("way to sum up layers", call.name, OVER)
    k = call.options.get("k", 1)
    known = not call.arguments and set(call.options) <= ({"k"} if call.name == "top" else set())
    if not known or isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise XgapError(f"a way to sum up layers is {', '.join(OVER)}, of which top(k=5) has k from 1, not {over!r}")
    return partial(OVER[call.name], **call.options)


def _share(value: float, floor: float, best: float | None, lowest: float) -> float:
    """How much of the way from a floor to the best value."""
    above = value - floor
    if above == 0 or best is None:
        return max(0.0, above) if lowest == 0 else above
    return min(1.0, max(lowest, above / max(best - floor, 1e-12)))
