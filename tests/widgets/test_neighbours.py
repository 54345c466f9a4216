"""Neighbour explorer, in the kernel: without a running event loop everything is done at once."""

import asyncio
import dataclasses
import textwrap
from pathlib import Path
from typing import Any

import ipywidgets
import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis.experiments.evaluation import Evaluation
from xgap_analysis.widgets import NeighbourExplorer, VariantBoard
from xgap_analysis.widgets.items import Items


def all_html(widget: ipywidgets.Widget) -> str:
    """Everything below a widget that a browser reads as markup."""
    own = widget.value if isinstance(widget, ipywidgets.HTML) else ""
    return own + "".join(all_html(child) for child in getattr(widget, "children", ()))


def test_its_rows_are_the_rankings_of_the_evaluation(evaluation: Evaluation) -> None:
    explorer = NeighbourExplorer(evaluation, query="i3", k=4)
    assert explorer.error == ""
    assert list(explorer.rankings) == ["A · I-I · none", "B · OTI-I · none"]
    for title, name in zip(explorer.rankings, ("I-I", "OTI-I"), strict=True):
        expected = evaluation.ranking("i3", xg.COMPARISONS[name], k=4)
        pd.testing.assert_frame_equal(explorer.rankings[title].drop(columns="space"), expected)


def test_a_card_says_rank_tick_score_and_the_rank_in_the_other_row(evaluation: Evaluation) -> None:
    explorer = NeighbourExplorer(evaluation, query="i3", k=12)
    first, second = explorer.rankings.values()
    elsewhere = dict(zip(second["item"], second["rank"], strict=True))
    cards = explorer._rows.lines[0][1].cards
    assert [card.item for card in cards] == list(first["item"])
    for card, row in zip(cards, first.to_dict("records"), strict=True):
        tick = "✓ " if row["hit"] else ""
        assert card.words == f"{row['rank']} {tick}{row['score']:.2f}\nB{elsewhere[row['item']]}"
    hit = [card.hit for card in cards].index(True)
    assert "xgap-hit" in explorer._rows.lines[0][1]._buttons[hit]._dom_classes


def test_a_click_on_a_neighbour_makes_it_the_query(evaluation: Evaluation) -> None:
    explorer = NeighbourExplorer(evaluation, query="i3")
    row, lines = explorer._rows.lines[0][1], explorer._rows.children
    wanted = row.cards[2].item
    row._buttons[2].click()
    assert explorer.query == wanted
    assert explorer._rows.children == lines  # the same boxes: new ones would take the focus from the card
    assert (
        explorer.rankings["A · I-I · none"]["item"].tolist()
        == evaluation.ranking(wanted, xg.COMPARISONS["I-I"])["item"].tolist()
    )
    assert [card.item for card in explorer._strip.row.cards if card.chosen] in ([wanted], [])


def test_a_search_finds_by_caption_and_the_strip_turns_pages(evaluation: Evaluation) -> None:
    explorer = NeighbourExplorer(evaluation)
    assert explorer._strip.count.value == "1–9 of 12"
    explorer._strip.after.click()
    assert explorer._strip.count.value == "10–12 of 12"
    explorer._strip.field.value = "blue thing"
    assert [card.item for card in explorer._strip.row.cards] == ["i2", "i8"]
    explorer._strip.field.value = "no such thing"
    assert (explorer._strip.count.value, len(explorer._strip.row.cards)) == ("nothing found", 0)


