"""Images and texts on one plane, and what moving them along the gap does to place and numbers."""

import hashlib
import math
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.features import Features
from xgap_analysis.core.progress import report, while_reporting
from xgap_analysis.core.relevance import Relevance
from xgap_analysis.corrections import Calibration, correction
from xgap_analysis.metrics import modality_gap, retrieval, zero_shot
from xgap_analysis.metrics.retrieval import counted_elsewhere

OF_SEVERAL = ("pca", "umap")  # of more than two modalities
METHODS = ("gap", *OF_SEVERAL)
FEW = 15  # items, up to which UMAP starts from random places
NO_GAP = 1e-6  # distance of the means of unit vectors
PLACED = 512  # items that UMAP places at a time
_KEPT: "OrderedDict[tuple[str, ...], PlaneMap]" = OrderedDict()
_MOST_KEPT = 8
_ONE_UMAP = threading.Lock()  # umap-learn's compiled loops may not run on two threads at once


@dataclass(frozen=True, eq=False)
class PlaneMap:
    """A map from the sphere to the plane, fitted on all modalities together.

    Args:
        method: `"gap"` (of two modalities; x: along the vector from the mean of the second to that of the first; y: the
            first principal component of what is orthogonal to it), `"pca"` (both linear, so that distances can be read)
            or `"umap"` (neighbourhoods only).
        places: `[n, 2]` for each modality, where its items lie.
        share: of a linear map, the share of the variance that the plane shows; NaN for UMAP.
        fitted: has `transform`: a `Projection`, or scikit-learn's or umap-learn's own object.
    """

    method: str
    places: tuple[np.ndarray, ...]
    share: float
    fitted: Any

    def place(self, features: Features) -> np.ndarray:
        """Where other vectors of the same sphere lie: `[n, 2]`."""
        vectors = features.vectors.cpu().numpy()
        if self.linear:
            return self.fitted.transform(vectors)
        parts = []
        for start in range(0, len(vectors), PLACED):
            report("placing on the UMAP", start, len(vectors))
            part = vectors[start : start + PLACED]
            parts.append(while_reporting("placing on the UMAP", partial(self._transformed, part)))
        return np.concatenate(parts)

    @property
    def linear(self) -> bool:
        """Whether it is a projection, so that a move of the features is a move on the plane."""
        return self.method != "umap"

    def _transformed(self, vectors: np.ndarray) -> np.ndarray:
        with _ONE_UMAP:
            return np.asarray(self.fitted.transform(vectors))


@dataclass(frozen=True, eq=False)
class Projection:
    """Coordinates along two directions.

    Args:
        origin: `[d]`, the point at (0, 0).
        axes: `[2, d]`, orthonormal.
    """

    origin: np.ndarray
    axes: np.ndarray

    def transform(self, vectors: np.ndarray) -> np.ndarray:
        """`[n, d]` to `[n, 2]`."""
        return (vectors - self.origin) @ self.axes.T


def plane_map(*modalities: Features, method: str = "pca") -> PlaneMap:
    """One plane for all modalities. It is fitted once for the same vectors in a session, and then found again.

    Args:
        modalities: `[n, d]` each, of two modalities or more.
        method: `"gap"`, `"pca"`, or `"umap"` (cosine, 15 neighbours, a fixed seed); see `PlaneMap`.

    Raises:
        XgapError: an unknown method, different dimensions, fewer than three vectors, or no gap to lay an axis along.
    """
    if method not in METHODS:
        raise unknown_name("map", method, METHODS)
    if len({features.dim for features in modalities}) > 1:
        found = " and ".join(str(features.dim) for features in modalities)
        raise XgapError(f"the modalities have {found} dimensions; they must be the same")
    if sum(map(len, modalities)) < 3:
        raise XgapError("a map needs at least three vectors")
    key = (method, *map(_digest, modalities))
    if method == "umap" and key not in _KEPT:
        what = f"fitting the UMAP of {sum(map(len, modalities))} items"
        return while_reporting(what, lambda: _umap_alone(key, modalities))
    return _kept(key, modalities)


def _umap_alone(key: tuple[str, ...], modalities: Sequence[Features]) -> PlaneMap:
    """Waits for a fit that runs already: it may be of this map, and nobody waited for its end."""
    with _ONE_UMAP:
        return _kept(key, modalities)


def _kept(key: tuple[str, ...], modalities: Sequence[Features]) -> PlaneMap:
    made = _KEPT.pop(key, None) or _fit(modalities, key[0])
    _KEPT[key] = made  # at the end
    while len(_KEPT) > _MOST_KEPT:
        _KEPT.popitem(last=False)
    return made


def _fit(modalities: Sequence[Features], method: str) -> PlaneMap:
    both = torch.cat([features.vectors.cpu() for features in modalities]).numpy()
    report(f"fitting the map of {len(both)} items", 0, 1)
    if method == "gap":
        fitted, share = _along_the_gap(modalities)
        points = fitted.transform(both)
    elif method == "pca":
        from sklearn.decomposition import PCA

        fitted = PCA(n_components=2, random_state=0).fit(both)
        points, share = fitted.transform(both), float(fitted.explained_variance_ratio_.sum())
    else:
        from umap import UMAP

        # The spectral start needs more eigenvectors than a handful of items has.
        start = "spectral" if len(both) > FEW else "random"
        fitted = UMAP(n_neighbors=min(15, len(both) - 1), metric="cosine", random_state=42, n_jobs=1, init=start)
        points, share = fitted.fit_transform(both), math.nan
    ends = np.cumsum([len(features) for features in modalities])[:-1]
    return PlaneMap(method, tuple(np.split(points, ends)), share, fitted)


