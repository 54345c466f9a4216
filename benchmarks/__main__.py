"""`make bench`: every figure with its naive baseline in the same run; results/bench.json and docs/benchmarks.md.

On a GPU (`--device cuda`, the default where there is one) parts stand in the order of their weight. After `--minutes`
no further part begins, and the record names those that were left out; the default keeps the whole under eight minutes.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from benchmarks import (
    encoding_rate,
    fewer_steps,
    half_precision,
    inversion_step,
    late_interaction,
    rankings,
    whole_runs,
)
from benchmarks.record import record
from benchmarks.timing import matrix_rate

ROOT = Path(__file__).parent.parent
DEFAULTS = {"cpu": (["ViT-B-32"], [16, 64]), "cuda": (["ViT-B-32"], [64, 512])}
Part = Callable[[], Iterator[dict[str, Any]]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, then writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=DEFAULTS, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dry-run", action="store_true", help="every part at toy size, to see that everything runs")
    parser.add_argument("--models", nargs="+", help="open_clip architectures, random weights")
    parser.add_argument("--batches", nargs="+", type=int)
    parser.add_argument("--parts", nargs="+", help="these alone; by default all that suit the device")
    parser.add_argument("--minutes", type=float, default=6.0, help="after which no further part begins (on a GPU)")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bench.json")
    parser.add_argument("--record", type=Path, help="folder that the table in Markdown is written to, too")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    models, batches = DEFAULTS[options.device]
    options.models, options.batches = options.models or models, options.batches or batches
    parts = parts_of(device, options.models, options.batches, options.dry_run)
    unknown = sorted(set(options.parts or ()) - parts.keys())
    if unknown:
        parser.error(f"--parts are among {', '.join(parts)}, not {', '.join(unknown)}")
    begun, rows, left_out = time.monotonic(), list[dict[str, Any]](), list[str]()
    for name, part in parts.items():
        if name not in (options.parts or parts):
            continue
        if device.type == "cuda" and time.monotonic() - begun > 60 * options.minutes:
            left_out.append(name)
            continue
        for row in part():
            print(json.dumps(row), flush=True)
            rows.append(row)
    given = f"--models {' '.join(options.models)} --batches {' '.join(map(str, options.batches))}"
    given += f" --parts {' '.join(options.parts)}" if options.parts else ""
    found = {
        "command": f'make bench BENCH_ARGS="{given}"',
        "machine": _machine(device),
        "minutes": (time.monotonic() - begun) / 60,
        "rows": rows,
        "left_out": left_out,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    if options.record:
        name = "benchmarks.md" if device.type == "cpu" else f"benchmarks-{device.type}.md"
        (options.record / name).write_text(record(found))


def parts_of(device: torch.device, models: Sequence[str], batches: Sequence[int], dry_run: bool) -> dict[str, Part]:
    """By name, what is measured on a device: on a GPU whole runs too, which take hours on a processor."""
    whole = {
        "model": lambda: _each(models, lambda name: whole_runs.model_alone(name, batches, device, dry_run)),
        "inversion": lambda: _each(models, lambda name: whole_runs.inversions(name, device, dry_run)),
    }
    shared: dict[str, Part] = {
        "retrieval": lambda: rankings.measure(device, dry_run),
        "encoding": lambda: encoding_rate.measure(device, dry_run),
        "plateau": lambda: whole_runs.stops(device, dry_run),
        "half-precision": lambda: half_precision.measure(device, dry_run),
        "steps": lambda: _each(models, lambda name: inversion_step.measure(name, batches, device, dry_run)),
        "late-interaction": lambda: late_interaction.measure(device, dry_run),
        "fewer-steps": lambda: fewer_steps.measure(device, dry_run),
    }
    return {**whole, **shared} if device.type == "cuda" or dry_run else shared


def _each(names: Sequence[str], part: Callable[[str], Iterator[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    for name in names:
        yield from part(name)


def _machine(device: torch.device) -> dict[str, Any]:
    names = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "torch": torch.__version__,
        "float32_matrix_rate": matrix_rate(device, torch.float32),
        "bfloat16_matrix_rate": matrix_rate(device, torch.bfloat16),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


if __name__ == "__main__":
    main()
