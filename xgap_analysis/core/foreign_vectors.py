"""Vectors as other tools leave them: folders of clip-retrieval, MTEB's cache of a task, tensors saved by torch.

Each reader gives the rows as they are, and what the file says of them; `core.features_io` makes them `Features`. A
layout that does not fit is a `ValueError` that says how.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xgap_analysis.core.arrays import NUMBERS, content_digest, float_tensor, matrix
from xgap_analysis.core.errors import notice

Read = tuple[torch.Tensor, dict[str, Any]]
CACHE = ("vectors.npy", "index.json", "dimension")  # of MTEB's, for each task


def read_folder(path: Path, key: str | None) -> Read:
    """A folder of clip-retrieval (`img_emb`, `text_emb`), or of a task in MTEB's cache."""
    there = [name for name in CACHE if (path / name).is_file()]
    if len(there) > 1:
        return _read_cache(path, there)
    files = _by_number(path, ".npy")
    if not files:
        folders = sorted(p.name for p in path.iterdir() if p.is_dir())
        inside = [name for name in folders if name in ("img_emb", "text_emb") or (path / name / CACHE[1]).is_file()]
        hint = f"; name {' or '.join(str(path / name) for name in inside)}" if inside else ""
        raise ValueError(f"it is a folder without numbered .npy files{hint}")
    parts = [read_npy(file, key)[0] for file in files]
    if len({part.shape[1:] for part in parts}) > 1:
        raise ValueError("its files hold vectors of different dimensions")
    vectors = torch.cat(parts)
    space = {"img_emb": "image", "text_emb": "text"}.get(path.name)
    # Keys are numbers too, of samples in shards: they belong to these vectors as numbers of rows do.
    about = running_numbers(vectors)
    listed = _listed_ids(path.parent / "metadata", parts)
    return vectors, {**about, **({"ids": listed} if listed else {}), **({"space": space} if space else {})}


def read_npy(path: Path, key: str | None) -> Read:
    """A `.npy` file; ids are running numbers."""
    if key is not None:
        raise ValueError("a .npy file holds one array, without a name")
    if path.name == CACHE[0] and (path.parent / CACHE[1]).is_file():
        raise ValueError(f"it belongs to a cache of MTEB, which is a folder; name {path.parent}")
    vectors = tensor_of(np.load(path, allow_pickle=False))
    return vectors, running_numbers(vectors)


def read_torch(path: Path, key: str | None) -> Read:
    """A `.pt` file: a tensor, a list of tensors, or a dictionary with one; what else torch saves is not read."""
    import pickle

    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError("it holds something else than tensors, which is never read; save the tensor") from error
    except Exception as error:  # damaged bytes make torch's own reader fail in many ways, all the way to IndexError
        raise ValueError("it is not a complete file of torch.save") from error
    about: dict[str, Any] = {}
    if isinstance(held, dict):
        key = need(list(map(str, held)), key or "vectors", "tensor")
        if isinstance(held.get("ids"), list | tuple | torch.Tensor):
            listed = held["ids"]
            about["ids"] = [str(i) for i in (listed.tolist() if isinstance(listed, torch.Tensor) else listed)]
        held = next(value for name, value in held.items() if str(name) == key)
    elif key is not None:
        raise ValueError("it holds one tensor, without a name")
    parts = held if isinstance(held, list | tuple) else [held]
    if any(isinstance(x, torch.Tensor) and (x.layout != torch.strided or x.is_quantized) for x in parts):
        raise ValueError("its tensor is sparse or quantised; save it as numbers (.to_dense() or .dequantize())")
    vectors = matrix(held)
    return vectors, {**running_numbers(vectors), **about, **({"items": ""} if about else {})}


