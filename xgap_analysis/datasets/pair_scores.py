"""What pairs of items with people's scores are: text similarity as people see it, say."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.table_values import id_text
from xgap_analysis.datasets.contents import of_values
from xgap_analysis.datasets.items import AnyItems, Vectors


@dataclass(frozen=True, eq=False)
class PairScores:
    """Pairs of items, each with a score that people gave it.

    Args:
        first, second: n ids each, of the items of a pair.
        scores: float64 `[n]`, finite, on any scale; a higher score means a more similar pair.
        items: what the ids stand for: one set for both ends, such as `Texts`, or a set for each end, of two modalities.
        name, split_name: for tables.
        splits: name to the pairs of that split.

    Raises:
        XgapError: lengths that differ, no pair, a score that is not a number, or an id that stands for no item.

    Example:
        >>> from xgap_analysis.datasets import Texts
        >>> texts = Texts(("a", "b", "c"), ("a cat", "the cat", "a car"))
        >>> pairs = PairScores(("a", "a"), ("b", "c"), [4.8, 0.5], texts)
        >>> len(pairs), pairs.groups.tolist()
        (2, [0, 0])
    """

    first: Sequence[str]
    second: Sequence[str]
    scores: np.ndarray
    items: AnyItems | tuple[AnyItems, AnyItems]
    name: str = "pairs"
    split_name: str = "all"
    splits: Mapping[str, "PairScores"] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        scores = np.array(self.scores, dtype=np.float64)
        scores.flags.writeable = False
        ends = tuple(map(id_text, self.first)), tuple(map(id_text, self.second))
        if scores.ndim != 1 or not len(ends[0]) == len(ends[1]) == len(scores):
            what = f"{len(ends[0])} first ids, {len(ends[1])} second ids and scores of shape {scores.shape}"
            raise XgapError(f"{what} do not make pairs; give as many of each")
        if not len(scores):
            raise XgapError(f"{self.name!r} holds no pairs")
        if not np.isfinite(scores).all():
            raise XgapError(f"a score of {self.name!r} is NaN or infinite; leave out the pairs that have none")
        for end, of in zip(ends, self.item_sets, strict=True):
            known = set(of.ids)
            missing = [i for i in dict.fromkeys(end) if i not in known]
            if missing:
                raise XgapError(f"{len(missing)} ids in the pairs stand for no item, the first is {missing[0]!r}")
        if isinstance(self.items, tuple) and self.modalities[0] == self.modalities[1]:
            raise XgapError(f"both ends of the pairs are {self.modalities[0]} items; give them as one set")
        for name, value in (("first", ends[0]), ("second", ends[1]), ("scores", scores)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.first)

    @property
    def item_sets(self) -> tuple[AnyItems, AnyItems]:
        """The items of the first end, and those of the second: often the same set."""
        return self.items if isinstance(self.items, tuple) else (self.items, self.items)

    @property
    def modalities(self) -> tuple[str, str]:
        """The modality of the items of either end."""
        first, second = self.item_sets
        return first.modality, second.modality

    @cached_property
    def groups(self) -> np.ndarray:
        """A number from 0 for each pair, `[n]`; pairs that are linked by shared items, over any number of steps, have
        the same one.

        Pairs that share a sentence are not independent, and intervals over pairs draw whole groups.
        """
        apart = self.item_sets[0] is not self.item_sets[1]  # one id may then stand for two items
        node: dict[tuple[int, str], int] = {}
        first = [node.setdefault((0, i), len(node)) for i in self.first]
        second = [node.setdefault((int(apart), i), len(node)) for i in self.second]
        links = coo_array((np.ones(len(self)), (first, second)), shape=(len(node), len(node)))
        _, part = connected_components(links, directed=False)
        return np.unique(part[first], return_inverse=True)[1].reshape(-1)

    @property
    def digest(self) -> str:
        """A fingerprint of the pairs, their scores and the content of their items."""
        scores = hashlib.sha256(self.scores.tobytes()).hexdigest()
        return of_values(self.first, self.second, scores, *map(_content, self.item_sets))

    def split(self, name: str) -> "PairScores":
        """The pairs of a split.

        Raises:
            XgapError: no such split (the nearest are given).
        """
        if name not in self.splits:
            raise unknown_name(f"split of {self.name}:", name, self.splits or {self.split_name: self})
        return self.splits[name]


def _content(items: AnyItems) -> str:
    if isinstance(items, Vectors):
        return of_values(tuple(items.ids), hashlib.sha256(items.features.vectors.cpu().numpy().tobytes()).hexdigest())
    return items.digest
