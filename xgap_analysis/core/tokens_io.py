"""Token features in files: `.npz`, `.safetensors` and `.parquet`, ours or made elsewhere. No pickle is read.

| layout | holds |
|---|---|
| ragged (`.npz`, `.safetensors`; ours) | `vectors` `[N, d]`, `offsets` `[n + 1]`, `norms`, `weights` `[N]` |
| padded (`.npz`, `.safetensors`) | one array `[n, T, d]` and its `mask` or `attention_mask` `[n, T]` |
| by document (`.npz`, `.safetensors`; ColPali and the like) | one array `[t, d]` per item, named by the item's id |
| table (`.parquet`; ours) | column `id`, column `vectors` of lists of lists; columns `norms`, `weights` of lists |

Ids, space, origin, items and provenance: arrays of these names in `.npz` (provenance as JSON text), one JSON object
under `tokens` in the metadata of the other two.
"""

import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from xgap_analysis.core.arrays import float_tensor
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features_io import readable
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.core.writing import written_whole

MASKS = ("mask", "attention_mask")
NAMES = ("space", "origin", "items", "provenance")
MATRIX = ("vectors", "embeddings", "features")  # names that a file of one vector per item gives its matrix


def save_tokens(tokens: TokenFeatures, path: Path | str) -> Path:
    """Write token features to a file, whole or not at all; its folder is made where it is missing.

    Args:
        tokens: written as float32, so that `load_tokens` gives the same bits.
        path: the suffix chooses the format: `.npz`, `.safetensors` or `.parquet`.

    Raises:
        XgapError: another suffix, a place that cannot be written, or ids or provenance that the format cannot hold.

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> tokens = xg.TokenFeatures(torch.eye(3), [0, 2, 3], ["a", "b"], space="image", origin="image")
        >>> xg.save_tokens(tokens, "tokens.npz").name
        'tokens.npz'
    """
    path = Path(path)
    write, _ = _format(path)
    with written_whole(path, "the ids or the provenance of these tokens") as temporary:
        write(tokens.to("cpu"), temporary)
    return path


def load_tokens(
    path: Path | str,
    *,
    space: str | None = None,
    origin: str | None = None,
    ids: Iterable[object] | None = None,
    key: str | None = None,
) -> TokenFeatures:
    """Token features from a file that `save_tokens` or another tool has written (see the module for the layouts).

    Args:
        path: a `.npz`, `.safetensors` or `.parquet` file.
        space, origin: what the file does not say itself, or says wrongly; origin is the space by default.
        ids: one per item, where the file has none or others are wanted.
        key: the array, tensor or column that holds the vectors, where it has another name.

    Raises:
        XgapError: no such file, another suffix, a layout that is none of the module's or could be two of them, or
            tokens that `TokenFeatures` refuses.

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> tokens = xg.TokenFeatures(torch.eye(3), [0, 2, 3], ["a", "b"], space="image", origin="image")
        >>> path = xg.save_tokens(tokens, "tokens.npz")
        >>> xg.load_tokens(path).offsets.tolist()  # two vectors of a, one of b
        [0, 2, 3]
    """
    path = Path(path)
    _, read = _format(path)
    if not path.exists():
        raise XgapError(f"there is no file {path}")
    with readable(path, "token features"):
        found = read(path, key)
    about = found.about
    space = space or about.get("space")
    if not space:
        raise XgapError(f'{path} does not say which space its tokens lie in; pass space="image" or space="text"')
    names = list(ids) if ids is not None else about.get("ids")
    if names is None:
        raise XgapError(f"{path} has no ids; pass ids, one string per item, since pairs are found by id")
    return TokenFeatures(
        found.vectors,
        found.offsets,
        [str(i) for i in names],
        space,
        origin or about.get("origin") or space,
        about.get("provenance") or {},
        about.get("items") or "",
        weights=found.weights,
        norms=found.norms,
    )


@dataclass(frozen=True, eq=False)
class _Found:
    """What a file holds, before it is validated."""

    vectors: Tensor
    offsets: Tensor
    about: Mapping[str, Any] = field(default_factory=dict)
    weights: Tensor | None = None
    norms: Tensor | None = None


def _about(tokens: TokenFeatures) -> dict[str, Any]:
    about = {name: getattr(tokens, name) for name in NAMES}
    return {**about, "provenance": dict(tokens.provenance)}


def _tensors(tokens: TokenFeatures) -> dict[str, Tensor]:
    own = {"vectors": tokens.vectors, "offsets": tokens.offsets, "norms": tokens.norms, "weights": tokens.weights}
    return {name: tensor.contiguous() for name, tensor in own.items() if tensor is not None}


