"""TokenFeatures: a set of unit vectors per item, ragged inside and padded one block at a time."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import (
    ROWS,
    UNIT_TOLERANCE,
    Features,
    FeaturesLike,
    as_features,
    assign,
    of_one_set,
    places_of,
    where_doubles_are,
)
from xgap_analysis.core.precision import widest
from xgap_analysis.core.table_values import id_text


@dataclass(frozen=True, eq=False, init=False)
class TokenFeatures:
    """One or more unit vectors per item: the patches of an image, the words of a text, the frames of a clip.

    The tokens of all items lie behind one another in one matrix: those of item i are the rows `offsets[i]` to
    `offsets[i + 1]`. Memory therefore grows with the number of tokens, and never with the longest item.

    Args:
        vectors: `[N, d]` tensor or array of all tokens, item by item; stored as float32 on its device, each row scaled
            to unit length.
        offsets: `[n + 1]` whole numbers from 0 to N: where each item's tokens begin, and where the last one's end.
        ids: n distinct strings, one per item.
        space: the modality in whose part of the sphere the vectors lie: `"image"`, `"text"`, or another name.
        origin: the modality of the items they were made from.
        provenance: how they were made.
        items: the set of items that the ids belong to, a digest of it say; empty where ids are names.
        weights: `[N]` how much each token counts (attention of the class token, say): kept beside the tokens, and read
            by `pooled(weighted=True)` and by scorers that say so.
        norms: `[N]` the lengths that the vectors had before they were scaled; by default those of the rows given.

    Raises:
        XgapError: not a matrix, offsets that do not fit, an item without tokens, a NaN or infinite value, a zero row,
            or ids, weights or norms that do not fit. The message names the item.

    Example:
        >>> import torch
        >>> tokens = TokenFeatures(torch.eye(3), [0, 2, 3], ["a", "b"], "image", "image")
        >>> [len(tokens.tokens_of(item)) for item in tokens.ids]
        [2, 1]
    """

    vectors: Tensor
    offsets: Tensor
    ids: Sequence[str]
    space: str
    origin: str
    provenance: Mapping[str, Any]
    items: str
    weights: Tensor | None
    norms: Tensor

    def __repr__(self) -> str:
        """One line: items, tokens and dimensions, where the vectors lie and what they were made from."""
        shape = f"{len(self)} items, {list(self.vectors.shape)}"
        return f"TokenFeatures({shape}, space={self.space!r}, origin={self.origin!r})"

    def __init__(
        self,
        vectors: Tensor | np.ndarray,
        offsets: Tensor | np.ndarray | Sequence[int],
        ids: Iterable[str],
        space: str,
        origin: str,
        provenance: Mapping[str, Any] | None = None,
        items: str = "",
        *,
        weights: Tensor | np.ndarray | Sequence[float] | None = None,
        norms: Tensor | np.ndarray | Sequence[float] | None = None,
    ) -> None:
        ids = _ids(ids)
        unit, lengths, offsets = _unit_rows(vectors, offsets, ids)
        norms = _column(lengths if norms is None else norms, "norms", unit, offsets, ids)
        _refuse(norms <= 0, offsets, ids, "whose norm is zero or negative")
        weights = None if weights is None else _column(weights, "weights", unit, offsets, ids)
        labels = {"ids": ids, "space": space, "origin": origin, "provenance": dict(provenance or {}), "items": items}
        assign(self, vectors=unit, offsets=offsets, weights=weights, norms=norms, **labels)

    @classmethod
    def from_sets(
        cls,
        sets: Sequence[Tensor | np.ndarray],
        ids: Iterable[str],
        space: str,
        origin: str,
        provenance: Mapping[str, Any] | None = None,
        items: str = "",
        *,
        weights: Sequence[Tensor | np.ndarray] | None = None,
    ) -> "TokenFeatures":
        """Tokens from one matrix `[t_i, d]` per item, with a list of `[t_i]` weights where there are any.

        Raises:
            XgapError: no item, a set that is not a matrix or is of another width, or what `TokenFeatures` refuses.
        """
        ids = _ids(ids)
        vectors, offsets, beside = _one_behind_another(sets, ids, weights)
        return cls(vectors, offsets, ids, space, origin, provenance, items, weights=beside)

    @classmethod
    def from_features(cls, features: Features) -> "TokenFeatures":
        """The same items with one token each."""
        made = cls.__new__(cls)
        labels = {name: getattr(features, name) for name in ("ids", "space", "origin", "provenance")}
        ones = torch.ones(len(features), device=features.vectors.device)
        offsets, items = torch.arange(len(features) + 1), features.items
        assign(made, vectors=features.vectors, offsets=offsets, **labels, items=items, weights=None, norms=ones)
        return made

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dim(self) -> int:
        """Number of dimensions d."""
        return self.vectors.shape[1]

    @cached_property
    def lengths(self) -> Int[Tensor, " n"]:
        """The number of tokens of each item (on the CPU, as `offsets` are)."""
        return self.offsets.diff()

    def has_items_of(self, other: "AnyFeatures") -> bool:
        """Whether an id stands for the same item in both: one origin and one set of items."""
        return of_one_set(self, other)

    def tokens_of(self, item: str) -> Float[Tensor, "t d"]:
        """The tokens of one item.

        Raises:
            XgapError: an id that is not there.
        """
        return self.select([item]).vectors

    def select(self, ids: Iterable[str]) -> "TokenFeatures":
        """The items of these ids, in this order (an id that is not there is an error)."""
        ids = tuple(ids)
        places = places_of(ids, self.ids, "tokens")
        if len(set(ids)) != len(ids):
            raise XgapError("an id is selected twice; ids must be distinct")
        return self.take(torch.tensor(places, dtype=torch.long))

    def take(self, rows: Int[Tensor, " k"]) -> "TokenFeatures":
        """The items at these positions, each at most once, in this order."""
        return self._with(**_taken(self, rows.cpu()))

    def to(self, device: str | torch.device) -> "TokenFeatures":
        """The same tokens on another device."""
        weights = None if self.weights is None else self.weights.to(device)
        return self._with(vectors=self.vectors.to(device), weights=weights, norms=self.norms.to(device))

    def labelled(self, **labels: Any) -> "TokenFeatures":
        """The same tokens with another `space`, `origin`, `provenance` or `items`.

        Raises:
            XgapError: something else than these four.
        """
        wrong = labels.keys() - {"space", "origin", "provenance", "items"}
        if wrong:
            what = f"only space, origin, provenance and items can be replaced, not {', '.join(sorted(wrong))}"
            raise XgapError(f"{what}; make new TokenFeatures, which are validated")
        return self._with(**labels)

    def padding(self, rows: Int[Tensor, " k"]) -> tuple[Int[Tensor, "k t"], Bool[Tensor, "k t"]]:
        """Where the tokens of the items at these positions lie, padded to the longest of them, and which are tokens.

        Padding repeats the row of the item's first token. Both are on the CPU.
        """
        lengths, first = self.lengths[rows], self.offsets[rows]
        place = torch.arange(int(lengths.max()) if len(rows) else 0)
        mask = place < lengths[:, None]
        return first[:, None] + place * mask, mask

    def padded(self, start: int = 0, stop: int | None = None) -> tuple[Float[Tensor, "n t d"], Bool[Tensor, "n t"]]:
        """The items from `start` to `stop` as one array, zero where an item has no token, and a mask of the tokens."""
        index, mask = self.padding(torch.arange(*slice(start, stop).indices(len(self))))
        device = self.vectors.device
        return self.vectors[index.to(device)] * mask.to(device)[..., None], mask.to(device)

    def pooled(self, weighted: bool = False) -> Features:
        """One vector per item: the direction of the mean of its tokens, or of the mean by `weights`.

        Raises:
            XgapError: a mean without a direction (opposite tokens; the item is named), or no weights to read.
        """
        return self._features(_means(self, weighted), pooled="weights" if weighted else "mean")

    def features(self) -> Features:
        """The vectors of items with one token each.

        Raises:
            XgapError: an item with more than one token.
        """
        more = (self.lengths != 1).nonzero()
        if len(more):
            item, n = self.ids[int(more[0])], int(self.lengths[more[0]])
            raise XgapError(f"item {item!r} has {n} tokens; use pooled() for one vector per item")
        return self._features(self.vectors)

    def _features(self, vectors: Tensor, **about: str) -> Features:
        made = Features(vectors, self.ids, self.space, self.origin, {**self.provenance, **about})
        assign(made, items=self.items)
        return made

    def _with(self, **changes: Any) -> "TokenFeatures":
        made = type(self).__new__(type(self))
        assign(made, **{**{f.name: getattr(self, f.name) for f in fields(self)}, **changes})
        return made


AnyFeatures = Features | TokenFeatures
NO_DIRECTION = 1e-6  # of the sum of lengths: a sum of float32 vectors that is shorter is rounding


def as_tokens(features: AnyFeatures) -> TokenFeatures:
    """Token features as they are, and features as one token per item."""
    return features if isinstance(features, TokenFeatures) else TokenFeatures.from_features(features)


def _ids(given: Iterable[str]) -> tuple[str, ...]:
    ids = tuple(map(id_text, given))
    if len(set(ids)) != len(ids):
        twice = next(i for i, n in Counter(ids).items() if n > 1)
        raise XgapError(f"id {twice!r} stands for more than one item; ids must be distinct")
    return ids


def _unit_rows(given: Any, offsets: Any, ids: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
    """Unit rows, the lengths they had (1 where they are kept as they are) and checked offsets."""
    vectors = torch.as_tensor(given).detach()
    if vectors.ndim != 2:
        raise XgapError(f"the vectors of all tokens must be a matrix [N, d], not of shape {tuple(vectors.shape)}")
    offsets = _offsets(offsets, len(vectors), ids)
    number = widest(vectors.device)
    vectors = vectors if vectors.is_floating_point() else vectors.to(number)
    lengths = torch.cat([part.to(number).norm(dim=1) for part in vectors.split(ROWS)])
    _refuse(~torch.isfinite(lengths), offsets, ids, "that is NaN or infinite")
    _refuse(lengths == 0, offsets, ids, "that is zero and has no direction")
    scaled = (lengths - 1).abs() > UNIT_TOLERANCE
    unit = torch.empty(vectors.shape, dtype=torch.float32, device=vectors.device).copy_(vectors)
    for rows in scaled.nonzero()[:, 0].split(ROWS):
        unit[rows] = (vectors[rows].to(number) / lengths[rows, None]).float()
    return unit, torch.where(scaled, lengths, 1.0), offsets


def _one_behind_another(sets: Sequence[Any], ids: Sequence[str], weights: Sequence[Any] | None) -> tuple[Any, ...]:
    """The tokens of all sets, where those of each begin, and their weights."""
    parts = [torch.as_tensor(one).detach() for one in sets]
    if not parts:
        raise XgapError("there is no set of tokens, so that their width is unknown; give TokenFeatures [0, d]")
    if len(parts) != len(ids):
        raise XgapError(f"{len(ids)} ids were given for {len(parts)} sets of tokens")
    for item, part in zip(ids, parts, strict=True):
        if part.ndim != 2:
            raise XgapError(f"the tokens of item {item!r} must be a matrix [t, d], not {tuple(part.shape)}")
        if part.shape[1] != parts[0].shape[1]:
            widths = f"{part.shape[1]} dimensions, and those of {ids[0]!r} {parts[0].shape[1]}"
            raise XgapError(f"the tokens of item {item!r} have {widths}; they must be the same")
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
    columns = None if weights is None else [torch.as_tensor(column) for column in weights]
    if columns is not None and [tuple(c.shape) for c in columns] != [(len(part),) for part in parts]:
        raise XgapError("each set of tokens needs one weight per token: a list of [t_i] beside the [t_i, d]")
    return torch.cat(parts), offsets, None if columns is None else torch.cat(columns)


def _taken(tokens: TokenFeatures, rows: Tensor) -> dict[str, Any]:
    lengths = tokens.lengths[rows]
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
    index = torch.repeat_interleave(tokens.offsets[rows] - offsets[:-1], lengths) + torch.arange(int(offsets[-1]))
    index = index.to(tokens.vectors.device)
    columns = {"vectors": tokens.vectors, "norms": tokens.norms, "weights": tokens.weights}
    taken = {name: None if column is None else column[index] for name, column in columns.items()}
    return {**taken, "offsets": offsets, "ids": tuple(map(tokens.ids.__getitem__, rows.tolist()))}


def _means(tokens: TokenFeatures, weighted: bool) -> Float[Tensor, "n d"]:
    """The sum of each item's tokens: the direction of their mean."""
    vectors = tokens.vectors.to(widest(tokens.vectors.device))
    if weighted:
        if tokens.weights is None:
            raise XgapError("these tokens have no weights; leave out weighted=True")
        vectors = vectors * tokens.weights[:, None]
    row = torch.repeat_interleave(torch.arange(len(tokens)), tokens.lengths).to(vectors.device)
    total = vectors.new_zeros(len(tokens), tokens.dim).index_add_(0, row, vectors)
    least = NO_DIRECTION * torch.zeros_like(total[:, 0]).index_add_(0, row, vectors.norm(dim=1))
    none = (total.norm(dim=1) <= least).nonzero()
    if len(none):
        what = f"the tokens of item {tokens.ids[int(none[0])]!r} cancel out: their mean has no direction"
        raise XgapError(f"{what} ({len(none)} such); score their tokens, or leave the item out")
    return total


