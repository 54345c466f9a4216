"""What a correction or a scorer may be fitted on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.precision import exact
from xgap_analysis.core.tokens import AnyFeatures


@dataclass(frozen=True)
class Calibration:
    """A split that is not evaluated, and the model.

    Args:
        features: by the space they lie in (`"image"`, `"text"`, another modality's name), `[n, d]` each.
        split: what a table says that the correction was fitted on.
        model: whose features these are; None for features that were computed elsewhere.
        class_words: the names of the split's classes.
        labels: id to label, of all spaces. An item of one space and the first of another that shares its label are a
            pair; where there are no labels, items of one id are.
        queries: by space, the ids of the items that are queries, where the others are searched.
        before: in a chain, what the features have gone through: texts that a correction encodes itself go through it
            too.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> images = xg.Features(np.eye(2), ["a", "b"], space="image", origin="image")
        >>> texts = xg.Features(-np.eye(2), ["a", "b"], space="text", origin="text")
        >>> calibration = xg.Calibration({"image": images, "text": texts}, split="train")
        >>> centred = xg.correction("center").fit(calibration)(images)
        >>> centred.vectors.double().round(decimals=3).tolist()
        [[0.707, -0.707], [-0.707, 0.707]]
    """

    features: Mapping[str, Features]
    split: str
    model: Any = None
    class_words: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    queries: Mapping[str, Sequence[str]] = field(default_factory=dict)
    before: Callable[[Features], Features] | None = None

    def of(self, space: str) -> Features:
        """The calibration features of one space.

        Raises:
            XgapError: a space without calibration features.
        """
        if space not in self.features:
            what = f"there are no calibration features of space {space!r}"
            raise XgapError(f"{what}; the calibration set has: {', '.join(self.features)}")
        return self.features[space]

    def role(self, space: str, role: str) -> Features:
        """The calibration features of one space that are queries (`"query"`), or searched (`"gallery"`).

        They are all of them where the split does not part the ones from the others.

        Raises:
            XgapError: a space without calibration features.
        """
        whole, queries = self.of(space), set(self.queries.get(space, ()))
        chosen = [i for i in whole.ids if (i in queries) is (role == "query")]
        return whole.select(chosen) if queries and chosen else whole

    def paired(self, first: str, second: str) -> tuple[Float[Tensor, "p d"], Float[Tensor, "p e"]]:
        """The rows of two spaces that are pairs, in double precision: row i of the one and of the other.

        Raises:
            XgapError: a space without calibration features, or no pair.
        """
        x, y = self.of(first), self.of(second)
        rows = pairs_by_label(x, y, self.labels)
        if not rows:
            what = f"no item of space {first!r} in the calibration set is paired with one of {second!r}"
            raise XgapError(f"{what}; pairs share a label, or an id where there are no labels")
        left, right = (list(part) for part in zip(*rows, strict=True))
        return exact(x.vectors[left]), exact(y.vectors[right])

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


def pairs_by_label(x: AnyFeatures, y: AnyFeatures, labels: Mapping[str, str]) -> list[tuple[int, int]]:
    """Positions of pairs: each item of the first with the first item of the second that shares its label.

    Without labels, items of one id are pairs. An item of the second may stand in several pairs.

    Example:
        >>> import torch
        >>> images = Features(torch.eye(3), ["cat 1", "cat 2", "owl"], "image", "image")
        >>> texts = Features(torch.eye(3)[:2], ["a cat", "a cow"], "text", "text")
        >>> pairs_by_label(images, texts, {"cat 1": "cat", "cat 2": "cat", "a cat": "cat", "a cow": "cow"})
        [(0, 0), (1, 0)]
    """
    label_of = labels if labels else {i: i for i in (*x.ids, *y.ids)}
    of: dict[str, int] = {}
    for row, i in enumerate(y.ids):
        if i in label_of:
            of.setdefault(label_of[i], row)
    return [(row, of[label_of[i]]) for row, i in enumerate(x.ids) if label_of.get(i) in of]