def _write_npz(tokens: TokenFeatures, path: Path) -> None:
    if any(i.endswith("\0") for i in tokens.ids):
        raise XgapError("an id ends in a NUL character, which .npz does not keep; write .safetensors")
    words = {**_about(tokens), "provenance": json.dumps(dict(tokens.provenance))}
    arrays: dict[str, NDArray[Any]] = {name: np.array(word, dtype=str) for name, word in words.items()}
    arrays |= {name: tensor.numpy() for name, tensor in _tensors(tokens).items()}
    np.savez(path, allow_pickle=False, ids=np.array(tokens.ids, dtype=str), **arrays)


def _read_npz(path: Path, key: str | None) -> _Found:
    if not zipfile.is_zipfile(path):
        raise ValueError("it is not a .npz archive")
    about: dict[str, Any] = {}
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    for name in NAMES:
        if name in arrays and arrays[name].ndim == 0 and arrays[name].dtype.kind == "U":
            about[name] = str(arrays.pop(name))
    if "provenance" in about:
        about["provenance"] = json.loads(about["provenance"])
    if "ids" in arrays and arrays["ids"].ndim == 1:
        about["ids"] = [str(i) for i in arrays.pop("ids").tolist()]
    return _arranged({name: _tensor(array, name) for name, array in arrays.items()}, about, key)


def _write_safetensors(tokens: TokenFeatures, path: Path) -> None:
    # One metadata key only: with several, their order in the file, and so its digest, would change between runs.
    about = json.dumps({"ids": tokens.ids, **_about(tokens)})
    safetensors.torch.save_file(_tensors(tokens), path, metadata={"tokens": about})


def _read_safetensors(path: Path, key: str | None) -> _Found:
    with safe_open(path, framework="pt") as file:
        about = dict(json.loads((file.metadata() or {}).get("tokens", "{}")))
        return _arranged({name: file.get_tensor(name) for name in file.keys()}, about, key)  # noqa: SIM118  no mapping


def _arranged(arrays: Mapping[str, Tensor], about: dict[str, Any], key: str | None) -> _Found:
    """Finds which of the three layouts of named arrays a file has."""
    if key is not None and key not in arrays:
        raise ValueError(f"it has no array {key!r}, but: {', '.join(sorted(arrays)) or 'nothing'}")
    name = key or "vectors"
    offsets = arrays.get("offsets")
    if name in arrays and arrays[name].ndim == 2 and offsets is not None and offsets.ndim == 1:
        return _Found(arrays[name], offsets, about, arrays.get("weights"), arrays.get("norms"))
    deep = [name for name, array in arrays.items() if array.ndim == 3 and key in (None, name)]
    if len(deep) > 1:
        raise ValueError(f"it has several arrays [n, T, d]: {', '.join(sorted(deep))} (name one as key)")
    if deep:
        return _unpadded(arrays, deep[0], about)
    if key is not None:
        raise ValueError(f"array {key!r} is {tuple(arrays[key].shape)}: neither [n, T, d], nor [N, d] beside offsets")
    if len(arrays) == 1:
        only, array = next(iter(arrays.items()))
        if only in MATRIX and array.ndim == 2:
            what = f"its one array {only!r} {tuple(array.shape)} may be the tokens of one item or one vector per item"
            raise ValueError(f"{what}; add offsets, or read it with load_features")
    wrong = [f"{name} {tuple(array.shape)}" for name, array in arrays.items() if array.ndim != 2]
    if wrong or not arrays:
        what = f"its arrays are no tokens [t, d] of one item each: {', '.join(wrong[:3]) or 'there are none'}"
        raise ValueError(f"{what}; known layouts: vectors and offsets, [n, T, d] and mask, one array per item")
    widths = sorted({array.shape[1] for array in arrays.values()})
    if len(widths) > 1:
        raise ValueError(f"the tokens of its items differ in width: {', '.join(map(str, widths))}")
    names = list(arrays)
    counts = torch.tensor([len(arrays[name]) for name in names])
    return _Found(torch.cat([arrays[name] for name in names]), _until(counts), {**about, "ids": names})


def _unpadded(arrays: Mapping[str, Tensor], name: str, about: dict[str, Any]) -> _Found:
    vectors = arrays[name]
    shape = tuple(vectors.shape[:2])
    masks = [mask for mask in MASKS if mask in arrays]
    if len(masks) > 1:
        raise ValueError(f"it has two masks, {' and '.join(masks)}; keep one")
    if masks:
        mask = arrays[masks[0]]
        if tuple(mask.shape) != shape or not bool(((mask == 0) | (mask == 1)).all()):
            raise ValueError(f"its {masks[0]} {tuple(mask.shape)} must be zeros and ones, one per token of {shape}")
        there = mask.bool()
    else:
        there = torch.ones(shape, dtype=torch.bool)
        if bool((vectors == 0).all(dim=2).any()):
            raise ValueError(f"array {name!r} holds rows of zeros, which may be padding; add a mask {shape}")
    beside = {}
    for column in ("weights", "norms"):
        if column in arrays:
            if tuple(arrays[column].shape) != shape:
                raise ValueError(f"its {column} {tuple(arrays[column].shape)} must be one per token, {shape}")
            beside[column] = arrays[column][there]
    return _Found(vectors[there], _until(there.sum(dim=1)), about, **beside)


