"""Rank images and texts of `emoji` in one list with the embedded models; writes results.csv and the table of the card.

    python data/mixed/measure.py                  # a quarter of a minute a model on one core
    python data/mixed/measure.py --models tiny    # one model; the rows of the others stay
    python data/mixed/measure.py --card           # the card's table from results.csv, nothing is computed

Held-out concepts. `I-IT` has images as queries, `T-IT` texts; the gallery holds both. Native, and with the mean of each
modality removed (`center`, fitted on training concepts).
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

import xgap_analysis as xg
from xgap_analysis.core.writing import fill_places
from xgap_analysis.experiments.tables import as_markdown

HERE = Path(__file__).parent
RESULTS = HERE / "results.csv"
MODELS = ("tiny", "tiny-seed1", "tiny-seed2", "tiny-intra", "tiny-nogap", "tiny-untrained")
COMPARISONS, CORRECTIONS = ("I-IT", "T-IT"), ("none", "center")
MAIN = "ndcg_at_10"
SHARES = ("share_at_10_text", "share_relevant_text", "share_gallery_text")
RANKS = tuple(f"reciprocal_rank_{modality}{among}" for modality in ("image", "text") for among in ("", "_in_all"))
MEASURES = (MAIN, "ap", *SHARES, *RANKS)
ALIKE = SHARES[1:]  # whatever the ranking
SHOWN = {  # heading to measure
    "nDCG@10": MAIN,
    "texts in the first 10": "share_at_10_text",
    "texts in the relevant": "share_relevant_text",
    "1 / rank of image": "reciprocal_rank_image",
    "1 / rank of image in all": "reciprocal_rank_image_in_all",
    "1 / rank of text": "reciprocal_rank_text",
    "1 / rank of text in all": "reciprocal_rank_text_in_all",
}
COLUMNS = [
    *("model", "dataset", "split", "comparison", "correction", "fitted_on", "metric", "main", "value", "low", "high"),
    *("difference", "difference_low", "difference_high", "p_value", "p_adjusted", "verdict", "reason"),
    *("n_queries", "n_gallery", "n_groups", "effective_groups", "modality_gap", "rmg"),
]


def measured(models: tuple[str, ...]) -> pd.DataFrame:
    """One row per model, comparison, correction and measure, beside the gap of the pairs that are left."""
    metrics = ["modality-share", "rank-among"]
    study = xg.Study(models, ["emoji"], COMPARISONS, CORRECTIONS, metrics=metrics, main=MAIN, progress=False)
    made = []
    for evaluation in study.evaluations():
        table = evaluation.table()
        table = table[table["metric"].isin(MEASURES)]
        for correction in CORRECTIONS:
            x, y = map(evaluation.fitted(correction), evaluation.pairs())
            gaps = {"modality_gap": xg.metrics.modality_gap(x, y), "rmg": xg.metrics.relative_modality_gap(x, y)}
            made.append(table.loc[table["correction"] == correction].assign(**gaps))
    return pd.concat(made, ignore_index=True)[COLUMNS]


def card(table: pd.DataFrame) -> str:
    """The card's table: a line per comparison, model and correction, with values or their changes."""
    lines = []
    for (comparison, model, correction), rows in table.groupby(["comparison", "model", "correction"], sort=False):
        of = {row["metric"]: row for row in rows.to_dict("records")}
        gap = f"{of[MAIN]['modality_gap']:.3f}"
        line = {"comparison": comparison, "model": f"`{model}`", "correction": correction, "gap": gap}
        lines.append({**line, **{heading: words(of[name]) for heading, name in SHOWN.items()}})
    page = pd.DataFrame(lines).sort_values("comparison", kind="stable")
    return as_markdown(page.set_index("comparison"))


def words(row: Mapping[str, Any]) -> str:
    """A value with its interval, or its paired difference from the native features, where it can have changed."""
    if row["correction"] == "none":
        return f"{row['value']:.3f} ({row['low']:.3f}, {row['high']:.3f})"
    if row["metric"] in ALIKE:
        return ""
    return "{difference:+.3f} ({difference_low:+.3f}, {difference_high:+.3f})".format(**row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--card", action="store_true", help="the card's table from results.csv, nothing is computed")
    args = parser.parse_args()
    if not args.card:
        made = measured(tuple(args.models))
        if RESULTS.exists():
            before = pd.read_csv(RESULTS)
            made = pd.concat([before[~before["model"].isin(args.models)], made], ignore_index=True)
        order = {name: i for i, name in enumerate(MODELS)}
        made = made.sort_values("model", key=lambda names: names.map(order), kind="stable")
        xg.save_table(made.round(6), RESULTS)
    fill_places(HERE / "README.md", {"MIXED": card(pd.read_csv(RESULTS))})


if __name__ == "__main__":
    main()
