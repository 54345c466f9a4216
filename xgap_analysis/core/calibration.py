"""What a correction or a scorer may be fitted on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features


@dataclass(frozen=True)
class Calibration:
    """A split that is not evaluated, and the model.

    Args:
        features: by the space they lie in (`"image"`, `"text"`, another modality's name), `[n, d]` each.
        split: what a table says that the correction was fitted on.
        model: whose features these are; None for features that were computed elsewhere.
        class_words: the names of the split's classes.
    """

    features: Mapping[str, Features]
    split: str
    model: Any = None
    class_words: Sequence[str] = ()

    def of(self, space: str) -> Features:
        """The calibration features of one space.

        Raises:
            XgapError: a space without calibration features.
        """
        if space not in self.features:
            what = f"there are no calibration features of space {space!r}"
            raise XgapError(f"{what}; the calibration set has: {', '.join(self.features)}")
        return self.features[space]

    @property
    def images(self) -> Features:
        """The calibration images; see `of`."""
        return self.of("image")

    @property
    def texts(self) -> Features:
        """The calibration texts; see `of`."""
        return self.of("text")

    @property
    def pair(self) -> tuple[Features, Features]:
        """The features of the two spaces.

        Raises:
            XgapError: one space, or more than two.
        """
        if len(self.features) != 2:
            what = f"this needs the calibration features of two spaces, and there are {len(self.features)}"
            raise XgapError(f"{what}: {', '.join(self.features)}")
        first, second = self.features.values()
        return first, second

    @property
    def dim(self) -> int:
        """Dimensions d of the features."""
        return next(iter(self.features.values())).dim
