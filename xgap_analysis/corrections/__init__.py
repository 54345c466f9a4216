"""Corrections: what may be done to vectors, or to their similarities, before two sides meet.

A correction is made by a function that fits it, and is known by a name:

    @register("center")
    def center(calibration: Calibration) -> Correct: ...

The calibration set is a split that is not judged. Where it is (`transductive`), every table says so.
"""

from xgap_analysis.corrections import hubness, projector, shift, signature, subspace  # noqa: F401  register theirs
from xgap_analysis.corrections.projector import inter_modal_operator as inter_modal_operator
from xgap_analysis.corrections.protocol import CORRECTIONS as CORRECTIONS
from xgap_analysis.corrections.protocol import Calibration as Calibration
from xgap_analysis.corrections.protocol import Correct as Correct
from xgap_analysis.corrections.protocol import Correction as Correction
from xgap_analysis.corrections.protocol import FittedCorrection as FittedCorrection
from xgap_analysis.corrections.protocol import QueryGallery as QueryGallery
from xgap_analysis.corrections.protocol import ScoreCorrection as ScoreCorrection
from xgap_analysis.corrections.protocol import correction as correction
from xgap_analysis.corrections.protocol import register as register
from xgap_analysis.views.fusion import fuse as fuse
