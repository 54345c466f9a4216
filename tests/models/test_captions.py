"""Token ids: what is cut is counted, what the model does not know is refused, quotes are those of the training."""

import warnings
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.paths import data_root
from xgap_analysis.models.captions import Tokenizer, long_captions

LONG = "a photo of a red ball on a green table with two cats and one dog near the big blue house"
CAPTIONS = ["a dog", LONG, "", "猫が青い家の前で赤いボールと二匹の犬を見ている、とても大きな緑の木の下で" * 3, "cat"]


class Words:
    """A tokenizer of one id a word, by its length."""

    length = 6

    def __call__(self, captions: Sequence[str]) -> Tensor:
        ids = [[len(word) for word in caption.split()][: self.length] for caption in captions]
        return torch.tensor([row + [0] * (self.length - len(row)) for row in ids])

    def lengths(self, captions: Sequence[str]) -> list[int]:
        return [len(caption.split()) for caption in captions]


def test_captions_that_are_cut_are_counted_and_named() -> None:
    tokenize = Tokenizer(Words(), "mine", 100)
    with pytest.warns(UserWarning, match=r"2 of 3 captions are longer than the 6 tokens that 'mine' reads") as said:
        tokenize(["one", "one two three four five six seven", "a b c d e f g h"])
    assert "no. 2 of 7 tokens ('one two three four five six seven'), no. 3 of 8 tokens" in str(said[0].message)
    assert said[0].filename == __file__  # the line that called the package
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenize(["one two three four five six", ""])


def test_encode_says_what_was_cut() -> None:
    with pytest.warns(UserWarning, match=r"2 of 5 captions are longer than the 16 tokens that 'tiny' reads.*no. 2 of"):
        xg.encode(xg.load_model("tiny", device="cpu"), CAPTIONS, store=None, progress=False)


@pytest.mark.parametrize("length", [4, 9, 20, 21, 22, 77])
@pytest.mark.parametrize("kind", ["open_clip", "embedded", "clips"])
def test_a_caption_is_cut_where_a_longer_context_holds_more_of_it(kind: str, length: int) -> None:
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

    folder = str(data_root() / "models" / "tiny")

    def tokenizer(length: int) -> Any:
        if kind == "open_clip":
            return SimpleTokenizer(context_length=length)
        mode = "clips" if kind == "clips" else None
        made = HFTokenizer(folder, context_length=length, tokenizer_mode=mode)
        made.tokenizer.cls_token = "<start>"
        return made

    words = [" ".join(LONG.split()[:n]) for n in range(20)]
    own = tokenizer(length)
    found = long_captions(own, words, own(words))
    roomy = tokenizer(200)(words)
    pad = 0
    counts = [int((row != pad).sum()) for row in roomy]
    assert found == {row: count for row, count in enumerate(counts) if count > length}


def test_captions_that_training_cuts_are_counted_once_before_it() -> None:
    from xgap_analysis.models.captions import warn_of_cut

    with pytest.warns(UserWarning, match="1 of 2 captions are longer than the 6 tokens that 'mine' reads"):
        warn_of_cut("mine", Words(), ("one", "one two three four five six seven"))


def test_an_id_beyond_the_table_is_reported() -> None:
    tokenize = Tokenizer(Words(), "mine", 6)
    assert tokenize(["a cat"]).shape == (1, 6)
    with pytest.raises(XgapError, match="gives the id 6 in 'a monkey', but its model knows 6 words"):
        tokenize(["a cat", "a monkey"])


def test_a_prompt_with_room_is_found_without_a_warning() -> None:
    from xgap_analysis.views.inversion.textual import make_prompt

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_prompt(xg.load_model("tiny", device="cpu").tokenize, "a photo of {}", 1)


@pytest.mark.parametrize("name", ["tiny", "tiny-intra", "tiny-nogap", "tiny-untrained"])
def test_names_of_the_embedded_set_are_known_to_its_models(name: str) -> None:
    model = xg.load_model(name, device="cpu")
    texts = xg.load_dataset("emoji").split("test").texts
    names = [caption for i, caption in zip(texts.ids, texts.captions, strict=True) if i.endswith("/name")]
    assert any("’" in one for one in names)
    assert any("“" in one for one in names)
    assert not (model.tokenize(names) == 1).any()  # the id of <unk>


@pytest.mark.parametrize(
    ("straight", "curly"),
    [("one o'clock", "one o’clock"), ('Japanese "here" button', "Japanese “here” button"), ('"a"', "“a”")],
)
def test_straight_and_curly_quotes_are_the_same_tokens(straight: str, curly: str) -> None:
    from tokenizers import Tokenizer as Bare

    ids = xg.load_model("tiny", device="cpu").tokenize([straight, curly])
    assert torch.equal(ids[0], ids[1])
    trained = Bare.from_file(str(data_root() / "models" / "tiny" / "tokenizer.json")).encode(curly).ids
    assert ids[1][: len(trained)].tolist() == trained  # as in training, which straightened nothing
    assert 1 not in trained
