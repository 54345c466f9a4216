"""Two sequences of tokens as one: sound among the frames of a clip, at any rate, and both of them back again."""

from fractions import Fraction

import numpy as np
import torch
from jaxtyping import Bool, Int

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.mixed import MADE_FROM, joined
from xgap_analysis.core.tokens import AnyFeatures, TokenFeatures, as_tokens

SLOTS, RATE = 100, 0.25  # as published: 75 frames and 25 vectors of sound


def second_slots(rate: float = RATE, slots: int = SLOTS) -> Bool[np.ndarray, " slots"]:
    """Which slots of an interleaved sequence are of the second modality, spread evenly over it.

    Formula: of A = round(rate slots), slot `floor(j slots / A)` for j = 0 .. A - 1. At 25 % that is one of each four,
    the first; at every rate there are A of them, and the last is less than `1 / rate` before the end.

    The published code steps by `round(F / (A + 1)) + 1` slots, F = slots - A, which is even at rates of 20, 25 and 50 %
    only: at 10 % its last slot is 81 of 100, and from 60 % on its slots are fewer than its vectors.

    Args:
        rate: the share of the second modality, from 0 to 1.
        slots: of the whole sequence.

    Raises:
        XgapError: a rate out of range, or a number of slots below 1.

    Example:
        >>> second_slots(0.25, 8).astype(int).tolist()
        [1, 0, 0, 0, 1, 0, 0, 0]

    Source: Tang et al., AVicuna, AAAI 2025 (its interleaver).
    """
    if isinstance(slots, bool) or not isinstance(slots, int) or slots < 1:
        raise XgapError(f"an interleaved sequence has a whole number of slots of 1 or more, not {slots!r}")
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
        raise XgapError(f"the rate of the second modality lies in [0, 1], not {rate!r}")
    count = int(Fraction(str(rate)) * slots + Fraction(1, 2))
    mask = np.zeros(slots, dtype=bool)
    if count:
        mask[np.arange(count) * slots // count] = True
    return mask


def interleave(first: AnyFeatures, second: AnyFeatures, rate: float = RATE, *, slots: int = SLOTS) -> TokenFeatures:
    """The tokens of two modalities of the same items in one sequence: frames, and sound among them.

    Formula: slot s holds the second's next token where `second_slots(rate, slots)[s]`, and the first's next token
    elsewhere. A modality of n tokens fills its m slots with token `floor(j n / m)` in the j-th: evenly, each repeated
    where there are too few, and some left out, from the beginning to the end, where there are too many. So
    `made.tokens_of(item)[mask]` is the second modality in its order, `[~mask]` the first.

    How to read it: the mean of a sequence weighs its modalities by the rate, `(1 - r) mean(first) + r mean(second)`, so
    that the gap between pooled sequences and texts moves with r from that of the one modality to that of the other.

    Args:
        first, second: tokens of one width, with the same ids in any order; items that the first does not have are left
            out.
        rate: r, the share of the second.
        slots: tokens of each item.

    Returns:
        In a space that is named for both (`"image+audio"`), with the ids, origin and set of items of the first; see
        `shares_of`.

    Raises:
        XgapError: an item that the second lacks, another width, or as `second_slots`.

    The published code fills frames that are missing with zeros, drops vectors of sound beyond the last slot, and gives
    repeats to the first vectors; zeros have no direction, so here every slot holds a token.

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> frames = xg.TokenFeatures(torch.eye(4)[:3], [0, 3], ["clip"], "image", "video")
        >>> sound = xg.TokenFeatures(torch.eye(4)[3:], [0, 1], ["clip"], "audio", "audio")
        >>> interleave(frames, sound, slots=4).vectors.argmax(dim=1).tolist()
        [3, 0, 1, 2]

    Source: Tang et al., AVicuna: Audio-Visual LLM with interleaver and context-boundary alignment for temporal
    referential dialogue, AAAI 2025.
    """
    mask = second_slots(rate, slots)
    first = as_tokens(first)
    second = as_tokens(second).select(first.ids)
    if first.dim != second.dim:
        raise XgapError(f"tokens of {first.dim} and of {second.dim} dimensions cannot be interleaved")
    n = len(first)
    where = np.empty((n, slots), dtype=np.int64)
    where[:, mask] = _spread(second, int(mask.sum()))
    where[:, ~mask] = _spread(first, int((~mask).sum()))
    taken = torch.from_numpy(where)
    device = first.vectors.device
    vectors, norms = (
        torch.where(
            torch.from_numpy(mask).to(device).view(1, -1, *[1] * (getattr(first, name).ndim - 1)),
            getattr(second, name).to(device)[taken.clamp(max=len(second.vectors) - 1).to(device)],
            getattr(first, name)[taken.clamp(max=len(first.vectors) - 1).to(device)],
        ).flatten(0, 1)
        for name in ("vectors", "norms")
    )
    share = float(mask.mean())
    parts = ((first.origin, 1 - share), (second.origin, share))  # of one origin (frames and sound of clips), a whole
    shares = {name: dict.fromkeys(first.ids, sum(of for own, of in parts if own == name)) for name, _ in parts}
    about = {**first.provenance, "interleaved": f"{rate:g} of {slots}", MADE_FROM: shares}
    space = joined([first.space, second.space])
    return TokenFeatures(
        vectors, slots * torch.arange(n + 1), first.ids, space, first.origin, about, first.items, norms=norms
    )


def _spread(tokens: TokenFeatures, count: int) -> Int[np.ndarray, "n count"]:
    """Rows of the tokens that fill `count` places of each item, evenly."""
    lengths, starts = tokens.lengths.numpy()[:, None], tokens.offsets.numpy()[:-1, None]
    made: Int[np.ndarray, "n count"] = starts + np.arange(count)[None] * lengths // max(count, 1)
    return made
