"""Train the settings of `xgap study --table objectives` or `adapters`, evaluate them, and write the shipped table.

    OMP_NUM_THREADS=1 python data/objectives/run.py --processes 16    # what is there is not trained again
    OMP_NUM_THREADS=1 python data/objectives/run.py --table adapters --processes 2

The folder of the table gets `results.parquet`, one row a number (see `xgap_analysis.experiments.ablations.ablate`), and
`run.json`: the command, the machine, the time and the settings that made it. Where the table takes the place of the
shipped one, the data card is brought up to date.
"""

import argparse
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import xgap_analysis as xg
from xgap_analysis.core.writing import fill_places
from xgap_analysis.experiments.ablations import ablate, at_equal_quality
from xgap_analysis.experiments.contrasts import contrast_words
from xgap_analysis.experiments.recipes import ablation, quick
from xgap_analysis.experiments.tables import as_markdown

DATA = Path(__file__).parent.parent
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


def made(record: dict[str, Any]) -> str:
    """How the table was made, in one line."""
    said = "`{command}`: {runs} runs of {steps} steps in {minutes} minutes, {machine}, torch {torch}."
    return said.format(**record, steps=record["recipe"]["steps"])


def first(table: pd.DataFrame) -> pd.DataFrame:
    """The rows before training, without what is measured after the last step alone."""
    return table[table["step"] == 0]


def against(control: str, shown: Sequence[str] = SHOWN, over: str = "seeds") -> Callable[[pd.DataFrame], str]:
    """The changes of a table from a control, in words, with intervals over seeds or over groups of queries."""
    return lambda table: as_markdown(contrast_words(table, control, shown, over=over))


AT_START = tuple(name for name in SHOWN if not name.startswith("OTI"))
PLACES: dict[str, dict[str, Callable[[pd.DataFrame], str]]] = {  # of the cards, by table
    "objectives": {
        "LAST": against("CLIP"),
        "EQUAL": lambda table: against("CLIP")(at_equal_quality(table, "I-T", "CLIP")),
    },
    "adapters": {
        "START": lambda table: against("base", AT_START, "queries")(first(table)),
        "LAST": against("CLIP", over="queries"),
        "BASE": against("base", over="queries"),
    },
}


def write_card(card: Path, table: pd.DataFrame, record: dict[str, Any], name: str) -> None:
    """Fill the places of a data card that follow from the table."""
    fill_places(card, {"MADE": made(record), **{place: write(table) for place, write in PLACES[name].items()}})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", choices=tuple(PLACES), default="objectives")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--processes", type=int, default=1, help="runs at a time, each with one thread")
    parser.add_argument("--device", help="where the models compute; the GPU where there is one")
    parser.add_argument("--settings", nargs="+", help="these only")
    parser.add_argument("--quick", action="store_true", help="two updates on few items, to see that all of it runs")
    parser.add_argument("--limit", type=int, help="labels that are evaluated")
    parser.add_argument("--work", type=Path, help="where runs are kept; the table's folder by default")
    parser.add_argument("--out", type=Path, help="the table; the shipped one by default")
    args = parser.parse_args()
    folder = DATA / args.table
    out = args.out or folder / "results.parquet"
    chosen = ablation(args.table, seeds=args.seeds)
    chosen = quick(chosen) if args.quick else chosen
    settings = {name: chosen.settings[name] for name in args.settings or chosen.settings}
    chosen = replace(chosen, settings=settings, limit=args.limit or chosen.limit)
    began = time.monotonic()
    table = ablate(chosen, folder=args.work or folder / ".work", device=args.device, processes=args.processes)
    xg.save_table(table.assign(ablation=args.table), out)
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
    out.with_name("run.json").write_text(json.dumps(record, indent=1, default=str) + "\n", "utf-8")
    if args.out is None and not args.quick:
        write_card(folder / "README.md", table, record, args.table)
    print(f"{len(table)} numbers of {record['runs']} runs in {record['minutes']} minutes", flush=True)


if __name__ == "__main__":
    main()
