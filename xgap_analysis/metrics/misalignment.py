"""Intra-modal misalignment: how often two items of one class are less similar than two items of different classes."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike

from xgap_analysis.core.counts import check_count
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.precision import exact
from xgap_analysis.core.relevance import RelevanceLike, as_relevance
from xgap_analysis.core.tokens import ScoredLike, scored_pair
from xgap_analysis.metrics.classification import zero_shot
from xgap_analysis.metrics.graded import graded_blocks
from xgap_analysis.metrics.half_wins import PairBlock, half_wins
from xgap_analysis.metrics.ranks import relevant_ranks
from xgap_analysis.scoring.blocks import BUDGET, block_of, score_blocks
from xgap_analysis.scoring.cosine import COSINE
from xgap_analysis.scoring.scorer import ScoreFunction, Scorer

PAIR = 128  # bytes that a pair of one class takes while it is counted


def misalignment(
    query: ScoredLike,
    gallery: ScoredLike,
    relevance: RelevanceLike,
    *,
    exclude_self: bool = True,
    block: int | None = None,
    scorer: str | Scorer | ScoreFunction = COSINE,
) -> pd.DataFrame:
    """Probability, for each query, that an item of its class is less similar to it than one of another class.

    Formula: `P(s(q, same) < s(q, different)) + P(equal) / 2` over the pairs of one relevant and one irrelevant gallery
    item, which is 1 - AUC. In [0, 1]: 0 is a perfect ranking, 0.5 is chance, above it the classes lie the wrong way.

    Args:
        query, gallery: `[n, d]` and `[m, d]`; the same features twice for I-I or T-T, inverted ones for OTI-I.
        relevance, exclude_self, block, scorer: as in `retrieval`; junk and self-matches are left out.

    Returns:
        n rows, indexed by query id ("query"): `misalignment`, and the numbers of items `n_same` and `n_different`.
        NaN where either is 0; `attrs["without_pairs"]` and a warning count those.

    Raises:
        XgapError: no queries or items, different dimensions, labels that do not fit, or no query with a pair.

    Source: the question is that of Mistretta et al., Cross the Gap, ICLR 2025 (two dogs less alike than a dog and a
    cat); the AUC as the probability of a right order, Hanley and McNeil, Radiology 1982.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> images = np.array([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.1, 0.9]])
        >>> best = xg.misalignment(images, images, ["cat", "dog", "cat", "dog"])  # similar images share a label
        >>> best["misalignment"].tolist()
        [0.0, 0.0, 0.0, 0.0]
        >>> xg.misalignment(images, images, ["cat", "cat", "dog", "dog"])["misalignment"].tolist()
        [1.0, 1.0, 0.5, 0.5]
    """
    query, gallery = scored_pair(query, gallery)
    bound = as_relevance(relevance, query, gallery).bind(query.ids, gallery.ids)
    how: dict[str, Any] = {
        "exclude_self": exclude_self and query.has_items_of(gallery),
        "block": block,
        "scorer": scorer,
    }
    parts = []
    for ranks in relevant_ranks(query, gallery, bound, ties=True, **how):
        assert ranks.best is not None and ranks.worst is not None and ranks.others is not None
        n_same = torch.bincount(ranks.row, minlength=ranks.queries)
        # Twice the others that stand above, where one as high counts half: Mann and Whitney's count.
        halves = torch.zeros_like(n_same).index_add_(0, ranks.row, ranks.best + ranks.worst)
        share = exact(halves) / (2 * n_same * ranks.others)
        parts.append(torch.stack([share, exact(n_same), exact(ranks.others)], dim=1))
    values, n_same, n_different = torch.cat(parts).cpu().numpy().T
    columns = {"misalignment": values, "n_same": n_same.astype(int), "n_different": n_different.astype(int)}
    frame = pd.DataFrame(columns, index=pd.Index(query.ids, name="query"))
    without = int(frame["misalignment"].isna().sum())
    if without == len(frame):
        raise XgapError("no query has both an item of its class and one of another class in the gallery")
    if without:
        text = f"{without} of {len(frame)} queries lack an item of their class or of another; they are NaN"
        warnings.warn(text, stacklevel=2)
    frame.attrs["without_pairs"] = without
    return frame


def pooled_misalignment(
    query: ScoredLike,
    gallery: ScoredLike,
    relevance: RelevanceLike,
    *,
    exclude_self: bool = True,
    block: int | None = None,
    scorer: str | Scorer | ScoreFunction = COSINE,
) -> float:
    """Probability that a same-class pair is less similar than a different-class pair, over all pairs of all queries.

    Formula: `P(s(same pair) < s(different pair)) + P(equal) / 2`, exact, ties included: 1 - AUC of all query-gallery
    pairs at once. In [0, 1], 0 is best and 0.5 chance. Unlike the mean of `misalignment` it also compares pairs of
    different queries, so it measures whether one threshold works for the whole space.

    Memory: a block of queries, and the similarities of the same-class pairs, or, where these are more than 33 million,
    a table of 256 MiB that counts them; the product is then computed three times, or more often where similarities
    spread over many orders of magnitude. Time grows with n m: `sampled_misalignment` estimates it from pairs.

    Args:
        query, gallery, relevance, exclude_self, block, scorer: as in `misalignment`.

    Raises:
        XgapError: as `misalignment`.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> images = np.array([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.1, 0.9]])
        >>> xg.metrics.pooled_misalignment(images, images, ["cat", "dog", "cat", "dog"])
        0.0
    """
    query, gallery = scored_pair(query, gallery)
    bound = as_relevance(relevance, query, gallery).bind(query.ids, gallery.ids)
    apart = exclude_self and query.has_items_of(gallery)
    rows = block_of(len(gallery), cell=PAIR, budget=BUDGET // 4)

    def blocks() -> Iterator[PairBlock]:
        for start, _, scores in score_blocks(query, gallery, scorer, block=block):
            for part in scores.split(rows):
                stop = start + len(part)
                same, left_out = bound.relevant(start, stop)[:2], bound.left_out(start, stop, apart)
                yield PairBlock.of(part, same, left_out)
                start = stop

    halves, n_same, n_different = half_wins(blocks, int(bound.n_relevant.sum()))
    if not n_same or not n_different:
        raise XgapError("no query has both an item of its class and one of another class in the gallery")
    return halves / (2 * n_same * n_different)


def similarity_histograms(
    query: ScoredLike,
    gallery: ScoredLike,
    relevance: RelevanceLike,
    *,
    bins: int = 200,
    exclude_self: bool = True,
    block: int | None = None,
    scorer: str | Scorer | ScoreFunction = COSINE,
) -> pd.DataFrame:
    """Densities of the cosine similarities of same-class and of different-class pairs.

    Args:
        query, gallery, relevance, exclude_self, block, scorer: as in `misalignment`.
        bins: equal bins of [-1, 1].

    Returns:
        One row a bin, indexed by its centre ("similarity"), with the densities `same` and `different`, each of
        integral 1; `attrs` holds the numbers of pairs `n_same` and `n_different`.

    Raises:
        XgapError: no queries or items, different dimensions, labels that do not fit, or no pair of one kind.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> images = np.array([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.1, 0.9]])
        >>> table = xg.similarity_histograms(images, images, ["cat", "dog", "cat", "dog"], bins=4)
        >>> table.columns.tolist()
        ['same', 'different']
    """
    check_count(bins, "bins, the number of them,")
    query, gallery = scored_pair(query, gallery)
    counts = np.zeros((2, bins), dtype=np.int64)
    for scores, grades, ignored in graded_blocks(
        query, gallery, relevance, exclude_self=exclude_self, block=block, scorer=scorer
    ):
        cell = exact(scores).add_(1).mul_(bins / 2).long().clamp_(0, bins - 1)  # rounding may leave [-1, 1]
        for count, of in zip(counts, (grades > 0, grades <= 0), strict=True):
            count += torch.bincount(cell[of & ~ignored], minlength=bins).cpu().numpy()
    totals = counts.sum(axis=1)
    if not totals.all():
        raise XgapError(f"there is no {'different' if totals[0] else 'same'}-class pair to draw a density from")
    same, different = counts / totals[:, None] * (bins / 2)
    centres = pd.Index(-1 + (np.arange(bins) + 0.5) * (2 / bins), name="similarity")
    frame = pd.DataFrame({"same": same, "different": different}, index=centres)
    frame.attrs = {"n_same": int(totals[0]), "n_different": int(totals[1])}
    return frame


def similarity_overlap(
    query: ScoredLike,
    gallery: ScoredLike,
    relevance: RelevanceLike,
    *,
    bins: int = 200,
    exclude_self: bool = True,
    block: int | None = None,
    scorer: str | Scorer | ScoreFunction = COSINE,
) -> float:
    """Overlap (intersection over union) of the densities of same-class and different-class similarities.

    Formula: `sum over bins of min(same, different) / sum over bins of max(same, different)`, with the densities of
    `similarity_histograms`. In [0, 1]: 0 where one threshold separates them, 1 where they are the same. It depends
    on the bins (more bins of few pairs overlap less): compare values of one `bins` and similar numbers of pairs.

    Args:
        query, gallery, relevance, bins, exclude_self, block: as in `similarity_histograms`.

    Raises:
        XgapError: as `similarity_histograms`.

    Source: IoU of the two densities, Magistri et al., IsoCLIP, CVPR 2026 (Dogs vs Cats), who do not state their bins;
    Kravets and Namboodiri, BMVC 2024 (intra-modal overlap).

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> images = np.array([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.1, 0.9]])
        >>> xg.metrics.similarity_overlap(images, images, ["cat", "dog", "cat", "dog"])
        0.0
    """
    density = similarity_histograms(
        query, gallery, relevance, bins=bins, exclude_self=exclude_self, block=block, scorer=scorer
    ).to_numpy()
    return float(density.min(axis=1).sum() / density.max(axis=1).sum())


def filtered_ids(
    images: ScoredLike, class_texts: ScoredLike, labels: Mapping[Any, Any] | Sequence[Any] | ArrayLike
) -> tuple[str, ...]:
    """The ids of the images that zero-shot classification gets right, in the images' order.

    Retrieval among them (`images.select(...)`) is the filtered test: what is left of a poor ranking there is not for
    want of class information in the features.

    Args:
        images, class_texts, labels: as in `zero_shot`.

    Raises:
        XgapError: as `zero_shot`.

    Source: Mistretta et al., Cross the Gap, ICLR 2025, section 2 (Dogs vs Cats). Herzog and Wang, CVPR 2026, dispute
    what follows from it.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> images = np.array([[1.0, 0.0], [0.0, 1.0], [0.1, 0.9]])
        >>> classes = xg.Features(np.eye(2), ["cat", "dog"], space="text", origin="text")
        >>> xg.metrics.filtered_ids(images, classes, {"0": "cat", "1": "dog", "2": "cat"})
        ('0', '1')
    """
    images, class_texts = scored_pair(images, class_texts)
    right = zero_shot(images, class_texts, labels, topk=(1,))["correct_at_1"]
    return tuple(right.index[right == 1])
