"""What the gap map shows: images and texts on one plane after a move along the gap, and the numbers that follow."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pandas as pd

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.relevance import Relevance
from xgap_analysis.experiments import Evaluation
from xgap_analysis.widgets.style import CLASSES, GREY

if TYPE_CHECKING:
    from xgap_analysis.plots.maps import PlaneMap

FAR = (-0.5, 1.5)  # how far the modalities are moved at most
MOST_LINES = 200
NO_LABEL, OTHERS = "no label", "others"
Known = TypeVar("Known")


@dataclass(frozen=True, eq=False)
class Scene:
    """Images and texts on a plane. A point is named by its index: images first, then texts.

    Args:
        evaluation: whose features they are.
        plane: fitted on the native features.
        lambda_: of the move.
        native, moved: images and texts before the move and after it.
        points: `[n, 2]`, where they lie after the move.
        moved_classes: the names of the classes after the move, where the dataset has classes.
    """

    evaluation: Evaluation
    plane: "PlaneMap"
    lambda_: float
    native: tuple[Features, Features]
    moved: tuple[Features, Features]
    points: np.ndarray
    moved_classes: Features | None

    @cached_property
    def numbers(self) -> Mapping[str, float]:
        """Of the moved features, see `plots.maps.gap_numbers`; they take longer than the places."""
        from xgap_analysis.plots import maps

        of = self.evaluation
        return maps.gap_numbers(
            *self.moved,
            self.relevance,
            self.moved_classes,
            known(lambda: of.labels),
            known(lambda: of.pairs(*self.moved)),
            (of.view("image", "queries").ids, of.view("text", "queries").ids),
        )

    @property
    def modalities(self) -> list[str]:
        """`"image"` or `"text"` for each point."""
        images, texts = self.native
        return ["image"] * len(images) + ["text"] * len(texts)

    @cached_property
    def relevance(self) -> Relevance | None:
        """Which texts are relevant to which images, where the dataset says so."""
        return known(lambda: self.evaluation.data.relevance(self.evaluation.study.label_set))

    @property
    def has_pairs(self) -> bool:
        """Whether images and texts share labels, so that they are pairs."""
        return known(self.evaluation.pairs) is not None

    def item(self, index: int) -> tuple[str, str]:
        """Modality and id of a point."""
        images, texts = self.native
        return ("image", images.ids[index]) if index < len(images) else ("text", texts.ids[index - len(images)])

    def index(self, modality: str, item: str) -> int:
        """The point of an item.

        Raises:
            XgapError: an item that is not on the map.
        """
        images, texts = self.native
        ids = images.ids if modality == "image" else texts.ids
        if item not in ids:
            raise XgapError(f"no {modality} of id {item!r} is on this map")
        return ids.index(item) + (0 if modality == "image" else len(images))

    def partners(self, index: int) -> list[int]:
        """The points of the other modality that are relevant to a point."""
        from xgap_analysis.plots.maps import partners

        relevance = self.relevance
        if relevance is None:
            return []
        images, texts = self.native
        modality, item = self.item(index)
        others, offset = (texts, len(images)) if modality == "image" else (images, 0)
        return [offset + row for row in partners(item, others, relevance)]

    def lines(self, indices: Sequence[int]) -> list[np.ndarray]:
        """Lines `[2, 2]` from points to their partners, each once and not more than a reader can follow."""
        pairs = set[tuple[int, int]]()
        for a in indices[:MOST_LINES]:  # to look up the partners of thousands takes seconds
            pairs |= {(min(a, b), max(a, b)) for b in self.partners(a)}
            if len(pairs) >= MOST_LINES:
                break
        return [self.points[list(pair)] for pair in sorted(pairs)[:MOST_LINES]]

    def similarity(self, index: int) -> np.ndarray:
        """Cosine of a point to all points, after the move."""
        from xgap_analysis.plots.maps import cosines

        modality, item = self.item(index)
        own = self.moved[0 if modality == "image" else 1]
        return cosines(own.select([item]), *self.moved)

    def extent(self) -> np.ndarray:
        """Points between which everything lies, whatever the move."""
        from xgap_analysis.plots.maps import move_modalities

        places = list(self.plane.places)
        if self.plane.linear:
            places += [self.plane.place(moved) for at in FAR for moved in move_modalities(at, *self.native)]
        return np.concatenate(places)

    def classes(self, level: str) -> tuple[list[str], dict[str, str]]:
        """The class of each point in a label set, and a colour for each of the largest; the others are grey."""
        labels = self.evaluation.data.labels[level]
        images, texts = self.native
        names = [labels.get(item, NO_LABEL) for item in (*images.ids, *texts.ids)]
        most = [name for name, _ in Counter(n for n in names if n != NO_LABEL).most_common(len(CLASSES))]
        colours = dict(zip(most, CLASSES, strict=False)) | {OTHERS: GREY}
        return [name if name in colours else OTHERS for name in names], colours

    def table(self) -> pd.DataFrame:
        """One row per point: item, modality, place, the move and the numbers."""
        frame = pd.DataFrame([self.item(index) for index in range(len(self.points))], columns=["space", "item"])
        frame[["x", "y"]] = self.points
        return frame.assign(method=self.plane.method, lambda_=self.lambda_, **self.numbers)


def make_scene(evaluation: Evaluation, method: str, lambda_: float) -> Scene:
    """Images and texts of an evaluation on a plane, moved along the gap by `lambda_`.

    Raises:
        XgapError: a dataset without images or without texts.
    """
    from xgap_analysis.plots import maps

    images, texts = evaluation.native("image", "all"), evaluation.native("text", "all")
    plane = maps.plane_map(images, texts, method=method)
    classes = known(lambda: evaluation.native("text", "classes"))
    moved = maps.move_modalities(lambda_, images, texts, *([classes] if classes is not None else []))
    # The native places are known already; UMAP would only come near them.
    places = [plane.place(features) for features in moved[:2]] if lambda_ else plane.places
    named = moved[2] if len(moved) > 2 else None
    return Scene(evaluation, plane, lambda_, (images, texts), (moved[0], moved[1]), np.concatenate(places), named)


def known(wanted: Callable[[], Known]) -> Known | None:
    """What a dataset holds, or None where it has no such labels."""
    try:
        return wanted()
    except XgapError:
        return None
