"""Two ways of one computation, timed in turns: on a machine that others use too, only their ratio means something."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Pair:
    """Medians over the rounds: seconds of each way, and the ratio baseline / ours of a round (wall and CPU time)."""

    baseline: float
    ours: float
    ratio: float
    cpu_ratio: float
    rounds: int


def in_turns(baseline: Callable[[], Any], ours: Callable[[], Any], rounds: int, scale: float = 1.0) -> Pair:
    """Times both `rounds` times, one after the other; `scale` is the share of the work that the baseline did."""
    rows = []
    for _ in range(rounds):
        (a, a_cpu), (b, b_cpu) = seconds(baseline), seconds(ours)
        rows.append((a / scale, b, a / scale / b, a_cpu / scale / b_cpu))
    return Pair(*(statistics.median(column) for column in zip(*rows, strict=True)), rounds)


def seconds(run: Callable[[], Any]) -> tuple[float, float]:
    """Wall time and CPU time of the process."""
    _wait()
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    _wait()
    return time.perf_counter() - wall, time.process_time() - cpu


def matrix_rate(device: torch.device, dtype: torch.dtype, rounds: int = 7) -> float:
    """Floating-point operations a second in the best of some square matrix products, large enough for the device."""
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / min(seconds(lambda: a @ b)[0] for _ in range(rounds))


def operations(run: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products and attentions in a run."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
