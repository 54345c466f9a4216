"""Retrieval, misalignment and gap of a gallery that stays on disk, with the peak of memory: ImageNet by simulation.

    python -m benchmarks.imagenet_scale                                      # 1,000 x 20,000, d = 512: seconds
    python -m benchmarks.imagenet_scale --queries 50000 --gallery 1281167    # ImageNet: validation against train

Random vectors about a centre for each class are written as float16 shards to `--folder` (1.3 GB of them for ImageNet),
once; then each metric runs in turn, and one line of JSON each says its value, its seconds, its processor seconds (which
other users of the machine disturb less), and by how much the resident memory of the process rose at its peak (Linux).

Memory: `2^29` bytes for the similarities and the rows of a chunk (`BUDGET`), up to a quarter of that for the relevant
items in work and up to a quarter for the reading of one block of them, `4 n d` bytes for the n queries, and about 300
bytes an item of the gallery for ids, labels and lengths; a file's pages that the system keeps are counted by Linux as
resident, and given back when others need them (float16 shards: `2 m d` bytes at most). `bound` is that sum. For
ImageNet: 0.5 + 0.25 + 0.1 + 0.4 + 1.3 = 2.6 GB, of which 1.3 are such pages. The time grows with n m d.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.rankings import peak_of
from xgap_analysis.core.features import Features
from xgap_analysis.core.mapped import MappedFeatures, open_features
from xgap_analysis.core.relevance import Relevance
from xgap_analysis.metrics import (
    cone,
    effective_rank,
    misalignment,
    modality_gap,
    relative_modality_gap,
    retrieval,
    sampled_misalignment,
    sampled_uniformity,
)
from xgap_analysis.scoring.blocks import BUDGET

SHARD = 100_000
PER_ITEM = 300  # bytes
Part = tuple[str, Callable[[], float]]


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Writes the gallery, then measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--gallery", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="of the shards, written there once; by default a temporary one")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        name = f"{options.gallery}x{options.dim}_of_{options.classes}"  # a folder holds the shards of one gallery
        folder = (options.folder or Path(temporary)) / name
        _write(folder, options.gallery, options.dim, options.classes)
        rows = []
        for row in _measured(folder, options.queries, options.gallery, options.dim, options.classes):
            print(json.dumps(row), flush=True)
            rows.append(row)
    return rows


def _write(folder: Path, n: int, dim: int, classes: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, n, SHARD):
        path, part = folder / f"shard_{start // SHARD}.npy", folder / "part"
        if not path.exists():
            with part.open("wb") as file:
                np.save(file, _vectors(start, min(start + SHARD, n), dim, classes).astype(np.float16))
            part.replace(path)  # whole, or not there


def _vectors(start: int, stop: int, dim: int, classes: int) -> np.ndarray:
    """Item i is of class `i % classes`: its centre, and noise; all have a common direction, as a cone has."""
    centres = np.random.default_rng(0).normal(size=(classes, dim)).astype(np.float32)
    noise = np.random.default_rng([1, start]).standard_normal((stop - start, dim), dtype=np.float32)
    return centres[np.arange(start, stop) % classes] * 0.5 + noise + np.float32(1)


def _measured(folder: Path, n: int, m: int, dim: int, classes: int) -> Iterator[dict[str, Any]]:
    kept: dict[str, Any] = {}

    def opened() -> float:
        gallery = open_features(folder, space="image")
        vectors = _vectors(10**9, 10**9 + n, dim, classes)
        kept["gallery"] = gallery
        kept["query"] = Features(vectors, [f"q{i}" for i in range(n)], "image", "image", items="queries")
        kept["relevance"] = Relevance.from_labels((np.arange(10**9, 10**9 + n) % classes), np.arange(m) % classes)
        return float(len(gallery))

    bound = BUDGET * 3 // 2 + 4 * n * dim + PER_ITEM * m + 2 * m * dim
    for name, run in [("open", opened), *_parts(kept)]:
        found: list[float] = []
        wall, cpu = time.perf_counter(), time.process_time()
        peak = peak_of(lambda run=run, found=found: found.append(run()))
        times = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
        size = {"queries": n, "gallery": m, "dim": dim}
        value = found[0] if found else None
        yield {"metric": name, **size, "value": value, **times, "peak": peak, "bound": bound}


def _parts(kept: dict[str, Any]) -> list[Part]:
    def pair() -> tuple[Features, MappedFeatures, Relevance]:
        return kept["query"], kept["gallery"], kept["relevance"]

    return [
        ("retrieval: mean AP", lambda: float(retrieval(*pair())["ap"].mean())),
        ("misalignment: mean", lambda: float(misalignment(*pair())["misalignment"].mean())),
        ("pooled misalignment, sampled", lambda: sampled_misalignment(*pair()).mean),
        ("uniformity, sampled", lambda: sampled_uniformity(pair()[1]).mean),
        ("modality gap", lambda: modality_gap(*pair()[:2])),
        ("cone", lambda: cone(pair()[1])),
        ("RMG with itself", lambda: relative_modality_gap(pair()[1], pair()[1])),
        ("effective rank", lambda: effective_rank(pair()[1])),
    ]


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
