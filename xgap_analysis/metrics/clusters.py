"""Clusters: whether grouping finds labels or modalities, where items of several modalities are grouped together."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features, FeaturesLike, as_modalities
from xgap_analysis.core.relevance import RelevanceLike, labels_by_id
from xgap_analysis.core.seeds import check_seeds
from xgap_analysis.core.table_values import label_text

TOGETHER = "all"  # the row of every modality in one k-means
Rows = np.ndarray


def clusters(
    features: Sequence[FeaturesLike] | Mapping[str, FeaturesLike],
    labels: RelevanceLike,
    *,
    k: int | None = None,
    seeds: Sequence[int] = (0, 1, 2),
) -> pd.DataFrame:
    """How well k-means finds the labels in each modality and in all of them stacked, and how often it finds modalities.

    How to read it: `v_measure`, `ari` and `nmi` are 1 where clusters are the labels; ARI is 0 on average for clusters
    by chance, the other two are not, and rise with k. In the row of all modalities, `one_modality` is the share of
    clusters whose rows are of one modality alone, and `together` the share of items whose rows of all modalities lie in
    one cluster. A gap that spoils grouping shows as numbers in that row well below those of each modality, with
    `one_modality` near 1.

    Formula: k-means on unit rows (k-means++, ten starts, for each seed), k the number of labels by default; V-measure,
    adjusted Rand index and normalised mutual information (arithmetic mean) of clusters and labels, over the rows.

    Args:
        features: `[n, d]` each, two modalities or more of the same items (ids), of one dimension.
        labels: id to label; items without a label are left out. An item counts in all of its modalities or in none.
        k: the number of clusters.
        seeds: of k-means; the table has their mean, and their standard deviation of the ARI (NaN for one).

    Returns:
        One row for each modality and one for all, indexed by `modality`: n (rows), k, v_measure, ari, nmi,
        ari_seed_spread, and of all modalities one_modality and together (NaN in the others).

    Raises:
        XgapError: no item that has a label and all modalities, one label, or k out of range.

    Source: Rosenberg and Hirschberg, V-measure, EMNLP 2007; Hubert and Arabie, Comparing partitions, 1985 (ARI);
    ModGap, ICLR 2026 (arXiv 2601.18525), for k-means on stacked modalities (there with ten clusters).

    Example:
        >>> import numpy as np
        >>> points = np.repeat(np.eye(4)[:2], 3, axis=0)  # two kinds of three items
        >>> far = points + 5 * np.eye(4)[3]  # the same, across a gap
        >>> made = clusters([points, far], list("aaabbb"))
        >>> made["ari"].round(2).tolist()  # of a, of b, and of both together: no better than chance
        [1.0, 1.0, -0.1]
        >>> made.loc["all", ["one_modality", "together"]].tolist()
        [1.0, 0.0]
    """
    check_seeds(seeds)
    if not len(seeds):
        raise XgapError("k-means needs a seed at least")
    parts, named = labelled_together(features, labels, "clusters")
    codes = pd.factorize(named)[0]
    wanted = len(set(codes)) if k is None else k
    if not 1 <= wanted <= len(codes):
        raise XgapError(f"k lies between 1 and the {len(codes)} items, not {wanted}")
    stacks = [*((name_among(f, parts), [f]) for f in parts), (TOGETHER, parts)]
    found = [_row(name, stack, codes, wanted, seeds) for name, stack in stacks]
    return pd.DataFrame(found).set_index("modality")


def labelled_together(
    features: Sequence[FeaturesLike] | Mapping[str, FeaturesLike], labels: RelevanceLike, what: str
) -> tuple[list[Features], Rows]:
    """The items that have a label and all modalities: each modality's features of them, and their labels.

    Args:
        features, labels: as in `clusters`.
        what: for messages.

    Raises:
        XgapError: one modality, different dimensions, or fewer than two labels.
    """
    modalities = as_modalities(features)
    if len(modalities) < 2 or len({f.dim for f in modalities}) > 1:
        raise XgapError(f"{what} are of two modalities or more, of one dimension")
    label_of = {i: label_text(label) for i, label in labels_by_id(labels, modalities).items()}
    everywhere = set.intersection(*(set(f.ids) for f in modalities))
    shared = [i for i in modalities[0].ids if i in everywhere and label_of.get(i) is not None]
    named = np.array([label_of[i] for i in shared], dtype=object)
    if len(set(named)) < 2:
        raise XgapError(
            f"{len(shared)} items have a label and all modalities, of {len(set(named))} labels; give 2 or more"
        )
    return [f.select(shared) for f in modalities], named


def name_among(features: Features, of: Sequence[Features]) -> str:
    """The space, with the origin where two features lie in one space."""
    alike = sum(f.space == features.space for f in of) > 1
    return f"{features.space} of {features.origin}" if alike else features.space


def _row(name: str, stack: Sequence[Features], codes: Rows, k: int, seeds: Sequence[int]) -> dict[str, Any]:
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, v_measure_score

    rows = np.concatenate([f.vectors.cpu().double().numpy() for f in stack])
    truth = np.tile(codes, len(stack))
    numbers = []
    for seed in seeds:
        made = KMeans(k, n_init=10, random_state=seed).fit_predict(rows)
        scores = [score(truth, made) for score in (v_measure_score, adjusted_rand_score, normalized_mutual_info_score)]
        numbers.append([*scores, *_shares(made.reshape(len(stack), -1))])
    v, ari, nmi, one, together = np.mean(numbers, axis=0).tolist()
    spread = float(np.std([row[1] for row in numbers], ddof=1)) if len(seeds) > 1 else np.nan
    about = {"modality": name, "n": len(rows), "k": k, "v_measure": v, "ari": ari, "nmi": nmi}
    return {**about, "ari_seed_spread": spread, "one_modality": one, "together": together}


def _shares(made: Rows) -> tuple[float, float]:
    """Of clusters `[modalities, n]`: the share that hold one modality, and the share of items in one cluster."""
    if len(made) == 1:
        return np.nan, np.nan
    holds = np.array([[(row == cluster).any() for row in made] for cluster in np.unique(made)])
    return float((holds.sum(axis=1) == 1).mean()), float((made == made[0]).all(axis=0).mean())
