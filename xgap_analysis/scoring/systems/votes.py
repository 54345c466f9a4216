"""Votes (audio-sheet retrieval): a piece is found by the snippets that lie nearest to those of the query."""

import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.precision import widest
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.scoring.scorer import register_scorer

NUMBERS = 2**24  # similarities that are held at a time
SAME = 1e-6  # similarities of float32 vectors that differ by less are equal


@register_scorer("votes", takes="features")
def votes(query: TokenFeatures, gallery: TokenFeatures, *, k: int = 25) -> Float[Tensor, "b m"]:
    """The votes that an item of the gallery gets from the tokens of a query, k from each.

    Each token of the query votes for the items of its k nearest tokens in the whole gallery. Tokens that are equally
    near at place k share the votes that are left, so that the order of the gallery changes nothing. With k = 1 and one
    token in each query, the item with the vote is that of the nearest token.

    How to read it: in [0, k t] for t query tokens; the votes of all items add up to k t. Items without a vote all have
    0, and `retrieval` keeps them in the order of the gallery: read the place of a piece with `metrics.identified`,
    which counts ties against it. In a gallery of the queries' own items, tokens vote for themselves first.

    Left out: sheets and recordings cut into snippets (100 of a query, equally spaced): give them as tokens, or name
    the pieces of your rows with `xg.grouped`.

    Args:
        query: pieces, with a token for each snippet.
        gallery: pieces, all of whose snippets are candidates.
        k: candidates of each query snippet; the authors take 25.

    Raises:
        XgapError: k below 1, or more than the gallery has tokens.

    Source: Carvalho, Washüttl and Widmer, Self-supervised contrastive learning for robust audio-sheet music retrieval
    systems, ACM MMSys 2023, and its published code.

    Example:
        >>> import torch, xgap_analysis as xg
        >>> pieces = xg.TokenFeatures(torch.eye(4), [0, 2, 4], ["a", "b"], "image", "image")
        >>> heard = xg.TokenFeatures(torch.eye(4)[:3], [0, 3], ["x"], "audio", "audio")
        >>> xg.score(heard, pieces, "votes(k=1)").tolist()
        [[2.0, 1.0]]
    """
    n = len(gallery.vectors)
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= n:
        raise XgapError(f"k of votes is a whole number from 1 to the {n} tokens of this gallery, not {k!r}")
    device, number = query.vectors.device, widest(query.vectors.device)
    tokens = gallery.vectors.to(device, number)
    owner = _owners(gallery).to(device)
    made = []
    for part in query.vectors.split(max(1, NUMBERS // n)):
        similar = part.to(number) @ tokens.T
        last = similar.topk(k, dim=1).values[:, -1:]
        above, same = similar > last + SAME, (similar - last).abs() <= SAME
        share = (k - above.sum(dim=1, keepdim=True)) / same.sum(dim=1, keepdim=True)
        weight = above + share * same
        made.append(weight.new_zeros(len(part), len(gallery)).index_add_(1, owner, weight))
    each = torch.cat(made)
    return each.new_zeros(len(query), len(gallery)).index_add_(0, _owners(query).to(device), each)


def _owners(tokens: TokenFeatures) -> Tensor:
    """The item of each token, by its position."""
    return torch.repeat_interleave(torch.arange(len(tokens)), tokens.lengths)
