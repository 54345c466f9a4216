"""Features in files: `.npz`, `.safetensors`, `.parquet` and `.npy`, ours or made elsewhere. No pickle is read.

| suffix | vectors | ids | space, origin, items, provenance |
|---|---|---|---|
| `.npz` | array `vectors` `[n, d]` | array `ids` of n strings | arrays of these names; `provenance` as JSON text |
| `.safetensors` | tensor `vectors` `[n, d]` | all in the metadata entry `features`, one JSON object | |
| `.parquet` | column `vector`, lists of length d | column `id` | schema metadata, as JSON text under `features` |
| `.npy` | the array `[n, d]` | running numbers; other ids are not kept, and a warning says so | |
| `.pt` (read only) | a tensor `[n, d]`, n tensors, or `vectors` in a dictionary | `ids` there, or running numbers | |
| a folder (read only) | `img_emb_<k>.npy`, `text_emb_<k>.npy`, as of clip-retrieval | see `load_features` | |
| a folder (read only) | `vectors.npy`, `index.json`, `dimension`, as of MTEB's cache | the digests in `index.json` | |
"""

import contextlib
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from xgap_analysis.core.errors import XgapError, notice
from xgap_analysis.core.features import Features, FeaturesLike, as_features
from xgap_analysis.core.foreign_vectors import need, read_folder, read_npy, read_torch, tensor_of
from xgap_analysis.core.table_values import id_text
from xgap_analysis.core.writing import written_whole

ABOUT = ("space", "origin", "items")  # words beside the vectors in a `.npz` file


def save_features(
    features: FeaturesLike, path: Path | str, *, space: str | None = None, origin: str | None = None
) -> Path:
    """Write features to a file, whole or not at all; its folder is made where it is missing.

    Args:
        features: vectors `[n, d]`, written as float32, so that `load_features` gives the same bits; an array is scaled
            to unit rows first, and its ids are running numbers.
        path: the suffix chooses the format: `.npz`, `.safetensors` or `.parquet`, which keep everything, or `.npy`,
            which keeps the vectors alone (a warning says what it leaves out).
        space, origin: of an array; Features have theirs.

    Raises:
        XgapError: another suffix, a place that cannot be written, or ids or provenance that the format cannot hold.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> features = xg.Features(np.eye(2), ["a", "b"], space="image", origin="image")
        >>> xg.save_features(features, "features.npz").name
        'features.npz'
    """
    path = Path(path)
    write, _ = _format(path)
    named = {name: word for name, word in (("space", space), ("origin", origin)) if word is not None}
    made = as_features(features, **named)
    if made is features and named:
        raise XgapError(f"the features lie in the space {made.space!r} already; space and origin are given for arrays")
    with written_whole(path, "the ids or the provenance of these features") as temporary:
        write(made, temporary)
    return path


def load_features(
    path: Path | str,
    *,
    space: str | None = None,
    origin: str | None = None,
    ids: Iterable[object] | None = None,
    key: str | None = None,
    items: str | None = None,
) -> Features:
    """Features from a file that `save_features` or another tool has written (see the module for the layouts).

    Rows of a `.npy` file have running numbers as ids, so that two such files of different modalities are paired row by
    row. Two of one modality are two sets of items, and row 5 of the one excludes no row of the other: where they are of
    the same items (images, and their inversions), pass both the same `ids` or `items`. A folder that clip-retrieval
    wrote, `img_emb` or `text_emb`, is read as one; its ids are the keys or the paths of the images in
    `../metadata/metadata_<k>.parquet` where they are distinct, and row numbers otherwise. A task's folder in
    MTEB's cache (of its `CachedEmbeddingWrapper`) has as ids the SHA-256 digests of the texts and of the pixels of the
    images.

    Args:
        path: a `.npz`, `.safetensors`, `.parquet`, `.npy` or `.pt` file, or a folder of clip-retrieval or of MTEB.
        space, origin: what the file does not say itself, or says wrongly; origin is the space by default.
        ids: one a row, where the file has none or others are wanted.
        key: the array, tensor or column that holds the vectors, where it has another name.
        items: the set of items that the ids belong to (see `Features`); by default what the file says, or, where ids
            are running numbers, a digest of its vectors.

    Returns:
        Features `[n, d]`; rows that are not of unit length are scaled to it.

    Raises:
        XgapError: no such file, another suffix, another layout, or vectors that `Features` refuses.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> np.save("audio.npy", np.eye(3))
        >>> features = xg.load_features("audio.npy", space="audio")
        >>> features.space, features.ids
        ('audio', ('0', '1', '2'))
    """
    path = Path(path)
    vectors, about = read_vectors(path, key)
    space = space or about.get("space")
    if not space:
        raise XgapError(f'{path} does not say which space its vectors lie in; pass space="image" or space="text"')
    if ids is not None:
        about |= {"ids": list(ids), "items": ""}
    if "ids" not in about:
        what = f"{path} has no ids; add one string a row, or pass ids"
        raise XgapError(f"{what}, since pairs and self-matches are found by id")
    provenance = about.get("provenance") or {}
    if items is None:
        items = str(about.get("items") or "")
    return Features(vectors, about["ids"], space, origin or about.get("origin") or space, provenance, items)


def read_vectors(path: Path, key: str | None = None) -> tuple[torch.Tensor, dict[str, Any]]:
    """The rows of a file as it has them, of any length, and what it says of them (see `load_features`).

    Raises:
        XgapError: no such file, another suffix, or another layout.
    """
    read = read_folder if path.is_dir() else READ_ONLY.get(path.suffix) or _format(path)[1]
    if not path.exists():
        raise XgapError(f"there is no file {path}")
    with readable(path, "features"):
        return read(path, key)


