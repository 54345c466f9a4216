"""What a dataset is: items with stable ids, labels, splits, and which items are relevant to which."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.relevance import UNLABELLED, Relevance
from xgap_analysis.datasets.controls import limited, permuted
from xgap_analysis.datasets.items import NO_IMAGES, NO_TEXTS, AnyItems, Images, Texts
from xgap_analysis.datasets.joined import joined_items

FIRST = ("image", "text")  # of the modalities of a dataset, where it has these


@dataclass(frozen=True, init=False)
class Dataset:
    """One split of a dataset.

    Args:
        name, split_name: for provenance and tables.
        images, texts: the items of these modalities, if there are any.
        labels: label set (`"concept"`, `"subgroup"`, ...) to a mapping from item id (of any modality) to label.
            The first label set is the default relevance.
        class_names: label set to a mapping from label to the words that name it (zero-shot classification).
        image_queries, text_queries: ids of the items that are the queries of retrieval within their modality; the
            others are the gallery. Empty: every item is a query, and all others are its gallery.
        splits: split name to a function that makes it.
        judgements: label set to relevance given item by item (graded, with junk) where labels do not define it; the
            first of these, if there are any, is the default relevance.
        prompt: the text of a class, `{}` its name.
        control: whether nothing is relevant but by chance, as after `shuffled`; its rows in a study have no verdict.
        items: the items of all modalities, by name, instead of or in addition to `images` and `texts`.
        query_ids: ids of the queries by modality, instead of or in addition to `image_queries` and `text_queries`.

    Example:
        >>> import xgap_analysis as xg
        >>> from PIL import Image
        >>> images = xg.Images(["a", "b", "c"], lambda i: Image.new("RGB", (8, 8), "red"), "red squares")
        >>> data = xg.Dataset("squares", "test", images, labels={"kind": {"a": "x", "b": "x", "c": "y"}})
        >>> data.default_label_set, data.labels_of()["c"]
        ('kind', 'y')
    """

    name: str
    split_name: str
    items: Mapping[str, AnyItems]
    labels: Mapping[str, Mapping[str, str]]
    class_names: Mapping[str, Mapping[str, str]]
    query_ids: Mapping[str, Sequence[str]]
    splits: Mapping[str, Callable[[], "Dataset"]] = field(repr=False)
    judgements: Mapping[str, Relevance] = field(repr=False)
    prompt: str
    control: bool

    def __init__(
        self,
        name: str,
        split_name: str,
        images: Images | None = None,
        texts: Texts | None = None,
        labels: Mapping[str, Mapping[str, str]] | None = None,
        class_names: Mapping[str, Mapping[str, str]] | None = None,
        image_queries: Sequence[str] | None = None,
        text_queries: Sequence[str] | None = None,
        splits: Mapping[str, Callable[[], "Dataset"]] | None = None,
        judgements: Mapping[str, Relevance] | None = None,
        prompt: str = "a photo of {}",
        control: bool = False,
        *,
        items: Mapping[str, AnyItems] | None = None,
        query_ids: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        of = {**(items or {}), **_given(image=images, text=texts)}
        queries = {**(query_ids or {}), **_given(image=image_queries, text=text_queries)}
        _check_queries(name, queries, of)
        own = {
            "name": name,
            "split_name": split_name,
            "items": {modality: of[modality] for modality in sorted(of, key=_place) if len(of[modality])},
            "labels": labels or {},
            "class_names": class_names or {},
            "query_ids": {modality: ids for modality, ids in queries.items() if len(ids)},
            "splits": splits or {},
            "judgements": judgements or {},
            "prompt": prompt,
            "control": control,
        }
        vars(self).update(own)

    def __repr__(self) -> str:
        """One line: how many items of each modality, and the label sets."""
        counts = ", ".join(f"{len(own)} {modality}" for modality, own in self.items.items()) or "no items"
        sets = ", ".join((*self.judgements, *self.labels)) or "none"
        return f"Dataset({self.name!r}, {self.split_name!r}: {counts}; label sets: {sets})"

    @property
    def images(self) -> Images:
        """The images; none where they are known by their features alone."""
        own = self.items.get("image")
        return own if isinstance(own, Images) else NO_IMAGES

    @property
    def texts(self) -> Texts:
        """The texts; none where they are known by their features alone."""
        own = self.items.get("text")
        return own if isinstance(own, Texts) else NO_TEXTS

    @property
    def image_queries(self) -> Sequence[str]:
        """The ids of the images that are queries, where the others are searched."""
        return self.query_ids.get("image", ())

    @property
    def text_queries(self) -> Sequence[str]:
        """The ids of the texts that are queries, where the others are searched."""
        return self.query_ids.get("text", ())

    def queries(self, modality: str) -> tuple[str, ...]:
        """Ids of the items of a modality that are queries in retrieval within it."""
        return tuple(self.query_ids.get(modality) or self.items_of(modality).ids)

    def gallery(self, modality: str) -> tuple[str, ...]:
        """Ids of the items of a modality that are searched in retrieval within it."""
        left_out = set(self.query_ids.get(modality, ()))
        return tuple(i for i in self.items_of(modality).ids if i not in left_out)

    def has_queries(self, modality: str) -> bool:
        """Whether some items of a modality are queries and others are searched; otherwise each item is both."""
        return bool(self.query_ids.get(modality))

    def items_of(self, modality: str) -> AnyItems:
        """The items of a modality; images and texts may be none. `"image+text"` has those of both (`joined_items`).

        Raises:
            XgapError: a modality that this dataset does not have (the nearest are given).
        """
        if "+" in modality and modality not in self.items:
            return joined_items(self.name, {part: self.items_of(part) for part in modality.split("+")})
        own: Mapping[str, AnyItems] = {"image": NO_IMAGES, "text": NO_TEXTS, **self.items}
        if modality not in own:
            raise unknown_name(f"modality of dataset {self.name}:", modality, self.items)
        return own[modality]

    def split(self, name: str) -> "Dataset":
        """Another split of this dataset.

        Raises:
            XgapError: no such split, or an empty one.
        """
        if name not in self.splits:
            raise XgapError(f"dataset {self.name!r} has no split {name!r}{splits_there(self)}")
        chosen = self.splits[name]()
        if not chosen.items:
            raise XgapError(f"split {name!r} of dataset {self.name!r} is empty")
        return chosen

    @property
    def default_label_set(self) -> str:
        """The first label set of `judgements`, or of labels where no relevance is given item by item.

        Raises:
            XgapError: a dataset with neither.
        """
        label_sets = (*self.judgements, *self.labels)
        if not label_sets:
            what = f"dataset {self.name!r} has no labels, so nothing defines which items are relevant"
            raise XgapError(f"{what}: put images into a folder per class, or load a table with labels or captions")
        return label_sets[0]

    def labels_of(self, label_set: str | None = None) -> Mapping[str, str]:
        """Label by item id, of a label set (by default the first); empty where relevance is given item by item.

        Raises:
            XgapError: no such label set.
        """
        label_set = label_set or self.default_label_set
        if label_set in self.judgements:
            return {}
        if label_set not in self.labels:
            known = ", ".join((*self.judgements, *self.labels))
            raise XgapError(f"dataset {self.name!r} has no labels {label_set!r}; it has: {known}")
        return self.labels[label_set]

    def relevance(self, label_set: str | None = None) -> Relevance:
        """Two items are relevant to each other when they share a label of this label set, or as given item by item.

        Where some items of a modality have no label, those are relevant to nothing: as queries they are counted among
        the queries without a relevant item, and in a gallery they are never relevant.
        """
        label_set = label_set or self.default_label_set
        if label_set in self.judgements:
            return self.judgements[label_set]
        of: Mapping[str, Hashable] = self.labels_of(label_set)
        for items in self.items.values():
            lacking = [i for i in items.ids if i not in of]
            if 0 < len(lacking) < len(items):
                of = {**of, **dict.fromkeys(lacking, UNLABELLED)}
        return Relevance.from_labels(of, of)

    def words_of(self, label_set: str | None = None) -> dict[str, str]:
        """Label to the text of the class, of a label set: its name in the dataset's prompt.

        Raises:
            XgapError: a label set whose classes have no names.
        """
        label_set = label_set or self.default_label_set
        names = self.class_names.get(label_set)
        if not names:
            what = f"dataset {self.name!r} names no classes of label set {label_set!r}"
            raise XgapError(f"{what}; the classes of your own data are folders of images, or a column label of a table")
        return {label: self.prompt.replace("{}", words) for label, words in names.items()}

    def limit(self, n_labels: int) -> "Dataset":
        """The items of `n_labels` labels of the default label set, chosen by a hash of the label.

        Where relevance is given item by item, `n_labels` of the queries are kept, and the whole gallery.
        """
        return limited(self, n_labels)

    def shuffled(self, seed: int = 0) -> "Dataset":
        """A null control: the default label set's labels, permuted over the items of each modality.

        Class sizes are kept, and items are relevant to a query only by chance. The other label sets are left out.
        """
        return permuted(self, seed)


def splits_there(data: Dataset) -> str:
    """The end of a sentence on a missing split: which there are, and how own data in one piece are cut in two."""
    there = f"; it has: {', '.join(data.splits)}" if data.splits else ""
    cut = "; '/path/to/data(train_share=0.5)' makes half of your own data a split train"
    return there + (cut if set(data.splits) == {"test", "all"} else "")


def _place(modality: str) -> int:
    return FIRST.index(modality) if modality in FIRST else len(FIRST)


def _check_queries(name: str, queries: Mapping[str, Sequence[str]], items: Mapping[str, AnyItems]) -> None:
    for modality, ids in queries.items():
        if len(ids) and modality not in items:
            raise unknown_name(f"modality of dataset {name} with queries:", modality, items)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def in_splits(makers: Mapping[str, Callable[[], Dataset]], first: str | None = None) -> Dataset:
    """The first of the splits (or the named one), each made once, when it is needed, and knowing all of them."""
    splits: dict[str, Callable[[], Dataset]] = {}

    def known(make: Callable[[], Dataset]) -> Callable[[], Dataset]:
        return cache(lambda: replace(make(), splits=splits))

    splits |= {name: known(make) for name, make in makers.items()}
    return splits[first or next(iter(splits))]()
