"""What a data set is: items with stable ids, images opened when needed, texts, labels, splits, and relevance."""

import hashlib
import random
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cache, cached_property
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import Tensor

from xgap_analysis.cells import id_text, is_missing, plain
from xgap_analysis.datasets.contents import of_values
from xgap_analysis.errors import XgapError

Labels = Sequence[Hashable] | Mapping[str, Hashable]
Grades = Mapping[str, Mapping[str, int | float]]  # query id -> item id -> grade
Value = TypeVar("Value")


class Unlabelled(Enum):
    """What stands for the label of an item that has none; two such items are of no common class."""

    LABEL = "none"


UNLABELLED = Unlabelled.LABEL


@dataclass(frozen=True)
class Images:
    """Images with stable ids, opened one at a time as RGB.

    Args:
        ids: n distinct strings.
        opener: gives the picture of an id; an unreadable one raises.
        content: gives the digest of what an id's image is made of (see `datasets.contents`), by which what is computed
            from it is found again, whatever it is called; equal digests, equal pixels. Or a word (a version, say) that
            stands, with the id, for the content of each. Without one, nothing computed from the images is kept.
    """

    ids: Sequence[str]
    opener: Callable[[str], Image.Image] = field(repr=False)
    content: str | Callable[[str], str] = field(default="", repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Image.Image:
        return self.opener(self.ids[index])

    def select(self, ids: Iterable[str]) -> "Images":
        """The images of these ids, in this order (an id that is not there is an error)."""
        ids = tuple(ids)
        _check_known(ids, self.ids, "image")
        return replace(self, ids=ids)

    def digest_of(self, item: str) -> str:
        """The digest of an image's content; empty where nothing says what it is.

        Raises:
            OSError: a file that cannot be read.
        """
        if isinstance(self.content, str):
            return of_values(self.content, item) if self.content else ""
        return self.content(item)

    @property
    def digest(self) -> str:
        """A fingerprint of ids and content, all of which is read; empty where nothing says what the content is."""
        if not self.content:
            return ""
        lines = []
        for item in self.ids:
            try:
                lines.append(f"{item}\x1f{self.digest_of(item)}")
            except OSError:  # a missing file is said when it is opened
                lines.append(item)
        return hashlib.sha256("\x1e".join(lines).encode(errors="surrogateescape")).hexdigest()


@dataclass(frozen=True)
class Texts:
    """Captions with stable ids: `captions[i]` belongs to `ids[i]`."""

    ids: Sequence[str]
    captions: Sequence[str]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.captions):
            raise XgapError(f"{len(self.ids)} ids were given for {len(self.captions)} captions")

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> str:
        return self.captions[index]

    def __iter__(self) -> Iterator[str]:
        return iter(self.captions)

    @property
    def digest(self) -> str:
        """A fingerprint of ids and captions."""
        lines = (f"{i}\x1f{c}" for i, c in zip(self.ids, self.captions, strict=True))
        return hashlib.sha256("\x1e".join(lines).encode()).hexdigest()

    def select(self, ids: Iterable[str]) -> "Texts":
        """The captions of these ids, in this order (an id that is not there is an error)."""
        ids = tuple(ids)
        _check_known(ids, self.ids, "caption")
        caption = dict(zip(self.ids, self.captions, strict=True))
        return Texts(ids, tuple(caption[i] for i in ids))


def _check_known(chosen: Sequence[str], known: Sequence[str], what: str) -> None:
    there = set(known)
    missing = [i for i in chosen if i not in there]
    if missing:
        raise XgapError(f"{len(missing)} ids have no {what} here, the first is {missing[0]!r}")


def _no_image(item: str) -> Image.Image:
    raise XgapError(f"there is no image {item!r}: this data set has texts alone")


NO_IMAGES, NO_TEXTS = Images((), _no_image), Texts((), ())  # of a data set of one modality