@contextlib.contextmanager
def readable(path: Path, what: str) -> Iterator[None]:
    """Within, whatever the libraries raise that read a file becomes one sentence: it cannot be read as `what`."""
    try:
        yield
    except XgapError:
        raise
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        EOFError,
        NotImplementedError,
        zipfile.BadZipFile,
        SafetensorError,
    ) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if "pickle" in reason or "Object arrays" in reason:  # NumPy's own words say how to read it unsafely
            reason = "it holds pickled Python objects, which are never read"
        raise XgapError(f"{path} cannot be read as {what}: {reason}") from error


def _about(features: Features) -> dict[str, Any]:
    names = {"space": features.space, "origin": features.origin, "items": features.items}
    return {**names, "provenance": dict(features.provenance)}


def _write_npz(features: Features, path: Path) -> None:
    if any(i.endswith("\0") for i in features.ids):
        raise XgapError("an id ends in a NUL character, which .npz does not keep; write .safetensors")
    np.savez(
        path,
        vectors=features.vectors.cpu().numpy(),
        ids=np.array(features.ids, dtype=str),
        space=np.array(features.space, dtype=str),
        origin=np.array(features.origin, dtype=str),
        items=np.array(features.items, dtype=str),
        provenance=np.array(json.dumps(dict(features.provenance)), dtype=str),
    )


def _read_npz(path: Path, key: str | None) -> tuple[torch.Tensor, dict[str, Any]]:
    if not zipfile.is_zipfile(path):
        raise ValueError("it is not a .npz archive")
    with np.load(path, allow_pickle=False) as arrays:
        key = need(arrays.files, key or "vectors", "array")
        about: dict[str, Any] = {name: str(arrays[name]) for name in ABOUT if name in arrays.files}
        if "ids" in arrays.files:
            about["ids"] = [id_text(i) for i in arrays["ids"].tolist()]
        if "provenance" in arrays.files:
            about["provenance"] = json.loads(str(arrays["provenance"]))
        return tensor_of(arrays[key]), about


def _write_safetensors(features: Features, path: Path) -> None:
    # One metadata key only: with several, their order in the file, and so its digest, would change between runs.
    about = json.dumps({"ids": features.ids, **_about(features)})
    safetensors.torch.save_file({"vectors": features.vectors.cpu().contiguous()}, path, metadata={"features": about})


def _read_safetensors(path: Path, key: str | None) -> tuple[torch.Tensor, dict[str, Any]]:
    with safe_open(path, framework="pt") as file:
        key = need(list(file.keys()), key or "vectors", "tensor")
        return file.get_tensor(key), dict(json.loads((file.metadata() or {}).get("features", "{}")))


def _write_parquet(features: Features, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    flat = pa.array(features.vectors.cpu().numpy().reshape(-1))
    vectors = pa.FixedSizeListArray.from_arrays(flat, features.dim)
    table = pa.table({"id": pa.array(features.ids, pa.string()), "vector": vectors})
    pq.write_table(table.replace_schema_metadata({"features": json.dumps(_about(features))}), path)


def _read_parquet(path: Path, key: str | None) -> tuple[torch.Tensor, dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        key = need(file.schema_arrow.names, key or "vector", "column")
        columns = [name for name in ("id", key) if name in file.schema_arrow.names]
        table = file.read(columns)
    column = table[key].combine_chunks()
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    listed = any(is_kind(column.type) for is_kind in kinds)  # a struct or a map is nested too, and no list
    if not listed or column.null_count or table[columns[0]].null_count:
        found = "" if listed else f", which is of type {column.type}"
        raise ValueError(f"every row needs an id and, in the column {key}, a list of numbers{found}")
    lengths = set(column.value_lengths().to_pylist())
    if len(lengths) > 1:
        raise ValueError(f"its vectors differ in length: {', '.join(map(str, sorted(lengths)))}")
    width = lengths.pop() if lengths else 0
    vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), width)
    about = dict(json.loads((table.schema.metadata or {}).get(b"features", b"{}")))
    if "id" in table.column_names:
        about["ids"] = [id_text(i) for i in table["id"].to_pylist()]
    return tensor_of(vectors), about


def _write_npy(features: Features, path: Path) -> None:
    lost = [] if features.ids == tuple(map(str, range(len(features)))) else ["ids"]
    lost += ["provenance"] if features.provenance else []
    if lost:
        notice(f"a .npy file keeps the vectors alone, without {' and '.join(lost)}; .npz or .parquet keep everything")
    np.save(path, features.vectors.cpu().numpy(), allow_pickle=False)


_Write = Callable[[Features, Path], None]
_Read = Callable[[Path, str | None], tuple[torch.Tensor, dict[str, Any]]]
_FORMATS: Mapping[str, tuple[_Write, _Read]] = {
    ".npz": (_write_npz, _read_npz),
    ".parquet": (_write_parquet, _read_parquet),
    ".safetensors": (_write_safetensors, _read_safetensors),
    ".npy": (_write_npy, read_npy),
}
READ_ONLY: Mapping[str, _Read] = {".pt": read_torch}


def check_suffix(path: Path | str) -> None:
    """Refuse a file name whose suffix names no format of features (before long work, rather than after it)."""
    _format(Path(path))


def _format(path: Path) -> tuple[_Write, _Read]:
    if path.suffix not in _FORMATS:
        raise XgapError(f"features are kept in {', '.join(_FORMATS)} files, and {str(path)!r} is none of them")
    return _FORMATS[path.suffix]
