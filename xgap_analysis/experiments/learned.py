"""Scorers with weights in a study: the split they are fitted on, and whether they have seen what is evaluated."""

from dataclasses import replace
from typing import TYPE_CHECKING

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.dataset import splits_there
from xgap_analysis.experiments.cell import Cell
from xgap_analysis.scoring import Scorer

if TYPE_CHECKING:
    from xgap_analysis.experiments.evaluation import Evaluation


def fit_split_of(evaluation: "Evaluation", scoring: Scorer) -> "Evaluation":
    """The evaluation of the split that scorers are fitted on, which keeps its features.

    Raises:
        XgapError: a dataset without that split.
    """
    if evaluation.fit_data is None:
        what = f"scorer {str(scoring)!r} is fitted on the split {evaluation.study.fit_split!r}"
        raise XgapError(f"{what}, which dataset {evaluation.data.name!r} does not have{splits_there(evaluation.data)}")
    if evaluation.kept.fit_split is None:
        evaluation.kept.fit_split = replace(evaluation, data=evaluation.fit_data, fit_data=None)
    return evaluation.kept.fit_split


def with_splits_of(evaluation: "Evaluation", scorer: Scorer, split: str) -> str:
    """The split of a correction, then those of the scorer, each once: `"train"`, `"train + val"`."""
    own = [of.split for of in scorer.fitted_on]
    if scorer.is_unfitted and evaluation.fit_data is not None:
        own.append(evaluation.fit_data.split_name)
    return " + ".join(dict.fromkeys(filter(None, (split, *own))))


def scorer_has_seen(evaluation: "Evaluation", cell: Cell) -> bool:
    """Whether a scorer was fitted on any of the queries or gallery items of a cell."""
    if not cell.scorer.fitted_on and not cell.scorer.is_unfitted:
        return False
    try:
        pair = evaluation.pair(cell.comparison, cell.correction, cell.scorer, seed=evaluation.study.seeds[0])
    except XgapError:  # the cell cannot be computed, and its row says why
        return False
    of_scorer = pair.scorer.fitted_on if isinstance(pair.scorer, Scorer) else ()
    return any(of.saw(features) for of in of_scorer for features in (pair.query, pair.gallery))
