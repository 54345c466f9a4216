"""From a cell of the grid to the rows of its table."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.progress import report
from xgap_analysis.experiments.axes import cells_of
from xgap_analysis.experiments.calibrating import fitted_on, is_transductive
from xgap_analysis.experiments.cell import Cell
from xgap_analysis.experiments.learned import scorer_has_seen, with_splits_of
from xgap_analysis.metrics import (
    against_best,
    bootstrap_intervals,
    dependence,
    detectable_difference,
    metric,
    paired_tests,
    scores,
    with_verdicts,
)
from xgap_analysis.metrics.retrieval import counted_elsewhere
from xgap_analysis.metrics.significance import Interval, PairedTest, grouped_sums
from xgap_analysis.metrics.studentised import effective_groups
from xgap_analysis.metrics.verdicts import UNTESTED

if TYPE_CHECKING:
    from xgap_analysis.experiments.evaluation import Evaluation

NOT_SCORES = ("n_relevant", "rank")  # columns of a comparison's scores that are counts
OFFICIAL = "ap_trapezoid"  # the main measure in place of "ap", where it is given; see `revisited`
POWER = ("icc", "design_effect", "detectable")
TEST = ("difference", "difference_low", "difference_high", "p_value")
COUNTS = ("seeds", "n_queries", "n_unanswerable", "n_gallery", "n_groups", "effective_groups")


def table_of(evaluation: "Evaluation") -> pd.DataFrame:
    """The rows of an evaluation's cells, and their verdicts as one family of tests; see `Study.run`.

    Raises:
        XgapError: no cell can be computed.
    """
    rows: list[dict[str, Any]] = []
    of: list[Cell] = []  # the cell of each row
    refused: list[XgapError] = []
    cells = cells_of(evaluation.study)
    for number, cell in enumerate(cells):
        where = f"{evaluation.model.name} on {evaluation.data.name}"
        report(f"{cell.comparison.name} · {cell.correction} · {where}", number, len(cells))
        try:
            rows += _rows(evaluation, cell)
        except XgapError as error:
            refused.append(error)
            about = {**_about(evaluation, cell), "metric": cell.comparison.metric, "main": True}
            about["metric"] = evaluation.study.main or about["metric"]
            rows.append({**about, **_empty(error)})
        of += [cell] * (len(rows) - len(of))
    if len(refused) == len(cells):
        raise refused[0]
    return with_verdicts(pd.DataFrame(rows)).assign(against_best=_against_best(evaluation, rows, of))


def _against_best(evaluation: "Evaluation", rows: Sequence[dict[str, Any]], cells: Sequence[Cell]) -> list[str]:
    """How the main measure of each row stands to the best variant of its queries; see `Study.run`.

    Variants have one baseline, one measure and the same queries. A transductive one has seen what is evaluated, and is
    not compared; neither is the only variant of its queries.
    """
    families: dict[tuple[Any, ...], dict[str, pd.Series]] = {}
    for number, (row, cell) in enumerate(zip(rows, cells, strict=True)):
        if row["main"] and not math.isnan(row["value"]) and not row["transductive"]:
            values = _mean_of(scores_by_seed(evaluation, cell))[row["metric"]]
            families.setdefault((row["baseline"], row["metric"], *values.index), {})[str(number)] = values
    said = [""] * len(rows)
    for variants in families.values():
        groups = _groups(evaluation, next(iter(variants.values())))
        for place, word in (against_best(variants, groups) if len(variants) > 1 else {}).items():
            said[int(place)] = word
    return said


def scores_by_seed(evaluation: "Evaluation", cell: Cell) -> list[pd.DataFrame]:
    """The scores of a cell for each seed, or once where nothing in it depends on a seed."""
    key = (cell.key, *((str(m), m.function) for m in map(metric, evaluation.study.metrics)))
    if key not in evaluation.kept.frames:
        seeds = evaluation.study.seeds if cell.comparison.is_seeded else evaluation.study.seeds[:1]
        with counted_elsewhere():  # queries without a relevant item: the table counts them
            evaluation.kept.frames[key] = [_scores(evaluation, cell, seed) for seed in seeds]
    return evaluation.kept.frames[key]


def _scores(evaluation: "Evaluation", cell: Cell, seed: int) -> pd.DataFrame:
    """The columns of the task, and those of the metrics that the study names."""
    frame = evaluation.scores(cell.comparison, cell.correction, cell.scorer, seed)
    if not evaluation.study.metrics:
        return frame
    pair = evaluation.pair(cell.comparison, cell.correction, cell.scorer, seed)
    relevance = evaluation.relevance(cell.comparison)
    for own in evaluation.study.metrics:
        more = scores(own, pair, relevance)
        twice = [column for column in more if column in frame]
        if twice:
            raise XgapError(f"two metrics of the study give the column {twice[0]!r}; name one of them otherwise")
        frame = frame.assign(**more)
    return frame


def _rows(evaluation: "Evaluation", cell: Cell) -> list[dict[str, Any]]:
    comparison = cell.comparison
    frames = scores_by_seed(evaluation, cell)
    base, without = _base(evaluation, cell)
    values = _mean_of(frames)
    groups = _groups(evaluation, values)
    where = evaluation.provenance(comparison)
    notes = (frames[0].attrs.get(name, "") for name in ("degenerate", "note"))
    about = {**_about(evaluation, cell), "seeds": len(frames), "note": "; ".join(filter(None, (*notes, without)))}
    n_gallery = len(evaluation.pair(comparison, seed=evaluation.study.seeds[0]).gallery)
    # Landmarks are evaluated by their authors' average precision, which `retrieval` gives where there is junk.
    main = evaluation.study.main or (
        OFFICIAL if comparison.metric == "ap" and OFFICIAL in values else comparison.metric
    )
    if main not in values:
        raise unknown_name("measure", main, values.columns)
    names = [name for name in values.columns if name not in NOT_SCORES]
    base = None if base is None else base[[name for name in names if name in base]]
    intervals = bootstrap_intervals(values[names], groups=groups)
    tests = {} if base is None else paired_tests(base, values, groups=groups)
    return [
        {
            **about,
            "metric": name,
            "main": name == main,
            **_measured(values[name], intervals[name], tests.get(name), base, groups),
            "seed_spread": pd.Series([frame[name].mean() for frame in frames]).std() if len(frames) > 1 else math.nan,
            "n_gallery": n_gallery,
            **where,
        }
        for name in names
    ]


def _groups(evaluation: "Evaluation", values: pd.Series | pd.DataFrame) -> list[Any]:
    """The label of each query; without labels each is its own group."""
    return [evaluation.labels.get(i, i) for i in values.index]


def _base(evaluation: "Evaluation", cell: Cell) -> tuple[pd.DataFrame | None, str]:
    """The scores that a cell is compared with; or none, and why: it has its own value all the same."""
    if cell.baseline is None:
        return None, ""
    try:
        return _mean_of(scores_by_seed(evaluation, cell.baseline)), ""
    except XgapError as error:
        named = f"{cell.baseline.comparison.name} by {cell.baseline.scorer}"
        return None, f"no difference from the baseline {named}: {' '.join(str(error).split())}"


def _measured(
    values: pd.Series, interval: Interval, test: PairedTest | None, base: pd.DataFrame | None, groups: Sequence[Any]
) -> dict[str, Any]:
    """The mean of a measure with its interval, its paired difference from the baseline, and what that could show."""
    row: dict[str, Any] = {
        "value": interval.mean,
        "low": interval.low,
        "high": interval.high,
        **dict.fromkeys(TEST, math.nan),
        **UNTESTED,
        "n_queries": int(values.notna().sum()),
        "n_unanswerable": int(values.isna().sum()),
        "n_groups": interval.n_groups,
        "effective_groups": effective_groups(grouped_sums(values, groups)[1]),
        "detectable": math.nan,
    }
    compared = values
    if base is not None and test is not None:
        compared = values - base[values.name]
        row |= dict(zip(TEST, (test.difference, test.low, test.high, test.p_value), strict=True))
        row |= {"n_groups": test.n_groups, "effective_groups": test.effective_groups}
        row |= {"detectable": detectable_difference(compared, groups)}
    alike = dependence(compared, groups)
    return {**row, "icc": alike.icc, "design_effect": alike.design_effect}


def _about(evaluation: "Evaluation", cell: Cell) -> dict[str, Any]:
    comparison, by = cell.comparison, cell.correction
    native = str(by) == "none"
    return {
        "model": evaluation.model.name,
        "dataset": evaluation.data.name,
        "split": evaluation.data.split_name,
        "label_set": evaluation.label_set,
        "comparison": comparison.name,
        "correction": str(by),
        "scorer": str(cell.scorer),
        **cell.at,
        "fitted_on": with_splits_of(evaluation, cell.scorer, fitted_on(evaluation, by)),
        "transductive": is_transductive(evaluation, by, comparison) or scorer_has_seen(evaluation, cell),
        "task": comparison.task,
        "baseline": comparison.baseline,
        "claim": comparison.claim if native else by.claims.get(comparison.name, 0),
        "control": evaluation.is_control or by.control or comparison.is_control,
        "note": "",
    }


def _mean_of(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The mean of tables of the same queries and columns, cell by cell."""
    return sum(frames[1:], frames[0]) / len(frames)


def _empty(error: XgapError) -> dict[str, Any]:
    """The numbers of a cell that could not be computed, and why."""
    return {
        **dict.fromkeys(("value", "low", "high", *TEST, *POWER, "seed_spread"), math.nan),
        **dict.fromkeys(COUNTS, 0),
        **UNTESTED,
        "note": " ".join(str(error).split()),
    }