@dataclass(frozen=True)
class Relevance:
    """Which gallery items answer a query, and which are left out of its ranking.

    Made by `from_labels` (same label, grade 1) or `from_qrels` (sparse graded judgements, junk removed from the
    ranking as in the revisited Oxford/Paris protocol).
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
            query_labels, gallery_labels: one label a row, in the rows' order (a list, an array, a tensor, a Series),
                or a mapping from id to label.
        """
        return cls(query_labels=_as_labels(query_labels), gallery_labels=_as_labels(gallery_labels))

    @classmethod
    def from_qrels(cls, qrels: Grades, junk: Mapping[str, Collection[str]] | None = None) -> "Relevance":
        """Graded judgements: `qrels[query_id][item_id]` > 0 is relevant; `junk[query_id]` is ignored.

        Ids may be numbers: 7 and `"7"` are one id, as they are in `Features`.

        Raises:
            XgapError: an id with two grades (7 and `"7"`), a missing grade, or items that are no mapping to grades.
        """
        wrong = next((query for query, of in qrels.items() if not isinstance(of, Mapping)), None)
        if wrong is not None:
            raise XgapError(f"the judgements of query {wrong!r} are a {type(qrels[wrong]).__name__}, not item to grade")
        graded = by_id({query: by_id(of, "item") for query, of in qrels.items()}, "query")
        none = next(((q, i) for q, of in graded.items() for i, grade in of.items() if is_missing(grade)), None)
        if none is not None:
            raise XgapError(f"the judgement of item {none[1]!r} for query {none[0]!r} has no grade; leave it out")
        ignored = {query: frozenset(map(id_text, of)) for query, of in (junk or {}).items()}
        return cls(qrels=graded, junk=by_id(ignored, "query"))

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
        for side, labels, ids in (
            ("query", self.query_labels, query_ids),
            ("gallery", self.gallery_labels, gallery_ids),
        ):
            if isinstance(labels, Mapping):
                missing = [i for i in ids if i not in labels]
                if missing:
                    raise XgapError(f"{len(missing)} {side} ids have no label, the first is {missing[0]!r}")
                labels = [labels[i] for i in ids]
            elif len(labels) != len(ids):
                raise XgapError(f"{len(labels)} {side} labels were given for {len(ids)} {side} vectors")
            absent = [i for i, label in zip(ids, labels, strict=True) if _label(label) is None]
            if absent:
                what = f"{len(absent)} of {len(ids)} {side} labels are missing (None or NaN), the first that of"
                raise XgapError(f"{what} {absent[0]!r}; leave these items out, since a missing label is no class")
            # Each item without a label is of a class of its own, which nothing else is of.
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
        self._column = {item: i for i, item in enumerate(gallery_ids)}

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
        queries = list(enumerate(self.query_ids[start:stop]))
        cells = [(row, self._column[q]) for row, q in queries if exclude_self and q in self._column]
        cells += [(row, self._column[i]) for row, q in queries for i in self._junk.get(q, ()) if i in self._column]
        return _pairs(cells)


