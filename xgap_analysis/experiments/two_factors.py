"""Two factors: what a correction does for the class and for a nuisance label set, on the same corrected features."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from scipy import stats

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.progress import report
from xgap_analysis.experiments.axes import cells_of, settings_of
from xgap_analysis.experiments.cell import Cell
from xgap_analysis.experiments.evaluation import Evaluation
from xgap_analysis.experiments.rows import TEST, _about, _mean_of
from xgap_analysis.experiments.study import Study
from xgap_analysis.metrics import paired_test, scores, with_verdicts
from xgap_analysis.metrics.retrieval import counted_elsewhere
from xgap_analysis.metrics.significance import grouped_sums
from xgap_analysis.metrics.studentised import effective_groups
from xgap_analysis.metrics.verdicts import LEVEL, UNTESTED

METRIC = "ap"
FACTORS = ("class", "nuisance")
PARTS = ("value", "difference", "difference_low", "difference_high", "p_value", "n_groups", "effective_groups")


def two_factors(study: Study, nuisance: str) -> pd.DataFrame:
    """What each comparison and correction of a study changes in retrieval by class, and by a nuisance label set.

    How to read it: a correction that brings items of one class nearer, whoever drew or spoke them, gains by class and
    loses by the nuisance. One that gains by both makes the space better; one that only trades one for the other has a
    `difference` (class less nuisance) above zero and a loss beside the gain. The corrected features are the same in
    both: they are fitted once, with the class names of the study's label set.

    Formula: average precision of each query, by the class and by the nuisance; `class_difference` and
    `nuisance_difference` are the paired differences from the baseline, over groups of queries of one class and of one
    nuisance label, as in `Study.run`. `difference` is the mean of their difference for each query. Queries depend on
    each other in both ways at once, which groups of either alone do not see: beside these two tests stands Student's
    with the two-way variance `V_class + V_nuisance - V_both` (or the larger of the first two), and one degree of
    freedom less than the fewer groups. The largest p-value, the widest limits and the fewest groups count. Holm's
    adjustment and verdicts are over these contrasts: `higher` says that the class gains
    more, `lower` that the nuisance does.

    Args:
        study: its label set is the class; cells that are not retrieval, or whose items have no nuisance label, have a
            `note`.
        nuisance: another label set of the same datasets (`artist`, `voice`).

    Returns:
        One row for each cell, also of baselines (whose values stand there without differences).

    Raises:
        XgapError: a dataset without that label set, or no cell that can be computed.

    Source: the two-factor controls of Schrodi et al., Two Effects, One Trigger, ICLR 2025, as paired differences;
    Cameron, Gelbach, Miller, Robust inference with multiway clustering, 2011.

    Example:
        >>> import xgap_analysis as xg
        >>> from xgap_analysis.experiments.two_factors import two_factors
        >>> study = xg.Study(["tiny"], ["emoji"], ["I-I"], ["none", "center"], limit=4, progress=False)
        >>> table = two_factors(study, "artist")
        >>> table[["correction", "label_set", "nuisance"]].values.tolist()
        [['none', 'concept', 'artist'], ['center', 'concept', 'artist']]
    """
    tables = []
    for at, each in settings_of(study):
        for evaluation in each.evaluations():
            tables.append(_table(evaluation, nuisance, cells_of(each)).assign(**at))
    return pd.concat(tables, ignore_index=True)


def _table(evaluation: Evaluation, nuisance: str, cells: Sequence[Cell]) -> pd.DataFrame:
    """The rows of all cells, and their verdicts as one family."""
    if nuisance == evaluation.label_set:
        raise XgapError(f"the class and the nuisance are both {nuisance!r}; give another label set of the dataset")
    labels = {"class": evaluation.labels, "nuisance": evaluation.data.labels_of(nuisance)}
    rows: list[dict[str, Any]] = []
    refused: list[XgapError] = []
    kept: dict[Any, dict[str, pd.Series]] = {}
    for number, cell in enumerate(cells):
        report(f"{cell.comparison.name} · {cell.correction} by {nuisance}", number, len(cells))
        about = {**_about(evaluation, cell), "nuisance": nuisance, "metric": METRIC, "main": True, "claim": 0}
        try:
            rows.append({**about, **_row(evaluation, cell, nuisance, labels, kept)})
        except XgapError as error:
            refused.append(error)
            numbers = dict.fromkeys((*TEST, *(f"{f}_{part}" for f in FACTORS for part in PARTS)), math.nan)
            rows.append(
                {
                    **about,
                    **numbers,
                    "n_queries": 0,
                    "n_groups": 0,
                    "effective_groups": 0,
                    "note": " ".join(str(error).split()),
                }
            )
    if len(refused) == len(cells):
        raise refused[0]
    return with_verdicts(pd.DataFrame(rows).assign(**UNTESTED))


def _row(
    evaluation: Evaluation,
    cell: Cell,
    nuisance: str,
    labels: Mapping[str, Mapping[str, str]],
    kept: dict[Any, dict[str, pd.Series]],
) -> dict[str, Any]:
    for each in (cell, cell.baseline):
        if each is not None and each.key not in kept:
            kept[each.key] = _values(evaluation, each, nuisance)
    own = kept[cell.key]
    base = None if cell.baseline is None else kept[cell.baseline.key]
    row: dict[str, Any] = {
        "n_queries": len(own["class"]),
        "n_groups": 0,
        "effective_groups": 0,
        **dict.fromkeys(TEST, math.nan),
    }
    changes = {}
    for factor in FACTORS:
        row |= {f"{factor}_value": float(own[factor].mean()), f"{factor}_n_groups": 0, f"{factor}_effective_groups": 0}
        row |= {f"{factor}_{part}": math.nan for part in PARTS if part not in ("value", "n_groups", "effective_groups")}
        if base is not None:
            changes[factor] = own[factor] - base[factor]
            row |= _tested(changes[factor], labels[factor], f"{factor}_")
    if base is None:
        return row
    contrast = changes["class"] - changes["nuisance"]
    tests = [*(_tested(contrast, labels[factor]) for factor in FACTORS), _two_way(contrast, labels)]
    row |= {
        "difference": tests[0]["difference"],
        "difference_low": min(test["difference_low"] for test in tests),
        "difference_high": max(test["difference_high"] for test in tests),
        "p_value": max(test["p_value"] for test in tests),
        **{name: min(test[name] for test in tests) for name in ("n_groups", "effective_groups")},
    }
    return row


def _tested(change: pd.Series, labels: Mapping[str, str], prefix: str = "") -> dict[str, Any]:
    test = paired_test([0.0] * len(change), change.tolist(), groups=[labels.get(i, i) for i in change.index])
    numbers = (test.difference, test.low, test.high, test.p_value, test.n_groups, test.effective_groups)
    return {f"{prefix}{part}": number for part, number in zip(PARTS[1:], numbers, strict=True)}


def _two_way(change: pd.Series, labels: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Student's test of a mean whose values depend on each other within a class and within a nuisance label."""
    first, second = ([labels[factor].get(i, i) for i in change.index] for factor in FACTORS)
    both = [repr(pair) for pair in zip(first, second, strict=True)]
    by = [grouped_sums(change, groups)[:2] for groups in (first, second, both)]
    n, mean = len(change), float(change.mean())
    k = [len(count) for _, count in by]
    about = {"difference": mean, "n_groups": min(k[:2])}
    about["effective_groups"] = min(effective_groups(count) for _, count in by[:2])
    if min(k[:2]) < 2:
        return {**about, "difference_low": -math.inf, "difference_high": math.inf, "p_value": 1.0}
    one, other, each = (
        g / (g - 1) * float(((total - count * mean) ** 2).sum()) / n**2 for g, (total, count) in zip(k, by, strict=True)
    )
    error = math.sqrt(max(one + other - each, one, other))
    reach = float(stats.t.ppf(1 - LEVEL / 2, min(k[:2]) - 1)) * error
    p_value = float(2 * stats.t.sf(abs(mean) / error, min(k[:2]) - 1)) if error > 0 else float(mean == 0)
    return {**about, "difference_low": mean - reach, "difference_high": mean + reach, "p_value": p_value}


