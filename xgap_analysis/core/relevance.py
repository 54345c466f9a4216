"""Which gallery items are relevant to a query, and which are left out of its ranking."""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.table_values import id_text, is_missing, plain

Labels = Sequence[Hashable] | Mapping[str, Hashable]
Grades = Mapping[str, Mapping[str, int | float]]  # query id -> item id -> grade
Value = TypeVar("Value")


class Unlabelled(Enum):
    """The label of an item that has none; two such items share no class."""

    LABEL = "none"


UNLABELLED = Unlabelled.LABEL


@dataclass(frozen=True)
class Relevance:
    """Which gallery items are relevant to a query, and which are left out of its ranking.

    Made by `from_labels` (same label, grade 1) or `from_qrels` (sparse grades, junk removed from the
    ranking as in the revisited Oxford/Paris protocol).

    Example:
        >>> import xgap_analysis as xg
        >>> by_label = xg.Relevance.from_labels({"q": "cat"}, {"a": "cat", "b": "dog"})  # a is relevant to q
        >>> by_item = xg.Relevance.from_qrels({"q": {"b": 2}}, junk={"q": ["a"]})  # b with grade 2; a is not ranked
        >>> by_item.qrels
        {'q': {'b': 2}}
    """

    query_labels: Labels | None = None
    gallery_labels: Labels | None = None
    qrels: Grades | None = None
    junk: Mapping[str, Collection[str]] = field(default_factory=dict)

    @classmethod
    def from_labels(
        cls,
        query_labels: Iterable[Hashable] | Mapping[str, Hashable],
        gallery_labels: Iterable[Hashable] | Mapping[str, Hashable],
    ) -> "Relevance":
        """An item is relevant to a query when their labels are equal.

        Args:
            query_labels, gallery_labels: one label per row, in the rows' order (a list, an array, a tensor, a Series),
                or a mapping from id to label.
        """
        return cls(query_labels=_as_labels(query_labels), gallery_labels=_as_labels(gallery_labels))

    @classmethod
    def from_qrels(cls, qrels: Grades, junk: Mapping[str, Collection[str]] | None = None) -> "Relevance":
        """Graded relevance: `qrels[query_id][item_id]` > 0 is relevant; `junk[query_id]` is ignored.

        Ids may be numbers: 7 and `"7"` are one id, as they are in `Features`.

        Raises:
            XgapError: an id with two grades (7 and `"7"`), a missing grade, or items that are no mapping to grades.
        """
        wrong = next((query for query, of in qrels.items() if not isinstance(of, Mapping)), None)
        if wrong is not None:
            raise XgapError(f"the grades of query {wrong!r} are a {type(qrels[wrong]).__name__}, not item to grade")
        graded = by_id({query: by_id(of, "item") for query, of in qrels.items()}, "query")
        none = next(((q, i) for q, of in graded.items() for i, grade in of.items() if is_missing(grade)), None)
        if none is not None:
            raise XgapError(f"item {none[1]!r} has no grade for query {none[0]!r}; leave it out")
        ignored = {query: frozenset(map(id_text, of)) for query, of in (junk or {}).items()}
        return cls(qrels=graded, junk=by_id(ignored, "query"))

    def pairs(
        self, query_ids: Sequence[str], gallery_ids: Sequence[str], one_set: bool = False
    ) -> dict[str, tuple[str, ...]]:
        """The relevant items of each query that has any, by id.

        Args:
            query_ids, gallery_ids: of the rows.
            one_set: whether an id stands for the same item in both, so that a query is no pair with itself.

        Raises:
            XgapError: as `bind`.
        """
        row, column, _ = self.bind(query_ids, gallery_ids).relevant(0, len(query_ids))
        made: dict[str, list[str]] = {}
        for i, j in zip(row.tolist(), column.tolist(), strict=True):
            query, item = query_ids[i], gallery_ids[j]
            if not (one_set and query == item):
                made.setdefault(query, []).append(item)
        return {query: tuple(items) for query, items in made.items()}

    def bind(self, query_ids: Sequence[str], gallery_ids: Sequence[str]) -> "BoundRelevance":
        """Relevance of these gallery items to these queries, read in blocks of queries.

        Raises:
            XgapError: labels that do not fit the rows, or an id without a label.
        """
        if self.qrels is not None:
            return BoundRelevance(query_ids, gallery_ids, None, None, self.qrels, self.junk)
        assert self.query_labels is not None and self.gallery_labels is not None
        names: dict[Hashable, int] = {}
        codes = []
        for role, labels, ids in (
            ("query", self.query_labels, query_ids),
            ("gallery", self.gallery_labels, gallery_ids),
        ):
            if isinstance(labels, Mapping):
                missing = [i for i in ids if i not in labels]
                if missing:
                    raise XgapError(f"{len(missing)} {role} ids have no label, the first is {missing[0]!r}")
                labels = [labels[i] for i in ids]
            elif len(labels) != len(ids):
                raise XgapError(f"{len(labels)} {role} labels were given for {len(ids)} {role} vectors")
            absent = [i for i, label in zip(ids, labels, strict=True) if _label(label) is None]
            if absent:
                what = f"{len(absent)} of {len(ids)} {role} labels are missing (None or NaN), the first that of"
                raise XgapError(f"{what} {absent[0]!r}; leave these items out, since a missing label is no class")
            # Each item without a label is in a class of its own.
            of = (object() if label is UNLABELLED else label for label in labels)
            codes.append(torch.tensor([names.setdefault(label, len(names)) for label in of], dtype=torch.long))
        return BoundRelevance(query_ids, gallery_ids, codes[0], codes[1], None, {})


