"""`make bench`: every figure with its naive baseline in the same run; results/bench.json and docs/benchmarks.md."""

import argparse
import json
import os
import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from benchmarks import encoding_rate, fewer_steps, inversion_step, late_interaction, rankings, whole_runs
from benchmarks.timing import matrix_rate

ROOT = Path(__file__).parent.parent
DEFAULTS = {"cpu": (["ViT-B-32"], [16, 64]), "cuda": (["ViT-B-32", "ViT-L-14"], [64, 512])}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, then writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that everything runs; no record")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    models, batches = DEFAULTS[device.type]
    parser.add_argument("--models", nargs="+", default=models, help="open_clip architectures, random weights")
    parser.add_argument("--batches", nargs="+", type=int, default=batches)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bench.json")
    parser.add_argument("--record", type=Path, help="folder that the table in Markdown is written to, too")
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    parts = [
        lambda: rankings.measure(device, options.quick),
        lambda: late_interaction.measure(device, options.quick),
        lambda: encoding_rate.measure(device, options.quick),
        lambda: fewer_steps.measure(device, options.quick),
        *(
            lambda name=name: inversion_step.measure(name, options.batches, device, options.quick)
            for name in options.models
        ),
    ]
    if device.type == "cuda" or options.quick:  # hours on a processor
        parts += [
            lambda name=name: whole_runs.measure(name, options.batches, device, options.quick)
            for name in options.models
        ]
    for part in parts:
        for row in part():
            print(json.dumps(row), flush=True)
            rows.append(row)
    told = f"--models {' '.join(options.models)} --batches {' '.join(map(str, options.batches))}"
    found = {"command": f'make bench BENCH_ARGS="{told}"', "machine": _machine(device), "rows": rows}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    if options.record:
        name = "benchmarks.md" if device.type == "cpu" else f"benchmarks-{device.type}.md"
        (options.record / name).write_text(_record(found))


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


def _record(found: dict[str, Any]) -> str:
    """The dated record: ratios with their goals, then what fewer steps cost."""
    of, rows = found["machine"], found["rows"]
    text = [
        "# Benchmarks",
        "",
        f"Written by `{found['command']}` on {of['date']}: {of['device']}, {of['processor']}, {of['cores']} cores, "
        f"{of['threads']} threads, load {of['load']:.1f} at the end, torch {of['torch']}, measured matrix rates "
        f"{of['float32_matrix_rate'] / 1e9:.0f} (float32) and {of['bfloat16_matrix_rate'] / 1e9:.0f} (bfloat16) "
        "GFLOP/s.",
        "",
        "Each ratio is baseline / ours, timed alternately in one run (medians); `CPU` is the ratio of processor "
        "times, which other users of the machine disturb less. A goal is for the ratio of wall times. A share of "
        "the matrix rate near 1 means that only fewer operations would make a step faster.",
        "",
        "| figure | of | batch | baseline | baseline s | ours s | ratio | CPU | goal | met |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "ratio" in row:
            goal = row.get("goal")
            met = "" if goal is None else ("yes" if row["ratio"] >= goal else "no")
            text.append(
                f"| {row['figure']} | {row['model']} | {row.get('batch', '')} | {row['baseline']} | "
                f"{row['baseline_seconds']:.3g} | {row['seconds']:.3g} | {row['ratio']:.2f} | {row['cpu_ratio']:.2f} | "
                f"{goal or ''} | {met} |"
            )
    text += ["", "Differences and shares:", ""]
    named = ("difference", "flops", "share_of", "cosine_of", "extra")
    for row in rows:
        more = [
            f"{k.replace('_', ' ')} {v:.3g}" for k, v in row.items() if v is not None and any(n in k for n in named)
        ]
        if more:
            text.append(f"- {row['figure']}, {row['model']}, batch {row.get('batch', '-')}: {', '.join(more)}")
    text += _whole([row for row in rows if "whole_seconds" in row or "images_per_second" in row])
    text += [
        "",
        "`flops` is the baseline's floating-point operations over ours. Fewer steps (a lower loss is not a better "
        "retrieval):",
        "",
        "| way | steps | seconds | cosine to the native feature | AP (OTI-I) |",
        "|---|---|---|---|---|",
    ]
    text += [
        f"| {row['way']} | {row['steps']} | {row['seconds']:.2f} | {row['cosine']:.4f} | {row['ap']:.4f} |"
        for row in rows
        if "way" in row
    ]
    return "\n".join(text) + "\n"


def _whole(rows: list[dict[str, Any]]) -> list[str]:
    """The table of what is measured on a GPU alone."""
    if not rows:
        return []
    text = [
        "",
        "| run | of | batch | precision | measured | goal | met |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "whole_seconds" in row:
            measured = f"{row['whole_seconds']:.3g} s"
            goal = f"{row['goal_seconds']:g} s" if row["goal_seconds"] else ""
        else:
            measured = f"{row['images_per_second']:.0f} images/s, {row['share_of_matrix_rate']:.2f} of the matrix rate"
            goal = f"{row['goal_share']:g} of the matrix rate"
        met = {None: "", True: "yes", False: "no"}[row["met"]]
        text.append(
            f"| {row['figure']} | {row['model']} | {row['batch']} | {row['precision']} | {measured} | {goal} | {met} |"
        )
    return text


if __name__ == "__main__":
    main()
