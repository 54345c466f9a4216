"""The papers' tables by name: the grid behind one, its averages, and the published figure beside each of ours."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.experiments.papers.grids import Average, Grid, expanded, grid
from xgap_analysis.experiments.study import OFFICIAL, Evaluation, Study
from xgap_analysis.metrics import bootstrap_interval, paired_test, retrieval, with_verdicts
from xgap_analysis.models.tower import DualEncoder

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
        and `step` besides. A figure stands beside ours only where ours was made as it was: on the whole task (no limit,
        no other level or steps), on the same split, in the same precision and from the same seed. Elsewhere
        `published_note` says what differs; the figures of Cross the Gap are of precision="fp16".

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
    if "of_precision" not in table:
        brought = {model.name: model.precision for model in study.models if not isinstance(model, str)}
        table = table.assign(of_precision=table["model"].map(brought).fillna(study.precision))
    table = with_averages(table, chosen.averages)
    own = {name: getattr(study, name) for name in ("limit", "only", "level", "steps", "tokens")}
    differs = [f"{name} is not the paper's but {value}" for name, value in own.items() if value is not None]
    seeds = study.seeds[:1] if chosen.tokens else study.seeds
    return with_published(table, chosen.papers, seeds=seeds, differs=differs)


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
    for evaluation in study.evaluations():
        rows: list[dict[str, Any]] = []
        query, gallery = evaluation.view("image", "queries"), evaluation.view("image", "gallery")
        relevance = evaluation.data.relevance(evaluation.level)
        base = _ap(retrieval(query, gallery, relevance))
        native = _drift_row(evaluation, base, None)
        rows.append(native)
        for count in (study.tokens,) if study.tokens else tokens:
            own = replace(evaluation, study=replace(study, steps=last, tokens=count))
            try:
                inverted = own.inversion(query, study.seeds[0], [step for step in at_steps if step <= last])
            except XgapError as error:  # more tokens than the model's context has room for
                empty = dict.fromkeys(("value", "low", "high"), math.nan)
                about = {"comparison": "OTI-I", "tokens": count, "note": " ".join(str(error).split())}
                rows.append({**native, **empty, "n_queries": 0, "n_groups": 0, **about})
                continue
            for step, features in inverted.snapshots.items():
                row = _drift_row(evaluation, _ap(retrieval(features, gallery, relevance)), base)
                rows.append({**row, "tokens": count, "step": step})
        tables.append(with_verdicts(pd.DataFrame(rows)))
    return pd.concat(tables, ignore_index=True)


def _ap(scores: pd.DataFrame) -> pd.Series:
    """The main measure of retrieval, as in `Study.run`."""
    return scores[OFFICIAL if OFFICIAL in scores else "ap"]


def _drift_row(evaluation: Evaluation, ap: pd.Series, base: pd.Series | None) -> dict[str, Any]:
    groups = [evaluation.labels.get(i, i) for i in ap.index]
    interval = bootstrap_interval(ap, groups=groups)
    row: dict[str, Any] = {
        **{"model": evaluation.model.name, "dataset": evaluation.data.name, "split": evaluation.data.split_name},
        **{"level": evaluation.level, "comparison": "I-I" if base is None else "OTI-I", "correction": "none"},
        **{"tokens": math.nan, "step": math.nan, "baseline": "I-I", "metric": ap.name, "main": True},
        **{"claim": 0 if base is None else 1, "control": evaluation.is_control},
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
            made = {name: _common(cells[name]) for name in ("split", "of_precision") if name in cells}
            about = {"dataset": average.name, "split": "", "main": True, "n_queries": int(cells["n_queries"].sum())}
            transductive = {"transductive": bool(cells["transductive"].any())} if "transductive" in cells else {}
            note = {"note": f"mean of {len(cells)} data sets"}
            rows.append({**kept, **about, **made, **numbers, **transductive, **note})
    return pd.concat([table, pd.DataFrame(rows)], ignore_index=True) if rows else table


def _common(values: "pd.Series[Any]") -> str:
    """What is the same in all rows, or each of the values."""
    return ", ".join(dict.fromkeys(str(value) for value in values if value and not pd.isna(value)))


def published_figures() -> pd.DataFrame:
    """What the papers print, and how it was made.

    Columns: paper, source, model, dataset, comparison, correction, metric, tokens, step, percent; and the split, the
    precision (of autocast) and the inversion's seed, where a paper or its code states them.
    """
    return pd.read_csv(PUBLISHED, dtype={"tokens": "Int64", "step": "Int64", "seed": "Int64"})


def with_published(
    table: pd.DataFrame, papers: Sequence[str], *, seeds: Sequence[int] | None = None, differs: Sequence[str] = ()
) -> pd.DataFrame:
    """The table with the columns `published`, in [0, 1], `published_source` and `published_note`.

    Of several papers with a figure for a cell, the first whose figure was made as ours is told. Where no figure was,
    none is told, and the note says what differs. Figures of a SLIP checkpoint stand beside whatever file of that
    architecture was loaded.

    Args:
        table: of a study; what it does not say (its split, say) is not compared.
        papers: whose figures; none leaves the columns empty.
        seeds: of the study's inversions.
        differs: in what the whole table is not as the papers'.
    """
    figures = published_figures()
    unknown = set(papers) - set(figures["paper"])
    if unknown:
        raise XgapError(
            f"no figures of {', '.join(sorted(unknown))} are known; there are: {', '.join(set(figures['paper']))}"
        )
    known: dict[tuple[Any, ...], list[dict[Any, Any]]] = {}
    for paper in papers:
        for figure in figures[figures["paper"] == paper].to_dict("records"):
            known.setdefault(_cell(figure), []).append(figure)
    columns: dict[str, list[Any]] = {"published": [], "published_source": [], "published_note": []}
    for row in table.to_dict("records"):
        value, source, note = math.nan, "", ""
        for figure in known.get(_cell(row), []) if row["main"] else []:
            reasons = [*_differences(figure, row, seeds), *differs]
            if not reasons:
                value, source, note = figure["percent"] / 100, figure["source"], ""
                break
            note = note or f"{figure['source']} has a figure of another protocol: {'; '.join(reasons)}"
        for name, one in zip(columns, (value, source, note), strict=True):
            columns[name].append(one)
    return table.assign(**columns)


def _differences(figure: dict[Any, Any], row: dict[Any, Any], seeds: Sequence[int] | None) -> list[str]:
    """In what a published figure was made otherwise than a row, as far as both say it."""
    ours = {"split": row.get("split"), "precision": row.get("of_precision")}
    if seeds is not None:
        ours["seed"] = ", ".join(map(str, seeds))
    told = {name: (figure.get(name), own) for name, own in ours.items()}
    stated = {name: both for name, both in told.items() if not any(x is None or pd.isna(x) or x == "" for x in both)}
    return [f"{name} {theirs}, ours {own}" for name, (theirs, own) in stated.items() if str(theirs) != str(own)]


def _cell(row: dict[Any, Any]) -> tuple[Any, ...]:
    """What a figure is told by; a SLIP checkpoint by its architecture."""
    model = row["model"].partition("/")[0] if row["model"].startswith("SLIP-") else row["model"]
    at = tuple(None if pd.isna(row.get(name)) else int(row[name]) for name in ("tokens", "step"))
    return (model, row["dataset"], row["comparison"], row["correction"], _printed(row["metric"]), *at)


def _printed(metric: str) -> str:
    """The measure as papers print it: their mAP of landmarks is the mean of the official average precision."""
    return "ap" if metric == OFFICIAL else metric