def tensor_of(array: NDArray[Any]) -> torch.Tensor:
    """The vectors of an array of numbers; bytes may be packed bits, and that is said."""
    if array.dtype.kind not in NUMBERS:
        raise ValueError(f"its vectors are of type {array.dtype}, not numbers")
    if array.dtype.itemsize == 1:
        packed = "packed bits (precision binary or ubinary of sentence-transformers) must be unpacked first"
        notice(f"the vectors are of type {array.dtype} and are read as numbers; {packed}, by np.unpackbits")
    return float_tensor(array)


def running_numbers(vectors: torch.Tensor) -> dict[str, Any]:
    """Running numbers as ids, which belong to this set of vectors alone."""
    return {"ids": [str(i) for i in range(len(vectors))], "items": content_digest(vectors)}


def need(names: Sequence[str], name: str, kind: str) -> str:
    """A name that is among those of a file."""
    if name not in names:
        raise ValueError(
            f"it has no {kind} {name!r}, but: {', '.join(sorted(names)) or 'nothing'} (say which holds the vectors: "
            f'key="..." in Python, --keys in xgap study)'
        )
    return name


def _read_cache(path: Path, there: Sequence[str]) -> Read:
    """MTEB's cache of one task: raw float32 rows, a JSON object from an item's digest to its row, and the dimension.

    The file has more rows than items: it is made large at first, and what is not yet written is zero.
    """
    missing = [name for name in CACHE if name not in there]
    if missing:
        raise ValueError(f"it is a cache of MTEB without its file {missing[0]}")
    said = (path / "dimension").read_text("utf-8").strip()
    if not said.isdigit() or not int(said):
        raise ValueError(f"its file dimension holds {said[:20]!r}, not a number of dimensions")
    size, dim = (path / "vectors.npy").stat().st_size, int(said)
    if not size or size % (4 * dim):
        raise ValueError(f"its file vectors.npy has {size} bytes, which are not whole rows of {dim} numbers of float32")
    try:
        index = {str(item): _row(row) for item, row in json.loads((path / "index.json").read_text("utf-8")).items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("its file index.json is not a JSON object from an item to its row") from error
    n = size // (4 * dim)
    beyond = [item for item, row in index.items() if not 0 <= row < n]
    if beyond or not index:
        what = f"names row {index[beyond[0]]}, and vectors.npy has {n}" if beyond else "names no item"
        raise ValueError(f"its file index.json {what}")
    rows = np.memmap(path / "vectors.npy", dtype=np.dtype("<f4"), mode="r", shape=(n, dim))
    vectors = np.array(rows[list(index.values())])
    written = np.asarray(vectors.any(axis=1))
    if not written.all():
        notice(f"{int((~written).sum())} of {len(index)} items of {path} are zero, not yet written, and left out")
    ids = [item for item, whole in zip(index, written, strict=True) if whole]
    return float_tensor(vectors[written]), {"ids": ids, "items": "", "provenance": {"task": path.name}}


def _row(number: object) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"a row is a whole number, not {number!r}")
    return number


def _listed_ids(folder: Path, parts: Sequence[torch.Tensor]) -> list[str] | None:
    """The rows' names in the metadata; None if they are not distinct."""
    import pyarrow.parquet as pq

    n = sum(map(len, parts))
    files = _by_number(folder, ".parquet")
    tables = [pq.read_table(file) for file in files]
    if files and [len(table) for table in tables] != [len(part) for part in parts]:
        raise ValueError(f"the files in {folder} do not have a row for each vector")
    for column in ("key", "image_path"):
        if files and all(column in table.column_names for table in tables):
            ids = [str(i) for table in tables for i in table[column].to_pylist()]
            if len(set(ids)) == n:
                return ids
    return None


def _by_number(folder: Path, suffix: str) -> list[Path]:
    """Files like `img_emb_0.npy`, in the order of their numbers: 10 comes after 2."""
    matches = ((re.search(r"(\d+)$", path.stem), path) for path in folder.glob(f"*{suffix}"))
    return [path for _, path in sorted((int(match.group(1)), path) for match, path in matches if match)]
