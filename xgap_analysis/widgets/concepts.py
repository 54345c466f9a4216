"""What the modality explorer shows: all modalities on one plane, the items of one label, and what they retrieve."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.experiments import Evaluation
from xgap_analysis.experiments.gaps import modalities_of
from xgap_analysis.metrics import nearest_items
from xgap_analysis.widgets.rankings import LINKED, Ranking

if TYPE_CHECKING:
    from xgap_analysis.plots.maps import PlaneMap

SHOWN_GAPS = {"modality_gap": "gap", "cross_cosine": "pair cosine", "rmg": "RMG", "ap": "mean AP"}


@dataclass(frozen=True, eq=False)
class Concepts:
    """All modalities of an evaluation on one plane. A point is named by its index, modality after modality.

    Args:
        evaluation: whose features they are.
        sets: modality to features.
        plane: fitted on all of them.
        gaps: the gap of every pair of modalities (`Evaluation.gap_table`).
    """

    evaluation: Evaluation
    sets: Mapping[str, Features]
    plane: "PlaneMap"
    gaps: pd.DataFrame

    @cached_property
    def points(self) -> np.ndarray:
        """`[n, 2]`, of all modalities."""
        return np.concatenate(self.plane.places)

    @cached_property
    def modalities(self) -> list[str]:
        """Of each point."""
        return [name for name, features in self.sets.items() for _ in features.ids]

    @cached_property
    def ids(self) -> list[str]:
        """Of the item of each point."""
        return [item for features in self.sets.values() for item in features.ids]

    @cached_property
    def labels(self) -> list[str]:
        """The labels that at least two modalities have items of: what can be chosen."""
        found: dict[str, set[str]] = {}
        for modality, item in zip(self.modalities, self.ids, strict=True):
            if item in self.evaluation.labels:
                found.setdefault(self.evaluation.labels[item], set()).add(modality)
        shared = [label for label, of in found.items() if len(of) > 1]
        if not shared:
            raise XgapError(f"no label of {self.evaluation.label_set!r} is of items of two modalities")
        return shared

    def rows(self, label: str) -> dict[str, list[int]]:
        """The rows of the items of a label, of each modality that has any."""
        of = self.evaluation.labels
        found = {m: [row for row, i in enumerate(f.ids) if of.get(i) == label] for m, f in self.sets.items()}
        return {modality: rows for modality, rows in found.items() if rows}

    def indices(self, label: str) -> list[int]:
        """The points of a label."""
        starts = dict(zip(self.sets, np.cumsum([0, *map(len, self.sets.values())]), strict=False))
        return [int(starts[modality]) + row for modality, rows in self.rows(label).items() for row in rows]

    def lines(self, label: str) -> list[np.ndarray]:
        """Lines `[2, 2]` between the centres of a label's points in every two modalities."""
        from xgap_analysis.plots.plane import joined

        places = dict(zip(self.sets, self.plane.places, strict=True))
        return joined({modality: places[modality][rows] for modality, rows in self.rows(label).items()})

    def rankings(self, label: str, k: int) -> list[Ranking]:
        """What the first item of the label in each modality retrieves in each of the others."""
        rows, relevance = self.rows(label), self.evaluation.data.relevance(self.evaluation.label_set)
        made = []
        for x, y in permutations(self.sets, 2):
            if x in rows:
                query = self.sets[x].ids[rows[x][0]]
                frame = nearest_items(self.sets[x], self.sets[y], query, relevance, max(k, LINKED))
                made.append(Ranking(f"{x} → {y}", query, y, frame))
        return made

    def gap_rows(self) -> pd.DataFrame:
        """The measures on screen, of every pair of modalities."""
        return self.gaps[self.gaps["measure"].isin(SHOWN_GAPS)].reset_index(drop=True)


def make_concepts(evaluation: Evaluation, method: str) -> Concepts:
    """All modalities of an evaluation on one plane, with their gaps.

    Raises:
        XgapError: fewer than two modalities that the model encodes, or no label in two of them.
    """
    from xgap_analysis.plots.maps import plane_map

    sets = modalities_of(evaluation)
    made = Concepts(evaluation, sets, plane_map(*sets.values(), method=method), evaluation.gap_table())
    made.labels  # noqa: B018  refuses data without shared labels here, and not at the first click
    return made


def names_of(labels: Sequence[str], evaluation: Evaluation) -> dict[str, str]:
    """What each label is called in words: the name of its class, or the label itself."""
    try:
        words = evaluation.data.words_of(evaluation.label_set)
    except XgapError:  # labels without names
        words = {}
    return {label: words.get(label, label) for label in labels}