def _along_the_gap(modalities: Sequence[Features]) -> tuple[Projection, float]:
    """The plane of the gap, with its origin between the two means, and the share of the variance that it shows."""
    if len(modalities) != 2:
        raise XgapError(f"a gap lies between two modalities, not {len(modalities)}; choose pca or umap")
    both = np.concatenate([features.vectors.cpu().double().numpy() for features in modalities])
    means = [features.vectors.cpu().double().numpy().mean(axis=0) for features in modalities]
    gap = means[0] - means[1]
    if np.linalg.norm(gap) < NO_GAP:
        raise XgapError("the two modalities have the same mean, so there is no gap to lay an axis along; choose pca")
    along = gap / np.linalg.norm(gap)
    centred = both - both.mean(axis=0)
    rest = centred - np.outer(centred @ along, along)
    across = np.linalg.eigh(rest.T @ rest)[1][:, -1]
    across = across - (across @ along) * along  # where nothing is left, any direction across the gap
    across /= np.linalg.norm(across) * (np.sign(across[np.abs(across).argmax()]) or 1)  # the same way at each fit
    axes = np.stack([along, across])
    share = float(np.square(centred @ axes.T).sum() / np.square(centred).sum())
    return Projection((means[0] + means[1]) / 2, axes), share


def _digest(features: Features) -> str:
    return hashlib.sha256(features.vectors.cpu().contiguous().numpy().tobytes()).hexdigest()


def move_modalities(lambda_: float, images: Features, texts: Features, *more: Features) -> tuple[Features, ...]:
    """Images, texts and more features after `gap-shift`, fitted on these very images and texts.

    Args:
        lambda_: 0 leaves all as it is, 0.5 brings the means together (see the correction `gap-shift`).
        images, texts: `[n, d]` and `[m, d]`.
        more: features that move with their modality, such as class names.
    """
    if lambda_ == 0:
        return images, texts, *more
    fitted = correction("gap-shift", lambda_=lambda_).fit(
        Calibration({f.space: f for f in (images, texts)}, "what is shown")
    )
    return tuple(fitted(of) for of in (images, texts, *more))


def gap_numbers(
    images: Features,
    texts: Features,
    relevance: Relevance | None = None,
    classes: Features | None = None,
    labels: Mapping[str, str] | None = None,
    pairs: tuple[Features, Features] | None = None,
    queries: tuple[Sequence[str], Sequence[str]] | None = None,
) -> dict[str, float]:
    """`modality_gap`, `zero_shot_top1`, `ap_image_to_text` and `ap_text_to_image`: numbers that follow the move.

    With the pairs and the queries of an evaluation they are those of `Study.gaps` and `Study.run`. What cannot be
    computed (no classes, no labels) is left out.

    Args:
        images, texts: `[n, d]` and `[m, d]`.
        relevance: what is relevant across modalities.
        classes: one feature a class, whose ids are the labels.
        labels: image id to label.
        pairs: images and their captions (`Evaluation.pairs`), whose means the gap lies between; all images and texts
            without it.
        queries: ids of the images and of the texts that are queries; all without it.
    """
    chosen = [images, texts]
    if queries is not None:
        chosen = [of.select(ids) for of, ids in zip(chosen, queries, strict=True)]
    numbers = {"modality_gap": modality_gap(*(pairs or (images, texts)))}
    if classes is not None and labels is not None:
        named = set(classes.ids)
        known = chosen[0].select(i for i in chosen[0].ids if labels.get(i) in named)
        if len(known):
            numbers["zero_shot_top1"] = float(zero_shot(known, classes, labels, topk=(1,))["correct_at_1"].mean())
    if relevance is not None:
        directions = (("ap_image_to_text", chosen[0], texts), ("ap_text_to_image", chosen[1], images))
        for name, query, gallery in directions:
            report("retrieval across modalities", len(numbers), 4)
            with counted_elsewhere():  # queries without a relevant item are left out of the mean
                try:
                    numbers[name] = float(retrieval(query, gallery, relevance)["ap"].mean())
                except XgapError:  # labels that do not reach across
                    continue
    return numbers


def partners(item: str, others: Features, relevance: Relevance) -> list[int]:
    """Rows of the features that are relevant to an item, such as the captions of an image; none without a label."""
    try:
        grades = relevance.bind([item], others.ids).grades(0, 1)[0]
    except XgapError:  # an item without a label
        return []
    return (grades > 0).nonzero()[:, 0].tolist()


def cosines(query: Features, *galleries: Features) -> np.ndarray:
    """Cosine of one feature to all rows of several, one after the other."""
    return torch.cat([gallery.vectors @ query.vectors[0] for gallery in galleries]).cpu().numpy()
