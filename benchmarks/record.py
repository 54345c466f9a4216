"""The dated record in Markdown: ratios with their goals, then differences and shares, then what fewer steps cost."""

from typing import Any

NAMED = ("difference", "flops", "share", "times", "cosine_of", "goal_seconds", "extra", "per_second", "fit_in")


def record(found: dict[str, Any]) -> str:
    """Markdown of what `benchmarks.__main__` found."""
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
    for row in rows:
        more = [
            f"{k.replace('_', ' ')} {v:.4g}" for k, v in row.items() if v is not None and any(n in k for n in NAMED)
        ]
        if more:
            batch = f", batch {row['batch']}" if "batch" in row else ""
            text.append(f"- {row['figure']}, {row['model']}{batch}: {', '.join(more)}")
    text += [f"- {part}: not measured, the time was over" for part in found.get("left_out", [])]
    text += _ways([row for row in rows if "way" in row])
    return "\n".join(text) + "\n"


def _ways(rows: list[dict[str, Any]]) -> list[str]:
    """The table of inversions in fewer steps."""
    if not rows:
        return []
    text = [
        "",
        "Fewer steps (a lower loss is not a better retrieval); AP is that of inverted queries among native features:",
        "",
        "| of | way | steps | seconds | cosine to the native feature | AP |",
        "|---|---|---|---|---|---|",
    ]
    text += [
        f"| {row['model']} | {row['way']} | {row['steps']} | {row['seconds']:.2f} | {row['cosine']:.4f} | "
        f"{row['ap']:.4f} |"
        for row in rows
    ]
    return text
