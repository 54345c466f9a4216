"""What an evaluation has computed, and keeps for all cells of its study."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from xgap_analysis.core.features import Features
from xgap_analysis.core.tokens import AnyFeatures
from xgap_analysis.corrections import FittedCorrection
from xgap_analysis.scoring import Scorer
from xgap_analysis.views import View

if TYPE_CHECKING:
    from xgap_analysis.experiments.evaluation import Evaluation


@dataclass(eq=False)
class Kept:
    """Features, fits and scores, by what determines them.

    Args:
        views: features of a view of a part of the items, by seed.
        fitted: corrections.
        calibrated: features of the fit split, by modality.
        scorers: learned ones.
        frames: scores, by cell.
        fit_split: the evaluation of the split that learned scorers are fitted on.
    """

    views: dict[tuple[View, str, int | None], AnyFeatures] = field(default_factory=dict)
    fitted: dict[tuple[str, Any], FittedCorrection] = field(default_factory=dict)
    calibrated: dict[str, Features] = field(default_factory=dict)
    scorers: dict[tuple[Any, ...], Scorer] = field(default_factory=dict)
    frames: dict[Any, list[pd.DataFrame]] = field(default_factory=dict)
    fit_split: "Evaluation | None" = None
