"""The gaps between three modalities, and retrieval between them with the means removed; writes two tables.

    python data/spoken/modalities.py    # a minute on one core

`tiny-audio` on the held-out concepts of `emoji-spoken`, as in notebook 13. `modalities.csv`: the gap table of every two
modalities, native and with the means of training items removed (`center`). `directions.csv`: retrieval in each
direction, with the paired difference that `center` makes.
"""

from itertools import permutations
from pathlib import Path

import pandas as pd

import xgap_analysis as xg

HERE = Path(__file__).parent
MODEL, DATASET = "tiny-audio", "emoji-spoken"
LETTERS = {"image": "I", "text": "T", "audio": "A"}
GAPS = ["correction", "x", "y", "measure", "value", "low", "high", "level", "n_x", "n_y", "n_groups"]
DIRECTIONS = [
    *("comparison", "correction", "metric", "value", "low", "high", "difference", "difference_low", "difference_high"),
    *("p_value", "p_adjusted", "verdict", "reason", "n_queries", "n_gallery", "n_groups", "effective_groups"),
]


def main() -> None:
    comparisons = ["-".join(LETTERS[m] for m in pair) for pair in permutations(LETTERS, 2)]
    study = xg.Study([MODEL], [DATASET], comparisons, ["none", "center"], progress=False)
    (evaluation,) = study.evaluations()
    fitted, labels = evaluation.fitted("center"), evaluation.data.labels.get("pair", evaluation.labels)
    moved = {m: fitted(evaluation.view(m, "all")) for m in LETTERS}
    tables = {"none": evaluation.gap_table(), "center": xg.gap_table(moved, labels, groups=evaluation.labels)}
    whole = pd.concat([table.assign(correction=name) for name, table in tables.items()], ignore_index=True)
    xg.save_table(whole[GAPS].round(6), HERE / "modalities.csv")
    xg.save_table(xg.main_rows(evaluation.table())[DIRECTIONS].round(6), HERE / "directions.csv")


if __name__ == "__main__":
    main()
