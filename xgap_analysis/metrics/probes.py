"""Linear probe and k nearest neighbours: whether the labels can be read from features, however these are ranked.

They are control columns beside retrieval. Retrieval compares one pair of vectors and has nothing but their cosine; a
probe may weigh directions, and takes away what all vectors share. So poor retrieval beside a good probe says that the
features hold the labels and the cosine does not show them; poor retrieval beside a poor probe, that they do not.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import FeaturesLike
from xgap_analysis.core.precision import exact
from xgap_analysis.core.relevance import UNLABELLED, RelevanceLike, as_relevance
from xgap_analysis.core.tokens import AnyFeatures, ScoredLike, TokenFeatures, scored_pair
from xgap_analysis.metrics.clusters import TOGETHER, labelled_together, name_among
from xgap_analysis.metrics.significance import bootstrap_interval

STEPS = 5000  # of the fit of a probe, which needs a few hundred
BLOCK = 512  # rows whose neighbours are found together
Rows = np.ndarray
NOBODY = -1  # a row without an item of its own among the others


def probe(
    query: ScoredLike,
    gallery: ScoredLike,
    relevance: RelevanceLike,
    *,
    c: float = 0.01,
    folds: int = 5,
    seed: int = 0,
) -> pd.Series:
    """Whether a linear probe of the gallery finds each query's label: 1 or 0, whose mean is its accuracy.

    How to read it: beside retrieval of the same features. High where retrieval is low: the labels lie in the features,
    and the cosine does not show them. The query's own item is never among those that its probe was fitted on, and a
    probe of another modality's gallery (I-T) says whether the same directions carry the labels in both.

    Formula: multinomial logistic regression of scikit-learn with `c` as the inverse strength of its L2 penalty, on rows
    that are centred on the mean of those it is fitted on and divided by the root mean square of a coordinate, so that
    `c` is as strong for narrow features as for wide ones. Gallery items that are queries too are dealt to `folds`,
    label by label; a query is predicted by the fit on all but its own fold, or on all where it is no gallery item.

    Args:
        query, gallery: `[n, d]` and `[m, d]`.
        relevance: labels, as in `retrieval`; graded relevance has none.
        c: above 0; a larger one fits the gallery more closely.
        folds: 2 or more.
        seed: of the folds.

    Returns:
        n values, indexed by query id ("query"); NaN where a query's label has no other item in the gallery.

    Raises:
        XgapError: sets of vectors, relevance without labels, a gallery of one label, or an option out of range.

    Source: Alain and Bengio, Understanding intermediate layers using linear classifier probes, 2016; in this setting,
    Radford et al., 2021 (CLIP), section 3.2.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> rng = np.random.default_rng(0)
        >>> kinds = np.repeat([0, 1], 20)
        >>> loud = rng.normal(size=40)  # what is not the label, and most of the cosine
        >>> images = np.stack([loud, 0.3 * kinds, np.full(40, 2.0)], axis=1)
        >>> right = xg.metrics.probe(images, images, list(kinds), c=1.0).mean()
        >>> float(right), round(float(xg.retrieval(images, images, list(kinds))["ap"].mean()), 1)
        (1.0, 0.6)
    """
    _check_fit(c, folds)
    train, test = _labelled(query, gallery, relevance, "probe")
    return pd.Series(_probed(train, test, c, folds, seed), index=test.index, name="probe")


def knn(
    query: ScoredLike, gallery: ScoredLike, relevance: RelevanceLike, *, k: int = 20, temperature: float = 0.07
) -> pd.Series:
    """Whether the k nearest gallery items vote for each query's label: 1 or 0, whose mean is the accuracy.

    How to read it: beside `probe`. It reads the same cosines as retrieval, but needs only the most frequent label among
    the near ones. Leave-one-out: the query's own item does not vote.

    Formula: the label with the largest sum of `exp(s / temperature)`, s the cosine, over the k nearest items; of equal
    sums, the label that comes first; of equal cosines, the items that come first in the gallery are near.

    Args:
        query, gallery: `[n, d]` and `[m, d]`.
        relevance: labels, as in `retrieval`; graded relevance has none.
        k: neighbours; all where there are fewer.
        temperature: above 0; an infinite one makes all k votes equal.

    Returns:
        n values, indexed by query id ("query"); NaN where a query's label has no other item in the gallery.

    Raises:
        XgapError: sets of vectors, relevance without labels, or an option out of range.

    Source: Wu et al., Unsupervised feature learning via non-parametric instance discrimination, CVPR 2018 (weights, and
    0.07); k = 20 as in Caron et al., DINO, ICCV 2021.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> images = np.array([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.1, 0.9]])
        >>> xg.metrics.knn(images, images, ["cat", "dog", "cat", "dog"], k=1).tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    _check_neighbours(k, temperature)
    train, test = _labelled(query, gallery, relevance, "knn")
    return pd.Series(_voted(train, test, k, temperature), index=test.index, name="knn")


