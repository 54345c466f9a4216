"""Two factors: whether a space is ordered by what an item is, or by how it is presented."""

from collections.abc import Mapping

import torch

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import FeaturesLike, as_features
from xgap_analysis.core.precision import exact
from xgap_analysis.core.table_values import label_text


def moad(features: FeaturesLike, objects: Mapping[str, str], attributes: Mapping[str, str]) -> float:
    """MOAD: how much more items are alike that share an object than items that share an attribute.

    How to read it: above 0 the space is ordered by objects (classes) more than by attributes, below 0 the other way, 0
    by both alike. In [-4, 4], and mostly far within.

    Formula: over all ordered pairs of two different items, with s the mean cosine of the pairs that share a label and
    s' of those that do not, `MOAD = (s_object - s'_object) - (s_attribute - s'_attribute)`. All pairs count: the
    authors' code leaves out pairs of items at equal places of two labels.

    Args:
        features: `[n, d]`, of one modality.
        objects, attributes: id to label (ids of an array are its positions, as text); items without both are left out.

    Raises:
        XgapError: a label set in which no two items share a label, or all do.

    Source: Schrodi et al., Two Effects, One Trigger, ICLR 2025, section 5.

    Example:
        >>> import numpy as np
        >>> o, a = np.eye(4)[[0, 0, 1, 1]], np.eye(4)[[2, 3, 2, 3]]
        >>> objects, attributes = {"0": "x", "1": "x", "2": "y", "3": "y"}, {"0": "r", "1": "g", "2": "r", "3": "g"}
        >>> [round(moad(left * o + right * a, objects, attributes), 6) for left, right in ((2, 1), (1, 2), (1, 1))]
        [0.9, -0.9, 0.0]
    """
    features = as_features(features)
    known = [
        {i: str(label_text(label)) for i, label in of.items() if label_text(label) is not None}
        for of in (objects, attributes)
    ]
    kept = [i for i in features.ids if all(i in of for of in known)]
    if len(kept) < 2:
        raise XgapError(f"{len(kept)} items have an object and an attribute; at least 2 are needed")
    rows = exact(features.select(kept).vectors)
    found = [_apart(rows, [of[i] for i in kept], what) for of, what in zip(known, ("object", "attribute"), strict=True)]
    return found[0] - found[1]


def _apart(rows: torch.Tensor, labels: list[str], what: str) -> float:
    """The mean cosine of pairs that share a label, less that of pairs that do not, from sums over labels."""
    names = {name: k for k, name in enumerate(dict.fromkeys(labels))}
    codes = torch.tensor([names[label] for label in labels], device=rows.device)
    totals = torch.zeros(len(names), rows.shape[1], dtype=rows.dtype, device=rows.device).index_add_(0, codes, rows)
    own = float(rows.square().sum())  # each item with itself
    alike = float(totals.square().sum()) - own
    every = float(rows.sum(dim=0).square().sum()) - own
    sizes = torch.bincount(codes).to(rows.dtype)
    n_alike, n_every = int((sizes * (sizes - 1)).sum()), len(rows) * (len(rows) - 1)
    if n_alike in (0, n_every):
        said = "no two items share" if not n_alike else "all items share"
        raise XgapError(f"{said} an {what}, so that pairs cannot be compared by it")
    return alike / n_alike - (every - alike) / (n_every - n_alike)
