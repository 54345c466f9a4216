"""What one cell of a table means, whoever wrote it."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.table_values import caption_texts, clean_text, id_text, image_path, is_missing, label_text

ABSENT = (None, float("nan"), np.float32("nan"), np.datetime64("NaT"), torch.tensor(float("nan")), pd.NA, pd.NaT)
EMPTY = ("", " ", b"", [], {}, np.array([]))
WORDS = ("nan", "NaN", "NaT", "<NA>", "null", "None", " None ")


@pytest.mark.parametrize("cell", [*ABSENT, *EMPTY, *WORDS])
def test_what_is_missing_is_missing_everywhere(cell: Any) -> None:
    assert is_missing(cell)
    assert label_text(cell) is None
    assert caption_texts(cell) == []
    assert image_path(cell) is None


@pytest.mark.parametrize("cell", [0, 0.0, False, "0", "none", "NA", "naan", [0], {"a": None}, np.array([0])])
def test_what_is_there_is_not_missing(cell: Any) -> None:
    assert not is_missing(cell)


@pytest.mark.parametrize(
    ("label", "text"),
    [
        *((one, "dog") for one in (1, 1.0, np.int64(1), torch.tensor(1), [1], "[1]")),
        *((none, None) for none in (-1, -1.0, "-1", np.int8(-1))),
        *((owl, "owl") for owl in ("owl", " owl ", b"owl", ["owl"], "['owl']")),
        (7, "7"),
        (True, "True"),
    ],
)
def test_a_label_is_its_word_or_its_number(label: Any, text: str | None) -> None:
    assert label_text(label, ["cat", "dog"]) == text


@pytest.mark.parametrize("label", [[0, 1], (0, 1), "[0, 1]", "['a', 'b']", '["a", "b"]', np.array([0, 1]), {"a": 1}])
def test_several_labels_are_refused(label: Any) -> None:
    with pytest.raises(XgapError, match=r"several labels|a word or a number"):
        label_text(label)


@pytest.mark.parametrize(
    ("cell", "texts"),
    [
        ("['a dog', \"it's\"]", ["a dog", "it's"]),
        ("['a dog' 'a cat'\n 'x']", ["a dog", "a cat", "x"]),  # as NumPy prints an array
        ("('a', None)", ["a"]),
        ('["a", null]', ["a"]),
        ('[{"raw": "a"}, {"raw": "b"}]', ["a", "b"]),
        ("[]", []),
        ("[sic] a", ["[sic] a"]),
        ("[a]", ["[a]"]),
        ("('a dog')", ["('a dog')"]),
        ("[2020]", ["[2020]"]),
        (np.array(["a", "b"]), ["a", "b"]),
        ({"raw": "a", "tokens": ["a"], "imgid": 3}, ["a"]),
        ({"caption": None, "text": "a"}, ["a"]),
        (42, ["42"]),
    ],
)
def test_captions_of_a_cell(cell: Any, texts: list[str]) -> None:
    assert caption_texts(cell) == texts


def test_bytes_that_are_no_text_and_ids_that_are_none() -> None:
    with pytest.raises(XgapError, match="not UTF-8 text"):
        caption_texts(b"\xff\xd8")
    assert [id_text(i) for i in ("None", b"a", 7, 7.0, np.float64(7), 7.5)] == ["None", "a", "7", "7", "7", "7.5"]
    for wrong in (None, float("nan"), [1], {"a": 1}):
        with pytest.raises(XgapError, match="an id is a word or a number"):
            id_text(wrong)


def test_half_of_a_character_is_replaced_and_two_halves_are_joined() -> None:
    assert clean_text("a\ud83d") == "a\ufffd"
    assert clean_text("\udc00b") == "\ufffdb"
    assert clean_text("\ud83d\ude00") == "\U0001f600"
    assert clean_text("caf\xe9 \U0001f600") == "caf\xe9 \U0001f600"
