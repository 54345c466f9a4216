"""Items with several labels, and classes of unequal size: average precision per label, and means over classes."""

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.relevance import Relevance, by_id
from xgap_analysis.core.table_values import id_text
from xgap_analysis.core.tokens import ScoredLike, scored_pair
from xgap_analysis.metrics.retrieval import counted_elsewhere, retrieval

BY = ("label", "item")


def several_labels(
    items: ScoredLike,
    class_texts: ScoredLike,
    labels: Mapping[Any, Collection[Hashable]] | Sequence[Collection[Hashable]],
    *,
    by: str = "label",
    **how: Any,
) -> pd.DataFrame:
    """Average precision of items that have several labels each; one row per label, or per item.

    By label: the items are ranked by their similarity to each class text, and relevant are those that have the label;
    the mean over the labels is the mAP of multi-label classification (VOC, COCO). By item: the classes are ranked for
    each item, and relevant are its labels. 1 is best; by chance, the share of the relevant.

    Args:
        items: `[n, d]`, such as images.
        class_texts: `[c, d]`, one row per class; its ids are the labels.
        labels: the labels of each item: a mapping from its id, or a list in the items' order. An item may have none.
        by: `"label"`, or `"item"`.
        how: whatever else `retrieval` takes (`scorer`, `normalise`, `block`).

    Returns:
        `ap` and `n_relevant`, indexed by label ("label") or by item ("item"); NaN where nothing is relevant.

    Raises:
        XgapError: an item whose labels are not given, one label in place of several, a table of 0 and 1 in place of
            names, a label without a class text, or as `retrieval`.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> images = np.array([[1.0, 0.1], [0.7, 0.7], [0.1, 1.0]])
        >>> classes = xg.Features(np.eye(2), ["cat", "sea"], space="text", origin="text")
        >>> xg.metrics.several_labels(images, classes, [["cat"], ["cat", "sea"], ["sea"]])["ap"].tolist()
        [1.0, 1.0]
    """
    if by not in BY:
        raise XgapError(f'average precision is by "label" or by "item", not {by!r}')
    items, class_texts = scored_pair(items, class_texts)
    of = _sets(labels, items.ids, set(class_texts.ids))
    if by == "item":
        query, gallery = items, class_texts
        qrels = {item: dict.fromkeys(own, 1) for item, own in of.items()}
    else:
        query, gallery = class_texts, items
        qrels = {label: {} for label in class_texts.ids}
        for item, own in of.items():
            for label in own:
                qrels[label][item] = 1
    with counted_elsewhere():
        frame = retrieval(query, gallery, Relevance.from_qrels(qrels), exclude_self=False, **how)
    return frame[["ap", "n_relevant"]].rename_axis(by)


def class_means(
    values: pd.Series | ArrayLike, labels: Mapping[Any, Hashable] | Sequence[Hashable] | ArrayLike
) -> pd.Series:
    """The mean of a value over the queries of each class; its own mean counts every class once, however large it is.

    Of `correct_at_1` (see `zero_shot`) these are the recalls of the classes, and their mean is the mean per-class
    recall by which fine-grained sets (Pets, Flowers, Caltech-101) are compared. Of `ap` it is the mean of class means.
    Intervals and tests are over classes: `bootstrap_interval(class_means(...))`.

    Args:
        values: `[n]`, one per query: a column of a table, or an array. NaN is left out.
        labels: the class of each: a mapping from the query's id (the index of a column), or a list in their order. Two
            columns go together by their index.

    Returns:
        One value per class, NaN where a class has none, sorted by class.

    Raises:
        XgapError: a query without a class, or another number of labels than of values.

    Example:
        >>> import xgap_analysis as xg
        >>> recall = xg.metrics.class_means([1, 1, 1, 0], ["cat", "cat", "cat", "dog"])
        >>> recall.to_dict(), float(recall.mean())
        ({'cat': 1.0, 'dog': 0.0}, 0.5)
    """
    column = values if isinstance(values, pd.Series) else pd.Series(np.asarray(values, dtype=np.float64))
    if isinstance(labels, pd.Series) and isinstance(values, pd.Series):
        labels = labels.to_dict()
    if isinstance(labels, Mapping):
        known = by_id(labels, "query")
        lacking = [i for i in column.index if id_text(i) not in known]
        if lacking:
            raise XgapError(f"{len(lacking)} queries have no class, the first is {lacking[0]!r}")
        of = [known[id_text(i)] for i in column.index]
    else:
        of = labels.tolist() if hasattr(labels, "tolist") else list(labels)  # type: ignore[arg-type]
        if len(of) != len(column):
            raise XgapError(f"{len(of)} classes were given for {len(column)} values")
    if any(label is None or (isinstance(label, float) and math.isnan(label)) for label in of):
        raise XgapError("a value has no class (NaN or None); leave it out")
    return column.astype(float).groupby(pd.Index(of, name="class")).mean()


def _sets(labels: Any, ids: Sequence[str], classes: Collection[str]) -> dict[str, list[str]]:
    """The labels of each item, as the ids of class texts."""
    if not isinstance(labels, Mapping):
        if isinstance(labels, str) or not hasattr(labels, "__len__") or len(labels) != len(ids):
            raise XgapError(f"labels are a mapping from id, or a list with the labels of each of the {len(ids)} items")
        labels = dict(zip(ids, labels, strict=True))
    given = by_id(labels, "item")
    lacking = [i for i in ids if i not in given]
    if lacking:
        raise XgapError(f"the labels of {len(lacking)} items are not given, the first is {lacking[0]!r}")
    single = next((i for i in ids if isinstance(given[i], str) or not hasattr(given[i], "__iter__")), None)
    if single is not None:
        raise XgapError(f"item {single!r} has the label {given[single]!r} and no list of labels; give [label]")
    rows = [list(given[i]) for i in ids]
    if len(classes) > 2 and all(len(row) == len(classes) and all(value in (0, 1) for value in row) for row in rows):
        raise XgapError("labels are a list of names for each item, and no table of 0 and 1 with a column for a class")
    found = {i: list(dict.fromkeys(map(id_text, row))) for i, row in zip(ids, rows, strict=True)}
    nameless = sorted({label for own in found.values() for label in own if label not in classes})
    if nameless:
        raise XgapError(f"{len(nameless)} labels have no class text, the first is {nameless[0]!r}")
    return found
