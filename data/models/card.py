"""Write the model card (README.md) from the training records and the judged results that lie beside this script.

python data/models/card.py    # after training, and after judge.py
"""

import json
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
MODELS = ("tiny", "tiny-intra", "tiny-nogap", "tiny-untrained")
WHAT = {
    "tiny": "an ordinary CLIP: InfoNCE with a learned temperature",
    "tiny-intra": "the same batches and steps, plus an image-image SimCLR term on the shared sphere",
    "tiny-nogap": "tiny until 65 % of its steps, then at a fixed, high temperature that closes the gap",
    "tiny-untrained": "the same architecture with its first weights: the control",
}


def training_table() -> str:
    """Recipe and last losses of each trained model."""
    lines = [
        "| model | what it is | steps | last CLIP loss | 1 / temperature | minutes (one thread, shared machine) |",
        "|---|---|---|---|---|---|",
    ]
    for name in MODELS:
        record = HERE / name / "training.json"
        if not record.exists():
            lines.append(f"| `{name}` | {WHAT[name]} | 0 | | 14.3 | |")
            continue
        curve = json.loads(record.read_text())["curve"]
        last, first = curve[-1], curve[0]
        lines.append(
            f"| `{name}` | {WHAT[name]} | {last['step']} | {last['clip_loss']:.2f} | {last['scale']:.1f} "
            f"| {(last['seconds'] - first['seconds']) / 60:.0f} |"
        )
    return "\n".join(lines)


def results_table(results: pd.DataFrame) -> str:
    """One line a question, one column a model: value with its 95 % interval, in per cent."""
    lines = ["| split | question | chance | " + " | ".join(MODELS) + " |", "|---|---|---|" + "---|" * len(MODELS)]
    for (split, question), rows in results.groupby(["split", "question"], sort=False):
        by_model = rows.set_index("model")
        known = [by_model.loc[m] if m in by_model.index else None for m in MODELS]
        cells = [
            "" if r is None else f"{100 * r['value']:.1f} ({100 * r['low']:.1f}, {100 * r['high']:.1f})" for r in known
        ]
        lines.append(f"| {split} | {question} | {100 * rows['chance'].iloc[0]:.1f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def gaps_table(gaps: pd.DataFrame) -> str:
    """One column a model, one line a gap metric."""
    metrics = [c for c in gaps.columns if c not in ("model", "dataset", "split", "level", "n")]
    by_model = gaps.set_index("model")
    lines = ["| metric (test) | " + " | ".join(MODELS) + " |", "|---|" + "---|" * len(MODELS)]
    lines += [f"| {k} | " + " | ".join(f"{by_model.loc[m, k]:.3f}" for m in MODELS) + " |" for k in metrics]
    return "\n".join(lines)


def claims_table(study: pd.DataFrame) -> str:
    """What each interval says of each claim."""
    lines = [
        "| model | split | comparison | from | to, difference with 95 % interval | verdict |",
        "|---|---|---|---|---|---|",
    ]
    main = study[study["main"]]
    value = main.set_index(["model", "split", "comparison"])["value"]
    for row in main[main["difference"].notna()].to_dict("records"):
        before = value[row["model"], row["split"], row["baseline"]]
        lines.append(
            f"| `{row['model']}` | {row['split']} | {row['comparison']} against {row['baseline']} | {100 * before:.1f} "
            f"| {100 * row['value']:.1f}, {100 * row['difference']:+.2f} ({100 * row['difference_low']:+.2f}, "
            f"{100 * row['difference_high']:+.2f}) | {row['verdict']} |"
        )
    return "\n".join(lines)


def main() -> None:
    prose = (HERE / "card.md").read_text()
    tables = {
        "TRAINING": training_table(),
        "RESULTS": results_table(pd.read_parquet(HERE / "results.parquet")),
        "GAPS": gaps_table(pd.read_parquet(HERE / "gaps.parquet")),
        "CLAIMS": claims_table(pd.read_parquet(HERE / "study.parquet")),
    }
    for name, table in tables.items():
        prose = prose.replace(f"@@{name}@@", table)
    (HERE / "README.md").write_text(prose)


if __name__ == "__main__":
    main()
