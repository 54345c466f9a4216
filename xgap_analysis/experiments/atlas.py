"""The atlas: what each published system changes in gap, misalignment and retrieval, against the same baseline."""

import math
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd
from scipy import stats
from tqdm.auto import tqdm

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.features import Features
from xgap_analysis.core.paths import data_root
from xgap_analysis.core.precision import exact
from xgap_analysis.corrections import QueryGallery, correction
from xgap_analysis.experiments.acting import (
    ACTING,
    DIRECTIONS,
    LEFT_OUT,
    LEFT_OUT_KIND,
    TRAINED,
    WORLDS,
    Acting,
    Bench,
    TrainedRuns,
    Way,
)
from xgap_analysis.experiments.calibrating import fitted_on
from xgap_analysis.experiments.contrasts import contrasts
from xgap_analysis.experiments.evaluation import Evaluation
from xgap_analysis.experiments.gaps import pairs_of
from xgap_analysis.experiments.learned import with_splits_of
from xgap_analysis.experiments.systems import systems as published
from xgap_analysis.experiments.tables import EMBEDDED, embedded_table
from xgap_analysis.metrics import holm, misalignment, paired_test, verdict
from xgap_analysis.metrics.retrieval import counted_elsewhere
from xgap_analysis.metrics.verdicts import INCONCLUSIVE
from xgap_analysis.models import load_model
from xgap_analysis.models.tower import Model
from xgap_analysis.scoring import scorer
from xgap_analysis.store import Store

GAP = "modality_gap"
WITHIN = {"misalignment_image": "I-I", "misalignment_text": "T-T"}
QUANTITIES = (GAP, *WITHIN, *DIRECTIONS)
NOT_ACTED_ON = "not acted on"
NOT_DEFINED = "not defined for it"
NOT_COMPUTED = "it was not computed in this table"


