"""How well views of pairs of items agree with people's scores: native and inverted features side by side."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.progress import report
from xgap_analysis.corrections import Correction
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.pair_scores import PairScores
from xgap_analysis.experiments.axes import cells_of, settings_of
from xgap_analysis.experiments.cell import Cell
from xgap_analysis.experiments.comparison import Comparison
from xgap_analysis.experiments.evaluation import Evaluation
from xgap_analysis.experiments.rows import TEST, _about
from xgap_analysis.experiments.study import Study
from xgap_analysis.metrics.pair_scores import METHODS, correlation, correlation_test, pair_scores
from xgap_analysis.metrics.verdicts import UNTESTED, with_verdicts
from xgap_analysis.models import Model
from xgap_analysis.views import Precomputed

LABEL_SET = TASK = "pair-scores"
MAIN = "spearman"
COUNTS = ("seeds", "n_pairs", "n_groups", "effective_groups")


def pair_table(
    model: str | Model | Precomputed,
    pairs: PairScores,
    comparisons: Sequence[str | Comparison] = ("T-T", "OVI-T", "OVI-OVI"),
    corrections: Sequence[str | Correction] = ("none",),
    *,
    fit_data: Dataset | None = None,
    **settings: Any,
) -> pd.DataFrame:
    """Correlation with people's scores of each comparison, correction and scorer, and its difference from the baseline.

    The query view represents the first item of each pair, and the gallery view the second.

    Args:
        model: a name or a loaded model.
        pairs: of one split, such as `load_pair_scores(path).split("test")`.
        comparisons: as in `Study`, of any two views of the pairs' modalities: `"T-T"` is native, `"OVI-T"` inverts the
            first text of each pair, and `"OVI-OVI"` both.
        corrections: as in `Study`.
        fit_data: a split with images and texts that corrections are fitted on; the split `train` of the pairs where
            none is given.
        settings: others of `Study`: scorers, axes, seeds, steps, tokens, store, ...

    Returns:
        One row for each comparison, correction, scorer, value of the axes and metric (`spearman`, the main one, and
        `pearson`), with the columns of `Study.run` but those that are of queries: `value` with `low` and `high`,
        `difference` from the baseline's correlation with its interval, `p_value` (exchange test), `p_adjusted`,
        `verdict`, ...; `n_pairs`, `n_groups` (groups of pairs that share items, which are drawn together) and
        `of_pairs` (a digest). No claim is made of pair scores, so that a verdict is `higher`, `lower` or
        `inconclusive`. A cell that cannot be computed has a `note`.

    Raises:
        XgapError: a comparison or a setting that `Study` refuses, or no cell that can be computed.

    Example:
        >>> import xgap_analysis as xg
        >>> from xgap_analysis.datasets.pair_scores import PairScores
        >>> texts = xg.Texts(("a", "b", "c"), ("a red apple", "a green apple", "a car"))
        >>> pairs = PairScores(("a", "a", "b"), ("b", "c", "c"), [4.2, 0.3, 0.1], texts)
        >>> table = pair_table("tiny", pairs, ["T-T", "OVI-T"], steps=2, progress=False)
        >>> table["metric"].tolist()
        ['spearman', 'pearson', 'spearman', 'pearson']
    """
    fit_split = settings.get("fit_split", "train")
    data = _as_dataset(pairs, {} if fit_data is None else {fit_split: lambda: fit_data})
    study = Study([model], [data], comparisons, corrections, label_set=LABEL_SET, **settings)
    tables = [
        _table(evaluation, pairs, cells_of(each)).assign(**at)
        for at, each in settings_of(study)
        for evaluation in each.evaluations()
    ]
    return pd.concat(tables, ignore_index=True)


def _as_dataset(pairs: PairScores, splits: Mapping[str, Callable[[], Dataset]]) -> Dataset:
    """The items of the pairs, and the splits that corrections may be fitted on."""
    items = dict(zip(pairs.modalities, pairs.item_sets, strict=True))
    own = {name: partial(_as_dataset, part, {}) for name, part in pairs.splits.items()}
    return Dataset(pairs.name, pairs.split_name, items=items, splits={**own, **splits})


def _table(evaluation: Evaluation, pairs: PairScores, cells: Sequence[Cell]) -> pd.DataFrame:
    """The rows of all cells, and their verdicts as one family of tests."""
    rows: list[dict[str, Any]] = []
    refused: list[XgapError] = []
    scored: dict[Any, np.ndarray] = {}  # by cell: most share a baseline
    for number, cell in enumerate(cells):
        report(
            f"{cell.comparison.name} · {cell.correction} · {evaluation.model.name} on {pairs.name}", number, len(cells)
        )
        about = {**_about(evaluation, cell), "task": TASK, "claim": 0}
        try:
            rows += [{**about, **row} for row in _rows(evaluation, pairs, cell, scored)]
        except XgapError as error:
            refused.append(error)
            numbers = dict.fromkeys(("value", "low", "high", *TEST, "seed_spread"), math.nan)
            note = " ".join(str(error).split())
            rows.append({**about, "metric": MAIN, "main": True, **numbers, **dict.fromkeys(COUNTS, 0), "note": note})
    if len(refused) == len(cells):
        raise refused[0]
    table = pd.DataFrame(rows).assign(**UNTESTED, of_pairs=pairs.digest[:16])
    return with_verdicts(table)


def _rows(evaluation: Evaluation, pairs: PairScores, cell: Cell, scored: dict[Any, np.ndarray]) -> list[dict[str, Any]]:
    """One row for each metric of a cell."""
    for each in (cell, cell.baseline):
        if each is not None and each.key not in scored:
            scored[each.key] = _scores(evaluation, pairs, each)
    scores = scored[cell.key]
    where = evaluation.provenance(cell.comparison)
    rows = []
    for metric in METHODS:
        own = correlation(scores, pairs.scores, method=metric, groups=pairs.groups)
        row = {"metric": metric, "main": metric == MAIN, "value": own.value, "low": own.low, "high": own.high}
        row |= {**dict.fromkeys(TEST, math.nan), "seeds": len(scores), "n_pairs": own.n, "n_groups": own.n_groups}
        row["effective_groups"] = math.nan
        if cell.baseline is not None:
            base = scored[cell.baseline.key]
            test = correlation_test(base, scores, pairs.scores, method=metric, groups=pairs.groups)
            row |= dict(zip(TEST, (test.difference, test.low, test.high, test.p_value), strict=True))
            row["effective_groups"] = test.effective_groups
        each_seed = [correlation(of, pairs.scores, method=metric, resamples=1).value for of in scores]
        row["seed_spread"] = float(np.std(each_seed, ddof=1)) if len(each_seed) > 1 else math.nan
        rows.append({**row, **where})
    return rows


def _scores(evaluation: Evaluation, pairs: PairScores, cell: Cell) -> np.ndarray:
    """The scores of a cell's pairs, `[s, n]`, for each seed, or once where nothing in it depends on a seed."""
    views, needed = cell.comparison.views, pairs.modalities
    if cell.comparison.task != "retrieval" or tuple(v.modality for v in views) != needed:
        what = f"the pairs are of {' and '.join(dict.fromkeys(needed))} items"
        raise XgapError(f"{what}, which comparison {cell.comparison.name} does not compare")
    seeds = evaluation.study.seeds if cell.comparison.is_seeded else evaluation.study.seeds[:1]
    found = []
    for seed in seeds:
        pair = evaluation.pair(cell.comparison, cell.correction, cell.scorer, seed)
        how: dict[str, Any] = {"scorer": pair.scorer, "normalise": pair.normalise}
        found.append(pair_scores(pair.query, pair.gallery, pairs, **how)["score"].to_numpy())
    return np.stack(found)
