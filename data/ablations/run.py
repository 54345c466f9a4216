"""Train and evaluate both ablations on the embedded default, and write the table that notebooks 06 and 07 read.

    python data/ablations/run.py                  # everything; what is trained already is not trained again
    python data/ablations/run.py --processes 14   # so many runs at once, one thread each

`results.parquet`: one row a number (see `xgap_analysis.experiments.ablations.ablate`).
"""

import argparse
import dataclasses
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas as pd
import torch

import xgap_analysis as xg
from xgap_analysis.experiments.ablations import ABLATIONS, RECIPE, ablate

HERE = Path(__file__).parent
LIMIT, TEXT_LIMIT = 100, 20  # concepts of the image comparisons and of the text comparisons
Run = tuple[str, str, int]  # ablation, setting, seed


def one(run: Run, args: argparse.Namespace) -> pd.DataFrame:
    """The rows of one run."""
    name, setting, seed = run
    if args.processes > 1:
        torch.set_num_threads(1)
    table = ablate(
        {setting: ABLATIONS[name][setting]},
        recipe=dataclasses.replace(RECIPE, steps=args.steps),
        seeds=[seed],
        checkpoints=(0, args.steps // 2, args.steps),
        limit=LIMIT,
        text_limit=TEXT_LIMIT,
        folder=args.work,
        device=args.device,
        progress=False,
    )
    return table.assign(ablation=name)


def first_of(runs: list[Run]) -> list[Run]:
    """The runs without those that another ablation has by another name, which would write one folder at once."""
    seen: list[tuple[object, int]] = []
    kept = []
    for name, setting, seed in runs:
        key = (dataclasses.replace(RECIPE, **ABLATIONS[name][setting]).plain(), seed)
        if key not in seen:
            seen.append(key)
            kept.append((name, setting, seed))
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=RECIPE.steps)
    parser.add_argument("--processes", type=int, default=1, help="runs at once")
    parser.add_argument("--device", help="cpu, cuda or mps; the fastest that is there by default")
    parser.add_argument("--work", type=Path, default=HERE / ".work", help="where runs are kept")
    parser.add_argument("--out", type=Path, default=HERE / "results.parquet")
    args = parser.parse_args()
    began = time.monotonic()
    runs = [
        (name, setting, seed) for name, settings in ABLATIONS.items() for setting in settings for seed in args.seeds
    ]
    first = first_of(runs)
    with ProcessPoolExecutor(args.processes, multiprocessing.get_context("spawn")) as pool:
        made = dict(zip(first, pool.map(one, first, [args] * len(first)), strict=True))
        rest = [run for run in runs if run not in made]
        made.update(zip(rest, pool.map(one, rest, [args] * len(rest)), strict=True))
    xg.save_table(pd.concat([made[run] for run in runs], ignore_index=True), args.out)
    minutes = (time.monotonic() - began) / 60
    where = torch.cuda.get_device_name() if torch.cuda.is_available() and args.device != "cpu" else "no GPU"
    print(f"{minutes:.1f} minutes, {args.processes} processes, {os.cpu_count()} processors, {where}", flush=True)


if __name__ == "__main__":
    main()
