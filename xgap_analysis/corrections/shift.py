"""Corrections that shift all features of a modality, and the one that does nothing."""

from dataclasses import replace

from torch import Tensor

from xgap_analysis.core.calibration import Calibration
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.precision import exact
from xgap_analysis.corrections.protocol import ByRole, FeatureMap, check_dimensions, register_correction


@register_correction("none")
def none(calibration: Calibration) -> FeatureMap:
    """Vectors as the model gives them.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> images = xg.Features(np.eye(2), ["a", "b"], space="image", origin="image")
        >>> texts = xg.Features(-np.eye(2), ["a", "b"], space="text", origin="text")
        >>> calibration = xg.Calibration({"image": images, "text": texts}, split="train")
        >>> xg.correction("none").fit(calibration)(images) is images
        True
    """
    return lambda features: features


@register_correction("center")
def center(calibration: Calibration, roles: bool = False) -> FeatureMap | ByRole:
    """Subtract the mean of the space that the vectors lie in, then scale to unit length.

    Formula: x' = (x - m) / ||x - m||, m the mean of the calibration vectors of x's space (an OTI feature, made from an
    image, lies in the text space and loses the text mean).

    Args:
        calibration: its features give the means.
        roles: whether queries and gallery items of a space each lose the mean of their own, as query texts and
            document texts do in GR-CLIP. A space whose items are both has one mean.

    Raises:
        XgapError: roles, where the calibration split parts the queries of no space from what is searched.

    Source: GR-CLIP (Li et al., 2025); I0T-post (An et al., ACL 2025) with means of a calibration set.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(1, 1, (20, 4)), range(20), space="image", origin="image")
        >>> texts = xg.Features(random.normal(-1, 1, (20, 4)), range(20), space="text", origin="text")
        >>> calibration = xg.Calibration({"image": images, "text": texts}, split="train")
        >>> fitted = xg.correction("center").fit(calibration)
        >>> round(xg.metrics.modality_gap(images, texts), 2)
        1.51
        >>> round(xg.metrics.modality_gap(fitted(images), fitted(texts)), 2)  # much smaller
        0.29
    """
    if not roles:
        return _shifted(calibration, {space: -_mean(of) for space, of in calibration.features.items()})
    if not any(calibration.queries.values()):
        what = f"split {calibration.split!r} has no queries apart from its gallery, in any space"
        raise XgapError(f"center(roles=True): {what}; leave out roles")
    query, gallery = (
        _shifted(calibration, {space: -_mean(calibration.role(space, role)) for space in calibration.features})
        for role in ("query", "gallery")
    )
    return ByRole(query, gallery)


@register_correction("gap-shift")
def gap_shift(calibration: Calibration, lambda_: float = 0.5) -> FeatureMap:
    """Move images and texts towards each other along the vector between their means, then scale to unit length.

    Formula: x' = x - lambda g for images, y' = y + lambda g for texts, g = mean(x) - mean(y). 0 changes nothing, 0.5
    makes the means equal (before scaling), and larger values make the two modalities swap places.

    Source: Liang et al., Mind the Gap, NeurIPS 2022, section 4.2.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(1, 1, (20, 4)), range(20), space="image", origin="image")
        >>> texts = xg.Features(random.normal(-1, 1, (20, 4)), range(20), space="text", origin="text")
        >>> calibration = xg.Calibration({"image": images, "text": texts}, split="train")
        >>> fitted = xg.correction("gap-shift(lambda_=0.5)").fit(calibration)
        >>> round(xg.metrics.modality_gap(images, texts), 2)
        1.51
        >>> round(xg.metrics.modality_gap(fitted(images), fitted(texts)), 2)  # much smaller
        0.31
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
        check_dimensions(features, len(shift))
        return replace(features, vectors=exact(features.vectors) + shift.to(features.vectors.device))

    return apply
