"""Write the model card (README.md) from the training records and the tables that lie beside this script.

python data/models/card.py    # after training, and after evaluate.py
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from evaluate import MODELS
from scipy import stats

HERE = Path(__file__).parent
SEEDS = MODELS[:3]  # one recipe, three training seeds
SHOWN = ("tiny", "three seeds", "tiny-intra", "tiny-nogap", "tiny-image", "tiny-untrained")
WHAT = {
    "tiny": "an ordinary CLIP: InfoNCE with a learned temperature",
    "tiny-seed1": "the same with training seed 1",
    "tiny-seed2": "the same with training seed 2",
    "tiny-intra": "the same batches and steps, plus an image-image SimCLR term on the shared sphere",
    "tiny-nogap": "tiny until 65 % of its steps, then at a fixed, high temperature that closes the gap",
    "tiny-image": "the SimCLR term alone, half the steps; an image tower and no text tower: a control",
    "tiny-untrained": "the same architecture with its first weights, drawn from the seed: a control",
}


def over_seeds(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean over training seeds, and Student's 95 % interval of it."""
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / len(values) ** 0.5)
    reach = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return mean, mean - reach, mean + reach


def interval(numbers: Sequence[float], form: str = ".3f") -> str:
    """`value (low, high)`."""
    value, low, high = numbers
    return f"{value:{form}} ({low:{form}}, {high:{form}})"


def training_table() -> str:
    """Recipe, last losses and time of each trained model."""
    lines = [
        "| model | what it is | steps | last CLIP loss | 1 / temperature | seconds on a GPU |",
        "|---|---|---|---|---|---|",
    ]
    for name in MODELS:
        record = HERE / name / "training.json"
        if not record.exists():
            lines.append(f"| `{name}` | {WHAT[name]} | 0 | | 14.3 | |")
            continue
        last = json.loads(record.read_text())["curve"][-1]
        loss = f"{last['clip_loss']:.2f} | {last['scale']:.1f}" if last.get("clip_loss") else "| "
        lines.append(f"| `{name}` | {WHAT[name]} | {last['step']} | {loss} | {last['seconds']:.0f} |")
    return "\n".join(lines)


def results_table(results: pd.DataFrame) -> str:
    """One line a question, one column a model: value with its 95 % interval over concepts, in [0, 1]."""
    lines = ["| split | question | chance | " + " | ".join(SHOWN) + " |", "|---|---|---|" + "---|" * len(SHOWN)]
    for (split, question), rows in results.groupby(["split", "question"], sort=False):
        by_model = rows.set_index("model")
        cells = {name: interval(row[["value", "low", "high"]]) for name, row in by_model.iterrows()}
        if set(SEEDS) <= set(by_model.index):
            cells["three seeds"] = interval(over_seeds(by_model.loc[list(SEEDS), "value"]))
        shown = " | ".join(cells.get(name, "") for name in SHOWN)
        lines.append(f"| {split} | {question} | {rows['chance'].iloc[0]:.3f} | {shown} |")
    return "\n".join(lines)


def gaps_table(gaps: pd.DataFrame) -> str:
    """One column a model, one line a gap metric; over the three seeds the mean and its interval."""
    metrics = [c for c in gaps.columns if c not in ("model", "dataset", "split", "label_set", "n")]
    by_model = gaps.set_index("model")
    columns = [name for name in SHOWN if name in by_model.index or name == "three seeds"]
    lines = ["| metric (test) | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for metric in metrics:
        cells = {name: f"{value:.3f}" for name, value in by_model[metric].items()}
        cells["three seeds"] = interval(over_seeds(by_model.loc[list(SEEDS), metric].astype(float)))
        name = "1 / temperature" if metric == "scale" else metric
        lines.append(f"| {name} | " + " | ".join(cells[column] for column in columns) + " |")
    return "\n".join(lines)


def claims_table(study: pd.DataFrame) -> str:
    """What each difference says of each claim."""
    lines = [
        "| model | split | comparison | from | to, difference with 95 % interval | p, adjusted | groups | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    main = study[study["main"]]
    value = main.set_index(["model", "split", "comparison"])["value"]
    for row in main[main["difference"].notna()].to_dict("records"):
        before = value[row["model"], row["split"], row["baseline"]]
        change = interval([row[name] for name in ("difference", "difference_low", "difference_high")], "+.4f")
        lines.append(
            f"| `{row['model']}` | {row['split']} | {row['comparison']} against {row['baseline']} | {before:.3f} "
            f"| {row['value']:.3f}, {change} | {row['p_value']:.4f}, {row['p_adjusted']:.4f} | {row['n_groups']} "
            f"| {row['verdict'] if isinstance(row['verdict'], str) else row['reason']} |"
        )
    return "\n".join(lines)


def seeds_table(study: pd.DataFrame) -> str:
    """The same differences of three training seeds, and their mean with its interval over seeds."""
    lines = [
        "| split | comparison | " + " | ".join(f"`{name}`" for name in SEEDS) + " | mean, 95 % over seeds |",
        "|---|---|" + "---|" * len(SEEDS) + "---|",
    ]
    main = study[study["main"] & study["difference"].notna() & study["model"].isin(SEEDS)]
    for (split, comparison), rows in main.groupby(["split", "comparison"], sort=False):
        differences = rows.set_index("model")["difference"]
        if set(SEEDS) <= set(differences.index):
            each = " | ".join(f"{differences[name]:+.4f}" for name in SEEDS)
            mean = interval(over_seeds(differences[list(SEEDS)]), "+.4f")
            baseline = rows["baseline"].iloc[0]
            lines.append(f"| {split} | {comparison} against {baseline} | {each} | {mean} |")
    return "\n".join(lines)


def main() -> None:
    prose = (HERE / "card.md").read_text()
    study = pd.read_parquet(HERE / "study.parquet")
    tables = {
        "TRAINING": training_table(),
        "RESULTS": results_table(pd.read_parquet(HERE / "results.parquet")),
        "GAPS": gaps_table(pd.read_parquet(HERE / "gaps.parquet")),
        "CLAIMS": claims_table(study),
        "SEEDS": seeds_table(study),
    }
    for name, table in tables.items():
        prose = prose.replace(f"@@{name}@@", table)
    (HERE / "README.md").write_text(prose)


if __name__ == "__main__":
    main()
