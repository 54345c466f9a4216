"""The small study of notebook 14, as a table: which variants differ, and what would have been seen; small_study.csv.

    python data/statistics/small_study.py    # a minute on one core

`tiny` on 40 held-out concepts of `emoji`: image retrieval, native and by inversion, SeMoBridge's closed form and a
random subspace of its rank, under each of five corrections.
"""

from pathlib import Path

import xgap_analysis as xg

HERE = Path(__file__).parent
CORRECTIONS = ("none", "center", "realign", "shared-noise", "shared-noise-random")
COLUMNS = [
    *("comparison", "correction", "metric", "value", "low", "high", "difference", "difference_low", "difference_high"),
    *("p_value", "p_adjusted", "verdict", "reason", "control", "n_queries", "n_groups", "effective_groups"),
    *("icc", "design_effect", "detectable", "against_best"),
]


def main() -> None:
    closed = [xg.Comparison(f"{name}-I", name, "image", baseline="I-I") for name in ("semobridge", "semobridge-random")]
    study = xg.Study(["tiny"], ["emoji"], ["I-I", "OTI-I", *closed], CORRECTIONS, limit=40, progress=False)
    xg.save_table(xg.main_rows(study.run())[COLUMNS].round(6), HERE / "small_study.csv")


if __name__ == "__main__":
    main()