def _pairs(cells: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    row, column = torch.tensor(cells, dtype=torch.long).reshape(-1, 2).T
    return row, column


@dataclass(frozen=True)
class Dataset:
    """One split of a data set.

    Args:
        name, split_name: for provenance and tables.
        images, texts: the items; either may be empty.
        labels: level (`"concept"`, `"subgroup"`, ...) to a mapping from item id (image or text) to label.
            The first level is the default relevance.
        class_names: level to a mapping from label to the words that name it (zero-shot classification).
        image_queries, text_queries: ids of the items that ask in retrieval within their modality; the others are
            the gallery. Empty: every item asks, and all others are its gallery.
        splits: split name to a function that makes it.
        judgements: level to relevance that is judged item by item (graded, with junk) where no label says it; the
            first of these, if there are any, is the default relevance.
        prompt: the text of a class, `{}` its name.
        control: whether there is nothing to find, as after `shuffled`; its rows in a study carry no verdict.
    """

    name: str
    split_name: str
    images: Images
    texts: Texts
    labels: Mapping[str, Mapping[str, str]]
    class_names: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    image_queries: Sequence[str] = ()
    text_queries: Sequence[str] = ()
    splits: Mapping[str, Callable[[], "Dataset"]] = field(default_factory=dict, repr=False)
    judgements: Mapping[str, Relevance] = field(default_factory=dict, repr=False)
    prompt: str = "a photo of {}"
    control: bool = False

    def queries(self, space: str) -> tuple[str, ...]:
        """Ids of the items of a modality (`"image"` or `"text"`) that ask in retrieval within it."""
        items, asking = self._side(space)
        return tuple(asking or items.ids)

    def gallery(self, space: str) -> tuple[str, ...]:
        """Ids of the items of a modality that are searched in retrieval within it."""
        items, asking = self._side(space)
        left_out = set(asking)
        return tuple(i for i in items.ids if i not in left_out)

    def has_queries(self, space: str) -> bool:
        """Whether some items of a modality ask and others are searched; otherwise each item does both."""
        return bool(self._side(space)[1])

    def _side(self, space: str) -> tuple[Images | Texts, Sequence[str]]:
        if space not in ("image", "text"):
            raise XgapError(f"data set {self.name!r} has images and texts, not {space!r}")
        return (self.images, self.image_queries) if space == "image" else (self.texts, self.text_queries)

    def split(self, name: str) -> "Dataset":
        """Another split of this data set.

        Raises:
            XgapError: no such split, or an empty one.
        """
        if name not in self.splits:
            raise XgapError(f"data set {self.name!r} has no split {name!r}; it has: {', '.join(self.splits)}")
        chosen = self.splits[name]()
        if not len(chosen.images) and not len(chosen.texts):
            raise XgapError(f"split {name!r} of data set {self.name!r} is empty")
        return chosen

    @property
    def default_level(self) -> str:
        """The first level of judgements, or of labels where nothing is judged item by item.

        Raises:
            XgapError: a data set with neither.
        """
        levels = (*self.judgements, *self.labels)
        if not levels:
            raise XgapError(f"data set {self.name!r} has no labels, so nothing says which items answer each other")
        return levels[0]

    def labels_of(self, level: str | None = None) -> Mapping[str, str]:
        """Label by item id, of a level (the default one, if none is named); none where a level is judged item by item.

        Raises:
            XgapError: no such level.
        """
        level = level or self.default_level
        if level in self.judgements:
            return {}
        if level not in self.labels:
            known = ", ".join((*self.judgements, *self.labels))
            raise XgapError(f"data set {self.name!r} has no labels {level!r}; it has: {known}")
        return self.labels[level]

    def relevance(self, level: str | None = None) -> Relevance:
        """Two items (of either modality) answer each other when they share the label of this level, or as is judged.

        Where some items of a modality have no label, those are relevant to nothing: as queries they are counted among
        the queries without a relevant item, and in a gallery they only stand in the way.
        """
        level = level or self.default_level
        if level in self.judgements:
            return self.judgements[level]
        of: Mapping[str, Hashable] = self.labels_of(level)
        for ids in (self.images.ids, self.texts.ids):
            lacking = [i for i in ids if i not in of]
            if 0 < len(lacking) < len(ids):
                of = {**of, **dict.fromkeys(lacking, UNLABELLED)}
        return Relevance.from_labels(of, of)

    def words_of(self, level: str | None = None) -> dict[str, str]:
        """Label to the text of the class, of a level: its name in the data set's prompt.

        Raises:
            XgapError: a level whose classes have no names.
        """
        level = level or self.default_level
        names = self.class_names.get(level)
        if not names:
            raise XgapError(f"data set {self.name!r} names no classes of level {level!r}")
        return {label: self.prompt.replace("{}", words) for label, words in names.items()}

    def limit(self, n_labels: int) -> "Dataset":
        """The items of `n_labels` labels of the default level, chosen by a hash of the label (a smaller, fair task).

        Where relevance is judged item by item, `n_labels` of the queries ask, and the gallery stays whole.
        """
        if n_labels < 1:
            raise XgapError(f"a limit keeps at least 1 label, not {n_labels}")
        level, label = self.default_level, self.labels_of()
        if level in self.judgements:
            return self._limit_queries(n_labels)
        names = _by_hash({label[i] for i in (*self.images.ids, *self.texts.ids) if i in label})
        keep = set(names[:n_labels])
        kept = {i for i, name in label.items() if name in keep}
        return replace(
            self,
            split_name=f"{self.split_name}[{n_labels}]" if n_labels < len(names) else self.split_name,
            images=self.images.select(i for i in self.images.ids if i in kept),
            texts=self.texts.select(i for i in self.texts.ids if i in kept),
            image_queries=tuple(i for i in self.image_queries if i in kept),
            text_queries=tuple(i for i in self.text_queries if i in kept),
            labels={name: {i: x for i, x in of.items() if i in kept} for name, of in self.labels.items()},
            class_names={
                name: {x: words for x, words in of.items() if x in keep or name != level}
                for name, of in self.class_names.items()
            },
        )

    def _limit_queries(self, n: int) -> "Dataset":
        asking = {*self.image_queries, *self.text_queries}
        left_out = set(_by_hash(asking)[n:])
        return replace(
            self,
            split_name=f"{self.split_name}[{n}]" if left_out else self.split_name,
            images=self.images.select(i for i in self.images.ids if i not in left_out),
            texts=self.texts.select(i for i in self.texts.ids if i not in left_out),
            image_queries=tuple(i for i in self.image_queries if i not in left_out),
            text_queries=tuple(i for i in self.text_queries if i not in left_out),
        )

    def shuffled(self, seed: int = 0) -> "Dataset":
        """A null control: the default level's labels, permuted over the images and over the texts.

        Class sizes stay, and nothing answers a query but by chance. The other levels are left out.
        """
        level, label = self.default_level, self.labels_of()
        if level in self.judgements:
            raise XgapError(
                f"level {level!r} of data set {self.name!r} is judged item by item; only labels can be permuted"
            )
        draw = random.Random(seed)
        permuted: dict[str, str] = {}
        for items in (self.images.ids, self.texts.ids):
            labelled = [i for i in items if i in label]
            given = [label[i] for i in labelled]
            draw.shuffle(given)
            permuted |= dict(zip(labelled, given, strict=True))
        return replace(self, split_name=f"{self.split_name}, shuffled", labels={level: permuted}, control=True)


def _by_hash(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest())


def in_splits(makers: Mapping[str, Callable[[], Dataset]]) -> Dataset:
    """The first of the splits, each made once and when it is asked for, and knowing all of them."""
    splits: dict[str, Callable[[], Dataset]] = {}

    def known(make: Callable[[], Dataset]) -> Callable[[], Dataset]:
        return cache(lambda: replace(make(), splits=splits))

    splits |= {name: known(make) for name, make in makers.items()}
    return next(iter(splits.values()))()
