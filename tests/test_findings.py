"""Numbers in the prose of notebooks and cards, against the committed tables: a table that changes fails here."""

import json
import re
from pathlib import Path

import pytest

import xgap_analysis as xg
from xgap_analysis.experiments.atlas import atlas_words, findings, left_out
from xgap_analysis.experiments.tables import as_markdown

ROOT = Path(__file__).parent.parent
ATLAS = xg.embedded_table("atlas")
TYPE_ONE = xg.embedded_table("type-one").set_index(["tested", "null", "sizes", "n_groups"])
SURE = ("higher", "lower")


def prose(notebook: str) -> str:
    """The words of a notebook's first cell, on one line."""
    cells = json.loads((ROOT / "notebooks" / notebook).read_text("utf-8"))["cells"]
    return " ".join("".join(cells[0]["source"]).split())


def change(system: str, kind: str, quantity: str) -> str:
    """How prose writes a change of the atlas: its size, and the ends of its interval by size."""
    (row,) = ATLAS[(ATLAS["system"] == system) & (ATLAS["kind"] == kind) & (ATLAS["quantity"] == quantity)].to_dict(
        "records"
    )
    low, high = sorted(abs(row[end]) for end in ("low", "high"))
    return f"{abs(row['difference']):.3f} ({low:.3f}, {high:.3f})"


@pytest.mark.parametrize(
    ("before", "of", "after"),
    [
        ("FILIP's maximum gains ", ("FILIP", "scorer", "I-I"), " in I-I"),
        (" in I-I and ", ("FILIP", "scorer", "T-I"), " in T-I"),
        ("FILIP's objective lowers I-I by ", ("FILIP", "objective", "I-I"), ", without a verdict"),
        ("ReAlign narrows the gap by ", ("ReAlign", "correction", "modality_gap"), " and inversion"),
        ('("Cross the Gap") by ', ("Cross the Gap", "view", "modality_gap"), ", and neither"),
        ("lowers T-T by ", ("Cross the Gap", "view", "T-T"), ". MacCap"),
    ],
)
def test_the_numbers_of_notebook_15_are_those_of_the_atlas(before: str, of: tuple[str, str, str], after: str) -> None:
    assert f"{before}{change(*of)}{after}" in prose("15_atlas.ipynb")


def test_what_notebook_15_says_without_a_number_holds_in_the_atlas() -> None:
    said = ATLAS[ATLAS["verdict"].isin(SURE)].set_index(["system", "kind", "quantity"])["verdict"]
    for (_, kind, quantity), verdict in said.items():
        if kind in ("correction", "objective", "view"):
            assert (quantity, verdict) not in {("I-I", "higher"), ("misalignment_image", "lower")}
    assert ("FILIP", "objective", "I-I") not in said.index
    assert said["FILIP", "scorer", "I-I"] == "higher"
    assert said["ReAlign", "correction", "modality_gap"] == said["Cross the Gap", "view", "modality_gap"] == "lower"
    assert said["MacCap", "correction", "modality_gap"] == said["MacCap", "correction", "misalignment_text"] == "higher"
    assert said["Cross the Gap", "view", "misalignment_text"] == "higher"
    for system in ("Prompt Switch", "Frozen in Time"):
        (row,) = ATLAS[(ATLAS["system"] == system) & (ATLAS["quantity"] == "modality_gap")].to_dict("records")
        assert round(row["difference"], 1) == 0.2


def test_the_card_of_the_atlas_is_that_of_its_table() -> None:
    card = (ROOT / "data" / "atlas" / "README.md").read_text("utf-8")
    expected = {
        "FOUND": "\n".join(f"- {line}" for line in findings(ATLAS)),
        "TABLE": as_markdown(atlas_words(ATLAS)),
        "LEFT": "\n".join(f"- {name}: {reason}" for name, reason in left_out(ATLAS).items()),
    }
    for place, words in expected.items():
        (there,) = re.findall(rf"<!-- {place} -->\n?(.*?)\n?<!-- /{place} -->", card, re.DOTALL)
        assert there.strip() == words.strip(), place


def test_the_shares_of_notebook_14_are_those_of_the_simulations() -> None:
    said = prose("14_what_can_be_trusted.ipynb")
    row = TYPE_ONE.loc[("difference", "normal", "unequal", 20)]
    assert f"the naive test finds a difference in {row['naive']:.0%}".replace("%", " %") in said
    assert f"the bootstrap interval alone in {row['interval']:.0%}".replace("%", " %") in said
    most = TYPE_ONE.loc["difference"]["verdict"].max()
    assert f"a verdict is false in at most {100 * most:.1f} %" in said


def test_the_cards_of_the_simulations_quote_them() -> None:
    table = TYPE_ONE.reset_index()
    verdicts = table[table["tested"] != "seeds"]
    most, both = verdicts["verdict"].fillna(verdicts["both"]).max(), verdicts["both"].max()
    card = (ROOT / "data" / "statistics" / "README.md").read_text("utf-8")
    assert f"`verdict` is at most {most:.3f}" in card
    assert f"up to {both:.3f}" in card
    results = (ROOT / "docs" / "RESULTS.md").read_text("utf-8")
    assert f"in at most {100 * most:.1f} % of 5,000 simulations" in results
    naive = table[table["naive"].notna() & (table["n_groups"] >= 6)]["naive"]
    assert f"false in {100 * naive.min():.0f} % to {100 * naive.max():.0f} % of them" in results
