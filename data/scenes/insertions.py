"""Insert attributes into the captions of `emoji-scenes` and measure what models make of them; writes insertions.csv.

    python data/scenes/insertions.py         # some minutes on two cores
    python data/scenes/insertions.py --card  # the card's table from insertions.csv, nothing is computed

Captions that the model would cut with a word more are left out (column `cut`), in all rows of a split alike.
"""

import argparse
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd

import xgap_analysis as xg
from xgap_analysis.datasets.insertions import Described, described
from xgap_analysis.experiments.insertions import insertion_table

HERE = Path(__file__).parent
SPLITS, PICKS = ("seen", "test"), ("random", "least-like")
SCENES, FITTED = 400, 400  # of each split, and of the training split that the means are fitted on
START, END = "<!-- insertions: measured by insertions.py -->", "<!-- end of insertions -->"


def measured() -> pd.DataFrame:
    """One row per split, kind of image, version, correction and quantity."""
    train = xg.load_dataset("emoji-scenes").split("train").limit(FITTED)
    tables = []
    for split in SPLITS:
        several = xg.load_dataset("emoji-scenes").split(split).limit(SCENES)
        single = xg.load_dataset("emoji-scenes:single").split(split)
        for images, picks, data, rows in (
            ("scenes", PICKS, several, described(several.texts)),
            ("scenes of one thing", PICKS, single, described(single.texts)),
            ("regions", PICKS[:1], *of_regions(single)),  # of one attribute, there is nothing to choose
        ):
            made = replace(data, splits={"train": lambda: train})
            table = insertion_table("tiny", made, picks, ["none", "center"], rows=rows)
            tables.append(table.assign(images=images, split=split))
    return pd.concat(tables, ignore_index=True)


def of_regions(data: xg.Dataset) -> tuple[xg.Dataset, list[Described]]:
    """The one region of each scene in its place; a region is one size, so that colours alone are inserted."""
    regions = data.images.parts_of("regions").items
    named = [row for row in described(data.texts, kinds=("colour",)) if row.objects]
    rows = [replace(row, image=f"{row.image}/region-0") for row in named]
    return replace(data, items={"image": regions, "text": data.texts}), rows


def card(table: pd.DataFrame) -> str:
    """The card's table: raw features, a row per split and version, and the changes with their intervals."""
    lines = [
        "| images | split | inserted | word | n | T-T | MRR | change | I-T | change | beyond movement | over others |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    shown = (table["attributes"] != "true after false") | (table["pick"] == PICKS[0])
    raw = table[(table["correction"] == "none") & shown]
    for (images, split, attributes, pick), own in raw.groupby(["images", "split", "attributes", "pick"], sort=False):
        of = {row["quantity"]: row for row in own.to_dict("records")}
        mrr, cosine = of["mrr"], of["I-T"]
        cells = [images, split, attributes, pick, str(cosine["n"]), f"{of['T-T']['after']:.3f}"]
        cells += [f"{mrr['before']:.3f}", changed(mrr), f"{cosine['before']:.3f}", changed(cosine)]
        lines.append(f"| {' | '.join([*cells, changed(of['I-T beyond movement']), changed(of['I-T over others'])])} |")
    return "\n".join(lines)


def changed(row: dict[str, float]) -> str:
    """A change with its interval."""
    return f"{row['change']:+.3f} ({row['low']:+.3f}, {row['high']:+.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--card", action="store_true", help="the card's table from insertions.csv, nothing is computed")
    if not parser.parse_args().card:
        measured().round(6).to_csv(HERE / "insertions.csv", index=False)
    made = card(pd.read_csv(HERE / "insertions.csv"))
    readme = HERE / "README.md"
    text = readme.read_text(encoding="utf-8")
    block = f"{START}\n{made}\n{END}"
    readme.write_text(re.sub(f"{START}.*?{END}", lambda _: block, text, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
