"""Corrections: what may be done to vectors before they meet.

A correction is made by a function that fits it and is known by a name:

    @register("center")
    def center(calibration: Calibration) -> Correct: ...

`Correct` maps Features to Features. The calibration set is never the queries or the gallery that are judged, unless a
correction says so (`transductive=True`), and then the table says it too.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from xgap_analysis.errors import XgapError, unknown_name
from xgap_analysis.features import Features


@dataclass(frozen=True)
class Calibration:
    """Features a correction may be fitted on: `images [n, d]` and `texts [m, d]` of a split that is not judged."""

    images: Features
    texts: Features
    split: str


Correct = Callable[[Features], Features]
Fit = Callable[[Calibration], Correct]


@dataclass(frozen=True)
class Correction:
    """A named correction: `fit(calibration)` gives the function that is applied to query and gallery alike."""

    name: str
    fit: Fit
    transductive: bool = False


CORRECTIONS: dict[str, Correction] = {}


def register(name: str, *, transductive: bool = False) -> Callable[[Fit], Fit]:
    """Make a correction known by name to studies, the command line and the notebooks.

    Raises:
        XgapError: the name is taken.
    """

    def add(fit: Fit) -> Fit:
        if name in CORRECTIONS:
            raise XgapError(f"there is a correction named {name!r} already")
        CORRECTIONS[name] = Correction(name, _stating(name, fit), transductive)
        return fit

    return add


def _stating(name: str, fit: Fit) -> Fit:
    """The same fit, with what was done and on what it was fitted in the provenance of the features it changes."""

    def fitted(calibration: Calibration) -> Correct:
        correct = fit(calibration)

        def apply(features: Features) -> Features:
            made = correct(features)
            if made is features:
                return features
            # The digest names the native vectors; work kept under it must not be found for the corrected ones.
            about = {key: value for key, value in features.provenance.items() if key != "digest"}
            return replace(made, provenance={**about, "correction": name, "fitted_on": calibration.split})

        return apply

    return fitted


def correction(name: str) -> Correction:
    """A correction by name.

    Raises:
        XgapError: an unknown name (the nearest names are offered).
    """
    if name not in CORRECTIONS:
        raise unknown_name("correction", name, CORRECTIONS)
    return CORRECTIONS[name]


@register("none")
def _none(calibration: Calibration) -> Correct:
    """Vectors as the model gives them."""
    return lambda features: features


from xgap_analysis.corrections import shift as shift  # noqa: E402  registers its corrections by name
