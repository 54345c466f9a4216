"""Corrections one after another, as one."""

from collections.abc import Sequence
from dataclasses import replace

from xgap_analysis.core.calibration import Calibration
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.corrections.protocol import (
    ByRole,
    Correction,
    FeatureMap,
    FittedCorrection,
    Made,
    ScoreCorrection,
    register_correction,
)


@register_correction("chain")
def chain(calibration: Calibration, *parts: Correction) -> Made:
    """Corrections one after another, each fitted on what those before it give: `chain(center, pca-text(rank=64))`.

    How to read it: the same as applying the first, fitting the second to the corrected calibration split, applying it,
    and so on. The order counts. Compare a chain with each of its corrections alone; where one of them is a control or
    transductive, so is the chain.

    Formula: `x' = c_k(... c_1(x))`, `c_j` fitted on `c_(j-1)(... c_1(X))`, X the calibration features. Texts that a
    correction encodes itself (`words=`) go through the corrections before it too.

    Args:
        calibration: of the first.
        parts: two corrections or more. The last may change scores, or map queries in another way than the gallery.

    Raises:
        XgapError: fewer than two corrections, one before the last that changes scores or has a map for each role, one
            that leads two spaces into one before another is fitted, or what a correction refuses.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(1, 1, (20, 4)), range(20), space="image", origin="image")
        >>> texts = xg.Features(random.normal(-1, 1, (20, 4)), range(20), space="text", origin="text")
        >>> calibration = xg.Calibration({"image": images, "text": texts}, split="train")
        >>> fitted = xg.correction("chain(center, pca-text(rank=2, words=captions))").fit(calibration)
        >>> int(np.linalg.matrix_rank(fitted(images).vectors, tol=1e-5))
        2
    """
    if len(parts) < 2:
        raise XgapError(f"chain is of two corrections or more, as chain(center, whiten), not {len(parts)}")
    fitted: list[FittedCorrection] = []
    for part in parts:
        if fitted:
            calibration = _after(calibration, fitted[-1])
        fitted.append(part.fit(calibration))
    *before, last = fitted

    def through(features: Features) -> Features:
        return _through(before, features)

    if isinstance(last.made, ScoreCorrection):
        own: FeatureMap = last.made.before or (lambda features: features)
        return replace(last.made, before=lambda features: own(through(features)))
    if last.changes_features:
        return lambda features: last(through(features))
    assert last.maps is not None  # for type checkers: what maps each role in its own way
    of_query, of_gallery = last.maps
    return ByRole(lambda features: of_query(through(features)), lambda features: of_gallery(through(features)))


def _after(calibration: Calibration, by: FittedCorrection) -> Calibration:
    """The calibration set after a correction, on which the next one is fitted."""
    if not by.changes_features:
        what = "changes scores" if by.maps is None else "maps queries in one way and the gallery in another"
        raise XgapError(
            f"correction {by.name} {what}, so that nothing can be fitted behind it; put it last in the chain"
        )
    features: dict[str, Features] = {}
    for own in calibration.features.values():
        made = by(own)
        if made.space in features:
            what = f"correction {by.name} leads two spaces into {made.space!r}"
            raise XgapError(f"{what}, and the next one would be fitted on both as one; put it last in the chain")
        features[made.space] = made
    earlier: FeatureMap | None = calibration.before
    return replace(calibration, features=features, before=by if earlier is None else lambda f: by(earlier(f)))


def _through(corrections: Sequence[FittedCorrection], features: Features) -> Features:
    for by in corrections:
        features = by(features)
    return features
