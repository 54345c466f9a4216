"""Residuals: whether what separates the two halves of a pair is noise, or has a direction."""

import numpy as np
import pandas as pd
import torch

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import FeaturesLike, side_by_side
from xgap_analysis.core.precision import exact

LEVEL = 0.05
LEAST = 20  # pairs from which scipy's test of normality is to be trusted


def residuals(x: FeaturesLike, y: FeaturesLike, *, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Whether the differences of pairs are Gaussian noise of mean zero; one row.

    A captioner that is trained on texts with noise, in place of images, takes the gap for such noise (MacCap; see the
    correction `noise`). A constant gap is none: its differences have a mean. Compare the row of native features with
    that of features after `center`, fitted on another split.

    | column | formula, of r = x - y | of Gaussian noise |
    |---|---|---|
    | `n` | pairs | |
    | `mean_share` | `||mean r||^2 / mean ||r||^2`, the part of the difference that is one vector | near 1 / n |
    | `p_mean` | chance of such a mean if each r could as well be -r (signs drawn anew, `resamples` times) | not small |
    | `variance` | `mean ||r - mean r||^2 / d`, of one dimension | |
    | `isotropy` | `(tr C)^2 / (d tr C^2)`, C the covariance of r: 1 where all directions vary alike | `n / (n + d)` |
    | `non_gaussian` | share of dimensions that D'Agostino and Pearson's test rejects at 0.05 | near 0.05 |
    | `cosine` | mean cosine of a pair | |
    | `noise_variance` | `(1 / cosine^2 - 1) / d`: of noise that moves a vector so far; NaN below a cosine of 0 | |

    Args:
        x, y: `[n, d]`; pairs have one id, or one position in two arrays.
        resamples: draws of signs.
        seed: of the draws.

    Raises:
        XgapError: fewer than 20 pairs, or other dimensions.

    Source: Qiu et al., MacCap, AAAI 2024 (the claim); Liang et al., Mind the Gap, NeurIPS 2022 (the mean); D'Agostino
    and Pearson, Tests for departure from normality, Biometrika 1973.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(1, 1, (20, 4)), range(20), space="image", origin="image")
        >>> texts = xg.Features(random.normal(-1, 1, (20, 4)), range(20), space="text", origin="text")
        >>> xg.metrics.residuals(images, texts).shape
        (1, 8)
    """
    from scipy.stats import normaltest

    first, second = side_by_side(x, y)
    there = set(second.ids)
    ids = [i for i in first.ids if i in there]
    if len(ids) < LEAST:
        raise XgapError(f"residuals are tested on {LEAST} pairs or more, and {len(ids)} items have one id in both")
    if first.dim != second.dim:
        raise XgapError(f"the pairs have {first.dim} and {second.dim} dimensions; they must be the same")
    one, two = exact(first.select(ids).vectors).cpu(), exact(second.select(ids).vectors).cpu()
    r = one - two
    n, d = r.shape
    energy = float(r.square().sum(dim=1).mean())
    if energy == 0:
        raise XgapError("the two halves of every pair are the same, so that there is nothing to test")
    mean = float(r.mean(dim=0).square().sum())
    generator = torch.Generator().manual_seed(seed)
    signs = 2 * exact(torch.randint(0, 2, (resamples, n), generator=generator)) - 1
    drawn = (signs @ r / n).square().sum(dim=1)
    centred = r - r.mean(dim=0)
    covariance = centred.T @ centred / n
    trace = float(covariance.trace())
    cosine = float((one * two).sum(dim=1).mean())
    varying = centred.numpy()[:, covariance.diagonal().numpy() > 1e-12 * energy]
    row = {
        "n": n,
        "mean_share": mean / energy,
        "p_mean": (1 + int((drawn >= mean * (1 - 1e-12)).sum())) / (1 + resamples),
        "variance": trace / d,
        "isotropy": trace**2 / (d * float(covariance.square().sum())) if trace > 0 else np.nan,
        "non_gaussian": float((normaltest(varying).pvalue < LEVEL).mean()) if varying.size else np.nan,
        "cosine": cosine,
        "noise_variance": (1 / cosine**2 - 1) / d if cosine > 0 else np.nan,
    }
    return pd.DataFrame([row])
