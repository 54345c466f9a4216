"""Captions spoilt at random, by the ids of their tokens: what a grammar head learns to separate from real ones."""

import random

import torch
from jaxtyping import Bool, Int
from torch import Tensor

LONGEST = 3  # words repeated, removed, put in or exchanged at once
KINDS = ("repeat", "remove", "insert", "swap", "shuffle")


def corrupted(
    ids: Int[Tensor, "n length"],
    is_word: Bool[Tensor, "n length"],
    generator: torch.Generator,
    kinds: tuple[str, ...] = KINDS,
) -> Int[Tensor, "n length"]:
    """Captions in each of which words are repeated, removed, put in, exchanged or shuffled, one kind drawn for each.

    The kinds, as the authors have them: `repeat` puts a run of up to 3 words in again at up to 3 places; `remove` takes
    a run of up to 3 out; `insert` puts up to 3 words of other captions in; `swap` exchanges up to 3 words for such;
    `shuffle` changes the order. Here a word is a token of the tokenizer, and one word at least stays. Where a kind
    changes nothing (a caption of one word has no order), another is drawn. Start, end and padding stay in their places;
    what does not fit is cut at the end.

    Args:
        ids: token ids of captions.
        is_word: which of them are words. A caption without words is left as it is.
        generator: of the draws.
        kinds: drawn from, some of `KINDS`.

    Source: Cho et al., Fine-grained image captioning with CLIP reward, Findings of NAACL 2022.

    Example:
        >>> ids = torch.tensor([[90, 5, 6, 7, 91, 0]])
        >>> is_word = (ids > 0) & (ids < 90)
        >>> corrupted(ids, is_word, torch.Generator().manual_seed(1), ("shuffle",))[0].sort().values.tolist()
        [0, 5, 6, 7, 90, 91]
    """
    draw = random.Random(int(torch.randint(2**62, (), generator=generator)))
    rows, words = ids.tolist(), is_word.tolist()
    vocabulary = sorted(
        {token for row, own in zip(rows, words, strict=True) for token, word in zip(row, own, strict=True) if word}
    )
    fewest = min(range(len(rows)), key=lambda row: sum(words[row]), default=0)
    padding = rows[fewest][-1] if rows else 0
    made = [_spoilt(row, own, vocabulary, padding, kinds, draw) for row, own in zip(rows, words, strict=True)]
    return torch.tensor(made, dtype=ids.dtype, device=ids.device).reshape(ids.shape)


def _spoilt(
    row: list[int], own: list[bool], vocabulary: list[int], padding: int, kinds: tuple[str, ...], draw: random.Random
) -> list[int]:
    if not any(own):
        return row
    first, behind = own.index(True), len(own) - own[::-1].index(True)
    before, text, after = row[:first], row[first:behind], row[behind:]
    for kind in draw.sample(kinds, len(kinds)):
        changed = _changed(kind, text, vocabulary, draw)
        if changed != text:
            text = changed
            break
    room = len(row) - len(before) - min(1, len(after))  # the token behind the words ends the caption
    made = [*before, *text[:room], *after][: len(row)]
    return made + [padding] * (len(row) - len(made))


def _changed(kind: str, text: list[int], vocabulary: list[int], draw: random.Random) -> list[int]:
    count = draw.randint(1, LONGEST)
    made = list(text)
    if kind == "shuffle":
        draw.shuffle(made)
    elif kind == "repeat":
        start = draw.randint(0, max(0, len(text) - count))
        for _ in range(draw.randint(1, LONGEST)):
            place = draw.randint(0, len(made))
            made[place:place] = text[start : start + count]
    elif kind == "remove":
        count = min(count, len(text) - 1)
        start = draw.randint(0, len(text) - count)
        del made[start : start + count]
    else:
        for _ in range(count):
            place = draw.randrange(len(made))
            others = [word for word in vocabulary if word != made[place]]
            if others:
                made[place : place + (kind == "swap")] = [draw.choice(others)]
    return made
