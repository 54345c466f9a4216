"""Late interaction of sets of vectors: its share of the matrix rate, its memory, and what `rerank` saves.

Run alone: `python -m benchmarks.late_interaction [--quick]`.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import in_turns, matrix_rate, operations, seconds
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.scoring.blocks import score_blocks
from xgap_analysis.scoring.rows import QUERY_TOKENS

SCORER = "late_interaction(inner=max, outer=mean)"
MEANS = "late_interaction(inner=mean, outer=mean)"
DEPTH = 100


def measure(device: torch.device, quick: bool) -> Iterator[dict[str, Any]]:
    """Two rows: the share of the matrix rate, and `rerank` against scoring all."""
    n, m = (16, 2000) if quick else (1000, 10_000)
    t_query, t_gallery, dim = 50, 16, 128
    generator = torch.Generator().manual_seed(0)
    query, gallery = (
        some(count, tokens, dim, prefix, generator).to(device)
        for count, tokens, prefix in ((n, t_query, "q"), (m, t_gallery, "g"))
    )
    few = query.take(torch.arange(8))
    kept: dict[str, torch.Tensor] = {}

    def plain() -> None:
        """The formula in one expression, on as many queries as its memory allows."""
        rows = few.vectors.view(len(few), t_query, dim)
        columns = gallery.vectors.view(m, t_gallery, dim)
        kept["plain"] = torch.einsum("bid,mjd->bmij", rows, columns).amax(3).mean(2)

    def ours() -> None:
        kept["ours"] = torch.cat([scores.clone() for _, _, scores in score_blocks(query, gallery, SCORER)])

    def reranked() -> None:
        for _ in score_blocks(query, gallery, f"rerank({MEANS}, {SCORER}, depth={DEPTH})"):
            pass

    rounds = 3 if quick else 2
    counted = n * m * t_query * t_gallery * dim * 2
    pair = in_turns(plain, ours, rounds, scale=len(few) / n)
    timed = [(*_rates(device), *seconds(ours)) for _ in range(rounds)]
    rate, cpu_rate, wall, cpu = (
        pick(column) for pick, column in zip((max, max, min, min), zip(*timed, strict=True), strict=True)
    )
    yield {
        "figure": "late interaction",
        "model": f"{n} x {m} of {t_query} x {t_gallery}, d = {dim}",
        "baseline": f"einsum, timed on {len(few)} queries",
        "baseline_seconds": pair.baseline,
        "seconds": pair.ours,
        "ratio": pair.ratio,
        "cpu_ratio": pair.cpu_ratio,
        "operations": counted,
        "share_of_matrix_rate": counted / wall / rate,
        "share_of_matrix_rate_by_cpu_time": counted / cpu / cpu_rate,
        "goal_share": 0.5,
        "operations_counted_over_needed": _counted(few, gallery) / (counted * len(few) / n),
        "score_difference": float((kept["ours"][: len(few)] - kept["plain"]).abs().max()),
        "extra_peak_bytes": _peak_of(ours, device),
    }
    pair = in_turns(ours, reranked, rounds)
    yield {
        "figure": "rerank",
        "model": f"{n} x {m}, depth {DEPTH}",
        "baseline": "scoring all",
        "baseline_seconds": pair.baseline,
        "seconds": pair.ours,
        "ratio": pair.ratio,
        "cpu_ratio": pair.cpu_ratio,
        "goal": None if quick else 20.0,
    }


def some(n: int, tokens: int, dim: int, prefix: str, generator: torch.Generator) -> TokenFeatures:
    """Random token features with as many tokens in each item."""
    vectors = torch.randn(n * tokens, dim, generator=generator)
    ids = [f"{prefix}{i}" for i in range(n)]
    return TokenFeatures(vectors, torch.arange(n + 1) * tokens, ids, "image", "image")


def _rates(device: torch.device) -> tuple[float, float]:
    """Operations a second, by wall and by CPU time: of square products or of the shape of a tile, the higher."""
    rows, columns, dim, often = QUERY_TOKENS.get(device.type, 4096), 2048, 128, 20
    a, b = torch.randn(rows, dim, device=device), torch.randn(dim, columns, device=device)

    def products() -> None:
        for _ in range(often):
            a @ b

    products()
    wall, cpu = (2 * rows * columns * dim * often / spent for spent in seconds(products))
    square = matrix_rate(device, torch.float32)
    return max(wall, square), max(cpu, square)


def _counted(query: TokenFeatures, gallery: TokenFeatures) -> int:
    return operations(lambda: [None for _ in score_blocks(query, gallery, SCORER)])


def _peak_of(run: Any, device: torch.device) -> int | None:
    """Bytes by which memory grows at its peak; None where the system does not tell."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return None

    def kilobytes(name: str) -> int:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name))

    before = kilobytes("VmRSS")
    reset.write_text("5")  # the peak counts from here
    run()
    return (kilobytes("VmHWM") - before) * 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    options = parser.parse_args()
    for row in measure(torch.device("cuda" if torch.cuda.is_available() else "cpu"), options.quick):
        print(json.dumps(row), flush=True)
