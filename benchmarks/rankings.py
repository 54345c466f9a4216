"""Retrieval of all queries, against a loop over them that sorts anew for each metric."""

import cProfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

import xgap_analysis as xg
from benchmarks.timing import in_turns, seconds
from xgap_analysis.core.features import Features
from xgap_analysis.core.relevance import Relevance
from xgap_analysis.metrics import pooled_misalignment, retrieval, sampled_misalignment

SAMPLE = 20
STATISTICS = ("bootstrap_intervals", "paired_tests", "_measured", "_against_best", "with_verdicts")  # beside the scores


def average_precision(scores: torch.Tensor, hits: torch.Tensor, k: int | None = None) -> torch.Tensor:
    """One query's average precision over its first k ranks, from a sort of its own."""
    found = hits[scores.topk(len(scores) if k is None else k).indices]
    ranks = found.nonzero()[:, 0] + 1
    return (torch.arange(1, len(ranks) + 1, device=ranks.device) / ranks).sum() / (hits.sum() if k is None else k)


def peak_of(run: Callable[[], Any]) -> int | None:
    """Bytes by which the process's resident memory grows at its peak; None where the kernel does not tell."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        run()
        return None
    before = _kilobytes(status, "VmRSS")
    reset.write_text("5")  # the peak counts from here
    run()
    return (_kilobytes(status, "VmHWM") - before) * 1024


def _kilobytes(status: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name))


def measure(device: torch.device, quick: bool) -> Iterator[dict[str, Any]]:
    """One row: mean average precision and the metrics that the paper's code logs beside it, and the bare products."""
    n, m, dim, classes = (60, 2000, 64, 20) if quick else (2000, 100_000, 512, 200)
    generator = torch.Generator().manual_seed(0)
    gallery = F.normalize(torch.randn(m, dim, generator=generator), dim=1).to(device)
    query = F.normalize(torch.randn(n, dim, generator=generator), dim=1).to(device)
    labels = torch.arange(m, device=device) % classes
    own = torch.arange(n, device=device) % classes
    sides = [
        Features(v, [f"{p}{i}" for i in range(len(v))], "image", "image") for p, v in (("q", query), ("g", gallery))
    ]
    relevance = Relevance.from_labels(own.cpu(), labels.cpu())
    kept: dict[str, Any] = {}

    def loop() -> None:
        rows = []
        for i in range(SAMPLE):
            scores, hits = query[i] @ gallery.T, labels == own[i]
            r = int(hits.sum())
            precise = hits[scores.topk(r).indices].float().mean()
            first = hits[scores.topk(1).indices].float().mean()
            rows.append((average_precision(scores, hits), average_precision(scores, hits, r), precise, first))
        kept["loop"] = torch.tensor(rows)  # on the processor

    def ours() -> None:
        kept["ours"] = retrieval(*sides, relevance)

    block = max(1, 2**29 // (4 * m))  # queries, whose scores take half a GiB, or one in double precision

    def product(dtype: torch.dtype) -> float:
        a, b = query.to(dtype), gallery.to(dtype)

        def run() -> None:
            for part in a.split(block):
                part @ b.T

        run()
        return min(seconds(run)[0] for _ in range(1 if quick else 5))

    ours()  # compiles the loops, or reads them from numba's cache: once a process
    pair = in_turns(loop, ours, 1 if quick else 5, scale=SAMPLE / n)
    bare, exact = product(torch.float32), product(torch.float64)
    columns = torch.tensor(kept["ours"][["ap", "ap_at_r", "r_precision", "hit_at_1"]].to_numpy()[:SAMPLE])
    yield {
        "figure": "retrieval",
        "model": f"{n} x {m}, d = {dim}",
        "baseline": f"a loop over queries, timed on {SAMPLE}",
        "baseline_seconds": pair.baseline,
        "seconds": pair.ours,
        "ratio": pair.ratio,
        "cpu_ratio": pair.cpu_ratio,
        "goal": 30.0,
        "metric_difference": float((kept["loop"] - columns).abs().max()),
        "bare_product_seconds": bare,
        "bare_double_product_seconds": exact,
        "times_the_bare_product": pair.ours / bare,
        "extra_peak_bytes": peak_of(ours),
    }
    yield _pooled(device, quick)
    yield _resampling(device, quick)


def _pooled(device: torch.device, quick: bool) -> dict[str, Any]:
    """Memory of pooled misalignment on two classes: half of all pairs are of one class."""
    n, dim = (400, 64) if quick else (25_000, 512)
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(n, dim, generator=generator) + 1
    vectors[::2, 0] += 3
    images = Features(vectors.to(device), map(str, range(n)), "image", "image")
    labels = [i % 2 for i in range(n)]
    relevance = Relevance.from_labels(labels, labels)
    few = Relevance.from_labels(labels[:50], labels)
    pooled_misalignment(images.select(images.ids[:50]), images, few)  # compiles the loops
    found: list[float] = []
    extra = peak_of(lambda: found.append(pooled_misalignment(images, images, relevance)))
    sampled = sampled_misalignment(images, images, relevance)
    return {
        "figure": "pooled misalignment",
        "model": f"two classes of {n // 2}, d = {dim}",
        "extra_peak_bytes": extra,
        "difference_of_a_sample": abs(sampled.mean - found[0]),
    }


def _resampling(device: torch.device, quick: bool) -> dict[str, Any]:
    """The share of a study's processor time that intervals, tests and verdicts take, beside the rankings they are of.

    Two rows: text queries in a gallery of images, without and with a correction, which is tested against the first.
    """
    n, m, dim, classes = (200, 2000, 64, 40) if quick else (10_000, 100_000, 512, 2000)
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(classes, dim, generator=generator)
    both, labels = [], {}
    for space, size in (("image", m), ("text", n)):
        ids, of = [f"{space}{i}" for i in range(size)], torch.arange(size) % classes
        labels.update(zip(ids, of.tolist(), strict=True))
        vectors = torch.randn(size, dim, generator=generator).add_(centres[of], alpha=0.1)
        both.append(Features(vectors.to(device), ids, space, space))
        del vectors
    study = xg.study_of_features(both, labels, ["T-I"], ["none", "center"], calibration=both)
    profile = cProfile.Profile(time.process_time)  # of all threads
    table = profile.runcall(study.run)
    profile.create_stats()
    spent: dict[str, float] = {}
    for (_, _, name), (_, _, _, total, _) in profile.stats.items():
        spent[name] = max(total, spent.get(name, 0.0))
    return {
        "figure": "resampling in a study",
        "model": f"{n} x {m}, d = {dim}, {classes} groups, {len(table)} rows",
        "share_of_processor_time": sum(spent[name] for name in STATISTICS) / spent["run"],
        "processor_seconds": spent["run"],
    }
