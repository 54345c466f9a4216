"""Every dimension of a space by its own mean and spread."""

from dataclasses import replace

from xgap_analysis.core.calibration import Calibration
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.precision import exact
from xgap_analysis.corrections.protocol import FeatureMap, check_dimensions, register_correction

EPSILON = 1e-5  # of torch's batch normalisation, which the paper trains


@register_correction("standardise")
def standardise(calibration: Calibration, epsilon: float = EPSILON) -> FeatureMap:
    """Subtract the mean of each dimension and divide by its spread, then scale to unit length.

    Formula: x'_k = (x_k - m_k) / sqrt(v_k + epsilon), m and v the mean and the variance of the calibration vectors of
    x's space; it is I0T-async before its training (batch normalisation of unit features with its first weights). Peaks
    of single dimensions, which such models have, lose their weight; `whiten` does the same for every direction.

    Args:
        calibration: its features give the mean and the variance of each space.
        epsilon: added to each variance. Variances of unit vectors of d dimensions are near 1 / d.

    Raises:
        XgapError: a negative epsilon, calibration vectors of a space that are all the same, or, with epsilon 0, a
            dimension that is the same in all of them.

    Source: An et al., I0T, ACL 2025 (I0T-async).

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(1, 1, (20, 4)), range(20), space="image", origin="image")
        >>> texts = xg.Features(random.normal(-1, 1, (20, 4)), range(20), space="text", origin="text")
        >>> calibration = xg.Calibration({"image": images, "text": texts}, split="train")
        >>> standardised = xg.correction("standardise").fit(calibration)(images)
        >>> abs(xg.metrics.cone(standardised)) < 0.1
        True
    """
    if epsilon < 0:
        raise XgapError(f"epsilon, which is added to variances, is not negative, not {epsilon}")
    moments = {}
    for space, features in calibration.features.items():
        vectors = exact(features.vectors)
        mean, variance = vectors.mean(dim=0), vectors.var(dim=0, correction=0)
        constant = (variance == 0).nonzero()
        if len(constant) == len(variance) or (len(constant) and epsilon == 0):
            what = (
                "are all the same"
                if len(constant) == len(variance)
                else f"do not differ in dimension {int(constant[0])}"
            )
            raise XgapError(f"standardise: the {len(vectors)} calibration vectors of space {space!r} {what}")
        moments[space] = mean, (variance + epsilon).sqrt()

    def apply(features: Features) -> Features:
        calibration.of(features.space)
        mean, spread = (part.to(features.vectors.device) for part in moments[features.space])
        check_dimensions(features, len(mean))
        return replace(features, vectors=(exact(features.vectors) - mean) / spread)

    return apply
