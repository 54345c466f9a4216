"""The weights of a fused query, swept: which share of each modality retrieves best, and how sure that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import FeaturesLike, as_modalities
from xgap_analysis.core.relevance import RelevanceLike
from xgap_analysis.metrics import bootstrap_interval, retrieval
from xgap_analysis.views import fuse_modalities

RESAMPLES, LEVEL, SEED = 2000, 0.95, 0


class Best(NamedTuple):
    """A weight, or a difference of two, with its 95 % bootstrap interval."""

    weight: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Sweep:
    """The values of every query at every weight.

    Args:
        values: a row for each query and a column for each weight, the share of the second modality.
        groups: of the queries, drawn together in intervals.
    """

    values: pd.DataFrame
    groups: Sequence[Any]

    def table(self) -> pd.DataFrame:
        """One row for each weight: the mean over queries, with its interval over groups."""
        rows = []
        for weight in self.values:
            found = bootstrap_interval(self.values[weight], groups=self.groups)
            rows.append({"weight": weight, "value": found.mean, "low": found.low, "high": found.high})
        return pd.DataFrame(rows)

    def best(self) -> Best:
        """The weight with the highest mean, and the interval of where it lies when groups are drawn anew."""
        return _best(self._drawn())

    def moved(self, to: "Sweep") -> Best:
        """How far the best weight moves from here to another sweep of the same queries, drawn together.

        Raises:
            XgapError: other queries or weights.
        """
        if not self.values.index.equals(to.values.index) or not self.values.columns.equals(to.values.columns):
            raise XgapError("two sweeps are compared query by query: give both the same queries and weights")
        return _best(to._drawn() - self._drawn())

    def _drawn(self) -> np.ndarray:
        """The best weight of all queries, then that of each resample of their groups."""
        whole = self.values.dropna()
        codes, names = pd.factorize(pd.Series(list(self.groups), index=self.values.index).loc[whole.index])
        sums = np.zeros((len(names), whole.shape[1]))
        np.add.at(sums, codes, whole.to_numpy())
        times = np.random.default_rng(SEED).multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
        means = np.concatenate([sums.sum(axis=0, keepdims=True), times @ sums])  # each over its number of queries
        weights: np.ndarray = self.values.columns.to_numpy(dtype=float)[means.argmax(axis=1)]
        return weights


def swept(
    sets: Mapping[str, FeaturesLike],
    gallery: FeaturesLike,
    relevance: RelevanceLike,
    *,
    labels: Mapping[str, str] | None = None,
    groups: Mapping[str, Any] | None = None,
    steps: int = 20,
    measure: str = "ap",
) -> Sweep:
    """How well a fused query of two modalities retrieves at each share of the second one.

    Formula: `fuse_modalities` with the weights 1 - w and w for w = 0, 1 / steps, ..., 1.

    How to read it: at both ends one modality is the query alone. A best weight between them says that each knows what
    the other does not. The weight depends on the length that a mean leaves in each cone, so compare it before and after
    a correction that takes the means away: `raw.moved(to=centred)`.

    Args:
        sets: two modalities, as `fuse_modalities` takes them.
        gallery: items of a third.
        relevance: of gallery items to the items of the first modality; see `retrieval`.
        labels: which items belong together; see `fuse_modalities`.
        groups: by id of the first modality; a query for itself by default.
        steps: of the weight from 0 to 1.
        measure: a column of `retrieval`.

    Raises:
        XgapError: another number of modalities, a query without a group, steps below 1, an unknown measure, or as
            `fuse_modalities`.

    Source: McKee, Salamon, Sivic and Russell, CVPR 2023 (the query); the sweep is ours.

    Example:
        >>> import numpy as np, xgap_analysis as xg
        >>> draw = np.random.default_rng(0).normal(size=(3, 40, 6))
        >>> images, texts, sounds = (xg.Features(x + 2 * draw[2], range(40), s, s) for x, s in zip(draw, "ITA"))
        >>> found = swept({"image": images, "text": texts}, sounds, {i: i for i in images.ids}, steps=4)
        >>> found.table()["weight"].tolist()
        [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    if len(sets) != 2:
        raise XgapError(f"the weights of two modalities are swept, and there are {len(sets)}: {', '.join(sets)}")
    lacking = None if groups is None else next((i for i in as_modalities(sets)[0].ids if i not in groups), None)
    if lacking is not None:
        raise XgapError(f"query {lacking!r} has no group; name one for each query, or leave groups out")
    if steps < 1:
        raise XgapError(f"a weight goes from 0 to 1 in 1 step or more, not {steps}")
    first, second = sets
    values: dict[float, pd.Series] = {}
    for step in range(steps + 1):
        weight = step / steps
        query = fuse_modalities(sets, {first: 1 - weight, second: weight}, labels=labels)
        found = retrieval(query, gallery, relevance)
        if measure not in found:
            raise XgapError(f"retrieval measures {', '.join(found)}, not {measure!r}")
        values[weight] = found[measure]
    table = pd.DataFrame(values)
    return Sweep(table, [item if groups is None else groups[item] for item in table.index])


def _best(drawn: np.ndarray) -> Best:
    low, high = np.quantile(drawn[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Best(float(drawn[0]), float(low), float(high))
