"""What a dataset is: items with stable ids, labels, splits, and which items are relevant to which."""

import hashlib
import random
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.relevance import UNLABELLED, Relevance
from xgap_analysis.datasets.items import Images, Items, Texts, Vectors


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
        others: items of further modalities, by the modality's name.
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
    others: Mapping[str, Vectors] = field(default_factory=dict)
    control: bool = False

    def queries(self, modality: str) -> tuple[str, ...]:
        """Ids of the items of a modality (`"image"` or `"text"`) that ask in retrieval within it."""
        return tuple(self._query_ids(modality) or self.items_of(modality).ids)

    def gallery(self, modality: str) -> tuple[str, ...]:
        """Ids of the items of a modality that are searched in retrieval within it."""
        left_out = set(self._query_ids(modality))
        return tuple(i for i in self.items_of(modality).ids if i not in left_out)

    def has_queries(self, modality: str) -> bool:
        """Whether some items of a modality ask and others are searched; otherwise each item does both."""
        return bool(self._query_ids(modality))

    @property
    def items(self) -> dict[str, Items]:
        """The items of each modality that has some."""
        own: dict[str, Items] = {"image": self.images, "text": self.texts, **self.others}
        return {modality: items for modality, items in own.items() if len(items)}

    def items_of(self, modality: str) -> Items:
        """The items of a modality; images and texts may be none.

        Raises:
            XgapError: a modality that this dataset does not have (the nearest are given).
        """
        own: dict[str, Items] = {"image": self.images, "text": self.texts, **self.others}
        if modality not in own:
            raise unknown_name(f"modality of dataset {self.name}:", modality, self.items)
        return own[modality]

    def _query_ids(self, modality: str) -> Sequence[str]:
        return {"image": self.image_queries, "text": self.text_queries}.get(modality, ())

    def split(self, name: str) -> "Dataset":
        """Another split of this data set.

        Raises:
            XgapError: no such split, or an empty one.
        """
        if name not in self.splits:
            raise XgapError(f"data set {self.name!r} has no split {name!r}; it has: {', '.join(self.splits)}")
        chosen = self.splits[name]()
        if not chosen.items:
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


def in_splits(makers: Mapping[str, Callable[[], Dataset]], first: str | None = None) -> Dataset:
    """The first of the splits (or the named one), each made once, when it is needed, and knowing all of them."""
    splits: dict[str, Callable[[], Dataset]] = {}

    def known(make: Callable[[], Dataset]) -> Callable[[], Dataset]:
        return cache(lambda: replace(make(), splits=splits))

    splits |= {name: known(make) for name, make in makers.items()}
    return splits[first or next(iter(splits))]()
