"""The papers' tables by name: the grid behind one, its averages, and the published figure beside each of ours."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from xgap_analysis.datasets.records import Dataset
from xgap_analysis.errors import XgapError
from xgap_analysis.grids import Average, Grid, expanded, grid
from xgap_analysis.metrics import bootstrap_interval, paired_test, retrieval, with_verdicts
from xgap_analysis.models.tower import DualEncoder
from xgap_analysis.study import OFFICIAL, Bench, Study

PUBLISHED = Path(__file__).with_name("published.csv")


def reproduce(
    table: str,
    models: Sequence[str | DualEncoder] | None = None,
    datasets: Sequence[str | Dataset] | None = None,
    **study: Any,
) -> pd.DataFrame:
    """A table of the debate by name, ours beside the published figures.

    Args:
        table: `"image-retrieval"`, `"text-retrieval"`, `"zero-shot"`, `"slip"`, `"drift"` (Cross the Gap),
            `"isoclip"`, `"pca"`, `"dogs-vs-cats"` (Reevaluating), or `"corrections"`, our own.
        models, datasets: as in `Study`; `["paper"]` stands for those of the paper, and None for the embedded default.
        study: further arguments of `Study`.

    Returns:
        The tidy table of `Study.run`, with `published` (in [0, 1], a figure of the paper, never a result) and
        `published_source`; means over data sets have rows of their own. The table `"drift"` has the columns `tokens`
        and `step` besides. A cell without a published figure, or one that was judged on another task (a limit, another
        level, other steps), has none beside it.

    Raises:
        XgapError: an unknown table, or what `Study` refuses.
    """
    chosen = grid(table)
    named = expanded(models if models is not None else chosen.models, chosen.paper_models)
    judged = expanded(datasets if datasets is not None else chosen.datasets, chosen.paper_datasets)
    limit = chosen.limit if datasets is None else None
    given = {"corrections": chosen.corrections, "comparisons": chosen.comparisons, "limit": limit, **study}
    return run_grid(chosen, Study(named, judged, **given))


def run_grid(chosen: Grid, study: Study) -> pd.DataFrame:
    """The study of a named table, with the averages and the published figures that belong to it."""
    table = drift(study, chosen.tokens, chosen.at_steps) if chosen.tokens else study.run()
    table = with_averages(table, chosen.averages)
    as_published = all(x is None for x in (study.limit, study.only, study.level, study.steps, study.tokens))
    return with_published(table, chosen.papers if as_published else ())


def drift(study: Study, tokens: Sequence[int], at_steps: Sequence[int]) -> pd.DataFrame:
    """Image retrieval along the inversion: one row for each number of pseudo-tokens and step, and one for I-I.

    Args:
        study: its `steps` are the last ones that are made, and its `tokens`, if given, the only number.
        tokens: numbers of pseudo-tokens for each image.
        at_steps: the steps that are judged.

    Returns:
        Columns as of `Study.run`, and `tokens` and `step`; the difference is paired, from I-I. Holm's family holds
        all numbers of tokens and steps of one model on one data set.
    """
    last = study.steps or max(at_steps)
    tables = []
    for bench in study.benches():
        rows: list[dict[str, Any]] = []
        query, gallery = bench.view("image", "queries"), bench.view("image", "gallery")
        relevance = bench.data.relevance(bench.level)
        base = _ap(retrieval(query, gallery, relevance))
        native = _drift_row(bench, base, None)
        rows.append(native)
        for count in (study.tokens,) if study.tokens else tokens:
            own = replace(bench, study=replace(study, steps=last, tokens=count))
            try:
                inverted = own.inversion(query, study.seeds[0], [step for step in at_steps if step <= last])
            except XgapError as error:  # more tokens than the model's context has room for
                empty = dict.fromkeys(("value", "low", "high"), math.nan)
                about = {"comparison": "OTI-I", "tokens": count, "note": " ".join(str(error).split())}
                rows.append({**native, **empty, "n_queries": 0, "n_groups": 0, **about})
                continue
            for step, features in inverted.snapshots.items():
                row = _drift_row(bench, _ap(retrieval(features, gallery, relevance)), base)
                rows.append({**row, "tokens": count, "step": step})
        tables.append(with_verdicts(pd.DataFrame(rows)))
    return pd.concat(tables, ignore_index=True)


def _ap(scores: pd.DataFrame) -> pd.Series:
    """The main measure of retrieval, as in `Study.run`."""
    return scores[OFFICIAL if OFFICIAL in scores else "ap"]


def _drift_row(bench: Bench, ap: pd.Series, base: pd.Series | None) -> dict[str, Any]:
    groups = [bench.labels.get(i, i) for i in ap.index]
    interval = bootstrap_interval(ap, groups=groups)
    row: dict[str, Any] = {
        **{"model": bench.model.name, "dataset": bench.data.name, "split": bench.data.split_name},
        **{"level": bench.level, "comparison": "I-I" if base is None else "OTI-I", "correction": "none"},
        **{"tokens": math.nan, "step": math.nan, "baseline": "I-I", "metric": ap.name, "main": True},
        **{"claim": 0 if base is None else 1, "control": bench.is_control},
        **{"value": interval.mean, "low": interval.low, "high": interval.high, "note": ""},
        **dict.fromkeys(("difference", "difference_low", "difference_high", "p_value"), math.nan),
        **{"n_queries": int(ap.notna().sum()), "n_groups": interval.n_groups},
    }
    if base is not None:
        test = paired_test(base, ap, groups=groups)
        row |= {"difference": test.difference, "difference_low": test.low, "difference_high": test.high}
        row |= {"p_value": test.p_value, "n_groups": test.n_groups}
    return row


def with_averages(table: pd.DataFrame, averages: Sequence[Average]) -> pd.DataFrame:
    """The table with a row for each mean whose data sets are all there, for a model, a comparison and a correction."""
    main = table[table["main"]]
    rows = []
    for average in averages:
        part = main[main["dataset"].isin(average.datasets) & main["comparison"].isin(average.comparisons)]
        for _, cells in part.groupby(["model", "comparison", "correction"], sort=False):
            if len(cells) != len(average.datasets) or set(cells["dataset"]) != set(average.datasets):
                continue
            if cells["value"].isna().any():
                continue
            kept = {name: cells[name].iloc[0] for name in ("model", "comparison", "correction", "baseline")}
            kept["metric"] = _printed(cells["metric"].iloc[0])
            numbers = {name: cells[name].mean(skipna=False) for name in ("value", "difference")}
            about = {"dataset": average.name, "split": "", "main": True, "n_queries": int(cells["n_queries"].sum())}
            transductive = {"transductive": bool(cells["transductive"].any())} if "transductive" in cells else {}
            note = {"note": f"mean of {len(cells)} data sets"}
            rows.append({**kept, **about, **numbers, **transductive, **note})
    return pd.concat([table, pd.DataFrame(rows)], ignore_index=True) if rows else table


def published_figures() -> pd.DataFrame:
    """What the papers print: paper, source, model, dataset, comparison, correction, metric, tokens, step, percent."""
    return pd.read_csv(PUBLISHED, dtype={"tokens": "Int64", "step": "Int64"})


def with_published(table: pd.DataFrame, papers: Sequence[str]) -> pd.DataFrame:
    """The table with the columns `published`, in [0, 1], and `published_source`.

    Of several papers with a figure for a cell, the first is told. Figures of a SLIP checkpoint stand beside whatever
    file of that architecture was loaded.

    Args:
        table: of a study.
        papers: whose figures; none leaves the columns empty.
    """
    figures = published_figures()
    unknown = set(papers) - set(figures["paper"])
    if unknown:
        raise XgapError(
            f"no figures of {', '.join(sorted(unknown))} are known; there are: {', '.join(set(figures['paper']))}"
        )
    known: dict[tuple[Any, ...], tuple[float, str]] = {}
    for paper in reversed(papers):
        for figure in figures[figures["paper"] == paper].to_dict("records"):
            known[_cell(figure)] = figure["percent"] / 100, figure["source"]
    found = [
        known.get(_cell(row), (math.nan, "")) if row["main"] else (math.nan, "") for row in table.to_dict("records")
    ]
    return table.assign(published=[value for value, _ in found], published_source=[source for _, source in found])


def _cell(row: dict[Any, Any]) -> tuple[Any, ...]:
    """What a figure is told by; a SLIP checkpoint by its architecture."""
    model = row["model"].partition("/")[0] if row["model"].startswith("SLIP-") else row["model"]
    at = tuple(None if pd.isna(row.get(name)) else int(row[name]) for name in ("tokens", "step"))
    return (model, row["dataset"], row["comparison"], row["correction"], _printed(row["metric"]), *at)


def _printed(metric: str) -> str:
    """The measure as papers print it: their mAP of landmarks is the mean of the official average precision."""
    return "ap" if metric == OFFICIAL else metric
