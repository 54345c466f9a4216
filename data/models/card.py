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
    """One line a question, one column a model: value with its 95 % interval, in [0, 1]."""
    lines = ["| split | question | chance | " + " | ".join(MODELS) + " |", "|---|---|---|" + "---|" * len(MODELS)]
    for (split, question), rows in results.groupby(["split", "question"], sort=False):
        by_model = rows.set_index("model")
        known = [by_model.loc[m] if m in by_model.index else None for m in MODELS]
        cells = ["" if r is None else f"{r['value']:.3f} ({r['low']:.3f}, {r['high']:.3f})" for r in known]
        lines.append(f"| {split} | {question} | {rows['chance'].iloc[0]:.3f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def gaps_table(gaps: pd.DataFrame) -> str:
    """One column a model, one line a gap metric."""
    metrics = [c for c in gaps.columns if c not in ("model", "dataset", "split", "level", "n")]
    by_model = gaps.set_index("model")
    lines = ["| metric (test) | " + " | ".join(MODELS) + " |", "|---|" + "---|" * len(MODELS)]
    lines += [f"| {k} | " + " | ".join(f"{by_model.loc[m, k]:.3f}" for m in MODELS) + " |" for k in metrics]
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
        lines.append(
            f"| `{row['model']}` | {row['split']} | {row['comparison']} against {row['baseline']} | {before:.3f} "
            f"| {row['value']:.3f}, {row['difference']:+.4f} ({row['difference_low']:+.4f}, "
            f"{row['difference_high']:+.4f}) | {row['p_value']:.4f}, {row['p_adjusted']:.4f} | {row['n_groups']} "
            f"| {row['verdict'] if isinstance(row['verdict'], str) else row['reason']} |"
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
