"""The table of mixed galleries: against a plain computation, and a card that says what is in it."""

import importlib.util
import re
from collections import Counter
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis.core.paths import data_root

FOLDER = data_root() / "mixed"
KEY = ["comparison", "model", "correction", "metric"]
TABLE = xg.embedded_table("mixed").set_index(KEY).sort_index()
CARD = " ".join((FOLDER / "README.md").read_text(encoding="utf-8").split())
OWN = {"I-IT": "image", "T-IT": "text"}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script that wrote the table."""
    spec = importlib.util.spec_from_file_location("mixed_measured", FOLDER / "measure.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_has_each_row_once_and_the_card_has_the_table(script: ModuleType) -> None:
    table = xg.embedded_table("mixed")
    assert list(table.columns) == script.COLUMNS
    assert len(table) == len(script.MODELS) * len(OWN) * len(script.CORRECTIONS) * len(script.MEASURES)
    assert not table.duplicated(KEY).any()
    assert " ".join(f"<!-- MIXED --> {script.card(table)} <!-- /MIXED -->".split()) in CARD


@pytest.mark.filterwarnings("ignore:.*captions are longer than")
def test_names_among_drawings_and_other_captions_by_a_plain_loop() -> None:
    """`T-IT` of `tiny`: cosine, the first ten places, and nDCG@10, in numpy."""
    data = xg.load_dataset("emoji").split("test")
    model, concept = xg.load_model("tiny"), data.labels["concept"]
    images, texts = (xg.encode(model, items, progress=False) for items in (data.images, data.texts))
    place = {item: row for row, item in enumerate(texts.ids)}
    captions = Counter(concept[i] for i in texts.ids)
    names = [i for i in texts.ids if i.endswith("/name") and captions[concept[i]] > 1]
    others = [i for i in texts.ids if i not in set(names)]
    gallery = [*images.ids, *others]
    vectors = np.vstack([images.vectors.numpy(), texts.vectors.numpy()[[place[i] for i in others]]]).astype(float)
    is_text = np.arange(len(gallery)) >= len(images.ids)
    found = []
    for name in names:
        relevant = np.array([concept[i] == concept[name] for i in gallery])
        first = np.argsort(-(vectors @ texts.vectors.numpy()[place[name]].astype(float)), kind="stable")[:10]
        weights = 1 / np.log2(np.arange(10) + 2)
        gain, ideal = (weights * relevant[first]).sum(), weights[: relevant.sum()].sum()
        found.append([gain / ideal, is_text[first].mean(), is_text[relevant].mean()])
    measures = ["ndcg_at_10", "share_at_10_text", "share_relevant_text"]
    rows = TABLE.loc[[("T-IT", "tiny", "none", measure) for measure in measures]]
    assert rows["value"].to_numpy() == pytest.approx(np.mean(found, axis=0), abs=2e-4)
    assert set(rows["n_queries"]) == {len(found)}
    assert set(rows["n_gallery"]) == {len(gallery)}


def row(comparison: str, model: str, correction: str, metric: str) -> pd.Series:
    return TABLE.loc[(comparison, model, correction, metric)]


def percent(comparison: str, metric: str, digits: int = 1) -> str:
    """How the card writes a share of `tiny` with its interval."""
    own = row(comparison, "tiny", "none", metric)
    return "{:.{d}f} % ({:.{d}f}, {:.{d}f})".format(*(100 * own[["value", "low", "high"]]), d=digits)


def changed(comparison: str, model: str, metric: str = "ndcg_at_10") -> str:
    """How the card writes a change by `center`."""
    own = row(comparison, model, "center", metric)
    return "{:+.3f} ({:+.3f}, {:+.3f})".format(*own[["difference", "difference_low", "difference_high"]])


def test_the_numbers_in_the_words_of_the_card_are_those_of_the_table() -> None:
    text, relevant, rank = "share_at_10_text", "share_relevant_text", "reciprocal_rank_text"
    of = {c: row(c, "tiny", "none", relevant)["value"] for c in OWN}
    alone, among = (row("I-IT", "tiny", "none", name)["value"] for name in (rank, f"{rank}_in_all"))
    assert f"Images as queries have {percent('I-IT', text)} texts among the first ten" in CARD.replace(
        ") texts", ") texts"
    )
    assert f"where {100 * of['I-IT']:.1f} % of" in CARD
    assert f"from {alone:.3f} among texts to {among:.3f} among all" in CARD
    assert f"Names as queries have {percent('T-IT', text)}, where {100 * of['T-IT']:.1f} % of" in CARD
    fall = row("T-IT", "tiny", "center", text)
    ends = sorted(-fall[["difference_low", "difference_high"]])
    assert f"by {-fall['difference']:.3f} ({ends[0]:.3f}, {ends[1]:.3f})" in CARD
    assert f"changes by {changed('T-IT', 'tiny')} and {changed('I-IT', 'tiny')}, without a verdict" in CARD
    assert f"with a verdict in both, {changed('T-IT', 'tiny-intra')} and {changed('I-IT', 'tiny-intra')}" in CARD
    centred, closed = row("T-IT", "tiny", "center", text), row("T-IT", "tiny-nogap", "none", text)
    assert f"smaller gap ({centred['modality_gap']:.3f})" in CARD
    assert f"as it is ({closed['modality_gap']:.3f}), and a share of texts of {centred['value']:.3f}" in CARD
    assert "has {:.3f} ({:.3f}, {:.3f}), less than".format(*closed[["value", "low", "high"]]) in CARD
    assert f"(`rmg`), is {centred['rmg']:.3f} and {closed['rmg']:.3f}" in CARD
    said = re.findall(r"`(.-IT)` has the (?:names of the )?([\d,]+) .*? ranks ([\d,]+) items", CARD)
    assert {(c, *(int(n.replace(",", "")) for n in numbers)) for c, *numbers in said} == {
        (c, *row(c, "tiny", "none", text)[["n_queries", "n_gallery"]]) for c in OWN
    }


def test_what_the_card_says_without_a_number_holds_in_the_table() -> None:
    seeds = ("tiny", "tiny-seed1", "tiny-seed2")
    for model in (*seeds, "tiny-intra", "tiny-untrained"):
        for comparison, modality in OWN.items():
            share, of = (row(comparison, model, "none", f"share_{part}_text") for part in ("at_10", "relevant"))
            assert share["low"] > of["high"] if modality == "text" else share["high"] < of["low"]
    closed = row("T-IT", "tiny-nogap", "none", "share_at_10_text")["value"]
    assert closed < row("T-IT", "tiny-nogap", "none", "share_relevant_text")["value"]
    main = TABLE.xs("ndcg_at_10", level="metric").xs("center", level="correction")["verdict"].dropna()
    assert set(main[main != "inconclusive"].index) == {
        ("I-IT", "tiny-intra"), ("T-IT", "tiny-intra"), ("I-IT", "tiny-nogap"),
    }  # fmt: skip
    assert set(main[main != "inconclusive"]) == {"higher"}
    for model in seeds:
        change = row("I-IT", model, "center", "share_at_10_text")["difference"]
        assert abs(change) < 0.005 < -row("T-IT", model, "center", "share_at_10_text")["difference"]
    shares = TABLE.xs(("T-IT", "none", "share_at_10_text"), level=("comparison", "correction", "metric"))
    recipes = shares.drop(index=list(seeds[1:]))
    for measure in ("modality_gap", "rmg"):
        assert recipes["value"].rank().equals(recipes[measure].rank())
    for comparison in OWN:
        assert (
            row(comparison, "tiny-nogap", "none", "ndcg_at_10")["high"]
            < row(comparison, "tiny", "none", "ndcg_at_10")["value"]
        )