def _offsets(given: Any, n_tokens: int, ids: Sequence[str]) -> Tensor:
    offsets = torch.as_tensor(given).detach().cpu()
    if offsets.ndim != 1 or offsets.is_floating_point() or offsets.is_complex():
        raise XgapError(f"offsets must be a list of whole numbers [n + 1], not {offsets.dtype} {tuple(offsets.shape)}")
    offsets = offsets.long().clone()
    if len(offsets) != len(ids) + 1:
        raise XgapError(f"{len(ids)} items need {len(ids) + 1} offsets, not {len(offsets)}")
    if int(offsets[0]) != 0 or int(offsets[-1]) != n_tokens or bool((offsets.diff() < 0).any()):
        span = f"from {int(offsets[0])} to {int(offsets[-1])}"
        raise XgapError(f"offsets must rise from 0 to the number of tokens, {n_tokens}; these go {span}")
    empty = (offsets.diff() == 0).nonzero()
    if len(empty):
        raise XgapError(f"item {ids[int(empty[0])]!r} has no tokens ({len(empty)} such); leave it out")
    return offsets


def _refuse(wrong: Tensor, offsets: Tensor, ids: Sequence[str], what: str) -> None:
    """Raises an error that names the item of the first wrong token."""
    rows = wrong.nonzero()
    if len(rows):
        row = int(rows[0])
        item = int(torch.searchsorted(offsets, torch.tensor(row), right=True)) - 1
        place = row - int(offsets[item])
        raise XgapError(f"item {ids[item]!r} has a token, number {place}, {what} ({len(rows)} such)")


def _column(given: Any, name: str, unit: Tensor, offsets: Tensor, ids: Sequence[str]) -> Tensor:
    column = torch.as_tensor(given).detach().to(unit.device, torch.float32)
    if tuple(column.shape) != (len(unit),):
        raise XgapError(f"{name} must be one number per token, [{len(unit)}], not {tuple(column.shape)}")
    _refuse(~torch.isfinite(column), offsets, ids, f"whose {name} are NaN or infinite")
    return column


ScoredLike = TokenFeatures | FeaturesLike  # what can be scored: one vector per item, a set of them, or an array


def as_scored(x: ScoredLike) -> AnyFeatures:
    """Sets of vectors as they are; anything else as `as_features` reads it.

    Raises:
        XgapError: as `as_features`.
    """
    return x if isinstance(x, TokenFeatures) else where_doubles_are(as_features(x))


def scored_pair(query: ScoredLike, gallery: ScoredLike) -> tuple[AnyFeatures, AnyFeatures]:
    """Query and gallery, as one where they are one.

    Raises:
        XgapError: as `as_features`.
    """
    first = as_scored(query)
    return first, first if gallery is query else as_scored(gallery)