def test_a_storm_of_events_is_one_refresh(evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    explorer = NeighbourExplorer(evaluation)
    refreshed: list[int] = []
    monkeypatch.setattr(explorer, "refresh", lambda: refreshed.append(explorer._k.value))

    async def drag() -> None:
        for k in (3, 4, 5, 6, 7, 9, 10, 11):
            explorer._k.value = k
            await asyncio.sleep(0)
        await asyncio.sleep(0.5)

    asyncio.run(drag())
    assert refreshed == [11]


def test_more_rows_and_the_limit_of_rows(evaluation: Evaluation) -> None:
    explorer = NeighbourExplorer(evaluation, corrections=("none", "center"))
    assert len(explorer.rankings) == 4
    explorer._pick_comparisons.value = ("I-I",)
    assert list(explorer.rankings) == ["A · I-I · none", "B · I-I · center"]
    explorer._pick_comparisons.value = ()
    assert "choose comparisons and corrections for 1 to 8" in explorer.error
    explorer._pick_comparisons.value = ("I-I",)
    assert explorer.error == ""


def test_its_code_gives_the_same_rankings(evaluation: Evaluation, run_code: Any) -> None:
    explorer = NeighbourExplorer(evaluation, corrections=("none", "center"), query="i5", k=3)
    assert "cannot be loaded by its name" in explorer.code()
    made = run_code(explorer.code(), evaluation=evaluation)
    for title, ranking in explorer.rankings.items():
        pd.testing.assert_frame_equal(made.loc[title], ranking.drop(columns="space"), check_names=False)


def test_its_code_needs_names_only_where_names_are_enough(run_code: Any) -> None:
    data = xg.load_dataset("emoji").split("val").limit(3)
    (evaluation,) = xg.Study(
        ["tiny-untrained"], [data], ["I-I", "OTI-I"], steps=2, seeds=(7,), progress=False
    ).evaluations()
    explorer = NeighbourExplorer(evaluation, k=3)
    assert explorer.error == ""
    explorer._code_button.click()
    area = explorer._answer.children[1]
    assert "split='val'" in area.value
    assert "limit=3" in area.value
    made = run_code(area.value)
    for title, ranking in explorer.rankings.items():
        pd.testing.assert_frame_equal(made.loc[title], ranking.drop(columns="space"), check_names=False)


def test_save_writes_figure_and_table_and_says_where(evaluation: Evaluation, xgap_home: Path) -> None:
    explorer = NeighbourExplorer(evaluation, query="i3")
    explorer._save_button.click()
    assert explorer.error == ""
    files = sorted(file.name for file in (xgap_home / "results").iterdir())
    assert files == [f"neighbours-random-0-small-i3.{suffix}" for suffix in ("csv", "parquet", "png", "svg")]
    table = pd.read_parquet(xgap_home / "results" / files[1])
    assert table["item"].tolist() == [item for frame in explorer.rankings.values() for item in frame["item"]]
    assert set(table["query"]) == {"i3"}
    assert all(name in explorer._answer.children[0].value for name in files)


def test_captions_that_try_to_be_markup_stay_text(evaluation: Evaluation, hostile: str, xgap_home: Path) -> None:
    (texts,) = xg.Study([evaluation.model], [evaluation.data], ["T-T"], progress=False).evaluations()
    explorer = NeighbourExplorer(texts, ["T-T"], query="t0")
    explorer._strip.field.value = "onerror"
    page = all_html(explorer)
    assert hostile not in page
    assert "&lt;img src=x onerror" in page
    explorer.choose("t1")
    tips = [button.tooltip for button in explorer._strip.row._buttons]  # attributes and text nodes, never markup
    assert hostile in tips
    assert hostile not in all_html(explorer)
    assert len(explorer.save()) == 4  # captions are drawn as words, and are no formula


def test_mistakes_are_one_sentence_in_place(evaluation: Evaluation) -> None:
    explorer = NeighbourExplorer(evaluation, query="nobody")
    assert "nobody" in explorer.error
    assert "Traceback" not in explorer.error
    explorer.choose("i1")
    assert explorer.error == ""
    explorer._save_button.click()
    assert explorer.error == ""
    with pytest.raises(xg.XgapError, match="same modality"):
        NeighbourExplorer(evaluation, ["I-I", "T-T"])
    with pytest.raises(xg.XgapError, match="unknown comparison 'IX'"):
        NeighbourExplorer(evaluation, ["IX"])
    with pytest.raises(xg.XgapError, match="unknown comparison 'I-odour'"):  # a modality that this dataset has not
        NeighbourExplorer(evaluation, ["I-odour"])
    with pytest.raises(xg.XgapError, match="unknown correction 'centre'"):
        NeighbourExplorer(evaluation, corrections=["centre"])


def test_the_classes_are_neighbours_too(evaluation: Evaluation) -> None:
    explorer = NeighbourExplorer(evaluation, ["zero-shot", "OTI-T"], query="i2")
    assert explorer.error == ""
    assert set(explorer.rankings["A · zero-shot · none"]["item"]) == set(evaluation.classes.ids)
    explorer._rows.lines[0][1]._buttons[0].click()
    assert "not among the queries" in explorer.error


def test_the_cards_of_many_rows_are_high_enough_for_their_ranks(evaluation: Evaluation) -> None:
    two = NeighbourExplorer(evaluation, ["I-I", "OTI-I"], k=12)
    six = NeighbourExplorer(evaluation, ["I-I", "OTI-I"], ("none", "center", "standardise"), k=12)
    assert len(six.rankings) == 6
    heights = [
        {button.layout.height for _, row in explorer._rows.lines for button in row._buttons} for explorer in (two, six)
    ]
    assert heights[0] == {"112px"}
    for _, row in six._rows.lines:
        for card, button in zip(row.cards, row._buttons, strict=True):
            _, ranks = card.words.split("\n")
            assert len(ranks.split()) == 5
            lines = 1 + len(textwrap.wrap(ranks, 11))  # 84 pixels hold 11 letters
            assert int(button.layout.height.removesuffix("px")) >= 72 + 15 * lines + 6
    six._pick_corrections.value = ("none",)
    assert {button.layout.height for _, row in six._rows.lines[:2] for button in row._buttons} == {"112px"}


def test_whole_words_are_found_first_then_beginnings(evaluation: Evaluation) -> None:
    captions = ["a complicated knot", "two cats", "the cat", "a dog", "a black cat, asleep", "catalogue of cats"]
    ids = [f"t{k}" for k in range(len(captions))]
    items = Items(
        dataclasses.replace(evaluation, data=dataclasses.replace(evaluation.data, texts=xg.Texts(ids, captions)))
    )
    assert items.search("cat", ids, "text") == ["t2", "t4", "t1", "t5", "t0"]
    assert items.search("CAT a", ids, "text") == ["t4", "t0", "t2", "t1", "t5"]
    assert items.search("(", ids, "text") == []
    assert items.search("", ids, "text") == ids


def test_saving_lays_the_figure_out_once(evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    laid_out: list[Any] = []
    execute = ConstrainedLayoutEngine.execute
    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", lambda *a: laid_out.append(a) or execute(*a))
    explorer = NeighbourExplorer(evaluation)
    explorer.save()
    assert laid_out == []  # one Axes, placed in inches
    board = VariantBoard(evaluation.study, evaluation.study.run())
    laid_out.clear()
    board.save()
    assert len(laid_out) == 1


def test_a_mixed_gallery_shows_each_item_as_what_it_is(evaluation: Evaluation) -> None:
    explorer = NeighbourExplorer(evaluation, ["I-IT"], query="i3", k=23)
    (frame,) = explorer.rankings.values()
    assert [item[0] for item in frame["item"]] == [{"image": "i", "text": "t"}[space] for space in frame["space"]]
    assert sorted(frame["space"]) == ["image"] * 11 + ["text"] * 12
    assert [card.space for card in explorer._rows.lines[0][1].cards] == list(frame["space"])
    from matplotlib import pyplot as plt

    plt.close(explorer.figure())
