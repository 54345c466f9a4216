"""Golden tables: numbers of small studies, kept from before a change of the code, and the command that makes them.

    python tests/golden/make.py             # the tables of today's code, over those that are here
    python tests/golden/make.py FOLDER      # or into another folder

The tables that are committed were made when the embedded models' second edition came in, since every number of a model
changed with its weights. The code agreed then with tables of the first edition that it had made before its modules
moved into rooms. `renamed.json` says which columns have another name today, and `tests/experiments/test_golden.py`
compares by key. Write them anew only where numbers are meant to change, say in the changelog which and why, and empty
`renamed.json`.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

import xgap_analysis as xg

HERE = Path(__file__).parent
KEYS = ("model", "dataset", "split", "label_set", "comparison", "correction", "metric", "oti.tokens", "oti.steps")
KEYS += ("pca-text.rank",)
# What a table's numbers are; the counts of one table (`seeds`, `family_size`) follow from how it is cut up.
NUMBERS = ("value", "low", "high", "difference", "difference_low", "difference_high", "p_value", "p_adjusted")
NUMBERS += ("seed_spread", "n_queries", "n_unanswerable", "n_gallery", "n_groups", "claim")


def corrections() -> pd.DataFrame:
    """Every kind of correction, on comparisons of both tasks, over two seeds and two models."""
    comparisons = ["I-I", "OTI-I", "OTI-OTI", "I+OTI-I", "I-T", "T-I", "T-T", "zero-shot", "OTI-T"]
    by = ["none", "center", "gap-shift", "isoclip", "pca-text", "pca-image", "random-subspace", "whiten"]
    by += ["text-signature", "inverted-softmax", "dual-dynamic-inverted-softmax"]
    models = ["tiny", "tiny-intra"]
    return xg.Study(models, ["emoji"], comparisons, by, limit=12, seeds=(42, 43), progress=False).run()


def texts() -> pd.DataFrame:
    """Inverted texts."""
    comparisons = ["T-T", "OVI-T", "T+OVI-T", "I-OVI"]
    return xg.Study(["tiny"], ["emoji"], comparisons, limit=4, steps=60, progress=False).run()


def gaps() -> pd.DataFrame:
    """The gap metrics."""
    return xg.Study(["tiny", "tiny-intra"], ["emoji"], limit=40, progress=False).gaps()


def filtered() -> pd.DataFrame:
    """The filtered test."""
    comparisons = ["I-I", "OTI-I", "zero-shot"]
    return xg.Study(["tiny"], ["emoji"], comparisons, only="zero-shot-correct", limit=20, progress=False).run()


def drift() -> pd.DataFrame:
    """Inversions of several numbers of steps and tokens."""
    return xg.main_rows(xg.reproduce("drift", limit=6, steps=17, progress=False))


def ranks() -> pd.DataFrame:
    """An option of a correction, on two splits."""
    axes = {"split": ["val", "test"], "pca-text.rank": [8, 32, 64]}
    table = xg.Study(["tiny"], ["emoji"], ["I-I"], ["pca-text"], axes=axes, limit=20, progress=False).run()
    table = xg.chosen(table, "pca-text.rank")
    return table.assign(split=table["split"].str.split("[").str[0])


def of_features() -> xg.Study:
    """Features without a model."""
    model, data = xg.load_model("tiny"), xg.load_dataset("emoji").split("test").limit(15)
    features = [xg.encode(model, items, progress=False) for items in (data.images, data.texts)]
    return xg.study_of_features(features, data.labels["concept"])


TABLES: dict[str, Callable[[], pd.DataFrame]] = {
    "corrections": corrections,
    "texts": texts,
    "gaps": gaps,
    "filtered": filtered,
    "drift": drift,
    "ranks": ranks,
    "features": lambda: of_features().run(),
    "features-gaps": lambda: of_features().gaps(),
}


def renamed() -> dict[str, dict[str, str]]:
    """Name of a table to its columns that have another name today."""
    tables: dict[str, dict[str, str]] = json.loads((HERE / "renamed.json").read_text())
    return tables


def kept(table: pd.DataFrame) -> pd.DataFrame:
    """The keys and the numbers of a table: of gap metrics, all numbers."""
    names = [name for name in table if name in (*KEYS, *NUMBERS) or ("value" not in table and name not in KEYS)]
    return table[names].reset_index(drop=True)


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    folder.mkdir(parents=True, exist_ok=True)
    for name, made in TABLES.items():
        kept(made()).to_parquet(folder / f"{name}.parquet", compression="zstd", index=False)


if __name__ == "__main__":
    main()
