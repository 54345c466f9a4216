"""Train the recipes of `xgap study --table objectives`, evaluate them, and write the table that notebook 12 reads.

    OMP_NUM_THREADS=1 python data/objectives/run.py --processes 16    # what is there is not trained again

`results.parquet`: one row a number (see `xgap_analysis.experiments.ablations.ablate`). `run.json`: the command, the
machine, the time and the recipes that made it. Where the table takes the place of the shipped one, the data card is
brought up to date.
"""

import argparse
import json
import os
import platform
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import xgap_analysis as xg
from xgap_analysis.experiments.ablations import ablate, at_equal_quality
from xgap_analysis.experiments.contrasts import contrast_words
from xgap_analysis.experiments.recipes import ablation, quick
from xgap_analysis.experiments.tables import as_markdown

HERE = Path(__file__).parent
CARD = HERE / "README.md"
SHOWN = (
    "I-T",
    "T-I",
    "I-I",
    "OTI-I - I-I",
    "T-T",
    "zero-shot",
    "misalignment_image",
    "misalignment_text",
    "modality_gap",
)


def processor() -> str:
    """The machine's processor by its maker's name, where the system says it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8").splitlines() if cpuinfo.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def own_options(given: list[str]) -> list[str]:
    """The options without the folders of this machine."""
    kept: list[str] = []
    places = {"--work", "--out"}
    for before, option in zip(["", *given], given, strict=False):
        if before not in places and option.partition("=")[0] not in places:
            kept.append(option)
    return kept


def write_card(table: pd.DataFrame, record: dict[str, Any], control: str) -> None:
    """Fill the places of the data card that follow from the table."""
    said = "`{command}`: {runs} runs of {steps} steps in {minutes} minutes, {machine}, torch {torch}."
    equal = at_equal_quality(table, "I-T", control)
    places = {
        "MADE": said.format(**record, steps=record["recipe"]["steps"]),
        "LAST": as_markdown(contrast_words(table, control, SHOWN)),
        "EQUAL": as_markdown(contrast_words(equal, control, SHOWN)),
    }
    page = CARD.read_text("utf-8")
    for place, text in places.items():
        start, end = f"<!-- {place} -->\n", f"\n<!-- /{place} -->"
        before, _, rest = page.partition(start)
        page = before + start + text + end + rest.partition(end)[2]
    CARD.write_text(page, "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--processes", type=int, default=1, help="runs at a time, each with one thread")
    parser.add_argument("--device", help="where the models compute; the GPU where there is one")
    parser.add_argument("--recipes", nargs="+", help="these only")
    parser.add_argument("--quick", action="store_true", help="two updates on few items, to see that all of it runs")
    parser.add_argument("--limit", type=int, help="labels that are evaluated")
    parser.add_argument("--work", type=Path, default=HERE / ".work", help="where runs are kept")
    parser.add_argument("--out", type=Path, default=HERE / "results.parquet")
    args = parser.parse_args()
    chosen = ablation("objectives", seeds=args.seeds)
    chosen = quick(chosen) if args.quick else chosen
    settings = {name: chosen.settings[name] for name in args.recipes or chosen.settings}
    chosen = replace(chosen, settings=settings, limit=args.limit or chosen.limit)
    began = time.monotonic()
    table = ablate(chosen, folder=args.work, device=args.device, processes=args.processes)
    xg.save_table(table.assign(ablation="objectives"), args.out)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    record = {
        "command": shlex.join(["python", "data/objectives/run.py", *own_options(sys.argv[1:])]),
        "minutes": round((time.monotonic() - began) / 60, 1),
        "machine": f"{os.cpu_count()} x {processor()}"
        + (f", {torch.cuda.get_device_name()}" if device.startswith("cuda") else ", no GPU"),
        "runs": len(settings) * len(chosen.seeds),
        "recipes": settings,
        "recipe": chosen.recipe.plain(),
        "checkpoints": list(chosen.checkpoints),
        "evaluated": {"labels": chosen.limit, "inversion_steps": chosen.inversion_steps},
        "torch": torch.__version__,
    }
    args.out.with_name("run.json").write_text(json.dumps(record, indent=1, default=str) + "\n", "utf-8")
    if args.out == HERE / "results.parquet" and not args.quick:
        write_card(table, record, chosen.control)
    print(f"{len(table)} numbers of {record['runs']} runs in {record['minutes']} minutes", flush=True)


if __name__ == "__main__":
    main()
