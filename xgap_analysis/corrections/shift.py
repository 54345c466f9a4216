"""Corrections that move a whole side of the sphere, or none."""

from dataclasses import replace

from torch import Tensor

from xgap_analysis.core.calibration import Calibration
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.precision import exact
from xgap_analysis.corrections.protocol import FeatureMap, register_correction


@register_correction("none")
def none(calibration: Calibration) -> FeatureMap:
    """Vectors as the model gives them."""
    return lambda features: features


@register_correction("center")
def center(calibration: Calibration) -> FeatureMap:
    """Subtract the mean of the side that the vectors lie on, then scale to unit length.

    Formula: x' = (x - m) / ||x - m||, m the mean of the calibration vectors of x's space (an OTI feature, made from an
    image, lies on the text side and loses the text mean).

    Source: GR-CLIP (Li et al., 2025); I0T-post (An et al., ACL 2025) with means of a calibration set.
    """
    return _shifted(calibration, {side.space: -_mean(side) for side in calibration.features.values()})


@register_correction("gap-shift")
def gap_shift(calibration: Calibration, lambda_: float = 0.5) -> FeatureMap:
    """Move the two sides towards each other along the vector between their means, then scale to unit length.

    Formula: x' = x - lambda g on the image side, y' = y + lambda g on the text side, g = mean(x) - mean(y). With 0
    nothing moves, with 0.5 the means meet (before the scaling), beyond it the sides change places.

    Source: Liang et al., Mind the Gap, NeurIPS 2022, section 4.2.
    """
    first, second = calibration.pair
    gap = _mean(first) - _mean(second)
    return _shifted(calibration, {first.space: -lambda_ * gap, second.space: lambda_ * gap})


def _mean(features: Features) -> Tensor:
    return exact(features.vectors).mean(dim=0)


def _shifted(calibration: Calibration, by: dict[str, Tensor]) -> FeatureMap:
    def apply(features: Features) -> Features:
        calibration.of(features.space)
        shift = by[features.space]
        if features.dim != len(shift):
            raise XgapError(f"the features have {features.dim} dimensions, those it was fitted on {len(shift)}")
        return replace(features, vectors=exact(features.vectors) + shift.to(features.vectors.device))

    return apply
