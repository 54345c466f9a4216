"""Pairs of a query and the gallery item that belongs to it, drawn in batches for a fit."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.tokens import ScoredLike, TokenFeatures, as_tokens, scored_pair
from xgap_analysis.scoring.tokens import TokenBlock, block_of_tokens


@dataclass(frozen=True, eq=False)
class Paired:
    """Queries and gallery items that belong together; an item may have several queries.

    Args:
        query, gallery: one or more tokens per item.
        queries_of: for each gallery item in `items`, the positions of its queries.
        items: positions in the gallery of the items that have a query.
    """

    query: TokenFeatures
    gallery: TokenFeatures
    items: Int[Tensor, " k"]
    queries_of: tuple[tuple[int, ...], ...]

    @property
    def dim(self) -> int:
        """Dimensions d of both."""
        return self.query.dim

    @property
    def device(self) -> torch.device:
        """Where batches lie: the device of the queries."""
        return self.query.vectors.device

    def batches(self, size: int, generator: torch.Generator) -> Iterator[tuple[TokenBlock, TokenBlock]]:
        """One epoch: the items in a random order, each with one of its queries; see `drawn`."""
        for queries, places in drawn(self.queries_of, size, generator):
            yield self.block(self.query, queries), self.block(self.gallery, self.items[places])

    def block(self, tokens: TokenFeatures, rows: Int[Tensor, " b"]) -> TokenBlock:
        """The items at these positions, on the device of the queries."""
        return block_of_tokens(tokens, rows, self.device)


def drawn(
    queries_of: Sequence[Sequence[int]], size: int, generator: torch.Generator
) -> Iterator[tuple[Int[Tensor, " b"], Int[Tensor, " b"]]]:
    """Batches of one epoch, as positions of queries and of their items: the items at random, each with one query.

    A pair is left out where its query belongs to another item of the batch, or its item to another query, so that no
    negative is a pair; and so is a batch of one pair, which has nothing to be contrasted with.

    Args:
        queries_of: for each item, the positions of its queries.
        size: of a batch.
        generator: of order and choice.
    """
    order = torch.randperm(len(queries_of), generator=generator)
    chances = torch.rand(len(queries_of), generator=generator)
    for part in order.split(size):
        chosen: list[tuple[int, int]] = []  # a query, and its item
        for i in part.tolist():
            row = queries_of[i][int(chances[i] * len(queries_of[i]))]
            if not any(row in queries_of[j] or other in queries_of[i] for other, j in chosen):
                chosen.append((row, i))
        if len(chosen) > 1 or len(order) == 1:
            queries, places = (torch.tensor(of) for of in zip(*chosen, strict=True))
            yield queries, places


def queries_by_item(
    queries: Sequence[str], items: Sequence[str], pairs: Mapping[str, str | Collection[str]] | None = None
) -> dict[int, list[int]]:
    """The positions of the queries of each item that has any, by the item's position.

    Args:
        queries, items: ids.
        pairs: from the id of a query to that of its item, or to those of several; by default the same id.

    Raises:
        XgapError: no pair at all.
    """
    place = {item: i for i, item in enumerate(items)}
    of: dict[int, list[int]] = {}
    for row, item in enumerate(queries):
        found = item if pairs is None else pairs.get(item, ())
        for other in [found] if isinstance(found, str) else found:
            if other in place:
                of.setdefault(place[other], []).append(row)
    if not of:
        how = "no query has the id of a gallery item" if pairs is None else "no query is paired with a gallery item"
        raise XgapError(f"{how}; give pairs, a mapping from query id to gallery id")
    return dict(sorted(of.items()))


def paired(query: ScoredLike, gallery: ScoredLike, pairs: Mapping[str, str | Collection[str]] | None = None) -> Paired:
    """Queries beside their gallery items.

    Args:
        query, gallery: Features or TokenFeatures.
        pairs: from the id of a query to that of its gallery item, or to those of several (a label set of a dataset may
            be one); by default the same id. Queries without an item here are left out.

    Raises:
        XgapError: no pair at all, or different dimensions.
    """
    first, second = map(as_tokens, scored_pair(query, gallery))
    if first.dim != second.dim:
        raise XgapError(f"the query has {first.dim} dimensions and the gallery {second.dim}; they must be the same")
    of = queries_by_item(first.ids, second.ids, pairs)
    return Paired(first, second, torch.tensor(list(of)), tuple(map(tuple, of.values())))
