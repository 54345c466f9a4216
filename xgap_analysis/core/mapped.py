"""Features that stay on disk: a gallery of a million vectors in one memory-mapped file, or in a folder of shards.

They are read a block at a time, and only while they are needed, by whatever goes through all rows: `retrieval` and
what is computed like it, `misalignment`, and the gap metrics. What needs all vectors at once (a correction, a map)
reads them into memory.
"""

import hashlib
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xgap_analysis.core.arrays import NUMBERS, float_tensor
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import UNIT_TOLERANCE, UNNAMED, Features, assign, checked_ids, places_of
from xgap_analysis.core.precision import exact

ROWS = 2**12  # in double precision at a time
SUFFIXES = (".npy", ".safetensors")


class Shards:
    """Matrices behind one another, as one of n rows: arrays, tensors, or files that are read where they are."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self._parts = parts
        shapes = [tuple(part.shape) for part in parts]
        wrong = next((shape for shape in shapes if len(shape) != 2 or shape[1] != shapes[0][-1]), None)
        if wrong is not None or not shapes:
            found = "there is none" if not shapes else f"one is of shape {wrong}, the first of {shapes[0]}"
            raise XgapError(f"shards must be matrices [n, d] of as many dimensions; {found}")
        self._states = [_state(part) for part in parts]
        self._starts = [0, *np.cumsum([shape[0] for shape in shapes]).tolist()]
        self.shape = (self._starts[-1], shapes[0][1])

    def __getitem__(self, rows: slice) -> Tensor:
        """The rows of a slice, in single precision where that holds them."""
        start, stop, _ = rows.indices(self.shape[0])
        found = []
        while start < stop:
            part = bisect_right(self._starts, start) - 1
            until = min(stop, self._starts[part + 1])
            found.append(_numbers(self._part(part)[start - self._starts[part] : until - self._starts[part]]))
            start = until
        return found[0] if len(found) == 1 else torch.cat([torch.empty(0, self.shape[1], dtype=torch.float32), *found])

    def _part(self, number: int) -> Any:
        part, state = self._parts[number], self._states[number]
        now = _state(part) if state else state
        # Another file in its place leaves the old one mapped as it was, and so does its removal.
        if now != state and now[:1] == state[:1]:
            raise XgapError(f"{part.filename} has changed since it was opened; open it again")
        return part

    def take(self, index: Tensor) -> Tensor:
        """Single rows by their numbers."""
        part = torch.searchsorted(torch.tensor(self._starts[1:]), index, right=True)
        made = torch.empty(len(index), self.shape[1], dtype=torch.float64)
        for number in part.unique().tolist():
            here, own = self._part(number), part == number
            rows = index[own] - self._starts[number]
            made[own] = exact(_numbers(here[rows if isinstance(here, Tensor | _Matrix) else rows.numpy()]))
        return made


class MappedFeatures(Features):
    """`Features` whose vectors stay on disk; made by `open_features`."""

    _source: Any
    _norms: Tensor
    _index: Tensor | None
    _numbered: bool

    def __init__(
        self,
        vectors: Any,
        ids: Iterable[Any] | None,
        space: str,
        origin: str,
        provenance: Mapping[str, Any] | None = None,
        items: str = "",
    ) -> None:
        vectors = vectors if isinstance(vectors, Shards) else Shards([vectors])
        n = vectors.shape[0]
        known = tuple(map(str, range(n))) if ids is None else checked_ids(ids, n)
        assign(self, _source=vectors, _index=None, ids=known, space=space, origin=origin)
        assign(self, provenance=dict(provenance or {}), _norms=torch.empty(n, dtype=torch.float64))
        # The content is the name of a set without ids, as in `as_features`.
        digest = hashlib.sha256(repr(tuple(vectors.shape)).encode())
        for start in range(0, n, ROWS):
            raw = vectors[start : start + ROWS]
            norms = exact(raw).norm(dim=1)
            bad = (~torch.isfinite(norms) | (norms == 0)).nonzero()
            if len(bad):
                at = start + int(bad[0])
                what = "is zero and has no direction" if float(norms[bad[0]]) == 0 else "holds a NaN or infinite value"
                raise XgapError(f"the vector of item {known[at]!r} {what}")
            self._norms[start : start + ROWS] = norms
            if ids is None and not items:
                digest.update(_unit(raw, norms).numpy().tobytes())
        assign(self, items=items or (digest.hexdigest() if ids is None else ""))
        assign(self, _numbered=_are_numbers(self))

    def __repr__(self) -> str:
        """One line: the shape, where the vectors lie, and that they are on disk."""
        return f"MappedFeatures([{len(self)}, {self.dim}], space={self.space!r}, origin={self.origin!r}, on disk)"

    @property
    def vectors(self) -> Tensor:  # type: ignore[override]
        """All vectors, read into memory."""
        return self.block(0, len(self))

    @property
    def dim(self) -> int:
        """Number of dimensions d."""
        return int(self._source.shape[1])

    @property
    def device(self) -> torch.device:
        """The processor."""
        return torch.device("cpu")

    @property
    def in_memory(self) -> bool:
        """Not these."""
        return False

    @property
    def numbered(self) -> bool:
        """Whether rows are known by their number in this set of items alone, and ids are no names."""
        return self._numbered

    def block(self, start: int, stop: int) -> Tensor:
        """The vectors `[stop - start, d]` of some rows, read from disk and scaled to unit length."""
        if self._index is not None:
            return self.rows(torch.arange(start, stop))
        made = torch.empty(stop - start, self.dim, dtype=torch.float32)
        for first in range(start, stop, ROWS):
            part = slice(first, min(first + ROWS, stop))
            made[first - start : part.stop - start] = _unit(self._source[part], self._norms[part])
        return made

    def rows(self, index: Tensor) -> Tensor:
        """The vectors `[k, d]` of single rows, in the order of their numbers."""
        at = index if self._index is None else self._index[index]
        order = at.argsort()  # so that a file is read from its beginning to its end
        made = torch.empty(len(at), self.dim, dtype=torch.float32)
        for some in order.split(ROWS):
            made[some] = _unit(self._source.take(at[some]), self._norms[at[some]])
        return made

    def select(self, ids: Iterable[str]) -> Features:
        """The rows of these ids, in this order, which stay on disk."""
        ids = tuple(ids)
        index = torch.tensor(places_of(ids, self.ids, "vector"), dtype=torch.long)
        made = object.__new__(MappedFeatures)
        assign(made, **self.__dict__)
        assign(made, ids=checked_ids(ids, len(ids)), _index=index if self._index is None else self._index[index])
        assign(made, _numbered=_are_numbers(made))
        return made

    def to(self, device: str | torch.device) -> Features:
        """The same features in the memory of a device."""
        held = Features(self.vectors, self.ids, self.space, self.origin, self.provenance, self.items)
        return held.to(device)


def open_features(
    source: Any,
    *,
    space: str = UNNAMED,
    origin: str | None = None,
    ids: Iterable[object] | None = None,
    items: str = "",
) -> MappedFeatures:
    """Features that stay on disk, for a gallery that is larger than memory should hold.

    They stand wherever `Features` stand. `retrieval`, `misalignment` and the metrics that are computed like them, and
    the gap metrics, read them a block at a time, within the memory that `metrics.ranks` states and about 300 bytes an
    item for ids and labels; everything else reads them whole. An array of `np.load(path, mmap_mode="r")` may be given
    to these functions as it is.
    Opening reads all rows once, to measure their lengths; every number is that of the same vectors in memory. A file
    that is written to afterwards is refused when it is read.

    Args:
        source: a `.npy` or `.safetensors` file, a folder of such shards (in the order of their names, in which 10 comes
            after 9), a list of these, or arrays. Any number of rows, in float16, bfloat16, float32 or float64.
        space, origin: as of `Features`; origin is the space by default.
        ids: one a row; by default running numbers, and the content says which set of items they belong to.
        items: that set, where ids are given (see `Features`).

    Raises:
        XgapError: no such file or no shards in a folder, another layout, or vectors or ids that `Features` refuses.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> np.save("gallery.npy", np.random.default_rng(0).normal(size=(1000, 8)).astype("float16"))
        >>> gallery = xg.open_features("gallery.npy", space="image")
        >>> gallery
        MappedFeatures([1000, 8], space='image', origin='image', on disk)
        >>> labels = [i % 10 for i in range(1000)]
        >>> table = xg.retrieval(gallery.select(["0", "1"]), gallery, (labels[:2], labels))
        >>> table["n_relevant"].tolist()
        [99, 99]
    """
    given = source if isinstance(source, list | tuple) else [source]
    parts = [part for one in given for part in _parts(one)]
    return MappedFeatures(Shards(parts), ids, space, origin or space, None, items)


def _parts(source: Any) -> list[Any]:
    if not isinstance(source, str | Path):
        if not hasattr(source, "shape") or hasattr(source, "columns"):
            raise XgapError(f"vectors on disk are a file, a folder of shards or an array, not {type(source).__name__}")
        if isinstance(source, Tensor):
            source, real = source.detach().cpu(), not (source.is_complex() or source.dtype == torch.bool)
        else:
            real = getattr(getattr(source, "dtype", None), "kind", "f") in NUMBERS
        if not real:
            raise XgapError(f"vectors must be real numbers, not of type {source.dtype}")
        return [source]
    path = Path(source)
    if path.is_dir():
        files = sorted((file for file in path.iterdir() if file.suffix in SUFFIXES), key=_natural)
        if not files:
            raise XgapError(f"{path} holds no shards: files ending in .npy or .safetensors")
        return [part for file in files for part in _parts(file)]
    if not path.exists():
        raise XgapError(f"there is no file {path}")
    if path.suffix not in SUFFIXES:
        raise XgapError(f"{path} cannot be read where it is: save its vectors as .npy or .safetensors")
    return [_npy(path) if path.suffix == ".npy" else _Matrix(path)]


def _npy(path: Path) -> Any:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise XgapError(f"{path} cannot be read as a matrix: {str(error).splitlines()[0]}") from error
    if array.dtype.kind not in NUMBERS:
        raise XgapError(f"{path} must hold numbers, not values of type {array.dtype}")
    return array


class _Matrix:
    """The matrix of a safetensors file, read by slices."""

    def __init__(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            self._file = safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise XgapError(f"{path} cannot be read as safetensors: {str(error).splitlines()[0]}") from error
        names = list(self._file.keys())
        matrices = [name for name in names if len(self._file.get_slice(name).get_shape()) == 2]
        if len(matrices) != 1:
            raise XgapError(f"{path} must hold one matrix [n, d], not {len(matrices)} (of {', '.join(names)})")
        self._rows = self._file.get_slice(matrices[0])
        self.filename = path
        self.shape = tuple(self._rows.get_shape())

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        if isinstance(rows, slice):
            return self._rows[rows]
        return torch.cat([self._rows[row : row + 1] for row in rows.tolist()])


def _numbers(given: Any) -> Tensor:
    """Rows in single precision where that holds their type, or else in double."""
    if not isinstance(given, Tensor):
        return float_tensor(np.asarray(given))
    return given.float() if given.dtype in (torch.float16, torch.bfloat16, torch.float32) else exact(given)


def _state(part: Any) -> tuple[int, ...]:
    """Which file a part is mapped from, when it was last written and its size; empty where there is none."""
    name = getattr(part, "filename", None)
    try:
        found = Path(name).stat() if isinstance(name, str | Path) else None
    except OSError:
        return ()
    return () if found is None else (found.st_ino, found.st_mtime_ns, found.st_size)


def _are_numbers(features: MappedFeatures) -> bool:
    """The value of `Features.numbered`, which is computed once."""
    return bool(features.items) and all(name == str(i) for i, name in enumerate(features.ids))


def _unit(raw: Tensor, norms: Tensor) -> Tensor:
    """Rows scaled to unit length as `Features` scales them: those that are not, to six digits."""
    unit = torch.empty(raw.shape, dtype=torch.float32).copy_(raw)
    rows = ((norms - 1).abs() > UNIT_TOLERANCE).nonzero()[:, 0]
    unit[rows] = (exact(raw[rows]) / norms[rows, None]).float()
    return unit


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    """In the order of names, and of the numbers in them."""
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", path.name)]