def _as_labels(labels: Iterable[Hashable] | Mapping[str, Hashable]) -> Labels:
    """Labels as they are, or as plain values: two tensors of one number are two keys of a dict."""
    if isinstance(labels, Mapping):
        return by_id(labels, "item")
    return tuple(_label(label) for label in (labels.tolist() if hasattr(labels, "tolist") else labels))


def _label(label: Hashable) -> Hashable:
    """A label as a plain value; None where it is NaN, NaT or pd.NA (words are taken as they are)."""
    if isinstance(label, str):
        return label
    return None if is_missing(label) else plain(label)


def by_id(found: Mapping[Any, Value], what: str) -> Mapping[str, Value]:
    """A mapping whose keys are ids, with each as text.

    Raises:
        XgapError: two keys of one text with different values, or a key that is no id.
    """
    if all(type(key) is str for key in found):
        return found
    texts: dict[str, Value] = {}
    for key, value in found.items():
        text = id_text(key)
        if text in texts and texts[text] != value:
            raise XgapError(f"the {what} {text!r} is given twice, as text and as a number, with different values")
        texts[text] = value
    return texts


def as_relevance(given: Any, query: Any, gallery: Any) -> Relevance:
    """Which items are relevant to which, from what a metric is given beside a query and a gallery.

    Args:
        given: a `Relevance`; what has one (a `Dataset`); a mapping from id to label, of both; a mapping from query id
            to the grades of items (`from_qrels`); a pair of such mappings or of lists of labels, for query and gallery;
            or one list of labels for both, where query and gallery are the same items.
        query, gallery: features.

    Raises:
        XgapError: something else, one list for two sets of items, or a mapping by numbers of rows that two sets have.
    """
    if isinstance(given, Relevance):
        return given
    if isinstance(given, HasRelevance):
        return given.relevance()
    if isinstance(given, Mapping):
        if given and all(isinstance(value, Mapping) for value in given.values()):
            return Relevance.from_qrels(given)
        if _numbered(query) and _numbered(gallery) and query.origin == gallery.origin and query.items != gallery.items:
            what = "row 5 of the query and row 5 of the gallery are two items, and a mapping has one label for both"
            raise XgapError(f"{what}; give a pair of lists, (labels of the query, labels of the gallery)")
        return Relevance.from_labels(given, given)
    if isinstance(given, list | tuple) and len(given) == 2 and all(map(_is_labels, given)):
        return Relevance.from_labels(*given)
    if not _is_labels(given):
        what = "relevance is a Relevance, a Dataset, a mapping from id to label, a list of labels or a pair of lists"
        raise XgapError(f"{what}, not {str(given)[:40]!r}")
    if not query.has_items_of(gallery) or tuple(query.ids) != tuple(gallery.ids):
        what = f"one list of labels is for a query and a gallery of the same items, and these are {len(query)} and"
        raise XgapError(f"{what} {len(gallery)} others; give a pair of lists, (labels of the query, of the gallery)")
    return Relevance.from_labels(given, given)


