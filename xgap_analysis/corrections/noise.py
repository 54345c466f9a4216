"""Noise added to the features of one space: the gap as a random vector."""

import hashlib
from dataclasses import replace

import torch

from xgap_analysis.core.calibration import Calibration
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.precision import exact
from xgap_analysis.corrections.protocol import FeatureMap, register_correction

VARIANCE = 0.016


@register_correction("noise", model_alone=True)
def noise(
    calibration: Calibration, variance: float = VARIANCE, space: str | None = "text", seed: int = 0
) -> FeatureMap:
    """Add Gaussian noise of this variance in every dimension to each vector, then scale to unit length.

    Formula: x' = (x + e) / ||x + e||, e ~ N(0, variance I). The expected cosine of x' and x is near
    1 / sqrt(1 + d variance): 0.33 for 0.016 and 512 dimensions. With variance 0 nothing changes.

    MacCap trains a captioner on noisy texts, as if the gap were such noise. `residuals` tests whether it is: whether
    differences of pairs have mean zero, and are Gaussian. As a correction it shows how far retrieval suffers from noise
    of the gap's length; it is drawn for each item by itself (from the seed, what the item is, and its id), so
    that order, number and device of the items change nothing.

    Args:
        calibration: not read.
        variance: of each dimension.
        space: whose vectors get noise; None for every space.
        seed: of the draw.

    Raises:
        XgapError: a negative variance.

    Source: Qiu et al., MacCap, AAAI 2024 (its text-only training).

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(1, 1, (20, 4)), range(20), space="image", origin="image")
        >>> texts = xg.Features(random.normal(-1, 1, (20, 4)), range(20), space="text", origin="text")
        >>> calibration = xg.Calibration({"image": images, "text": texts}, split="train")
        >>> noisy = xg.correction("noise(variance=0.1)").fit(calibration)
        >>> bool((noisy(images).vectors == images.vectors).all())  # only texts are changed, unless space=None
        True
        >>> bool((noisy(texts).vectors == texts.vectors).all())
        False
    """
    if not 0 <= variance < float("inf"):
        raise XgapError(f"the variance of noise is 0 or more, not {variance}")

    def apply(features: Features) -> Features:
        if variance == 0 or space not in (None, features.space):
            return features
        of = (
            f"{features.space} {features.origin} {features.items}"  # an id may stand in query and gallery for two items
        )
        drawn = torch.stack([_draw(f"{seed} {of} {i}", features.dim) for i in features.ids])
        vectors = exact(features.vectors)
        return replace(features, vectors=vectors + variance**0.5 * drawn.to(vectors.device))

    return apply


def _draw(name: str, d: int) -> torch.Tensor:
    """A standard normal vector of a name."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
    return torch.randn(d, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
