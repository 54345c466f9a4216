"""One cell of the grid: what is compared, and what it is compared with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xgap_analysis.corrections import Correction
from xgap_analysis.experiments.comparison import Comparison
from xgap_analysis.scoring import Scorer


@dataclass(frozen=True)
class Cell:
    """One cell of the grid within an evaluation.

    Args:
        comparison, correction, scorer: with the options that the axes set.
        baseline: what the paired difference is taken from; the cell itself where it is a baseline.
        at: the value of each axis that changes this cell.
    """

    comparison: Comparison
    correction: Correction
    scorer: Scorer
    baseline: "Cell | None" = None
    at: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[Any, ...]:
        """What determines the scores."""
        by, scorer = self.correction, self.scorer
        return (self.comparison, str(by), by.makers, str(scorer), scorer.function)
