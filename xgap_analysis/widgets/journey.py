"""What the inversion player shows: the inverted queries of an evaluation at each step, on a plane and in numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from xgap_analysis.core.features import Features
from xgap_analysis.core.relevance import Relevance
from xgap_analysis.experiments import Evaluation
from xgap_analysis.metrics import nearest_items, similarity_histograms
from xgap_analysis.views.inversion.invert import Inversion
from xgap_analysis.widgets.rankings import LINKED, Ranking
from xgap_analysis.widgets.scatter import Line
from xgap_analysis.widgets.style import GREY, RED

if TYPE_CHECKING:
    from xgap_analysis.plots.maps import PlaneMap

BINS = 80  # of the similarities in [-1, 1]
MARK = 0.02  # half the size of the travelling mark, as a share of the map


@dataclass(frozen=True, eq=False)
class Journey:
    """A finished inversion of all queries. A point of the map is named by its index: images first, then texts.

    Args:
        modality: of the queries.
        steps: numbers of updates with a snapshot.
        native, gallery: the features that were inverted, and those that are searched.
        relevance: of the gallery to the queries.
        inversion: with a snapshot at each step.
        plane: fitted on all images and texts.
        ids: of all items of the modality, in the order of the map.
        paths: `[steps, n, 2]`, where the inverted queries lie on the plane.
        histograms: of similarities, kept by step.
    """

    modality: str
    steps: Sequence[int]
    native: Features
    gallery: Features
    relevance: Relevance
    inversion: Inversion
    plane: "PlaneMap"
    ids: Sequence[str]
    paths: np.ndarray
    histograms: dict[int, pd.DataFrame] = field(default_factory=dict)

    @property
    def points(self) -> np.ndarray:
        """Where all images and texts lie: `[n, 2]`."""
        return np.concatenate(self.plane.places)

    @property
    def modalities(self) -> list[str]:
        """`"image"` or `"text"` for each point."""
        return ["image"] * len(self.plane.places[0]) + ["text"] * len(self.plane.places[1])

    def extent(self) -> np.ndarray:
        """Points between which everything lies, at every step."""
        return np.concatenate([self.points, self.paths.reshape(-1, 2)])

    def index(self, query: str) -> int:
        """The point of a query's native feature."""
        return self._offset + self.ids.index(query)

    def item(self, index: int) -> str | None:
        """The id of a point of the queries' modality; None for one of the other."""
        place = index - self._offset
        return self.ids[place] if 0 <= place < len(self.ids) else None

    @property
    def _offset(self) -> int:
        return 0 if self.modality == "image" else len(self.plane.places[0])

    def cosine(self, query: str, step: int) -> float:
        """Of the inverted query to its native feature; the loss is 1 minus it."""
        row = self.native.ids.index(query)
        return float(self.inversion.snapshots[step].vectors[row] @ self.native.vectors[row])

    def histogram(self, step: int) -> pd.DataFrame:
        """Similarities of all inverted queries to the gallery at a step."""
        if step not in self.histograms:
            snapshot = self.inversion.snapshots[step]
            self.histograms[step] = similarity_histograms(snapshot, self.gallery, self.relevance, bins=BINS)
        return self.histograms[step]

    def rankings(self, query: str, step: int, k: int) -> dict[str, Ranking]:
        """What the native query retrieves, and the inverted one at a step, to a depth of k or more."""
        features = {"native": self.native, f"step {step}": self.inversion.snapshots[step]}
        return {
            title: Ranking(
                title, "", self.modality, nearest_items(of, self.gallery, query, self.relevance, max(k, LINKED))
            )
            for title, of in features.items()
        }

    def lines(self, query: str, step: int) -> list[Line]:
        """The way of a query up to a step, a mark where it is, and a line to its target."""
        path = self.paths[: self.steps.index(step) + 1, self.native.ids.index(query)]
        here, target = path[-1], self.points[self.index(query)]
        places = self.paths.reshape(-1, 2)
        half = MARK * (places.max(axis=0) - places.min(axis=0)).max()
        mark = [np.stack([here - half * d, here + half * d]) for d in (np.array([1, 1]), np.array([1, -1]))]
        way = [(path, "#000000")] if len(path) > 1 else []
        return [(np.stack([here, target]), GREY), *way, *((line, RED) for line in mark)]


def make_journey(evaluation: Evaluation, modality: str, steps: Sequence[int]) -> Journey:
    """Inverts the queries of an evaluation.

    Raises:
        XgapError: a dataset without texts or images to place them among.
    """
    from xgap_analysis.plots.maps import plane_map

    native, gallery = (evaluation.native(modality, part) for part in ("queries", "gallery"))
    inversion = evaluation.inversion(native, evaluation.study.seeds[0], steps)
    plane = plane_map(evaluation.native("image", "all"), evaluation.native("text", "all"))
    paths = np.stack([plane.place(inversion.snapshots[step]) for step in steps])
    relevance = evaluation.data.relevance(evaluation.study.label_set)
    ids = evaluation.view(modality, "all").ids
    return Journey(modality, steps, native, gallery, relevance, inversion, plane, ids, paths)
