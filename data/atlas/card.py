"""Bring the rows of trained models up to date with their tables, and write what of the data card follows from the rows.

xgap study --table atlas --out data/atlas/results.parquet --overwrite
python data/atlas/card.py
"""

from pathlib import Path

import pandas as pd

from xgap_analysis.core.writing import fill_places
from xgap_analysis.experiments.acting import TRAINED
from xgap_analysis.experiments.atlas import atlas_words, findings, is_there, left_out, rows_of_trained
from xgap_analysis.experiments.tables import as_markdown

HERE = Path(__file__).parent


def main() -> None:
    file, card = HERE / "results.parquet", HERE / "README.md"
    computed = pd.read_parquet(file).loc[lambda rows: ~rows["kind"].isin([one.kind for one in TRAINED])]
    table = pd.concat([computed, *(rows_of_trained(one) for one in TRAINED if is_there(one))], ignore_index=True)
    table.to_parquet(file)
    places = {
        "FOUND": "\n".join(f"- {line}" for line in findings(table)),
        "TABLE": as_markdown(atlas_words(table)),
        "LEFT": "\n".join(f"- {name}: {reason}" for name, reason in left_out(table).items()),
    }
    fill_places(card, places)


if __name__ == "__main__":
    main()