def labels_by_id(given: Any, sets: Sequence[Any]) -> Mapping[str, Any]:
    """Labels by id, from a mapping, or from one list for sets of features of the same items.

    Raises:
        XgapError: a list for sets of other items, or another number of labels than of rows.
    """
    if isinstance(given, Mapping):
        return by_id(given, "item")
    if not _is_labels(given):
        raise XgapError(f"labels are a mapping from id to label, or a list of them, not {str(given)[:40]!r}")
    ids = tuple(sets[0].ids)
    if any(tuple(other.ids) != ids for other in sets):
        raise XgapError("one list of labels is for features of the same items; give a mapping from id to label")
    values = given.tolist() if hasattr(given, "tolist") else list(given)
    if len(values) != len(ids):
        raise XgapError(f"{len(values)} labels were given for {len(ids)} rows of features")
    return dict(zip(ids, values, strict=True))


def _numbered(features: Any) -> bool:
    """Whether rows are known by their number in a set of their own; sets of tokens have ids always."""
    return bool(getattr(features, "numbered", False))


def _is_labels(given: Any) -> bool:
    """Whether it holds one label per item: a list, an array or tensor of one dimension, a Series, a mapping by id."""
    if isinstance(given, str | bytes) or not hasattr(given, "__len__") or not hasattr(given, "__iter__"):
        return False
    return len(getattr(given, "shape", (0,))) == 1


