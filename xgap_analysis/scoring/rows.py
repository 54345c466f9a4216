"""Scores of some queries with a whole gallery of token sets, padded one tile at a time."""

from bisect import bisect_right
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.scoring.scorer import Join, Scorer
from xgap_analysis.scoring.tokens import TokenBlock, block_of_tokens

# Pairs of tokens scored at a time, and tokens of the queries among them. On a processor the similarities of a tile
# stay in its cache until they are reduced; a GPU needs tiles that keep all of it busy.
TILE = {"cpu": 2**20}
QUERY_TOKENS = {"cpu": 2**9}
TILE_ELSEWHERE, QUERY_TOKENS_ELSEWHERE = 2**25, 2**12
CHUNK = 2**26  # bytes of padded tokens at a time, at most


def score_rows(
    query: TokenFeatures,
    gallery: TokenFeatures,
    scoring: Scorer,
    *,
    rows: Int[Tensor, " b"] | None = None,
    columns: Int[Tensor, " m"] | None = None,
) -> Float[Tensor, "b m"]:
    """The scores of these queries with these gallery items (all by default), on the device of the query.

    Args:
        query, gallery: token features.
        scoring: any scorer.
        rows, columns: positions, on the CPU.

    Raises:
        XgapError: a scorer of one vector per item, where an item has more; or what the scorer refuses.
    """
    takes = scoring.takes or "tokens"
    if takes != "tokens":
        query, gallery = (of if at is None else of.take(at) for of, at in ((query, rows), (gallery, columns)))
    if takes == "features":
        return scoring(query, gallery)
    if takes == "vectors":
        of_query, of_gallery = (
            single(given, role, scoring) for given, role in ((query, "query"), (gallery, "gallery"))
        )
        return scoring(of_query, of_gallery.to(of_query.device))
    device = query.vectors.device
    tile = TILE.get(device.type, TILE_ELSEWHERE)
    most = QUERY_TOKENS.get(device.type, QUERY_TOKENS_ELSEWHERE)
    join_query, join_gallery = scoring.joins
    blocks = [(_at(at, device), block) for at, block in _blocks(query, rows, most, join_query, device)]
    longest = max(block.mask.numel() for _, block in blocks)
    width = max(1, tile // longest)
    n, m = (len(of) if at is None else len(at) for of, at in ((query, rows), (gallery, columns)))
    scores = torch.empty(n, m, device=device)
    for at_columns, part in _blocks(gallery, columns, width, join_gallery, device):
        there = _at(at_columns, device)
        for at_rows, block in blocks:
            if isinstance(at_rows, slice) or isinstance(there, slice):
                scores[at_rows, there] = scoring(block, part)
            else:
                scores[at_rows[:, None], there] = scoring(block, part)
    return scores


def score_chosen(
    query: TokenFeatures, gallery: TokenFeatures, scoring: Scorer, columns: Int[Tensor, "b k"]
) -> Float[Tensor, "b k"]:
    """The scores of each query with gallery items of its own, on the device of the query.

    Args:
        query, gallery: token features.
        scoring: any scorer.
        columns: for each query the positions of its items, on the CPU.

    Raises:
        XgapError: as `score_rows`.
    """
    device = query.vectors.device
    longest = int(gallery.lengths.max()) * columns.shape[1]
    fits = longest * int(query.lengths.max()) <= TILE.get(device.type, TILE_ELSEWHERE)
    if (scoring.takes or "tokens") != "tokens" or scoring.joins != (None, None) or not fits:
        each = enumerate(torch.arange(len(query))[:, None])
        return torch.cat([score_rows(query, gallery, scoring, rows=row, columns=columns[i]) for i, row in each])
    # One block for each query, and its own prepared at once: beside so few items, preparing takes as long as scoring.
    queries = block_of_tokens(query, torch.arange(len(query)), device).items(query.lengths.tolist())
    pairs = zip(queries, columns, strict=True)
    return torch.cat([scoring(one, block_of_tokens(gallery, own, device)) for one, own in pairs])


def _at(positions: Int[Tensor, " k"], device: torch.device) -> slice | Tensor:
    """Neighbours as a slice, which is written to several times as fast."""
    start, n = int(positions[0]), len(positions)
    neighbours = int(positions[-1]) == start + n - 1 and bool((positions.diff() == 1).all())
    return slice(start, start + n) if neighbours else positions.to(device)


def _blocks(
    tokens: TokenFeatures, positions: Tensor | None, most: int, join: Join, device: torch.device
) -> Iterator[tuple[Tensor, TokenBlock]]:
    """Blocks of at most `most` tokens of the items at these positions, and where each item stands among them."""
    lengths = tokens.lengths if positions is None else tokens.lengths[positions]
    padded = CHUNK // (4 * tokens.dim)
    for run in runs(lengths, padded if join else min(most, padded)):
        block = block_of_tokens(tokens, run if positions is None else positions[run], device)
        if join is None:
            yield run, block
        else:
            yield from zip(run.split(most), block.joined(join).split(most), strict=True)


def single(tokens: TokenFeatures, role: str, scoring: Scorer) -> Float[Tensor, "n d"]:
    """The vectors of items with one token each, for a scorer that takes no more."""
    more = (tokens.lengths > 1).nonzero()
    if len(more):
        item = int(more[0])
        what = f"scorer {scoring} compares one vector per item, and item {tokens.ids[item]!r} of the {role} has"
        hint = "score with late_interaction or pooled, or make one vector per item with .pooled()"
        raise XgapError(f"{what} {int(tokens.lengths[item])} tokens; {hint}")
    return tokens.vectors


def runs(lengths: Int[Tensor, " n"], most: int) -> Iterator[Int[Tensor, " k"]]:
    """Positions in groups of similar lengths, each of at most `most` tokens with its padding (or of one item).

    The shortest items come first, so that little padding is scored however uneven the items are.
    """
    order = lengths.argsort(stable=True)
    if int(lengths[order[-1]]) * len(order) <= most:
        yield order
        return
    ascending = lengths[order].tolist()
    start = 0
    while start < len(ascending):
        first = start
        fits = bisect_right(range(start, len(ascending)), most, key=lambda i: (i - first + 1) * ascending[i])
        stop = start + max(1, fits)
        yield order[start:stop]
        start = stop
