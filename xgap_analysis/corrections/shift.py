"""Corrections that move a whole side of the sphere."""

from dataclasses import replace

from xgap_analysis.corrections import Calibration, Correct, register
from xgap_analysis.errors import XgapError
from xgap_analysis.features import Features


@register("center")
def center(calibration: Calibration) -> Correct:
    """Subtract the mean of the side that the vectors lie on, then scale to unit length.

    Formula: x' = (x - m) / ||x - m||, m the mean of the calibration vectors of x's space (an OTI feature, made from an
    image, lies on the text side and loses the text mean).

    Source: GR-CLIP (Li et al., 2025); I0T-post (An et al., ACL 2025) with means of a calibration set.
    """
    means = {side.space: side.vectors.double().mean(dim=0) for side in (calibration.images, calibration.texts)}

    def apply(features: Features) -> Features:
        if features.space not in means:
            raise XgapError(f"there is no mean for space {features.space!r}; fitted on: {', '.join(means)}")
        mean = means[features.space]
        if features.dim != len(mean):
            raise XgapError(f"the features have {features.dim} dimensions, those the mean was taken of {len(mean)}")
        moved = features.vectors.double() - mean.to(features.vectors.device)
        return replace(features, vectors=moved)

    return apply
