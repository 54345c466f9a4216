"""Directions in which neither modality varies, on two halves of the data: what pruning them does, and its control."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.calibration import Calibration
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.precision import exact
from xgap_analysis.corrections.orthogonal import span_of
from xgap_analysis.corrections.protocol import FeatureMap, check_dimensions, register_correction

SHARE, AGREE = 0.25, 0.9


@register_correction("shared-noise")
def shared_noise(calibration: Calibration, share: float = SHARE, agree: float = AGREE, seed: int = 0) -> FeatureMap:
    """Remove the directions in which both modalities vary least, where two halves of the calibration set agree on them.

    Formula: within the span of all calibration vectors, of r dimensions, S_h is the sum of the modalities' covariances
    on half h, each divided by its trace, and B_h its last `share * r` eigenvectors. With `B_1^T B_2 = A C D^T`, the
    directions with C >= agree are kept as noise, N (the mean of `B_1 A` and `B_2 D`, orthonormal); x' = x - N N^T x.

    How to read it: what is removed carries the least variance of both modalities and is stable over the data. Where
    removing it costs nothing, and removing as many random directions costs something (`shared-noise-random`), the last
    directions hold noise. Where nothing agrees, nothing is removed.

    Args:
        calibration: its features, of which every second item (in an order drawn from the seed) is in the first half.
        share: of the spanned directions that are candidates, in (0, 0.5].
        agree: the least cosine of a direction of one half with the nearest of the other half, in (0, 1].
        seed: of the halves.

    Raises:
        XgapError: a share or a cosine out of range, spaces of different dimensions, or one of fewer than four items.

    Source: our own test of what "164 dimensions of noise" (arXiv 2605.14893) describes; its exact test is not public.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> loud = [1, 1, 1, 0.01]  # both modalities hardly vary in the last dimension
        >>> images = xg.Features(random.normal(0, 1, (90, 4)) * loud, range(90), space="image", origin="image")
        >>> texts = xg.Features(random.normal(0, 1, (90, 4)) * loud, range(90), space="text", origin="text")
        >>> calibration = xg.Calibration({"image": images, "text": texts}, split="train")
        >>> kept = xg.correction("shared-noise").fit(calibration)(images)
        >>> [round(float(x.vectors[:, 3].abs().max()), 2) for x in (images, kept)]
        [0.04, 0.0]
    """
    return _without(_noise(calibration, share, agree, seed))


@register_correction("shared-noise-random", control=True)
def shared_noise_random(
    calibration: Calibration, share: float = SHARE, agree: float = AGREE, seed: int = 0
) -> FeatureMap:
    """The control of `shared-noise`: as many random directions of the calibration vectors' span are removed.

    Raises:
        XgapError: as `shared-noise`.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(0, 1, (90, 4)), range(90), space="image", origin="image")
        >>> texts = xg.Features(random.normal(0, 1, (90, 4)), range(90), space="text", origin="text")
        >>> calibration = xg.Calibration({"image": images, "text": texts}, split="train")
        >>> xg.correction("shared-noise-random").fit(calibration)(images).dim
        4
    """
    removed = _noise(calibration, share, agree, seed)
    basis = span_of(_all(calibration))
    drawn = torch.randn(
        basis.shape[1], removed.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return _without(basis @ torch.linalg.qr(drawn.to(basis.device)).Q)


def _all(calibration: Calibration) -> Float[Tensor, "n d"]:
    return torch.cat([exact(features.vectors) for features in calibration.features.values()])


def _noise(calibration: Calibration, share: float, agree: float, seed: int) -> Float[Tensor, "d k"]:
    """The directions that both halves hold to be noise, orthonormal."""
    if not 0 < share <= 0.5 or not 0 < agree <= 1:
        raise XgapError(f"share lies in (0, 0.5] and agree in (0, 1], not {share} and {agree}")
    widths = sorted({features.dim for features in calibration.features.values()})
    if len(widths) > 1:
        raise XgapError(f"shared-noise is of spaces of one dimension, not of {' and '.join(map(str, widths))}")
    few = next((space for space, features in calibration.features.items() if len(features) < 4), None)
    if few is not None:
        raise XgapError(f"shared-noise is fitted on two halves, and space {few!r} has {len(calibration.of(few))} items")
    basis = span_of(_all(calibration))
    candidates = max(1, round(share * basis.shape[1]))
    halves: list[Tensor] = []
    for half in (0, 1):
        total = torch.zeros(basis.shape[1], basis.shape[1], dtype=basis.dtype, device=basis.device)
        for features in calibration.features.values():
            order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))[half::2]
            rows = exact(features.vectors)[order.to(features.vectors.device)] @ basis
            covariance = (rows - rows.mean(dim=0)).T @ (rows - rows.mean(dim=0))
            total += covariance / covariance.trace().clamp(min=torch.finfo(basis.dtype).tiny)
        halves.append(torch.linalg.eigh(total).eigenvectors[:, :candidates])  # ascending
    left, cosines, right = torch.linalg.svd(halves[0].T @ halves[1])
    middle = (halves[0] @ left + halves[1] @ right.T)[:, cosines >= agree]
    return basis @ torch.linalg.qr(middle).Q


def _without(removed: Float[Tensor, "d k"]) -> FeatureMap:
    def apply(features: Features) -> Features:
        check_dimensions(features, len(removed))
        off = removed.to(features.vectors.device)
        rows = exact(features.vectors)
        return replace(features, vectors=rows - rows @ off @ off.T)

    return apply