def atlas(
    model: str | Model = "tiny",
    *,
    systems: Collection[str] | None = None,
    dataset: str | None = None,
    limit: int | None = None,
    quick: bool = False,
    store: Store | None = None,
    device: str | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """What each published system changes that can act on a model: one row for each system, setting and quantity.

    Views, corrections and scorers are computed: each query's value with the system minus its value without it, on the
    world that the system needs (`acting.WORLDS`). Objectives and adapters are read from the tables of trained models:
    the change from the control run with the same seed (`contrasts`), after the last step.

    | quantity | is, of each query or pair |
    |---|---|
    | `modality_gap` | a pair's difference, image minus text, along the gap; their mean is the distance of the means |
    | `misalignment_image`, `misalignment_text` | `metrics.misalignment` within the modality |
    | `I-I`, `T-T`, `I-T`, `T-I` | average precision |

    How to read it: in gap and misalignment a negative difference is less of it, in the others a positive one is better.
    The direction of the gap is taken as known, so that its interval is of the length along it. A system that leaves
    every value as it is has no difference (`reason` is "not acted on").

    Args:
        model: by name or loaded. The tables of trained models are of `tiny`, and are left out for others.
        systems: these only, by their names in `systems.csv`.
        dataset: in place of `emoji`, for systems that act on single vectors.
        limit: labels that are evaluated, in place of each world's own number.
        quick: six labels, short inversions and one epoch of each fit: a test run.
        store, device: as in `Study`.
        progress: whether a bar is shown.

    Returns:
        Columns system, kind, setting, model, dataset, quantity, value, baseline (its value) and baseline_setting,
        difference, low, high (95 %; `over` says whether over groups of queries or over training seeds), queries_low,
        queries_high (over groups of queries in either case), p_value (`paired_test` over groups; of the gap of
        trained models Student's test over seeds), p_adjusted (Holm's, over all that was tested of this quantity in
        the atlas, or in the table of trained models), verdict and reason (as `metrics.verdict`; of trained models both
        intervals have to lie beside zero), seeds, n_queries, n_groups, effective_groups, fitted_on.

    Raises:
        XgapError: an unknown system, or one without a row.
    """
    chosen = [one for one in ACTING if systems is None or one.system in systems]
    read = [one for one in TRAINED if is_there(one)]
    loaded = load_model(model, device=device) if isinstance(model, str) else model
    _check_known(systems, chosen, read if loaded.name == "tiny" else [])
    benches = {
        name: Bench(loaded, world, dataset if name == "vectors" else None, limit, quick, store)
        for name, world in WORLDS.items()
    }
    rows: list[dict[str, Any]] = []
    for one in tqdm(chosen, desc="atlas", unit="system", disable=not progress):
        rows += rows_of(one, benches[one.world])
    table = _with_verdicts(pd.DataFrame(rows)) if rows else pd.DataFrame()
    parts = [table, *(rows_of_trained(one) for one in read if loaded.name == "tiny")]
    whole = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return whole if systems is None else whole[whole["system"].isin(systems)].reset_index(drop=True)


def left_out(table: pd.DataFrame) -> dict[str, str]:
    """The published systems that have no row in an atlas, each with the reason.

    Args:
        table: from `atlas`.
    """
    there, computed = set(table["system"]), {one.system for one in ACTING}
    missing = [one for one in published() if one.system not in there]
    reasons = {one.system: LEFT_OUT.get(one.system, LEFT_OUT_KIND.get(one.kind, NOT_COMPUTED)) for one in missing}
    return {name: NOT_COMPUTED if name in computed else reason for name, reason in reasons.items()}


def rows_of(one: Acting, bench: Bench) -> list[dict[str, Any]]:
    """The rows of one system, without what depends on the others (`p_adjusted`, `verdict`)."""
    before, after = one.ways(bench)
    evaluation = after.evaluation or bench.evaluation
    split = with_splits_of(evaluation, scorer(after.scorer), fitted_on(evaluation, correction(after.correction)))
    about = {"system": one.system, "kind": one.kind, "setting": after.name, "model": bench.model.name}
    about |= {"dataset": evaluation.data.name, "baseline_setting": before.name, "fitted_on": split}
    ways = [(way.evaluation or bench.evaluation, way) for way in (before, after)]
    rows = []
    for quantity in QUANTITIES:
        base, values = (values_of(quantity, *way) for way in ways)
        missing = NOT_ACTED_ON if quantity == GAP else NOT_DEFINED  # a scorer of sets moves no vector
        rows.append({**about, "quantity": quantity, **_compared(evaluation, base, values, missing)})
    return rows


def values_of(quantity: str, evaluation: Evaluation, way: Way) -> "pd.Series[float] | None":
    """The values of a quantity, one a query or pair; None where a way of comparing does not define it."""
    if quantity == GAP:
        return _along_gap(evaluation, way)
    if quantity in WITHIN:
        return _misaligned(evaluation, way, WITHIN[quantity])
    return _precision(evaluation, way, quantity)


def _along_gap(evaluation: Evaluation, way: Way) -> "pd.Series[float] | None":
    """Of each pair, image minus text along the difference of the means; None of sets of vectors."""
    pair = _pair(evaluation, way, "I-T") if evaluation.labels else None
    if pair is None or not isinstance(pair.query, Features) or not isinstance(pair.gallery, Features):
        return None
    return along_gap(*pairs_of(evaluation, pair.query, pair.gallery))


def along_gap(x: Features, y: Features) -> "pd.Series[float]":
    """The difference of each pair along the gap, `(x_i - y_i) . u`, with u the direction from mean y to mean x.

    The mean over pairs is `metrics.modality_gap`; its interval over pairs takes u as known.

    Args:
        x, y: `[n, d]` and `[n, d]`, paired by position; the ids of x name the pairs.
    """
    apart = exact(x.vectors) - exact(y.vectors)
    mean = apart.mean(dim=0)
    return pd.Series((apart @ (mean / mean.norm().clamp_min(1e-12))).cpu().numpy(), index=list(x.ids))


def _misaligned(evaluation: Evaluation, way: Way, direction: str) -> "pd.Series[float] | None":
    """Misalignment of each item with all items of its modality, as they are represented in a direction."""
    compared = _pair(evaluation, way, direction)
    if compared is None:
        return None
    comparison = evaluation.study.comparison(way.comparisons[direction])
    query, gallery = (evaluation.view(one, "all") for one in comparison.views)
    pair = QueryGallery(query, gallery, scorer=compared.scorer)
    if str(correction(way.correction)) != "none":
        pair = evaluation.fitted(way.correction).apply(query, gallery, compared.scorer)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*queries lack an item of their class")  # they are left out
        found = misalignment(pair.query, pair.gallery, evaluation.relevance(comparison), scorer=_scored(pair))
    return found["misalignment"]


def _scored(pair: QueryGallery) -> Any:
    """The scorer of a pair with what a correction does to its scores."""
    own, normalise = pair.scorer, pair.normalise
    if normalise is None:
        return own

    def corrected(query: Any, gallery: Any) -> Any:
        return normalise(scorer(own)(query, gallery))

    return corrected


def _precision(evaluation: Evaluation, way: Way, direction: str) -> "pd.Series[float] | None":
    if direction not in way.comparisons:
        return None
    with counted_elsewhere():
        return evaluation.scores(way.comparisons[direction], way.correction, way.scorer)["ap"]


def _pair(evaluation: Evaluation, way: Way, direction: str) -> QueryGallery | None:
    there = way.comparisons.get(direction)
    return None if there is None else evaluation.pair(there, way.correction, way.scorer)


def _compared(evaluation: Evaluation, base: Any, values: Any, missing: str) -> dict[str, Any]:
    """The numbers of a row; `missing` is why there are none."""
    nothing = dict.fromkeys(("difference", "low", "high", "queries_low", "queries_high", "p_value"), math.nan)
    counts = {"over": "queries", "seeds": 1, "n_queries": 0, "n_groups": 0, "effective_groups": 0.0}
    if base is None or values is None:
        return {"value": math.nan, "baseline": math.nan, **nothing, **counts, "reason": missing}
    values = values.reindex(base.index)
    both = {"value": values.mean(), "baseline": base.mean()}
    concept = evaluation.data.labels.get("concept", evaluation.labels)
    groups = [concept.get(i, i) for i in base.index]
    test = paired_test(base, values, groups=groups)
    counts |= {"n_queries": test.n, "n_groups": test.n_groups, "effective_groups": test.effective_groups}
    if (base.dropna() == values.dropna()).all():
        return {**both, **nothing, **counts, "reason": NOT_ACTED_ON}
    found = {"difference": test.difference, "low": test.low, "high": test.high, "p_value": test.p_value}
    return {**both, **found, "queries_low": test.low, "queries_high": test.high, **counts, "reason": ""}


def is_there(runs: TrainedRuns) -> bool:
    """Whether the package holds a table of trained models; one that it lacks is left out of the atlas."""
    return runs.table in EMBEDDED and (data_root() / EMBEDDED[runs.table]).exists()


def rows_of_trained(runs: TrainedRuns) -> pd.DataFrame:
    """The rows of the systems among the settings of a table of trained models, after the last step."""
    table = embedded_table(runs.table)
    of = {runs.named.get(quantity, quantity): quantity for quantity in QUANTITIES}
    changes = contrasts(table, runs.control, [name for name in of if name in set(table["quantity"])])
    numbers_of_groups = ["n_groups", "effective_groups"]
    changes[numbers_of_groups] = changes.groupby("setting")[numbers_of_groups].transform("max")  # of the gap too
    changes = _with_tests_over_seeds(changes)
    rows = []
    for row in changes[changes["setting"].isin(runs.systems)].to_dict("records"):
        ends = ("low", "high", "queries_low", "queries_high")
        seeds = row["seeds"] > 1
        about = {"system": runs.systems[row["setting"]], "kind": runs.kind, "setting": row["setting"], "model": "tiny"}
        about |= {"dataset": runs.dataset, "quantity": of[row["quantity"]], "baseline_setting": runs.control}
        numbers = {"value": row["value"], "baseline": row["control"], "difference": row["change"]}
        numbers |= {end: row[end] for end in ends} | {"over": "seeds" if seeds else "queries", "seeds": row["seeds"]}
        if not seeds:
            numbers |= {"low": row["queries_low"], "high": row["queries_high"]}
        numbers |= {name: row[name] for name in ("p_value", "p_adjusted", "n_queries", "n_groups", "effective_groups")}
        rows.append({**about, **numbers, "fitted_on": "train", **_of_trained(row)})
    return pd.DataFrame(rows)


def _with_tests_over_seeds(changes: pd.DataFrame) -> pd.DataFrame:
    """Student's test over seeds, of quantities without a value of each query, adjusted over the settings."""
    changes = changes.copy()
    for _, part in changes[changes["p_value"].isna() & (changes["seeds"] > 1)].groupby("quantity"):
        least = stats.t.ppf(0.975, part["seeds"] - 1)
        t = part["change"].abs() / ((part["high"] - part["low"]) / 2) * least
        p = 2 * stats.t.sf(t, part["seeds"] - 1)
        changes.loc[part.index, "p_value"], changes.loc[part.index, "p_adjusted"] = p, holm(p)
    return changes


def _of_trained(row: Mapping[Any, Any]) -> dict[str, Any]:
    """The verdict of a change by training, which both intervals have to bear out."""
    if row["seeds"] < 2:
        return {"verdict": INCONCLUSIVE, "reason": "one seed"}
    ends = [(row["low"], row["high"]), (row["queries_low"], row["queries_high"])]
    known = [(low, high) for low, high in ends if not math.isnan(low)]
    low, high = min(low for low, _ in known), max(high for _, high in known)
    found = verdict(low, high, row["p_adjusted"], float(row["effective_groups"]))
    return {"verdict": found.word, "reason": found.reason}


def _with_verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that were computed, with Holm's p-values over all systems that were tested in a quantity."""
    table = table.assign(p_adjusted=math.nan, verdict=None)
    for _, part in table[table["p_value"].notna()].groupby("quantity"):
        table.loc[part.index, "p_adjusted"] = holm(part["p_value"].to_numpy())
    for place, row in table[table["p_value"].notna()].iterrows():
        found = verdict(row["low"], row["high"], row["p_adjusted"], float(row["effective_groups"]))
        table.loc[place, ["verdict", "reason"]] = found.word, found.reason
    return table


def atlas_words(table: pd.DataFrame) -> pd.DataFrame:
    """For reading: systems by quantities, each the change with its 95 % interval, and a star where there is a verdict.

    Empty where the system is not defined, a dot where it does not act.

    Args:
        table: from `atlas`.
    """
    words: dict[str, dict[str, str]] = {}
    for row in table.to_dict("records"):
        line = words.setdefault(f"{row['system']}: {row['setting']}", {})
        found = "·" if row["reason"] == NOT_ACTED_ON else ""
        if not math.isnan(row["difference"]):
            found = f"{row['difference']:+.3f}"
            if not math.isnan(row["low"]):
                low, high = (f"{row[end]:+.3f}" for end in ("low", "high"))
                found += f" ({low}, {high}){'' if row['verdict'] == INCONCLUSIVE else '*'}"
        line[row["quantity"]] = found
    return pd.DataFrame(words, index=list(QUANTITIES)).T.fillna("").rename_axis("system")


def findings(table: pd.DataFrame) -> list[str]:
    """What an atlas says, a sentence for each quantity: the systems with a verdict, and how many are inconclusive.

    Args:
        table: from `atlas`.
    """
    said = []
    for quantity in (name for name in QUANTITIES if name in set(table["quantity"])):
        tested = table[(table["quantity"] == quantity) & table["difference"].notna()]
        sure = tested[tested["verdict"].isin(["higher", "lower"])].sort_values("difference", ascending=False)
        parts = [
            f"{word} with {', '.join(_said(row) for row in part.to_dict('records'))}"
            for word, part in sure.groupby("verdict", sort=False)
        ]
        count = len(tested) - len(sure)
        parts += [f"inconclusive with {count} of {len(tested)}"] if count else []
        said.append(f"{quantity}: {'; '.join(parts) or 'no system acts on it'}")
    return said


def _said(row: Mapping[Any, Any]) -> str:
    low, high = (f"{row[end]:+.3f}" for end in ("low", "high"))
    return f"{row['system']} ({row['kind']}, {row['difference']:+.3f}, {low} to {high})"


def _check_known(systems: Collection[str] | None, chosen: Sequence[Acting], read: Sequence[TrainedRuns]) -> None:
    known = {one.system for one in published()}
    there = {one.system for one in chosen} | {name for one in read for name in one.systems.values()}
    for name in systems or ():
        if name not in known:
            raise unknown_name("system", name, sorted(known))
        if name not in there:
            kind = next(one.kind for one in published() if one.system == name)
            why = LEFT_OUT.get(name, LEFT_OUT_KIND.get(kind, "it does not act on the embedded models"))
            raise XgapError(f"system {name!r} has no row in the atlas: {why}")
