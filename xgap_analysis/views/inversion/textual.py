"""Pseudo-tokens in a prompt: where they stand, and what the text tower makes of them (OTI)."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.tower import Invertible

Tokenize = Callable[[Sequence[str]], Tensor]
WORDS = ("cat", "dog", "car", "house", "red", "one", "sun", "x", "z", "q", "k")  # some are single tokens anywhere


@dataclass(frozen=True, eq=False)
class Prompt:
    """A template's token ids with room for pseudo-tokens.

    Args:
        ids: `[length]`, a word's id standing at each place that a pseudo-token takes. The pooled position and any
            mask are found in them.
        start, count: the pseudo-tokens stand at positions start to start + count.
    """

    ids: Tensor
    start: int
    count: int


def make_prompt(tokenize: Tokenize, template: str, count: int) -> Prompt:
    """A template with `{}` as token ids, the placeholder's position repeated `count` times.

    The position is the one at which the template differs when it is filled with words of one token each, so it is
    found for any tokenizer. What follows it moves right, into the padding.

    Raises:
        XgapError: a template without exactly one `{}`, one inside a word, or no room for `count`.
    """
    if template.count("{}") != 1:
        raise XgapError(f"the template {template!r} must hold {{}} once, where the pseudo-tokens go")
    if re.search(r"[A-Za-z0-9]\{\}|\{\}[A-Za-z0-9]", template):  # "{}s" would be one token with its "s"
        raise XgapError(f"the template {template!r} has {{}} inside a word; a pseudo-token stands for a whole one")
    if count < 1:
        raise XgapError(f"at least one pseudo-token is needed, not {count}")
    tokenize = getattr(tokenize, "silent", tokenize)  # the caption below is too long on purpose
    empty, overlong = tokenize(["", "cat " * 500])[:, -1].tolist()  # padding stands last, or the end token
    filled = tokenize([template.replace("{}", word) for word in WORDS])
    padded = (filled == empty).flip(1).cumprod(1).sum(1)
    rows = filled[padded == padded.max()].unique(dim=0)  # the shortest prompts: those of one token
    varied = (rows != rows[0]).any(dim=0).nonzero()[:, 0].tolist()
    if len(varied) != 1 or len(rows) < 3:  # two words may share a first piece; three that differ in one place do not
        raise XgapError(f"the template {template!r} fills the context, or no single token of this model fills its {{}}")
    start, ids = varied[0], rows[0]
    room = int(padded.max()) - (empty == overlong)  # a tokenizer may pad with its end token: one of them must stay
    if count - 1 > room:
        raise XgapError(
            f"{count} pseudo-tokens do not fit: the template {template!r} leaves room for {room + 1} in this model's "
            f"{len(ids)} tokens of context"
        )
    return Prompt(torch.cat([ids[:start], ids[start].repeat(count), ids[start + 1 :]])[: len(ids)], start, count)


def pseudo_forward(tower: Invertible, prompt: Prompt) -> Callable[[Tensor], Tensor]:
    """A function from pseudo-tokens `[n, R, width]` in a prompt to features `[n, d]`, not normalised.

    It takes the tower's shortcut where there is one (see `Invertible`), which gives the same numbers.
    """
    make = getattr(tower, "shortcut", None)
    quick: Callable[[Tensor], Tensor] | None = make(prompt.ids, prompt.start, prompt.count) if make else None
    if quick is not None:
        return quick
    fixed = tower.embed(prompt.ids[None])  # [1, length, width]
    before, after = fixed[:, : prompt.start], fixed[:, prompt.start + prompt.count :]

    def features(pseudo: Tensor) -> Tensor:
        n = len(pseudo)
        tokens = torch.cat([before.expand(n, -1, -1), pseudo, after.expand(n, -1, -1)], dim=1)
        return tower.encode_tokens(tokens, prompt.ids)

    return features
