"""Features: what a vector is, where it lies and where it came from."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from xgap_analysis.core.cells import id_text
from xgap_analysis.core.errors import XgapError

ROWS = 2**16  # in double precision at a time
UNIT_TOLERANCE = 1e-6  # rows this close to unit length are kept as they are, so that a round trip keeps every bit


class OfItems(Protocol):
    """Whatever stands for a set of items of one origin."""

    @property
    def origin(self) -> str:
        """The modality that the items are of."""
        ...

    @property
    def items(self) -> str:
        """The set of items; see `Features`."""
        ...


@dataclass(frozen=True, eq=False, init=False)
class Features:
    """Unit vectors of one modality on the shared sphere, with the ids of the items they stand for.

    Args:
        vectors: `[n, d]` tensor or array; stored as float32 on its device, each row scaled to unit length.
        ids: n distinct strings; 7, 7.0 and `b"7"` are `"7"`. Self-matches and pairs are found by id, not by position.
        space: the side of the sphere the vectors lie on: `"image"`, `"text"`, or another modality's name.
        origin: the modality of the items they were made from. An OTI feature has origin image and space text.
        provenance: how they were made (model, weights digest, dataset, split, view, parameters, versions).
        items: the set of items that the ids belong to, a digest of it say. Needed where ids are no more than numbers of
            rows: row 5 of one file is not row 5 of another. Empty (the default) says that the ids are names, which mean
            the same item wherever an item of that origin bears them.

    Raises:
        XgapError: not a matrix, a NaN or infinite value, a zero row, or ids that do not fit.
    """

    vectors: Tensor
    ids: Sequence[str]
    space: str
    origin: str
    provenance: Mapping[str, Any]
    items: str

    def __init__(
        self,
        vectors: Tensor | np.ndarray,
        ids: Iterable[str],
        space: str,
        origin: str,
        provenance: Mapping[str, Any] | None = None,
        items: str = "",
    ) -> None:
        vectors = torch.as_tensor(vectors).detach()
        if vectors.ndim != 2:
            raise XgapError(f"vectors must be a matrix [n, d], not of shape {tuple(vectors.shape)}")
        ids = tuple(map(id_text, ids))
        if len(ids) != len(vectors):
            raise XgapError(f"{len(ids)} ids were given for {len(vectors)} vectors")
        if len(set(ids)) != len(ids):
            twice = next(i for i, n in Counter(ids).items() if n > 1)
            raise XgapError(f"id {twice!r} stands for more than one vector; ids must be distinct")
        vectors = vectors if vectors.is_floating_point() else vectors.double()
        parts = vectors.split(ROWS)
        norms = torch.cat([part.double().norm(dim=1) for part in parts])  # NaN or infinite where a value is
        bad = (~torch.isfinite(norms)).nonzero()
        if len(bad):
            raise XgapError(f"the vector of item {ids[int(bad[0])]!r} holds a NaN or infinite value ({len(bad)} such)")
        zero = (norms == 0).nonzero()
        if len(zero):
            raise XgapError(f"the vector of item {ids[int(zero[0])]!r} is zero and has no direction ({len(zero)} such)")
        unit = torch.empty(vectors.shape, dtype=torch.float32, device=vectors.device).copy_(vectors)
        for rows in ((norms - 1).abs() > UNIT_TOLERANCE).nonzero()[:, 0].split(ROWS):
            unit[rows] = (vectors[rows].double() / norms[rows, None]).float()
        object.__setattr__(self, "vectors", unit)
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "space", space)
        object.__setattr__(self, "origin", origin)
        object.__setattr__(self, "provenance", dict(provenance or {}))
        object.__setattr__(self, "items", items)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dim(self) -> int:
        """Number of dimensions d."""
        return self.vectors.shape[1]

    @property
    def numbered(self) -> bool:
        """Whether rows are known by their number in this set of items alone, and ids are no names."""
        return bool(self.items) and self.ids == tuple(map(str, range(len(self))))

    def has_items_of(self, other: "OfItems") -> bool:
        """Whether an id stands for the same item in both: one origin and one set of items.

        Query and gallery exclude self-matches only then: an image and its caption may share an id, and so may two
        items of two files that number their rows.
        """
        return (self.origin, self.items) == (other.origin, other.items)

    def select(self, ids: Iterable[str]) -> "Features":
        """The rows of these ids, in this order (an id that is not there is an error)."""
        ids = tuple(ids)
        row = {item: i for i, item in enumerate(self.ids)}
        missing = [i for i in ids if i not in row]
        if missing:
            raise XgapError(f"{len(missing)} ids have no vector here, the first is {missing[0]!r}")
        return replace(self, vectors=self.vectors[[row[i] for i in ids]], ids=ids)

    def to(self, device: str | torch.device) -> "Features":
        """The same features on another device."""
        return replace(self, vectors=self.vectors.to(device))
