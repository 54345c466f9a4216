"""Image-text retrieval as its benchmarks report it: several captions an image, folds, and the sum of six recalls."""

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from xgap_analysis.core.counts import check_cutoffs
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.relevance import Relevance, RelevanceLike, as_relevance
from xgap_analysis.core.tokens import AnyFeatures, ScoredLike, scored_pair
from xgap_analysis.metrics.first_rank import best_ranks
from xgap_analysis.scoring.cosine import COSINE
from xgap_analysis.scoring.scorer import ScoreFunction, Scorer


def folds(ids: Sequence[str], size: int | None, *, seed: int | None = None) -> list[list[str]]:
    """Blocks of `size` ids, in their order or shuffled; what is left at the end is in no block.

    Args:
        ids: of images.
        size: of a block; None for one block of all.
        seed: of the shuffling; None keeps the order.

    Raises:
        XgapError: fewer ids than a block has.

    Example:
        >>> folds(["a", "b", "c", "d", "e"], 2)
        [['a', 'b'], ['c', 'd']]
    """
    order = list(ids)
    if seed is not None:
        random.Random(seed).shuffle(order)
    if size is None:
        return [order]
    if not 1 <= size <= len(order):
        raise XgapError(f"a fold of {size} images cannot be made of {len(order)}; take a smaller one")
    return [order[start : start + size] for start in range(0, len(order) - size + 1, size)]


def in_folds(
    images: AnyFeatures,
    texts: AnyFeatures,
    own: Mapping[str, Sequence[str]],
    size: int | None,
    *,
    seed: int | None = None,
    captions: int | None = None,
) -> Iterator[tuple[AnyFeatures, AnyFeatures]]:
    """Images and their captions, a fold at a time.

    Args:
        images, texts: features or tokens.
        own: id of an image to the ids of its captions.
        size, seed: as in `folds`.
        captions: how many of an image, the first in the order of the texts; None for all.

    Raises:
        XgapError: a fold that is too large, `captions` below 1, an image without captions, or with fewer than these.
    """
    least = 1 if captions is None else captions
    if least < 1:
        raise XgapError(f"captions is a whole number of 1 or more, or None for all, not {captions}")
    place = {text: k for k, text in enumerate(texts.ids)}
    few = next((image for image in images.ids if len(own.get(image, ())) < least), None)
    if few is not None:
        what = f"image {few!r} has {len(own.get(few, ()))} captions, and the protocol needs {least}"
        raise XgapError(f"{what}; give captions=None for all that there are, or leave the image out")
    for fold in folds(images.ids, size, seed=seed):
        chosen = {text for image in fold for text in sorted(own[image], key=place.__getitem__)[:captions]}
        yield images.select(fold), texts.select(text for text in texts.ids if text in chosen)


def caption_protocol(
    images: ScoredLike,
    texts: ScoredLike,
    relevance: RelevanceLike,
    *,
    captions: int | None = 5,
    fold: int | None = None,
    ks: Sequence[int] = (1, 5, 10),
    ties: str = "gallery",
    scorer: str | Scorer | ScoreFunction = COSINE,
    image_scorer: str | Scorer | ScoreFunction | None = None,
) -> pd.DataFrame:
    """Image-text retrieval in both directions, one row per fold; `.mean()` of it is what papers report.

    | column | formula | range, good end |
    |---|---|---|
    | `i2t_r1`, `i2t_r5`, ... | per cent of images with a caption of their own among the first k | 0 .. 100, 100 |
    | `t2i_r1`, `t2i_r5`, ... | per cent of captions whose image is among the first k | 0 .. 100, 100 |
    | `rsum` | the sum of all of these | 0 .. 600 for three cut-offs, 600 |
    | `i2t_median`, `t2i_median` | whole part of the median rank, from 1 | 1 .. n, 1 |
    | `i2t_mean`, `t2i_mean` | mean rank, from 1 | 1 .. n, 1 |
    | `n_images`, `n_texts` | of the fold | |

    An image counts by the best rank among its own captions. COCO's "1K" results are the mean of `fold=1000` over its
    5,000 test images, its "5K" results are `fold=None`, and the two are not comparable: a gallery five times as large
    has lower recall.

    Args:
        images, texts: features or tokens.
        relevance: which texts belong to which image: a `Dataset`, a `Relevance`, or a pair of lists of labels.
        captions: of an image, the first in file order; None for all.
        fold: images of a fold, in file order; None for all in one. What is left at the end is in no fold.
        ks: cut-offs.
        ties: the rank of the best relevant item among equal scores (see `best_ranks`): `"gallery"` by the order of
            the gallery. Some published evaluations reverse a sorted order, so that the later stands first:
            `"reversed"`.
        scorer: by name or a function.
        image_scorer: where the images are the queries; by default `scorer`, with the images as its query. For a scorer
            of one direction that is another score than `exchanged(...)` of it, the matrix of texts and images read by
            its columns.

    Raises:
        XgapError: an image with too few captions, a fold that is too large, or what `retrieval` refuses.

    Source: Faghri et al., VSE++, BMVC 2018; Rao et al., Where does the performance improvement come from? A
    reproducibility concern about image-text retrieval, SIGIR 2022, whose code prints six times the mean of the recalls
    of image to text in the place of the sum for five folds.

    Example:
        >>> import torch
        >>> images, texts = torch.eye(4), torch.eye(4).repeat_interleave(5, dim=0)
        >>> table = caption_protocol(images, texts, (list(range(4)), [i // 5 for i in range(20)]))
        >>> table[["i2t_r1", "t2i_r1", "rsum", "t2i_median"]].iloc[0].tolist()
        [100.0, 100.0, 600.0, 1.0]
    """
    check_cutoffs(ks)
    if not len(ks):
        raise XgapError("recall needs a cut-off in ks at least")
    gallery, query = scored_pair(images, texts)
    own = as_relevance(relevance, gallery, query).pairs(gallery.ids, query.ids)
    to_texts = Relevance.from_qrels({image: dict.fromkeys(of, 1) for image, of in own.items()})
    to_images = Relevance.from_qrels(images_by_text(own))
    how: dict[str, Any] = {"ties": ties, "exclude_self": False}
    rows = []
    for seen, said in in_folds(gallery, query, own, fold, captions=captions):
        ranks = {
            "i2t": best_ranks(seen, said, to_texts, scorer=scorer if image_scorer is None else image_scorer, **how),
            "t2i": best_ranks(said, seen, to_images, scorer=scorer, **how),
        }
        recalls = {f"{way}_r{k}": 100 * float((of < k).mean()) for way, of in ranks.items() for k in ks}
        about = {f"{way}_median": float(np.floor(of.median()) + 1) for way, of in ranks.items()}
        about |= {f"{way}_mean": float(of.mean() + 1) for way, of in ranks.items()}
        rows.append({**recalls, "rsum": sum(recalls.values()), **about, "n_images": len(seen), "n_texts": len(said)})
    return pd.DataFrame(rows).rename_axis("fold")


def images_by_text(own: Mapping[str, Sequence[str]]) -> dict[str, dict[str, int]]:
    """The images of each caption, with grade 1, from the captions of each image."""
    back: dict[str, dict[str, int]] = {}
    for image, texts in own.items():
        for text in texts:
            back.setdefault(text, {})[image] = 1
    return back
