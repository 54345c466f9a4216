"""Train and judge both ablations on the embedded default, and write the table that notebooks 06 and 07 read.

    python data/ablations/run.py                  # everything; what is there is not trained again

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
LIMIT, TEXT_LIMIT = 100, 20  # concepts of the image side and of the text side


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=RECIPE.steps)
    parser.add_argument("--work", type=Path, default=HERE / ".work", help="where runs are kept")
    parser.add_argument("--out", type=Path, default=HERE / "results.parquet")
    args = parser.parse_args()
    began = time.monotonic()
    recipe = dataclasses.replace(RECIPE, steps=args.steps)
    steps = (0, args.steps // 2, args.steps)
    common = {"recipe": recipe, "seeds": args.seeds, "checkpoints": steps, "folder": args.work}
    tables = [ablate(name, limit=LIMIT, text_limit=TEXT_LIMIT, **common) for name in ("intra", "temperature")]
    xg.save_table(pd.concat(tables, ignore_index=True), args.out)
    minutes = (time.monotonic() - began) / 60
    print(f"{minutes:.0f} minutes, {torch.get_num_threads()} of {os.cpu_count()} threads", flush=True)


if __name__ == "__main__":
    main()
