"""What a table says of scorers that were fitted: on which split, and whether they have seen what is evaluated."""

from typing import TYPE_CHECKING

from xgap_analysis.core.errors import XgapError
from xgap_analysis.experiments.cell import Cell
from xgap_analysis.scoring import Scorer

if TYPE_CHECKING:
    from xgap_analysis.experiments.evaluation import Evaluation


def with_splits_of(scorer: Scorer, split: str) -> str:
    """The split of a correction, then those of the scorer, each once: `"train"`, `"train + val"`."""
    return " + ".join(dict.fromkeys(filter(None, (split, *(of.split for of in scorer.fitted_on)))))


def scorer_has_seen(evaluation: "Evaluation", cell: Cell) -> bool:
    """Whether a scorer was fitted on any of the queries or gallery items of a cell."""
    if not cell.scorer.fitted_on:
        return False
    try:
        pair = evaluation.pair(cell.comparison, seed=evaluation.study.seeds[0])
    except XgapError:  # the cell cannot be computed, and its row says why
        return False
    return any(of.saw(side) for of in cell.scorer.fitted_on for side in (pair.query, pair.gallery))
