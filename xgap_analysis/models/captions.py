"""Captions to token ids, with what is cut counted and said, and ids that a model has no embedding for refused."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from xgap_analysis.core.errors import XgapError, notice

NAMED = 3  # of the captions that were cut, in the warning
_TURN = threading.Lock()  # the libraries' fast tokenizers keep the length of the call in themselves


class Tokenizer:
    """The tokenizer of a loaded model.

    Args:
        tokenize: captions to ids `[n, length]`: a tokenizer of open_clip's, or any function. One that has `lengths`,
            from captions to the numbers of tokens before anything is cut, has its cuts counted as those of open_clip.
        name: of the model.
        words: rows of its token table.
    """

    def __init__(self, tokenize: Callable[[list[str]], Tensor], name: str, words: int) -> None:
        self.silent = tokenize  # for who wants captions cut, to find out what a tokenizer does then
        self._name, self._words = name, words

    def __call__(self, captions: Sequence[str]) -> Tensor:
        """Token ids `[n, length]`.

        Raises:
            XgapError: an id that the model has no embedding for.
        """
        captions = list(captions)
        with _TURN:
            ids = self.silent(captions)
            long = long_captions(self.silent, captions, ids)
        if ids.numel() and int(ids.max()) >= self._words:
            row = int((ids >= self._words).any(1).nonzero()[0])
            what = f"the tokenizer of {self._name!r} gives the id {int(ids[row].max())} in {_start(captions[row])!r}"
            raise XgapError(
                f"{what}, but its model knows {self._words} words: take the tokenizer that it was trained with"
            )
        say_cut(self._name, captions, long, ids.shape[1])
        return ids


def say_cut(name: str, captions: Sequence[str], long: dict[int, int], length: int) -> None:
    """Warn of captions that were cut, by their rows and their numbers of tokens, if there are any."""
    if not long:
        return
    first = list(long.items())[:NAMED]
    named = ", ".join(f"no. {row + 1} of {count} tokens ({_start(captions[row])!r})" for row, count in first)
    more = "" if len(long) == len(first) else ", ..."
    notice(
        f"{len(long)} of {len(captions)} captions are longer than the {length} tokens that {name!r} reads, and "
        f"were cut: {named}{more}"
    )


def warn_of_cut(name: str, tokenize: Any, captions: Sequence[str]) -> None:
    """Warn of captions that a bare tokenizer would cut, before many parts of them go through it."""
    if not len(captions):
        return
    captions = list(captions)
    with _TURN:
        ids = tokenize(captions)
        long = long_captions(tokenize, captions, ids)
    say_cut(name, captions, long, ids.shape[1])


def long_captions(tokenize: Any, captions: Sequence[str], ids: Tensor) -> dict[int, int]:
    """Rows of the captions that a tokenizer cut, and how many tokens each had; none where it cannot be known.

    Args:
        tokenize: see `Tokenizer`.
        captions: what it was given.
        ids: what it gave for them `[n, length]`.
    """
    lengths, padding = counting(tokenize)
    if lengths is None or not len(captions):
        return {}
    # An end token may be the padding too, so that one of it may stand in a row that is full.
    full = (ids == padding).sum(1) <= 1 if padding is not None else torch.ones(len(ids), dtype=torch.bool)
    rows: list[int] = full.nonzero().flatten().tolist()
    counts = lengths([captions[row] for row in rows]) if rows else []
    return {row: count for row, count in zip(rows, counts, strict=True) if count > ids.shape[1]}


def counting(tokenize: Any) -> tuple[Callable[[list[str]], list[int]] | None, int | None]:
    """A tokenizer's function from captions to numbers of tokens, and its id of padding; None where not known."""
    from open_clip.tokenizer import HFTokenizer, SigLipTokenizer, SimpleTokenizer

    if isinstance(tokenize, SimpleTokenizer):
        return lambda captions: [2 + len(tokenize.encode(caption)) for caption in captions], 0
    if isinstance(tokenize, HFTokenizer):
        clips = tokenize.tokenizer_mode == "clips"  # start, end and class token, which its tokenizer does not add
        extra, special = (3, False) if clips else (0, True)

        def lengths(captions: list[str]) -> list[int]:
            cleaned = [tokenize.clean_fn(caption) for caption in captions]
            return [extra + n for n in whole_lengths(tokenize.tokenizer, cleaned, special)]

        return lengths, tokenize.tokenizer.pad_token_id
    if isinstance(tokenize, SigLipTokenizer):
        return None, None  # made for importing vocabularies; no model comes with it
    return getattr(tokenize, "lengths", None), None


def whole_lengths(tokenizer: Any, captions: list[str], special: bool = True) -> list[int]:
    """How many tokens captions have before they are cut, by a tokenizer of transformers."""
    made = tokenizer(captions, padding=False, truncation=False, add_special_tokens=special, verbose=False)
    return [len(ids) for ids in made.input_ids]


def pieces(tokenize: Any, caption: str) -> list[str]:
    """The words and pieces of words that a tokenizer makes of a caption, without start, end and padding.

    Empty where its ids have no names (a function of one's own). What an empty caption has too is left out.
    """
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

    silent = getattr(tokenize, "silent", tokenize)
    with _TURN:
        own, empty = silent([caption])[0].tolist(), set(silent([""])[0].tolist())
    ids = [i for i in own if i not in empty]
    if isinstance(silent, SimpleTokenizer):
        named = [silent.decoder[i] for i in ids]
    elif isinstance(silent, HFTokenizer):
        named = silent.tokenizer.convert_ids_to_tokens(ids)
    else:
        return []
    return [name.replace("</w>", "").strip("▁Ġ#") or name for name in named]


def _start(caption: str) -> str:
    return caption if len(caption) <= 60 else f"{caption[:57]}..."


__all__ = ["Tokenizer", "counting", "long_captions", "pieces", "say_cut", "warn_of_cut", "whole_lengths"]
