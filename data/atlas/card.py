"""Write the places of the data card that follow from the table.

xgap study --table atlas --out data/atlas/results.parquet
python data/atlas/card.py
"""

from pathlib import Path

import pandas as pd

from xgap_analysis.experiments.atlas import atlas_words, findings, left_out
from xgap_analysis.experiments.tables import as_markdown

HERE = Path(__file__).parent


def main() -> None:
    table, card = pd.read_parquet(HERE / "results.parquet"), HERE / "README.md"
    places = {
        "FOUND": "\n".join(f"- {line}" for line in findings(table)),
        "TABLE": as_markdown(atlas_words(table)),
        "LEFT": "\n".join(f"- {name}: {reason}" for name, reason in left_out(table).items()),
    }
    page = card.read_text("utf-8")
    for place, text in places.items():
        start, end = f"<!-- {place} -->\n", f"\n<!-- /{place} -->"
        before, _, rest = page.partition(start)
        page = before + start + text + end + rest.partition(end)[2]
    card.write_text(page, "utf-8")


if __name__ == "__main__":
    main()
