"""ReAlign: one modality moved onto another by its first two moments, from features that need no pairs."""

from collections.abc import Callable
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.calibration import Calibration
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.precision import exact
from xgap_analysis.corrections.protocol import FeatureMap, check_dimensions, register_correction

STEPS = 3
Rows = Callable[[Float[Tensor, "n d"]], Float[Tensor, "n d"]]


@register_correction("realign")
def realign(calibration: Calibration, onto: str = "image", steps: int = STEPS) -> FeatureMap:
    """Move every other modality onto one, in three steps: its mean, its spread, and its mean again on the sphere.

    Formula: with u(x) = x / ||x||, means m of calibration vectors and spreads `v = mean ||x - m||^2`,

        t' = u(sqrt(v_onto / v_t) (t - m_t) + m_onto)
        t'' = u(t' - mean(t') + m_onto)

    Scaling to unit length moves the mean away again, which is what the last step is for; it scales too, so that the gap
    becomes small and not exactly 0. The pairs of the calibration set are not read.

    Args:
        calibration: its features give means and spreads.
        onto: the space whose features stay as they are.
        steps: 1 moves the mean alone, 2 scales the spread too, 3 is the published correction: what each step adds.

    Raises:
        XgapError: a space without calibration features, steps out of range, vectors that are all the same, or spaces
            of different dimensions.

    Source: Yu et al., Modality Gap Theory, 2026 (arXiv 2602.07026), and the authors' code.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(1, 1, (200, 4)), range(200), space="image", origin="image")
        >>> texts = xg.Features(random.normal(-1, 0.5, (200, 4)), range(200), space="text", origin="text")
        >>> calibration = xg.Calibration({"image": images, "text": texts}, split="train")
        >>> moved = [xg.correction("realign", steps=n).fit(calibration)(texts) for n in (1, 2, 3)]
        >>> gaps = [xg.metrics.modality_gap(images, x) for x in (texts, *moved)]
        >>> gaps[0] > 1, gaps[3] == min(gaps), 0 < gaps[3] < 0.05
        (True, True, True)
    """
    if steps not in (1, 2, 3):
        raise XgapError(f"realign has steps 1, 2 and 3, not {steps}")
    goal = exact(calibration.of(onto).vectors)
    other = next((f for f in calibration.features.values() if f.dim != goal.shape[1]), None)
    if other is not None:
        what = f"realign moves vectors of one dimension, and space {other.space!r} has {other.dim}"
        raise XgapError(f"{what} where {onto!r} has {goal.shape[1]}; `bridge` maps between dimensions")
    maps = {
        space: _moved(exact(features.vectors), goal, steps, space)
        for space, features in calibration.features.items()
        if space != onto
    }

    def apply(features: Features) -> Features:
        check_dimensions(features, calibration.of(features.space).dim)
        if features.space == onto:
            return features
        return replace(features, vectors=maps[features.space](exact(features.vectors)))

    return apply


def _moved(own: Float[Tensor, "n d"], goal: Float[Tensor, "m d"], steps: int, space: str) -> Rows:
    mean, onto = own.mean(dim=0), goal.mean(dim=0)
    spread, wanted = (float((x - x.mean(dim=0)).square().sum(dim=1).mean()) for x in (own, goal))
    if steps > 1 and not spread > 0:
        raise XgapError(f"realign: the {len(own)} calibration vectors of space {space!r} are all the same")
    scale = (wanted / spread) ** 0.5 if steps > 1 else 1.0

    def first(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        made = scale * (rows - mean.to(rows.device)) + onto.to(rows.device)
        return made / made.norm(dim=1, keepdim=True)

    if steps < STEPS:
        return first
    again = first(own).mean(dim=0)
    return lambda rows: first(rows) - again.to(rows.device) + onto.to(rows.device)
