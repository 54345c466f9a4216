"""Train and evaluate both ablations on the embedded default, and write the table that notebooks 06 and 07 read.

    python data/ablations/run.py                  # everything; what is trained already is not trained again
    python data/ablations/run.py --processes 14   # so many runs at once, one thread each

`results.parquet`: one row a number (see `xgap_analysis.experiments.ablations.ablate`).
"""

import argparse
import dataclasses
import os
import time
from pathlib import Path

import pandas as pd
import torch

import xgap_analysis as xg
from xgap_analysis.experiments.ablations import ablate
from xgap_analysis.experiments.recipes import RECIPE

HERE = Path(__file__).parent
LIMIT, TEXT_LIMIT = 100, 20  # concepts of the image comparisons and of the text comparisons


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
    changes = {
        "recipe": dataclasses.replace(RECIPE, steps=args.steps),
        "seeds": args.seeds,
        "checkpoints": (0, args.steps // 2, args.steps),
        "limit": LIMIT,
        "last_limit": TEXT_LIMIT,
    }
    how = {"folder": args.work, "device": args.device, "processes": args.processes}
    tables = [ablate(name, **how, **changes) for name in ("intra", "temperature")]
    xg.save_table(pd.concat(tables, ignore_index=True), args.out)
    minutes = (time.monotonic() - began) / 60
    where = torch.cuda.get_device_name() if torch.cuda.is_available() and args.device != "cpu" else "no GPU"
    print(f"{minutes:.1f} minutes, {args.processes} processes, {os.cpu_count()} processors, {where}", flush=True)


if __name__ == "__main__":
    main()
