"""TokenBlock: what a scorer of tokens is given, some items padded to the longest of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.precision import widest
from xgap_analysis.core.tokens import TokenFeatures


@dataclass(frozen=True, eq=False)
class TokenBlock:
    """The tokens of b items, padded to T.

    A scorer must read padding nowhere: no number may depend on it.

    Args:
        vectors: `[b, T, d]` unit rows, zero where an item has no token.
        mask: `[b, T]` whether there is a token; each item has one at least, its first place included.
        weights: `[b, T]` how much each token counts, where the features say so; zero where there is none.
        norms: `[b, T]` the lengths of the tokens before they were scaled; one where there is none.
        ids: the items, for error messages; may be left out.
    """

    vectors: Tensor
    mask: Tensor
    weights: Tensor | None = None
    norms: Tensor | None = None
    ids: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.vectors)

    @cached_property
    def counts(self) -> Int[Tensor, " b"]:
        """The number of tokens of each item."""
        return self.mask.sum(dim=1)

    @cached_property
    def whole(self) -> bool:
        """Whether all items have T tokens, so that there is no padding."""
        return bool(self.mask.all())

    @cached_property
    def repeated(self) -> Float[Tensor, "b t d"]:
        """The vectors with each item's first token in place of padding: a maximum needs no mask then."""
        if self.whole:
            return self.vectors
        return torch.where(self.mask[..., None], self.vectors, self.vectors[:, :1])

    @cached_property
    def by_place(self) -> Float[Tensor, "t b d"]:
        """The same, the first tokens of all items before their second ones: reductions run along whole rows so."""
        return self.repeated.transpose(0, 1).contiguous()

    @cached_property
    def precise(self) -> "TokenBlock":
        """The same block in double precision, where the device has it."""
        return replace(self, vectors=self.vectors.to(widest(self.vectors.device)))

    @cached_property
    def gram(self) -> Float[Tensor, "b t t"]:
        """The products of the tokens of an item with each other, in the vectors' precision; zero for padding."""
        return self.vectors @ self.vectors.transpose(1, 2)

    @property
    def directions(self) -> Float[Tensor, "b d"]:
        """The direction of the mean of each item's tokens, of unit length."""
        return normalize(self.vectors.sum(dim=1), dim=-1)

    def joined(self, how: str) -> "TokenBlock":
        """The `mean` or the `sum` of each item's tokens as its one token (not of unit length)."""
        vectors = self.vectors.sum(dim=1, keepdim=True)
        if how == "mean":
            vectors = vectors / self.counts[:, None, None]
        return TokenBlock(vectors, self.mask[:, :1], ids=self.ids)

    def split(self, most: int) -> Iterator["TokenBlock"]:
        """Parts of at most so many items, without `weights` and `norms`."""
        for start in range(0, len(self), most):
            part = slice(start, start + most)
            yield TokenBlock(self.vectors[part], self.mask[part], ids=self.ids[part])

    def items(self, lengths: Sequence[int]) -> Iterator["TokenBlock"]:
        """Each item by itself, without its padding."""
        for row, length in enumerate(lengths):
            of = slice(row, row + 1), slice(length)
            weights, norms = (None if column is None else column[of] for column in (self.weights, self.norms))
            yield TokenBlock(self.vectors[of], self.mask[of], weights, norms, self.ids[row : row + 1])

    def name(self, row: int) -> str:
        """An item as error messages name it."""
        return f"item {self.ids[row]!r}" if self.ids else f"item number {row}"

    def require(self, k: int, rule: str) -> None:
        """Raises an `XgapError` where an item has fewer than k tokens, whatever padding stands beside them."""
        if k <= 1:  # each item has one
            return
        few = (self.counts < k).nonzero()
        if len(few):
            row = int(few[0])
            what = f"{rule} needs {k} tokens per item, and {self.name(row)} has {int(self.counts[row])}"
            raise XgapError(f"{what}; choose a smaller k")


def block_of_tokens(tokens: TokenFeatures, rows: Int[Tensor, " b"], device: torch.device) -> TokenBlock:
    """The items at these positions as one block on a device."""
    index, mask = tokens.padding(rows)
    start, n = int(index[0, 0]), index.numel()
    here = tokens.vectors.device
    whole = bool(mask.all())
    neighbours = whole and bool((index.flatten() == torch.arange(start, start + n)).all())
    # Items of one length that lie behind one another need no copy. Others are gathered place by place (all first
    # tokens, then all second ones), which is how `similarities` reads a gallery.
    taken = None if neighbours else index.T.flatten().to(here)
    there = mask.to(device)

    def padded(column: Tensor, empty: float) -> Tensor:
        shape = tuple(index.shape) if neighbours else tuple(index.T.shape)
        rows = column[start : start + n] if taken is None else column.index_select(0, taken)
        of = rows.unflatten(0, shape).to(device)
        of = of if neighbours else of.transpose(0, 1)
        return of if whole else of.masked_fill(~there.view(*mask.shape, *(1,) * (of.ndim - 2)), empty)

    return TokenBlock(
        padded(tokens.vectors, 0.0),
        there,
        None if tokens.weights is None else padded(tokens.weights, 0.0),
        padded(tokens.norms, 1.0),
        tuple(map(tokens.ids.__getitem__, rows.tolist())),
    )


def similarities(query: TokenBlock, gallery: TokenBlock) -> Float[Tensor, "b tq tg m"]:
    """The cosine of each token of a query with each token of a gallery item, in the vectors' precision.

    Where an item has no token, its first one stands again: whatever is not a maximum must read the mask.
    """
    b, t, d = query.vectors.shape
    m, s, _ = gallery.vectors.shape
    product = query.repeated.reshape(b * t, d) @ gallery.by_place.reshape(s * m, d).T
    return product.view(b, t, s, m)
