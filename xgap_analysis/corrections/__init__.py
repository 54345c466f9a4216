"""Corrections: maps of features, or of scores, that are fitted on a calibration split.

A correction is made by a function that fits it, and is known by a name:

    @register_correction("center")
    def center(calibration: Calibration) -> FeatureMap: ...

Where the calibration split is the one that is evaluated (`transductive`), every table says so.
"""

from xgap_analysis.core.calibration import Calibration as Calibration
from xgap_analysis.corrections import (  # noqa: F401  register theirs
    bridge,
    chain,
    convolution,
    hubness,
    noise,
    orthogonal,
    projector,
    realign,
    shared_noise,
    shift,
    signature,
    sinkhorn,
    standardise,
    subspace,
    xbt,
)
from xgap_analysis.corrections.projector import inter_modal_operator as inter_modal_operator
from xgap_analysis.corrections.protocol import CORRECTIONS as CORRECTIONS
from xgap_analysis.corrections.protocol import ByRole as ByRole
from xgap_analysis.corrections.protocol import Correction as Correction
from xgap_analysis.corrections.protocol import FeatureMap as FeatureMap
from xgap_analysis.corrections.protocol import FittedCorrection as FittedCorrection
from xgap_analysis.corrections.protocol import QueryGallery as QueryGallery
from xgap_analysis.corrections.protocol import ScoreCorrection as ScoreCorrection
from xgap_analysis.corrections.protocol import complete_corrections as complete_corrections
from xgap_analysis.corrections.protocol import correction as correction
from xgap_analysis.corrections.protocol import register_correction as register_correction