def _values(evaluation: Evaluation, cell: Cell, nuisance: str) -> dict[str, pd.Series]:
    """Average precision by both factors, of queries that have relevant items by both, averaged over seeds."""
    if cell.comparison.task != "retrieval":
        raise XgapError(f"two factors are of retrieval, and {cell.comparison.name} is {cell.comparison.task}")
    seeds = evaluation.study.seeds if cell.comparison.is_seeded else evaluation.study.seeds[:1]
    relevance = {"class": evaluation.relevance(cell.comparison), "nuisance": evaluation.data.relevance(nuisance)}
    frames: dict[str, list[pd.DataFrame]] = {factor: [] for factor in FACTORS}
    for seed in seeds:
        pair = evaluation.pair(cell.comparison, cell.correction, cell.scorer, seed)
        with counted_elsewhere():
            for factor in FACTORS:
                frames[factor].append(scores("retrieval", pair, relevance[factor])[[METRIC]])
    found = pd.DataFrame({factor: _mean_of(frames[factor])[METRIC] for factor in FACTORS}).dropna()
    if not len(found):
        what = f"no query of {cell.comparison.name} has relevant items by {evaluation.label_set!r} and by {nuisance!r}"
        raise XgapError(what)
    return {factor: found[factor] for factor in FACTORS}
