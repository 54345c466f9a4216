"""A dataset made smaller, or without anything to be found in it."""

import hashlib
import random
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from xgap_analysis.core.counts import check_count
from xgap_analysis.core.errors import XgapError

if TYPE_CHECKING:
    from xgap_analysis.datasets.dataset import Dataset


def limited(data: "Dataset", n_labels: int) -> "Dataset":
    """See `Dataset.limit`.

    Raises:
        XgapError: a limit below 1.
    """
    check_count(n_labels, "limit, a number of labels,")
    label_set, label = data.default_label_set, data.labels_of()
    if label_set in data.judgements:
        return _limited_queries(data, n_labels)
    names = _by_hash({label[i] for items in data.items.values() for i in items.ids if i in label})
    keep = set(names[:n_labels])
    kept = {i for i, name in label.items() if name in keep}
    return replace(
        _only(data, kept),
        split_name=f"{data.split_name}[{n_labels}]" if n_labels < len(names) else data.split_name,
        labels={name: {i: x for i, x in of.items() if i in kept} for name, of in data.labels.items()},
        class_names={
            name: {x: words for x, words in of.items() if x in keep or name != label_set}
            for name, of in data.class_names.items()
        },
    )


def permuted(data: "Dataset", seed: int) -> "Dataset":
    """See `Dataset.shuffled`.

    Raises:
        XgapError: relevance that is given item by item.
    """
    label_set, label = data.default_label_set, data.labels_of()
    if label_set in data.judgements:
        what = f"label set {label_set!r} of dataset {data.name!r}"
        raise XgapError(f"{what} gives relevance item by item; only labels can be permuted")
    draw = random.Random(seed)
    made: dict[str, str] = {}
    for items in data.items.values():
        labelled = [i for i in items.ids if i in label]
        given = [label[i] for i in labelled]
        draw.shuffle(given)
        made |= dict(zip(labelled, given, strict=True))
    return replace(data, split_name=f"{data.split_name}, shuffled", labels={label_set: made}, control=True)


def _limited_queries(data: "Dataset", n: int) -> "Dataset":
    left_out = set(_by_hash({i for ids in data.query_ids.values() for i in ids} or _all_queries(data))[n:])
    kept = {i for items in data.items.values() for i in items.ids if i not in left_out}
    return replace(_only(data, kept), split_name=f"{data.split_name}[{n}]" if left_out else data.split_name)


def _all_queries(data: "Dataset") -> set[str]:
    """The items of the modalities that have relevance for each of their items: the queries where none are named."""
    known = (data.judgements[data.default_label_set].qrels or {}).keys()
    return {i for items in data.items.values() if set(items.ids) <= known for i in items.ids}


def _only(data: "Dataset", kept: Collection[str]) -> "Dataset":
    """The items, and the queries, of some ids."""
    return replace(
        data,
        items={m: items.select(i for i in items.ids if i in kept) for m, items in data.items.items()},
        query_ids={m: tuple(i for i in ids if i in kept) for m, ids in data.query_ids.items()},
    )


def _by_hash(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest())
