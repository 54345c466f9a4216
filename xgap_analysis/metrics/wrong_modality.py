"""Items of another modality than the one that was wanted, which rank above the right item."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xgap_analysis.core.errors import XgapError


@dataclass(frozen=True, eq=False)
class ModalityNegatives:
    """Two kinds of hard negatives of each query, as positions in the gallery.

    Args:
        wrong: those of another modality than was wanted that rank above the first relevant item.
        right: those of the wanted modality that rank far behind and are not relevant.
    """

    wrong: tuple[tuple[int, ...], ...]
    right: tuple[tuple[int, ...], ...]

    @property
    def rate(self) -> float:
        """The share of queries with an item of a wrong modality above the right one, in [0, 1]: a modality gap seen in
        a ranking.
        """
        return sum(bool(found) for found in self.wrong) / max(1, len(self.wrong))


def modality_negatives(
    scores: Float[Tensor, "q m"],
    relevant: Bool[Tensor, "q m"],
    wrong: Bool[Tensor, "q m"],
    top: int = 50,
    tail: int = 45,
) -> ModalityNegatives:
    """Hard negatives of a mixed gallery, by what is wrong with them.

    Of the `top` best items, the first kind (C1) is of a wrong modality and ranks above the best relevant item; the
    second (C2) is of the wanted one, not relevant, and ranks behind place `tail`. Equal scores rank by their place in
    the gallery. Where no relevant item is among the `top`, every item of a wrong modality there is of the first kind.

    Args:
        scores: of queries with gallery items, higher is nearer.
        relevant: which items are relevant.
        wrong: which items are not of the modality that the query wants.
        top, tail: places.

    Raises:
        XgapError: a query without relevant items, or places that are none.

    Source: Lin et al., MM-Embed: universal multimodal retrieval with multimodal LLMs, ICLR 2025 (modality-aware hard
    negative mining).

    Example:
        >>> scores, right = torch.tensor([[0.9, 0.8, 0.7, 0.1]]), torch.tensor([[False, False, True, False]])
        >>> found = modality_negatives(scores, right, torch.tensor([[True, False, False, True]]), top=4, tail=3)
        >>> found.wrong, found.right, found.rate
        (((0,),), ((),), 1.0)
    """
    if not 0 <= tail <= top or top < 1:
        raise XgapError(f"places are 0 <= tail <= top with top of 1 or more, not tail={tail}, top={top}")
    if not bool(relevant.any(dim=1).all()):
        missing = int((~relevant.any(dim=1)).nonzero()[0])
        raise XgapError(f"query {missing} has no relevant item, above which nothing can rank")
    order: Int[Tensor, "q m"] = scores.argsort(dim=1, descending=True, stable=True)[:, :top]
    hit, other = relevant.gather(1, order), wrong.gather(1, order)
    before = hit.long().cumsum(dim=1) == 0
    behind = torch.arange(order.shape[1], device=order.device) >= tail
    first = other & before & ~hit
    second = ~other & ~hit & behind
    return ModalityNegatives(_positions(order, first), _positions(order, second))


def _positions(order: Tensor, kept: Tensor) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(row[mask].tolist()) for row, mask in zip(order, kept, strict=True))