class BoundRelevance:
    """Relevance between given query rows and gallery rows; see `Relevance.bind`."""

    def __init__(
        self,
        query_ids: Sequence[str],
        gallery_ids: Sequence[str],
        query_codes: Tensor | None,
        gallery_codes: Tensor | None,
        qrels: Grades | None,
        junk: Mapping[str, Collection[str]],
    ) -> None:
        self.query_ids, self.gallery_ids = query_ids, gallery_ids
        self._query_codes, self._gallery_codes = query_codes, gallery_codes
        self._qrels, self._junk = qrels, junk

    @cached_property
    def _column(self) -> dict[str, int]:
        """The column of each gallery item: as large as the gallery, and made when it is first needed."""
        return {item: i for i, item in enumerate(self.gallery_ids)}

    def grades(self, start: int, stop: int) -> Tensor:
        """Grades of the queries `start` to `stop`: float32 `[stop - start, n_gallery]`, 0 where not relevant."""
        if self._query_codes is not None and self._gallery_codes is not None:
            return (self._query_codes[start:stop, None] == self._gallery_codes[None]).float()
        row, column, grade = self.relevant(start, stop)
        grades = torch.zeros(stop - start, len(self.gallery_ids))
        grades[row, column] = grade
        return grades

    def relevant(self, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        """The same as r cells: row, column and grade (above 0) of each, by row and then by column."""
        if self._query_codes is not None:
            of, by_label, first = self._query_codes[start:stop], *self._groups
            n = first[of + 1] - first[of]
            row = torch.arange(stop - start).repeat_interleave(n)
            nth = torch.arange(len(row)) - (n.cumsum(0) - n)[row]
            return row, by_label[first[of][row] + nth], torch.ones(len(row))
        assert self._qrels is not None
        cells = sorted(
            (row, self._column[item], float(grade))
            for row, query in enumerate(self.query_ids[start:stop])
            for item, grade in self._qrels.get(query, {}).items()
            if item in self._column and grade > 0
        )
        row, column = _pairs([cell[:2] for cell in cells])
        return row, column, torch.tensor([grade for *_, grade in cells])

    def relevant_at(self, query: Tensor, nth: Tensor) -> Tensor:
        """The columns `[p]` of single relevant items: the nth (from 0) of each query, in the gallery's order."""
        if self._query_codes is not None:
            by_label, first = self._groups
            return by_label[first[self._query_codes[query]] + nth]
        pairs = zip(query.tolist(), nth.tolist(), strict=True)
        return torch.tensor([int(self.relevant(q, q + 1)[1][i]) for q, i in pairs], dtype=torch.long)

    def kinds(self, query: Tensor, column: Tensor, exclude_self: bool = True) -> tuple[Tensor, Tensor]:
        """Which of `[p]` pairs of a query and a gallery item are relevant, and which are left out of the ranking."""
        if self._query_codes is not None and self._gallery_codes is not None:
            same = self._query_codes[query] == self._gallery_codes[column]
            return same, self._itself[query] == column if exclude_self else torch.zeros_like(same)
        assert self._qrels is not None
        rows = zip(query.tolist(), column.tolist(), strict=True)
        pairs = [(self.query_ids[i], self.gallery_ids[j]) for i, j in rows]
        same = torch.tensor([self._qrels.get(q, {}).get(i, 0) > 0 for q, i in pairs], dtype=torch.bool)
        gone = [(exclude_self and q == i) or i in self._junk.get(q, ()) for q, i in pairs]
        return same, torch.tensor(gone, dtype=torch.bool)

    @cached_property
    def _itself(self) -> Tensor:
        """The column of each query's own id `[n]`; -1 where the gallery has none."""
        return torch.tensor([self._column.get(query, -1) for query in self.query_ids])

    @cached_property
    def n_relevant(self) -> Tensor:
        """How many gallery items are relevant to each query `[n]`; an item that is left out may be among them."""
        if self._query_codes is not None:
            first = self._groups[1]
            return (first[1:] - first[:-1])[self._query_codes]
        assert self._qrels is not None
        of = (self._qrels.get(query, {}) for query in self.query_ids)
        return torch.tensor([sum(grade > 0 and item in self._column for item, grade in q.items()) for q in of])

    @cached_property
    def _groups(self) -> tuple[Tensor, Tensor]:
        """The gallery's columns by label, and where each label's begin."""
        assert self._query_codes is not None and self._gallery_codes is not None
        labels = int(torch.cat([self._query_codes, self._gallery_codes]).max()) + 1
        sizes = torch.bincount(self._gallery_codes, minlength=labels)
        return self._gallery_codes.argsort(stable=True), torch.cat([torch.zeros(1, dtype=torch.long), sizes.cumsum(0)])

    def ignored(self, start: int, stop: int, exclude_self: bool = True) -> Tensor:
        """Items left out of the ranking of the queries `start` to `stop`: bool `[stop - start, n_gallery]`.

        Junk items, and the query itself (found by id) unless `exclude_self` is false.
        """
        mask = torch.zeros(stop - start, len(self.gallery_ids), dtype=torch.bool)
        mask[self.left_out(start, stop, exclude_self)] = True
        return mask

    def left_out(self, start: int, stop: int, exclude_self: bool = True) -> tuple[Tensor, Tensor]:
        """The same as cells: row and column of each."""
        if not exclude_self and not self._junk:
            return _pairs([])
        queries = list(enumerate(self.query_ids[start:stop]))
        cells = [(row, self._column[q]) for row, q in queries if exclude_self and q in self._column]
        cells += [(row, self._column[i]) for row, q in queries for i in self._junk.get(q, ()) if i in self._column]
        return _pairs(cells)


def _pairs(cells: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    row, column = torch.tensor(cells, dtype=torch.long).reshape(-1, 2).T
    return row, column


@runtime_checkable
class HasRelevance(Protocol):
    """Anything that knows which items are relevant to which, such as a `Dataset`."""

    def relevance(self) -> Relevance:
        """Its (default) relevance."""
        ...


RelevanceLike = Relevance | HasRelevance | Mapping[Any, Any] | Sequence[Any] | ArrayLike  # see `as_relevance`
