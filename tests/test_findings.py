"""Numbers in the prose of notebooks and cards, against the committed tables: a table that changes fails here."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis.core.paths import data_root
from xgap_analysis.experiments.atlas import atlas_words, findings, left_out
from xgap_analysis.experiments.tables import as_markdown

ROOT = Path(__file__).parent.parent
DATA = data_root()
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


STUDY = xg.main_rows(xg.embedded_table("study")).set_index(["model", "split", "comparison"])


@pytest.mark.parametrize(
    ("notebook", "digits", "rows"),
    [
        ("00_quickstart.ipynb", 4, ["tiny OTI-I", "tiny-seed1 OTI-I", "tiny-seed2 OTI-I", "tiny OTI-OTI"]),
        ("00_quickstart.ipynb", 4, ["tiny-nogap OTI-I", "tiny-intra OTI-I", "tiny OTI-T"]),
        ("00_quickstart.ipynb", 3, ["tiny OVI-T"]),
        ("02_image_retrieval.ipynb", 4, ["tiny OTI-I", "tiny-seed1 OTI-I", "tiny-seed2 OTI-I", "tiny OTI-OTI"]),
        ("02_image_retrieval.ipynb", 4, ["tiny-nogap OTI-I", "tiny-intra OTI-I"]),
        ("03_text_retrieval.ipynb", 3, ["tiny OVI-T", "tiny-seed1 OVI-T", "tiny-seed2 OVI-T", "tiny-intra OVI-T"]),
        ("04_zero_shot.ipynb", 4, ["tiny OTI-T", "tiny-seed1 OTI-T", "tiny-seed2 OTI-T", "tiny-intra OTI-T"]),
    ],
)
def test_the_numbers_of_the_first_notebooks_are_those_of_the_study(notebook: str, digits: int, rows: list[str]) -> None:
    said = prose(notebook).replace("−", "-")
    for name in rows:
        model, comparison = name.split()
        row = STUDY.loc[model, "test[60]" if comparison == "OVI-T" else "test", comparison]
        middle, low, high = (f"{row[end]:+.{digits}f}" for end in ("difference", "difference_low", "difference_high"))
        assert f"{middle} ({low}, {high})" in said, name


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


def numbers(row: pd.Series, *names: str, sign: str = "") -> str:
    """A value and the ends of its interval, as prose writes them."""
    value, low, high = (f"{row[name]:{sign}.3f}" for name in names or ("value", "low", "high"))
    return f"{value} ({low}, {high})"


PAIRS = {("image", "text"): "image-text", ("image", "audio"): "image-audio", ("text", "audio"): "text-audio"}
GAPS = pd.read_csv(DATA / "spoken" / "modalities.csv").set_index(["correction", "x", "y", "measure"]).sort_index()
CHANGED = ("difference", "difference_low", "difference_high")


def test_the_numbers_of_notebook_13_are_those_of_the_tables() -> None:
    said = prose("13_three_modalities.ipynb")
    native, centred = GAPS.loc["none"], GAPS.loc["center"]
    gap = {pair: native.loc[(*pair, "modality_gap")] for pair in PAIRS}
    assert "*: " + ", ".join(f"{PAIRS[p]} {numbers(row)}" for p, row in gap.items()) in said
    cosine = native.xs("centroid_cosine", level="measure")["value"]
    assert f"(cosine {cosine['text', 'audio']:.2f})" in said
    assert f"are not ({cosine['image', 'text']:.2f})" in said
    found = native.xs("ap", level="measure").sort_values("value", ascending=False)
    order = list(found.index)
    assert order == [("image", "text"), ("text", "audio"), ("image", "audio")]
    assert ": " + ", ".join(f"{PAIRS[pair]} {numbers(row)}" for pair, row in found.iterrows()) in said
    within = {m: [native.loc[(*pair, m), "value"] for pair in order] for m in ("rmg", "cross_cosine")}
    assert within["rmg"] == sorted(within["rmg"])
    assert within["cross_cosine"] == sorted(within["cross_cosine"], reverse=True)
    rmg, cosines = (", ".join(f"{value:.3f}" for value in within[m]) for m in ("rmg", "cross_cosine"))
    assert f"`rmg` ({rmg}) and as cosine ({cosines})" in said
    moved = [
        f"{gap[pair]['value']:.3f} to {centred.loc[(*pair, 'modality_gap'), 'value']:.3f}" for pair in order[:0:-1]
    ]
    assert f"shrinks image-audio from {moved[0]} and text-audio from {moved[1]}." in said
    assert f"({gap['image', 'text']['n_groups']:.0f} held-out concepts;" in said


def test_centring_helps_in_one_of_six_directions_as_notebook_13_says() -> None:
    rows = pd.read_csv(DATA / "spoken" / "directions.csv").query("correction == 'center'").set_index("comparison")
    assert len(rows) == 6
    assert rows.index[rows["verdict"] == "higher"].tolist() == ["I-A"]
    others = rows.drop(index="I-A")
    assert (others["verdict"] == "inconclusive").all()
    assert (others["difference_low"] < 0).all()
    assert (others["difference_high"] > 0).all()
    one = f"{numbers(rows.loc['I-A'], *CHANGED, sign='+')}, Holm's p {rows.loc['I-A', 'p_adjusted']:.3f};"
    assert f"image to speech: {one}" in prose("13_three_modalities.ipynb")


def test_the_first_words_of_notebook_13_hold_in_the_tables() -> None:
    assert "as far apart as images and speech, and retrieve each other three times as well" in prose(
        "13_three_modalities.ipynb"
    )
    of = GAPS.loc["none"]["value"].unstack("measure")
    texts, images = of.loc["text", "audio"], of.loc["image", "audio"]
    assert texts["modality_gap"] == pytest.approx(images["modality_gap"], rel=0.05)
    assert texts["ap"] / images["ap"] == pytest.approx(3, abs=0.5)


def test_what_notebook_1_says_of_one_ranking_is_in_the_table() -> None:
    table = xg.embedded_table("mixed").query("model == 'tiny'").set_index(["comparison", "correction", "metric"])

    def percent(row: pd.Series) -> str:
        return "{:.1f} % ({:.1f}, {:.1f})".format(*(100 * row[["value", "low", "high"]]))

    said, text = prose("01_modality_gap.ipynb"), "share_at_10_text"
    relevant = table.xs(("none", "share_relevant_text"), level=("correction", "metric"))["value"]
    first = {name: percent(table.loc[(name, "none", text)]) for name in ("I-IT", "T-IT")}
    assert f"queries have {first['I-IT']} texts among the first ten, where {100 * relevant['I-IT']:.1f} % of" in said
    assert f"names as queries {first['T-IT']}, where {100 * relevant['T-IT']:.1f} % are" in said
    fall, low, high = (
        f"{-100 * table.loc[('T-IT', 'center', text), name]:.1f}" for name in (CHANGED[0], *CHANGED[:0:-1])
    )
    main = table.loc[("T-IT", "center", "ndcg_at_10")]
    change = f"changes nDCG@10 by {numbers(main, *CHANGED, sign='+')}, without a verdict"
    assert f"by {fall} ({low}, {high}) percentage points and {change}" in said
    assert main["verdict"] == "inconclusive"


def test_the_small_study_of_notebook_14_is_that_of_its_table() -> None:
    said = prose("14_what_can_be_trusted.ipynb")
    table = pd.read_csv(DATA / "statistics" / "small_study.csv")
    of = table[table["correction"] == "none"].set_index("comparison")
    assert f"{table['n_groups'].max()} held-out concepts, {len(table)} variants of image retrieval): " in said
    assert f": {(table['against_best'] == 'tied').sum()} are tied." in said
    inversion, closed, random = (of.loc[f"{name}-I"] for name in ("OTI", "semobridge", "semobridge-random"))
    assert f"the native query by {numbers(inversion, *CHANGED, sign='+')}, and SeMoBridge" in said
    assert f"takes no step, by {numbers(closed, *CHANGED, sign='+')};" in said
    assert f"a gain of {inversion['detectable']:.3f} and of {closed['detectable']:.3f} would have been seen" in said
    cost = numbers(-random[["difference", "difference_high", "difference_low"]], "difference", *CHANGED[:0:-1])
    assert f"A random subspace of its rank costs {cost}, so" in said
    assert table["verdict"].dropna().eq("inconclusive").all()  # nothing gains
