"""What a metric of a comparison is: a function of query, gallery and relevance, known by a name, with options.

    @register_metric("first-rank")
    def first_rank(query, gallery, relevance, *, scorer):
        grades = relevance.bind(query.ids, gallery.ids).grades(0, len(query))
        return ...  # one value per query

It gives one value per query (a list, an array, a tensor, a Series), or several columns of such values (a mapping from
names to them, a data frame). Whatever else it takes is an option: `"first-rank(depth=10)"`.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from torch import Tensor

from xgap_analysis.core.calls import Call, options_alone, parse, spelled
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.registry import Registry, check_options, name_of
from xgap_analysis.core.relevance import Relevance, RelevanceLike, as_relevance
from xgap_analysis.core.tokens import AnyFeatures
from xgap_analysis.metrics.classification import zero_shot
from xgap_analysis.metrics.cut import cut
from xgap_analysis.metrics.cutoffs import cutoffs
from xgap_analysis.metrics.first_rank import reciprocal_rank
from xgap_analysis.metrics.flips import flips
from xgap_analysis.metrics.misalignment import misalignment
from xgap_analysis.metrics.probes import knn, probe
from xgap_analysis.metrics.retrieval import retrieval
from xgap_analysis.scoring.blocks import ScoreNormaliser
from xgap_analysis.scoring.scorer import ScoreFunction, Scorer
from xgap_analysis.scoring.scorer import scorer as as_scorer

LEADING = 3  # a metric's function begins with (query, gallery, relevance)
GIVEN_BY_RETRIEVAL = ("n_relevant", "recall_at_1", "recall_at_5", "recall_at_10", "ndcg_at_10", "mp_at_10")
GIVEN = ("scorer", "normalise")  # by the pair that is measured, and no options

MetricFunction = Callable[..., Any]  # (query, gallery, relevance, *, scorer, **options) -> one value per query


@runtime_checkable  # so that the checker of annotations in the tests can see to it
class Pair(Protocol):
    """Query and gallery as they are scored, such as `QueryGallery`."""

    @property
    def query(self) -> AnyFeatures:
        """The features of the queries."""

    @property
    def gallery(self) -> AnyFeatures:
        """What is ranked."""

    @property
    def normalise(self) -> ScoreNormaliser | None:
        """What a correction makes of a block of scores."""

    @property
    def scorer(self) -> str | Scorer | ScoreFunction:
        """How a pair is scored."""


@dataclass(frozen=True)
class Metric:
    """A measure of every query of a comparison; `str()` of it is its name in tables.

    Args:
        name: as registered.
        function: `function(query, gallery, relevance, *, scorer, **options)`; where it has a parameter `normalise`, it
            gets what a score correction makes of a block of scores (or None).
        options: given by the user; others keep the function's defaults.

    Example:
        >>> import xgap_analysis as xg
        >>> xg.metric("retrieval").name
        'retrieval'
    """

    name: str
    function: MetricFunction
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return spelled(self.name, (), self.options)


METRICS: Registry[MetricFunction] = Registry("metric", lambda function: function)


def register_metric(name: str) -> Callable[[MetricFunction], MetricFunction]:
    """Make a metric known by name to studies, the command line, the widgets and the notebooks.

    The decorated function takes query and gallery (`Features`), a `Relevance`, the `Scorer` as keyword `scorer`, and
    its options as keywords with defaults. It gives one value per query, NaN where a query has none, or a mapping from
    the names of columns to such values.

    Args:
        name: as in tables.

    Raises:
        XgapError: the name is taken by other code.

    Example:
        >>> from xgap_analysis.metrics.metric import METRICS, register_metric
        >>> @register_metric("nearest-score")
        ... def nearest_score(query, gallery, relevance, *, scorer):
        ...     return scorer(query.vectors, gallery.vectors).max(dim=1).values
        >>> METRICS.remove("nearest-score")
    """

    def add(function: MetricFunction) -> MetricFunction:
        METRICS.add(name, function)
        return function

    return add


def metric(wanted: str | Call | Metric | MetricFunction, **options: Any) -> Metric:
    """A metric by name, with options (`"misalignment"`, `"mine(depth=10)"`), or a function as it is.

    Raises:
        XgapError: an unknown name or option (the nearest are given), or something that is not a metric.

    Example:
        >>> import xgap_analysis as xg
        >>> str(xg.metric("retrieval"))
        'retrieval'
    """
    if isinstance(wanted, str):
        wanted = parse(wanted)
    if isinstance(wanted, Call):
        wanted = Metric(wanted.name, METRICS[wanted.name], options_alone(wanted, "a metric"))
    elif not isinstance(wanted, Metric):
        if not callable(wanted) or inspect.isclass(wanted):
            raise XgapError(f"a metric is a name, a Metric or a function (query, gallery, relevance), not {wanted!r}")
        wanted = Metric(name_of(wanted), wanted)
    made = replace(wanted, options={**wanted.options, **options})
    given = next((option for option in made.options if option in GIVEN), None)
    if given is not None:
        raise XgapError(f"{given!r} is no option of metric {made.name!r}: a comparison gives its own")
    check_options("metric", made.name, made.function, LEADING, made.options)
    return made


def scores(wanted: str | Metric | MetricFunction, pair: Pair, relevance: RelevanceLike) -> pd.DataFrame:
    """The values of a metric for every query of a pair; one row per query.

    Args:
        wanted: a metric by name or as it is.
        pair: query, gallery, how they are scored, and what changes a block of scores (`QueryGallery`).
        relevance: which items are relevant to which; see `retrieval`.

    Returns:
        n rows, indexed by query id ("query"). One value per query is a column of the metric's name.

    Raises:
        XgapError: a metric that gives something else, or one that takes no `normalise` under a correction of scores.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(1, 1, (20, 4)), range(20), space="image", origin="image")
        >>> texts = xg.Features(random.normal(-1, 1, (20, 4)), range(20), space="text", origin="text")
        >>> labels = {str(i): str(i // 4) for i in range(20)}
        >>> pair = xg.QueryGallery(images, images)
        >>> len(xg.metrics.scores("retrieval", pair, xg.Relevance.from_labels(labels, labels)))
        20
    """
    own, query = metric(wanted), pair.query
    given: dict[str, Any] = {"scorer": as_scorer(pair.scorer), "normalise": pair.normalise}
    if pair.normalise is not None and not _takes(own.function, "normalise"):
        what = f"metric {own} does not take normalise=..., and this correction changes scores through it"
        raise XgapError(f"{what}; give its function that parameter, and rank normalise(scores)")
    offered = {name: value for name, value in given.items() if _takes(own.function, name)}
    found = own.function(query, pair.gallery, as_relevance(relevance, query, pair.gallery), **offered, **own.options)
    columns = dict(found.items()) if isinstance(found, Mapping | pd.DataFrame) else {str(own): found}
    if not columns:
        raise XgapError(f"metric {own} gave no column; it must give one value per query")
    values = {str(name): _per_query(own, name, column, query.ids) for name, column in columns.items()}
    frame = pd.DataFrame(values, index=pd.Index(query.ids, name="query"))
    frame.attrs = dict(getattr(found, "attrs", {}))
    return frame


def _takes(function: MetricFunction, option: str) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(p.name == option or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


def _per_query(own: Metric, name: Any, column: Any, ids: Any) -> np.ndarray:
    """One number per query, in the order of the queries; a Series that is indexed by their ids is put in it."""
    if isinstance(column, pd.Series) and len(column) == len(ids) and set(column.index) == set(ids):
        column = column.loc[list(ids)]
    if isinstance(column, Tensor):
        column = column.detach().cpu()
    try:
        values = np.asarray(column, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise XgapError(f"metric {own} must give numbers, and its column {str(name)!r} holds others") from error
    if values.shape != (len(ids),):
        what = f"metric {own} must give one value per query ({len(ids)})"
        raise XgapError(f"{what}, and its column {str(name)!r} is of shape {values.shape}")
    return values


@register_metric("retrieval")
def _retrieval(
    query: Features,
    gallery: Features,
    relevance: Relevance,
    *,
    scorer: Scorer,
    normalise: ScoreNormaliser | None = None,
    exclude_self: bool = True,
) -> pd.DataFrame:
    """All columns of `retrieval`."""
    how: dict[str, Any] = {"scorer": scorer, "normalise": normalise, "exclude_self": exclude_self}
    return retrieval(query, gallery, relevance, **how)


@register_metric("cutoffs")
def _cutoffs(
    query: Features,
    gallery: Features,
    relevance: Relevance,
    *,
    scorer: Scorer,
    normalise: ScoreNormaliser | None = None,
    ks: Sequence[int] = (5, 20),
    gain: str = "linear",
    reachable: bool = False,
    exclude_self: bool = True,
) -> pd.DataFrame:
    """Precision, recall, average precision, mP and nDCG of the first k, without what `retrieval` gives already."""
    how: dict[str, Any] = {"scorer": scorer, "normalise": normalise, "exclude_self": exclude_self}
    frame = cutoffs(query, gallery, relevance, ks=ks, gain=gain, reachable=reachable, **how)
    return frame.drop(columns=[column for column in frame if column in GIVEN_BY_RETRIEVAL])


@register_metric("zero-shot")
def _zero_shot(
    query: Features,
    gallery: Features,
    relevance: Relevance,
    *,
    scorer: Scorer,
    normalise: ScoreNormaliser | None = None,
) -> pd.DataFrame:
    """All columns of `zero_shot`; the gallery is the classes, and the labels of the query are their ids."""
    if relevance.query_labels is None:
        raise XgapError("zero-shot classification needs the label of every query, not graded relevance")
    return zero_shot(query, gallery, relevance.query_labels, scorer=scorer, normalise=normalise)


@register_metric("cut")
def _cut(
    query: Features,
    gallery: Features,
    relevance: Relevance,
    *,
    scorer: Scorer,
    normalise: ScoreNormaliser | None = None,
    k: int = 10,
    threshold: float | None = None,
    exclude_self: bool = True,
) -> pd.DataFrame:
    """The up to k items that score a threshold or more: precision and recall of the set, and whether it is empty."""
    how: dict[str, Any] = {"scorer": scorer, "normalise": normalise, "exclude_self": exclude_self}
    return cut(query, gallery, relevance, k=k, threshold=threshold, **how)


@register_metric("mrr")
def _mrr(
    query: Features,
    gallery: Features,
    relevance: Relevance,
    *,
    scorer: Scorer,
    normalise: ScoreNormaliser | None = None,
    ties: str = "expected",
    exclude_self: bool = True,
) -> pd.Series:
    """1 over the rank of the first relevant item, its mean over all orders of ties; see `reciprocal_rank`."""
    how: dict[str, Any] = {"scorer": scorer, "normalise": normalise, "exclude_self": exclude_self}
    return reciprocal_rank(query, gallery, relevance, ties=ties, **how)


@register_metric("misalignment")
def _misalignment(
    query: Features, gallery: Features, relevance: Relevance, *, scorer: Scorer, exclude_self: bool = True
) -> pd.Series:
    """1 - AUC of every query; see `misalignment`. Lower is better."""
    return misalignment(query, gallery, relevance, scorer=scorer, exclude_self=exclude_self)["misalignment"]


@register_metric("flips")
def _flips(
    query: Features,
    gallery: Features,
    relevance: Relevance,
    *,
    scorer: Scorer,
    normalise: ScoreNormaliser | None = None,
    by: str = "noise",
    sigma: float = 0.1,
    draws: int = 5,
    seed: int = 0,
    exclude_self: bool = True,
) -> pd.Series:
    """How often a query's first item changes under noise or rounding; see `flips`. Lower is better."""
    how: dict[str, Any] = {"scorer": scorer, "normalise": normalise, "exclude_self": exclude_self}
    return flips(query, gallery, by=by, sigma=sigma, draws=draws, seed=seed, **how)


@register_metric("probe")
def _probe(
    query: Features,
    gallery: Features,
    relevance: Relevance,
    *,
    c: float = 0.01,
    folds: int = 5,
    seed: int = 0,
) -> pd.Series:
    """Accuracy of a linear probe of the gallery without the query's own item, whatever the scorer; see `probe`."""
    return probe(query, gallery, relevance, c=c, folds=folds, seed=seed)


@register_metric("knn")
def _knn(
    query: Features, gallery: Features, relevance: Relevance, *, k: int = 20, temperature: float = 0.07
) -> pd.Series:
    """Accuracy of the weighted vote of the k nearest by cosine, whatever the scorer; see `knn`."""
    return knn(query, gallery, relevance, k=k, temperature=temperature)
