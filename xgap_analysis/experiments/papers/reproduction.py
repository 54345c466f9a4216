"""The papers' tables by name: the grid behind one, its averages, and the published figure beside each of ours."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.experiments.axes import SETTINGS
from xgap_analysis.experiments.papers.grids import Average, Grid, expanded, grid
from xgap_analysis.experiments.rows import OFFICIAL
from xgap_analysis.experiments.study import Study
from xgap_analysis.models.tower import Model

PUBLISHED = Path(__file__).with_name("published.csv")
AT = {"oti.tokens": "tokens", "oti.steps": "step"}  # axis to its column in the published figures


def reproduce(
    table: str,
    models: Sequence[str | Model] | None = None,
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
        `published_source`; means over datasets have rows of their own. The table `"drift"` has the columns
        `oti.tokens` and `oti.steps` besides. A figure stands beside ours only where ours was made as it was: on the
        whole task (no limit, no other label set, options or scorer), on the same split, in the same precision, from the
        same seed. Elsewhere `published_note` says what differs; the figures of Cross the Gap are of precision="fp16".

    Raises:
        XgapError: an unknown table, or what `Study` refuses.

    Example:
        >>> import xgap_analysis as xg
        >>> table = xg.reproduce("image-retrieval", ["tiny"], ["emoji"], comparisons=["I-I"], limit=3, progress=False)
        >>> table[["model", "dataset", "comparison", "published"]].head(1)
          model dataset comparison  published
        0  tiny   emoji        I-I        NaN
    """
    chosen = grid(table)
    on_models = expanded(models if models is not None else chosen.models, chosen.paper_models)
    on_datasets = expanded(datasets if datasets is not None else chosen.datasets, chosen.paper_datasets)
    limit = chosen.limit if datasets is None else None
    given = {"corrections": chosen.corrections, "comparisons": chosen.comparisons, "limit": limit, **study}
    return run_grid(chosen, Study(on_models, on_datasets, **given))


def run_grid(chosen: Grid, study: Study) -> pd.DataFrame:
    """The study of a named table, with the averages and the published figures that belong to it."""
    own = {name: getattr(study, name) for name in ("limit", "only", "label_set", "steps", "tokens")}
    axes = _within(chosen.axes, study.steps, study.tokens)
    if axes:  # steps and tokens are values of the axes
        study = replace(study, axes={**axes, **study.axes}, steps=None, tokens=None)
    table = study.run()
    if "of_precision" not in table:
        brought = {model.name: model.precision for model in study.models if isinstance(model, Model)}
        table = table.assign(of_precision=table["model"].map(brought).fillna(study.precision))
    table = with_averages(table, chosen.averages)
    differs = [f"{name} is not the paper's but {value}" for name, value in own.items() if value is not None]
    return with_published(table, chosen.papers, seeds=study.seeds, differs=differs)


def _within(axes: Mapping[str, Sequence[int]], steps: int | None, tokens: int | None) -> dict[str, Sequence[int]]:
    """A table's axes up to a number of steps, and at one number of pseudo-tokens, where these are given."""
    chosen = dict(axes)
    if tokens is not None and "oti.tokens" in chosen:
        chosen["oti.tokens"] = (tokens,)
    if steps is not None and "oti.steps" in chosen:
        chosen["oti.steps"] = tuple(step for step in chosen["oti.steps"] if step <= steps) or (steps,)
    return chosen


def with_averages(table: pd.DataFrame, averages: Sequence[Average]) -> pd.DataFrame:
    """The table with a row for each mean whose datasets are all there, of one model, comparison, correction, ..."""
    main = table[table["main"]]
    alike = [name for name in main if name in ("model", "comparison", "correction", "scorer") or "." in name]
    rows = []
    for average in averages:
        part = main[main["dataset"].isin(average.datasets) & main["comparison"].isin(average.comparisons)]
        for _, cells in part.groupby(alike, sort=False, dropna=False):
            if len(cells) != len(average.datasets) or set(cells["dataset"]) != set(average.datasets):
                continue
            if cells["value"].isna().any():
                continue
            kept = {name: cells[name].iloc[0] for name in (*alike, "baseline")}
            kept["metric"] = _printed(cells["metric"].iloc[0])
            numbers = {name: cells[name].mean(skipna=False) for name in ("value", "difference")}
            made = {name: _common(cells[name]) for name in ("split", "of_precision") if name in cells}
            about = {"dataset": average.name, "split": "", "main": True, "n_queries": int(cells["n_queries"].sum())}
            transductive = {"transductive": bool(cells["transductive"].any())} if "transductive" in cells else {}
            note = {"note": f"mean of {len(cells)} datasets"}
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

    Of several papers with a figure for a cell, the first whose figure was made as ours is given. Where no figure was,
    none is given, and the note says what differs. Figures of a SLIP checkpoint stand beside whatever file of that
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
    both = {name: (figure.get(name), own) for name, own in ours.items()} | {"scorer": ("cosine", row.get("scorer"))}
    stated = {name: pair for name, pair in both.items() if not any(x is None or pd.isna(x) or x == "" for x in pair)}
    reasons = [f"{name} {theirs}, ours {own}" for name, (theirs, own) in stated.items() if str(theirs) != str(own)]
    axes = [name for name in row if (name in SETTINGS or "." in name) and name not in (*ours, "label_set", *AT)]
    return reasons + [f"{name} is not the paper's but {row[name]}" for name in axes if not _is_missing(row[name])]


def _is_missing(value: Any) -> bool:
    return value is None or bool(pd.isna(value))


def _cell(row: dict[Any, Any]) -> tuple[Any, ...]:
    """What a figure is known by; a SLIP checkpoint by its architecture."""
    model = row["model"].partition("/")[0] if row["model"].startswith("SLIP-") else row["model"]
    values: list[Any] = [row.get(axis, row.get(name)) for axis, name in AT.items()]
    at = tuple(None if _is_missing(value) else int(value) for value in values)
    return (model, row["dataset"], row["comparison"], row["correction"], _printed(row["metric"]), *at)


def _printed(metric: str) -> str:
    """The measure as papers print it: their mAP of landmarks is the mean of the official average precision."""
    return "ap" if metric == OFFICIAL else metric