def _write_parquet(tokens: TokenFeatures, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    ends = pa.array(tokens.offsets.numpy().astype(np.int32))
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(tokens.vectors.numpy().reshape(-1)), tokens.dim)
    columns = {"id": pa.array(tokens.ids, pa.string()), "vectors": pa.ListArray.from_arrays(ends, vectors)}
    for name in ("norms", "weights"):
        column = getattr(tokens, name)
        if column is not None:
            columns[name] = pa.ListArray.from_arrays(ends, pa.array(column.numpy()))
    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata({"tokens": json.dumps(_about(tokens))}), path)


def _read_parquet(path: Path, key: str | None) -> _Found:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        key = key or "vectors"
        if key not in names:
            raise ValueError(f"it has no column {key!r}, but: {', '.join(names) or 'nothing'} (name it as key)")
        table = file.read([name for name in dict.fromkeys(("id", key, "norms", "weights")) if name in names])
    rows, counts = _list(table[key].combine_chunks(), key, "an item's vectors")
    values, widths = _list(rows, key, "a token")
    if len(set(widths.tolist())) > 1:
        raise ValueError(f"the tokens in column {key!r} differ in width: {', '.join(map(str, sorted({*widths})))}")
    width = int(widths[0]) if len(widths) else 0
    vectors = _tensor(_numbers(values, key), key).view(len(rows), width)
    beside = {}
    for name in ("norms", "weights"):
        if name in table.column_names:
            column, lengths = _list(table[name].combine_chunks(), name, "an item's numbers")
            if not np.array_equal(lengths, counts):
                raise ValueError(f"column {name!r} must hold one number per token of column {key!r}")
            beside[name] = _tensor(_numbers(column, name), name)
    about = dict(json.loads((table.schema.metadata or {}).get(b"tokens", b"{}")))
    if "id" in table.column_names:
        if table["id"].null_count:
            raise ValueError("its column 'id' has rows without an id")
        about["ids"] = [str(i) for i in table["id"].to_pylist()]
    return _Found(vectors, _until(torch.from_numpy(counts)), about, **beside)


def _list(column: Any, name: str, what: str) -> tuple[Any, NDArray[np.int64]]:
    """The elements of a column of lists, one after the other, and the length of each list."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(of_kind(column.type) for of_kind in kinds):
        raise ValueError(f"column {name!r} must hold {what} as a list, not {column.type}")
    if column.null_count:
        raise ValueError(f"column {name!r} has a null where {what} should be")
    return column.flatten(), pc.list_value_length(column).to_numpy(zero_copy_only=False).astype(np.int64)


def _numbers(values: Any, name: str) -> NDArray[Any]:
    if values.null_count:
        raise ValueError(f"column {name!r} has a null where a number should be")
    return np.asarray(values.to_numpy(zero_copy_only=False))


def _until(counts: Tensor) -> Tensor:
    return torch.cat([torch.zeros(1, dtype=torch.long), counts.long().cumsum(0)])


def _tensor(array: NDArray[Any], name: str) -> Tensor:
    if array.dtype.kind not in "fiub":
        raise ValueError(f"array {name!r} is of type {array.dtype}, not numbers")
    if array.dtype.kind in "iub":
        return torch.from_numpy(np.require(array, np.int64, ["C", "W"]))
    return float_tensor(array)


_Write = Callable[[TokenFeatures, Path], None]
_Read = Callable[[Path, str | None], _Found]
_FORMATS: Mapping[str, tuple[_Write, _Read]] = {
    ".npz": (_write_npz, _read_npz),
    ".parquet": (_write_parquet, _read_parquet),
    ".safetensors": (_write_safetensors, _read_safetensors),
}


def _format(path: Path) -> tuple[_Write, _Read]:
    if path.suffix not in _FORMATS:
        what = f"token features are kept in {', '.join(_FORMATS)} files, and {str(path)!r} is none of them"
        pickled = "; .pt and .pkl files hold pickled Python objects: save their tensors with safetensors"
        raise XgapError(what + (pickled if path.suffix in (".pt", ".pth", ".pkl", ".pickle", ".bin") else ""))
    return _FORMATS[path.suffix]
