"""Features: what a vector is, where it lies and where it came from."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, DTypeLike, NDArray
from torch import Tensor

from xgap_analysis.core.arrays import content_digest, matrix
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.precision import exact, home
from xgap_analysis.core.table_values import id_text

if TYPE_CHECKING:
    import pandas as pd

UNNAMED = "vectors"  # space and origin of an array that nobody has named
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
        vectors: `[n, d]` tensor, array, list of lists or data frame of numbers; stored as float32 on its device, each
            row scaled to unit length.
        ids: n distinct strings; 7, 7.0 and `b"7"` are `"7"`. Self-matches and pairs are found by id, not by position.
        space: the modality in whose part of the sphere the vectors lie: `"image"`, `"text"`, or another name.
        origin: the modality of the items they were made from. An OTI feature has origin image and space text.
        provenance: how they were made (model, weights digest, dataset, split, view, parameters, versions).
        items: the set of items that the ids belong to, a digest of it say. Needed where ids are no more than numbers of
            rows: row 5 of one file is not row 5 of another. Empty (the default) says that the ids are names, which mean
            the same item wherever an item of that origin bears them.

    Raises:
        XgapError: not a matrix, a NaN or infinite value, a zero row, or ids that do not fit.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> features = xg.Features(np.array([[3.0, 4.0], [0.0, 2.0]]), ["a", "b"], space="image", origin="image")
        >>> features.vectors.double().round(decimals=3).tolist()  # scaled to unit length
        [[0.6, 0.8], [0.0, 1.0]]
        >>> features.select(["b"]).ids
        ('b',)
    """

    vectors: Tensor
    ids: Sequence[str]
    space: str
    origin: str
    provenance: Mapping[str, Any]
    items: str

    def __repr__(self) -> str:
        """One line: the shape, where the vectors lie and what they were made from."""
        return f"Features({list(self.vectors.shape)}, space={self.space!r}, origin={self.origin!r})"

    def __init__(
        self,
        vectors: ArrayLike | Tensor,
        ids: Iterable[str],
        space: str,
        origin: str,
        provenance: Mapping[str, Any] | None = None,
        items: str = "",
    ) -> None:
        vectors = matrix(vectors)
        ids = checked_ids(ids, len(vectors))
        vectors = vectors if vectors.is_floating_point() else exact(vectors)
        parts = vectors.split(ROWS)
        norms = torch.cat([exact(part).norm(dim=1) for part in parts])  # NaN or infinite where a value is
        bad = (~torch.isfinite(norms)).nonzero()
        if len(bad):
            raise XgapError(f"the vector of item {ids[int(bad[0])]!r} holds a NaN or infinite value ({len(bad)} such)")
        zero = (norms == 0).nonzero()
        if len(zero):
            raise XgapError(f"the vector of item {ids[int(zero[0])]!r} is zero and has no direction ({len(zero)} such)")
        unit = torch.empty(vectors.shape, dtype=torch.float32, device=vectors.device).copy_(vectors)
        for rows in ((norms - 1).abs() > UNIT_TOLERANCE).nonzero()[:, 0].split(ROWS):
            unit[rows] = (exact(vectors[rows]) / norms[rows, None]).float().to(unit.device)
        about = {"space": space, "origin": origin, "provenance": dict(provenance or {}), "items": items}
        assign(self, vectors=unit, ids=ids, **about)

    def __len__(self) -> int:
        return len(self.ids)

    def __str__(self) -> str:
        """A short name by shape and content, where features are an option of something: `features-60x8-1f3a09bc`."""
        digest = hashlib.sha256("\x1e".join(self.ids).encode("utf-8", "surrogatepass"))
        digest.update(np.ascontiguousarray(self.vectors.cpu().numpy()).reshape(-1).view(np.uint8).data)
        return f"features-{len(self)}x{self.dim}-{digest.hexdigest()[:8]}"

    @property
    def dim(self) -> int:
        """Number of dimensions d."""
        return self.vectors.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the vectors lie."""
        return self.vectors.device

    @property
    def in_memory(self) -> bool:
        """Whether the vectors are in memory, and not on disk (see `open_features`)."""
        return True

    def block(self, start: int, stop: int) -> Tensor:
        """The vectors `[stop - start, d]` of some rows: what a computation reads that goes through all of them.

        Of features that stay on disk (`open_features`) only these rows are read.
        """
        return self.vectors[start:stop]

    def rows(self, index: Tensor) -> Tensor:
        """The vectors `[k, d]` of single rows, by their numbers."""
        return self.vectors[index.to(self.vectors.device)]

    @property
    def numbered(self) -> bool:
        """Whether rows are known by their number in this set of items alone, and ids are no names."""
        return bool(self.items) and self.ids == tuple(map(str, range(len(self))))

    def has_items_of(self, other: "OfItems") -> bool:
        """Whether an id stands for the same item in both: one origin and one set of items.

        Query and gallery exclude self-matches only then: an image and its caption may share an id, and so may two
        items of two files that number their rows. A gallery of images and texts has the items of both (see `mixed`).
        """
        return of_one_set(self, other)

    def select(self, ids: Iterable[str]) -> "Features":
        """The rows of these ids, in this order (an id that is not there is an error)."""
        ids = tuple(ids)
        return replace(self, vectors=self.vectors[places_of(ids, self.ids, "vector")], ids=ids)

    def to(self, device: str | torch.device) -> "Features":
        """The same features on another device.

        Raises:
            XgapError: a device that this machine does not have.
        """
        try:
            moved = self.vectors.to(device)
        except (RuntimeError, AssertionError) as error:  # of torch, which raises another kind for each reason
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise XgapError(f"the vectors cannot be moved to the device {str(device)!r}: {reason}") from error
        return replace(self, vectors=moved)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """The vectors, for `np.asarray(features)` and whatever reads arrays."""
        held = self.vectors.cpu().numpy()
        found = held.astype(dtype or np.float32, copy=bool(copy))
        if copy is False and (self.vectors.device.type != "cpu" or found is not held):
            raise ValueError("these vectors are not a NumPy array of that type, and a copy was not allowed")
        return found

    def __dlpack__(self, **how: Any) -> Any:
        """The vectors, for `torch.as_tensor(features)`, which shares their memory, and `from_dlpack` of others."""
        return self.vectors.__dlpack__(**how)

    def __dlpack_device__(self) -> tuple[Any, int]:
        return cast("tuple[Any, int]", self.vectors.__dlpack_device__())

    def to_frame(self) -> "pd.DataFrame":
        """The vectors as a data frame: one row per item, under its id, and one column per dimension."""
        import pandas as pd

        return pd.DataFrame(np.array(self), index=pd.Index(self.ids, name="id"))


def assign(frozen: object, **values: Any) -> None:
    """Give values to the fields of a frozen instance that is being made."""
    for name, value in values.items():
        object.__setattr__(frozen, name, value)


def places_of(wanted: Iterable[str], ids: Sequence[str], what: str) -> list[int]:
    """The positions of some ids among all.

    Raises:
        XgapError: an id that is not there, and so has no `what`.
    """
    place = {item: i for i, item in enumerate(ids)}
    missing = [i for i in wanted if i not in place]
    if missing:
        raise XgapError(f"{len(missing)} ids have no {what} here, the first is {missing[0]!r}")
    return [place[i] for i in wanted]


def checked_ids(ids: Iterable[Any], n: int) -> tuple[str, ...]:
    """Ids as text, one for each of n vectors.

    Raises:
        XgapError: another number, or an id twice.
    """
    known = tuple(map(id_text, ids))
    if len(known) != n:
        raise XgapError(f"{len(known)} ids were given for {n} vectors")
    if len(set(known)) != n:
        twice = next(i for i, times in Counter(known).items() if times > 1)
        raise XgapError(f"id {twice!r} stands for more than one vector; ids must be distinct")
    return known


def of_one_set(first: OfItems, second: OfItems) -> bool:
    """Whether an id stands for the same item in both; of several origins (`image+text`), all are looked at."""
    origins, others = (set(of.origin.split("+")) for of in (first, second))
    return first.items == second.items and (origins <= others or others <= origins)


FeaturesLike = Features | ArrayLike  # what stands for features: an array, a tensor, lists, a data frame of numbers


def as_features(x: FeaturesLike, space: str = UNNAMED, origin: str | None = None) -> Features:
    """Features as they are, or those of an array `[n, d]`, whose ids are its positions: `"0"`, `"1"`, ...

    An array is a set of items of its own, and the set is known by the content: the same array given as query and as
    gallery, or a copy of it, is one set, in which a query finds no match in itself. Another array, as of the inversions
    of the same images, is another set, and position 5 of the one is not position 5 of the other: where they are of the
    same items, say so by `Features` with ids.

    Args:
        x: `Features`, or what `matrix` reads: NumPy, torch, lists of lists, a data frame of numbers.
        space, origin: of an array; origin is the space by default.

    Raises:
        XgapError: another rank, rows of different lengths, something else than numbers, or what `Features` refuses.

    Example:
        >>> as_features([[3, 4], [0, 2]]).vectors.tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 1.0]]
    """
    if _is_features(x):
        return cast(Features, x)
    if isinstance(x, np.memmap):  # it stays on disk
        from xgap_analysis.core.mapped import open_features

        return open_features(x, space=space, origin=origin)
    vectors = matrix(x)
    made = Features(vectors, map(str, range(len(vectors))), space, origin or space)
    assign(made, items=content_digest(made.vectors))  # as `replace`, without checking each row again
    return made


def as_pair(x: FeaturesLike, y: FeaturesLike) -> tuple[Features, Features]:
    """Two sets of features, such as query and gallery, where double precision can be computed.

    Raises:
        XgapError: as `as_features`.
    """
    first = where_doubles_are(as_features(x))
    return first, first if y is x else where_doubles_are(as_features(y))


def side_by_side(x: FeaturesLike, y: FeaturesLike) -> tuple[Features, Features]:
    """Two sets of features whose pairs have the same id; arrays of as many rows are pairs by position.

    Rows without ids are paired by their number, in two arrays, or in an array and a file of such rows (`numbered`).
    Where they are not equally many, nobody knows which are missing, and none is a pair.

    Raises:
        XgapError: as `as_features`.
    """
    first, second = as_pair(x, y)
    if len(first) == len(second) or not (first.numbered and second.numbered):
        return first, second
    return first if _is_features(x) else _renamed(first), second if _is_features(y) else _renamed(second)


def _is_features(x: Any) -> bool:
    """Whether it is features, of one vector per item or of several."""
    return hasattr(x, "has_items_of")


def as_modalities(sets: "Mapping[str, FeaturesLike] | Sequence[FeaturesLike]", *, of: str = "") -> tuple[Features, ...]:
    """Sets of features of several modalities; row i of each array is item i, in all of them.

    Args:
        sets: by the name of the modality; or in a sequence, where arrays are called a, b, c, ... by their place.
        of: what the ids of arrays begin with, where there are others that they must not be taken for.

    Raises:
        XgapError: as `as_features`, or something that holds no sets.
    """
    if isinstance(sets, str) or not hasattr(sets, "__len__"):
        raise XgapError(f"features of several modalities are a list, or a mapping from their names, not {sets!r}")
    named = sets.items() if isinstance(sets, Mapping) else ((chr(ord("a") + i), x) for i, x in enumerate(sets))
    found = []
    for name, x in named:
        made = as_features(x, space=str(name))
        if of and not _is_features(x):
            made = replace(made, ids=[f"{of} {i}" for i in made.ids])
        found.append(made)
    return tuple(found)


def check_modalities(sets: Sequence[Features]) -> None:
    """Refuse sets of features that cannot lie on one sphere, or whose items cannot be matched.

    Raises:
        XgapError: different dimensions, or rows that are paired by number and not equally many.
    """
    first = sets[0]
    for other in sets[1:]:
        if other.dim != first.dim:
            raise XgapError(
                f"{first.space} has {first.dim} dimensions and {other.space} {other.dim}; they must be equal"
            )
        # Which rows are missing nobody knows, and each pair behind the first would be wrong.
        if first.numbered and other.numbered and len(first) != len(other):
            raise XgapError(
                f"{first.space} has {len(first)} rows and {other.space} {len(other)}, and rows without ids are paired "
                "by their number; take files of as many rows, or files with ids (.npz: vectors and ids; .parquet: "
                "vector and id)"
            )


def modality_name(features: Features) -> str:
    """What features are called beside others: their space, or `origin>space` where they were made from another."""
    return features.space if features.space == features.origin else f"{features.origin}>{features.space}"


def _renamed(rows: Features) -> Features:
    """The rows of an array that has no pairs; the ids say why in the messages that name one."""
    return replace(rows, ids=[f"row {i} of {len(rows)}" for i in range(len(rows))])


def where_doubles_are(features: Features) -> Features:
    """The features on a device that has double precision: theirs, or else the processor."""
    where = home(features.device)
    return features if where == features.device else features.to(where)
