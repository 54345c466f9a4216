"""Token explorer, in the kernel: its pairs are those of the scorer, and everything follows the choice."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

import xgap_analysis as xg
from tests.widgets.test_neighbours import all_html
from xgap_analysis.core.errors import XgapError
from xgap_analysis.experiments.evaluation import Evaluation
from xgap_analysis.scoring import score
from xgap_analysis.widgets import TokenExplorer


@pytest.fixture(scope="module")
def scenes() -> Evaluation:
    """Eight scenes with regions and sub-captions, by a model that was never trained."""
    data = xg.load_dataset("emoji-scenes").split("test").limit(8)
    (made,) = xg.Study(["tiny-untrained"], [data], ["I-T"], progress=False).evaluations()
    return made


def test_its_pairs_are_those_of_the_scorer(evaluation: Evaluation) -> None:
    explorer = TokenExplorer(evaluation, ["words-patches"], query="t3")
    assert explorer.error == ""
    ranking = evaluation.ranking("t3", "words-patches", k=8, scorer="late_interaction")
    assert explorer.item == ranking["item"].iloc[0]
    assert explorer.pairs is not None
    assert explorer.pairs.score == pytest.approx(ranking["score"].iloc[0], abs=1e-5)
    assert [card.item for card in explorer._rows.lines[0][1].cards] == ranking["item"].tolist()
    table = explorer.table()
    assert len(table) == explorer.pairs.similarities.numel()
    assert table["contribution"].sum() == pytest.approx(explorer.pairs.score)
    assert set(table["gallery_token"]) == {f"row {r}, column {c}" for r in range(1, 5) for c in range(1, 5)}


def test_a_card_a_query_and_a_scorer_are_chosen(evaluation: Evaluation) -> None:
    explorer = TokenExplorer(evaluation, ["words-patches", "patches-patches"], query="t3")
    row = explorer._rows.lines[0][1]
    wanted = row.cards[3].item
    row._buttons[3].click()
    assert explorer.item == wanted
    explorer._by.value = "pooled"
    assert explorer.item == wanted, "the item stays, so that scorers can be compared"
    pair = evaluation.pair("words-patches", scorer="pooled")
    expected = score(pair.query.select(["t3"]), pair.gallery.select([wanted]), "pooled")
    assert explorer.pairs is not None
    assert explorer.pairs.score == pytest.approx(float(expected), abs=1e-5)
    before = explorer._drawn.value
    explorer._strip.row._buttons[0].click()
    assert explorer.query == explorer._strip.row.cards[0].item
    assert explorer._drawn.value != before
    explorer._pick.value = "patches-patches"
    assert explorer.error == ""
    assert explorer.query.startswith("i")
    assert explorer.item != explorer.query


def test_regions_and_sub_captions_have_their_names_and_places(scenes: Evaluation, run_code: Any) -> None:
    explorer = TokenExplorer(scenes)
    assert explorer.error == ""
    assert next(iter(explorer._comparisons)) == "captions-regions"
    table = explorer.table()
    parts = scenes.data.texts.select([explorer.query]).parts_of("captions")
    assert list(dict.fromkeys(table["query_token"])) == [str(text) for text in parts.items]
    names = scenes.data.images.select([explorer.item]).parts_of("regions").columns["name"]
    assert list(dict.fromkeys(table["gallery_token"])) == list(names)
    assert explorer._shown is not None
    image = explorer._shown[2][1].image
    assert isinstance(image, Image.Image)
    assert all(0 <= x <= 1 for box in explorer._shown[2][1].boxes for x in box)
    pd.testing.assert_frame_equal(run_code(explorer.code()), table)


def test_its_code_gives_the_same_table(evaluation: Evaluation, run_code: Any) -> None:
    own = xg.Comparison("class words", "patches", "words", task="zero-shot")
    explorer = TokenExplorer(evaluation, [own], ["late_interaction(symmetric=True)"], query="i5")
    assert explorer.error == ""
    assert explorer.item in evaluation.classes.ids
    pd.testing.assert_frame_equal(run_code(explorer.code(), evaluation=evaluation), explorer.table())


def test_save_writes_figure_and_table(evaluation: Evaluation, xgap_home: Path) -> None:
    explorer = TokenExplorer(evaluation, ["words-patches"], query="t3")
    explorer._save_button.click()
    assert explorer.error == ""
    suffixes = sorted(file.suffix for file in (xgap_home / "results").iterdir())
    assert suffixes == [".csv", ".parquet", ".png", ".svg"]


def test_captions_that_try_to_be_markup_stay_text(evaluation: Evaluation, hostile: str, xgap_home: Path) -> None:
    explorer = TokenExplorer(evaluation, ["text-patches"], query="t0")
    assert explorer.error == ""
    assert hostile not in all_html(explorer)
    assert len(explorer.save()) == 4


def test_a_view_and_a_scorer_of_ones_own(evaluation: Evaluation) -> None:
    def halves(model: Any, items: Any, *, store: Any = None) -> xg.TokenFeatures:
        tokens = xg.tokens(model, items)
        rows = [tokens.tokens_of(i)[::8] for i in tokens.ids]
        return xg.TokenFeatures.from_sets(rows, tokens.ids, "image", "image", items=tokens.items)

    def nearest(query: Any, gallery: Any) -> Any:
        return query @ gallery.T

    explorer = TokenExplorer(
        evaluation, [(halves, "image"), "I-I"], ["late_interaction", "cosine", nearest], query="i3"
    )
    assert explorer.error == ""
    assert explorer.pairs is not None
    assert explorer.pairs.similarities.shape == (2, 1)
    assert set(explorer.table()["query_token"]) == {"token 1", "token 2"}
    explorer._by.value = "cosine"
    assert "compares one vector per item" in explorer.error
    explorer._pick.value = "I-I"
    explorer._by.value = "nearest"
    assert explorer.error == ""
    assert explorer.pairs.similarities.shape == (1, 1)


def test_mistakes_are_one_sentence_in_place(evaluation: Evaluation) -> None:
    explorer = TokenExplorer(evaluation, ["words-patches"], query="nobody")
    assert "nobody" in explorer.error
    explorer._code_button.click()
    assert "there is nothing to show yet" in explorer.error
    explorer.choose("t1")
    assert explorer.error == ""
    explorer = TokenExplorer(evaluation, ["words-patches"], ["mevtr"])
    assert "does not say what each pair of tokens adds" in explorer.error
    with pytest.raises(XgapError, match="give one of each at least"):
        TokenExplorer(evaluation, [])
    with pytest.raises(XgapError, match="unknown comparison 'IX'"):
        TokenExplorer(evaluation, ["IX"])


def test_an_evaluation_without_several_vectors_says_so(evaluation: Evaluation) -> None:
    class Plain:
        space = "image"

        def prepare(self, items: Any) -> Any:
            return items

        def encode(self, batch: Any) -> Any:
            raise AssertionError

    plain = xg.Model("plain", {"image": Plain()}, weights_digest="0")
    (made,) = xg.Study([plain], [evaluation.data], ["I-I"], progress=False).evaluations()
    with pytest.raises(XgapError, match="neither 'small' has parts nor 'plain' a tower that gives several vectors"):
        TokenExplorer(made)