def probes(
    features: Sequence[FeaturesLike] | Mapping[str, FeaturesLike],
    labels: RelevanceLike,
    *,
    k: int = 20,
    temperature: float = 0.07,
    c: float = 0.01,
    folds: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Accuracy of a linear probe and of k nearest neighbours in each modality, and in all of them stacked.

    How to read it: if a gap spoils classification, the numbers in the row of all modalities lie below those of each.
    All rows of an item are held out together: where rows are split at random instead, an item's other modality is
    among those that the probe is fitted on, and the accuracy is too high.

    Formula: `probe` and `knn` with every item held out once, over the rows of a modality or of all.

    Args:
        features: `[n, d]` each, two modalities or more of the same items (ids), of one dimension.
        labels: id to label; items without a label are left out. An item counts in all of its modalities or in none.
        k, temperature: as in `knn`.
        c, folds, seed: as in `probe`.

    Returns:
        One row for each modality and one for all, indexed by `modality`: n (rows), n_labels, `probe` with `probe_low`
        and `probe_high`, `knn` with its own (95 % bootstrap over labels), and `chance`, the share of the largest label.
        The only item of its label votes and is fitted, but is not predicted, and counts in n and n_labels alone.

    Raises:
        XgapError: no item that has a label and all modalities, one label, or an option out of range.

    Source: ModGap, ICLR 2026 (arXiv 2601.18525), where rows are split at random and the best epoch on the test rows is
    reported; neither is done here.

    Example:
        >>> import numpy as np
        >>> points = np.repeat(np.eye(4)[:2], 3, axis=0)  # two kinds of three items
        >>> far = points + 5 * np.eye(4)[3]  # the same, across a gap
        >>> made = probes([points, far], list("aaabbb"), folds=3)
        >>> list(made.index), made["probe"].tolist(), made["knn"].tolist(), made["chance"].tolist()
        (['a', 'b', 'all'], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [0.5, 0.5, 0.5])
    """
    _check_fit(c, folds)
    _check_neighbours(k, temperature)
    parts, named = labelled_together(features, labels, "probes")
    codes = pd.factorize(named)[0]
    sizes = np.bincount(codes)
    if (sizes == 1).all():
        raise XgapError("each label is that of one item, so that none can be predicted by another; give coarser labels")
    rows = []
    for name, stack in [*((name_among(f, parts), [f]) for f in parts), (TOGETHER, parts)]:
        vectors = np.concatenate([f.vectors.cpu().double().numpy() for f in stack])
        items = np.tile(np.arange(len(codes)), len(stack))
        own = _Labelled(vectors, np.tile(codes, len(stack)), items, pd.Index(items))
        groups = np.tile(named, len(stack)).tolist()
        row: dict[str, Any] = {"modality": name, "n": len(vectors), "n_labels": int(codes.max()) + 1}
        for what, hits in (("probe", _probed(own, own, c, folds, seed)), ("knn", _voted(own, own, k, temperature))):
            interval = bootstrap_interval(pd.Series(hits), groups=groups)
            row |= {what: float(np.nanmean(hits)), f"{what}_low": interval.low, f"{what}_high": interval.high}
        rows.append({**row, "chance": float(sizes.max() / sizes[sizes > 1].sum())})
    return pd.DataFrame(rows).set_index("modality")


class _Labelled:
    """Rows `[n, d]` with the number of their label, and of the item that each is of."""

    def __init__(self, rows: Rows, codes: Rows, items: Rows, index: pd.Index) -> None:
        self.rows, self.codes, self.items, self.index = rows, codes, items, index


def _labelled(query: Any, gallery: Any, relevance: RelevanceLike, what: str) -> tuple[_Labelled, _Labelled]:
    """The gallery's rows that have a label, and the queries."""
    query, gallery = scored_pair(query, gallery)
    if isinstance(query, TokenFeatures) or isinstance(gallery, TokenFeatures):
        raise XgapError(f"{what} takes one vector for each item, and these are sets of vectors; pool them first")
    known = as_relevance(relevance, query, gallery)
    codes = known.bind(query.ids, gallery.ids).codes
    if codes is None:
        raise XgapError(f"{what} needs a label of every item, and this relevance is graded item by item")
    named = known.gallery_labels
    assert named is not None
    values = [named[i] for i in gallery.ids] if isinstance(named, Mapping) else list(named)
    kept = np.array([value is not UNLABELLED for value in values])
    place = {item: row for row, item in enumerate(gallery.ids)} if query.has_items_of(gallery) else {}
    own = np.array([place.get(item, NOBODY) for item in query.ids])
    train = _Labelled(_rows(gallery)[kept], codes[1].numpy()[kept], np.arange(len(gallery))[kept], pd.Index(()))
    return train, _Labelled(_rows(query), codes[0].numpy(), own, pd.Index(query.ids, name="query"))


def _rows(features: AnyFeatures) -> Rows:
    return features.vectors.cpu().double().numpy()


def _probed(train: _Labelled, test: _Labelled, c: float, folds: int, seed: int) -> Rows:
    """Which rows of `test` a probe of `train` without their own items gets right; NaN where the label is not there."""
    if len(np.unique(train.codes)) < 2:
        raise XgapError("a probe needs items of two labels or more, and the gallery has those of one")
    fold_of = _dealt(train, test, folds, seed)
    hits = np.full(len(test.rows), np.nan)
    of_train, of_test = (np.array([fold_of.get(i, NOBODY) for i in of.items]) for of in (train, test))
    for fold in np.unique(of_test):  # those that are no gallery items have none, and all of it is fitted
        fitted_on = (of_train != fold) | (of_train == NOBODY)
        _predict(train, test, np.flatnonzero(of_test == fold), fitted_on, c, hits)
    return hits


def _dealt(train: _Labelled, test: _Labelled, folds: int, seed: int) -> dict[int, int]:
    """The fold of each item of both, dealt label by label, so that items of one label are spread over the folds."""
    shared = np.isin(train.items, test.items) & (train.items != NOBODY)
    items, first = np.unique(train.items[shared], return_index=True)
    order = np.random.default_rng(seed).permutation(len(items))
    order = order[np.argsort(train.codes[shared][first][order], kind="stable")]
    return {int(items[row]): nth % folds for nth, row in enumerate(order)}


def _predict(train: _Labelled, test: _Labelled, rows: Rows, fitted_on: Rows, c: float, hits: Rows) -> None:
    """Fill in the hits of some rows, by a probe that is fitted on some of `train`."""
    from sklearn.linear_model import LogisticRegression

    labels = train.codes[fitted_on]
    known = rows[np.isin(test.codes[rows], labels)]
    if not len(known):
        return
    if len(np.unique(labels)) < 2:
        raise XgapError("one of the two labels has a single item, which is in one fold with others; leave it out")
    mean = train.rows[fitted_on].mean(axis=0)
    spread = np.sqrt(np.mean((train.rows[fitted_on] - mean) ** 2)) or 1.0
    model = LogisticRegression(C=c, max_iter=STEPS, tol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a fit that has not converged, which is refused below
        model.fit((train.rows[fitted_on] - mean) / spread, labels)
    if model.n_iter_.max() >= STEPS:
        raise XgapError(f"the probe has not converged in {STEPS} steps; give it a smaller c than {c}")
    hits[known] = model.predict((test.rows[known] - mean) / spread) == test.codes[known]


def _voted(train: _Labelled, test: _Labelled, k: int, temperature: float) -> Rows:
    """Which rows of `test` their k nearest of `train`, without their own items, vote for."""
    rows, codes, items = (torch.from_numpy(of) for of in (train.rows, train.codes, train.items))
    n_labels = 1 + max(int(train.codes.max(initial=0)), int(test.codes.max(initial=0)))
    hits = []
    for start in range(0, len(test.rows), BLOCK):
        some = slice(start, start + BLOCK)
        own = torch.from_numpy(test.items[some])[:, None] == items[None]
        scores = (torch.from_numpy(test.rows[some]) @ rows.T).masked_fill(own, -torch.inf)
        nearest, place = scores.sort(dim=1, descending=True, stable=True)
        nearest, place = nearest[:, :k], place[:, :k]
        weight = ((nearest - nearest[:, :1].nan_to_num(neginf=0.0)) / temperature).exp()
        weight = weight.masked_fill(nearest.isneginf(), 0.0)  # also where the temperature is infinite
        votes = torch.zeros(len(scores), n_labels, dtype=weight.dtype).scatter_add(1, codes[place], weight)
        right = torch.from_numpy(test.codes[some])
        there = ((codes[None] == right[:, None]) & ~own).any(dim=1)
        hits.append(torch.where(there, exact(votes.argmax(dim=1) == right), torch.nan))
    return torch.cat(hits).numpy()


def _check_fit(c: float, folds: int) -> None:
    if not c > 0 or isinstance(folds, bool) or not isinstance(folds, int) or folds < 2:
        raise XgapError(f"c of a probe is above 0 and its folds are 2 or more, not {c} and {folds}")


def _check_neighbours(k: int, temperature: float) -> None:
    if isinstance(k, bool) or not isinstance(k, int) or k < 1 or not temperature > 0:
        raise XgapError(f"k is a whole number from 1 and the temperature is above 0, not {k} and {temperature}")
