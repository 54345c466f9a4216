"""Zero-shot classification: each image goes to the class whose text is nearest."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from numpy.typing import ArrayLike

from xgap_analysis.core.errors import XgapError, notice
from xgap_analysis.core.relevance import by_id
from xgap_analysis.core.tokens import ScoredLike, scored_pair
from xgap_analysis.scoring.blocks import ScoreNormaliser, score_blocks
from xgap_analysis.scoring.cosine import COSINE
from xgap_analysis.scoring.scorer import ScoreFunction, Scorer


def zero_shot(
    images: ScoredLike,
    class_texts: ScoredLike,
    labels: Mapping[Any, Any] | Sequence[Any] | ArrayLike,
    *,
    topk: Sequence[int] = (1, 5),
    block: int | None = None,
    normalise: ScoreNormaliser | None = None,
    scorer: str | Scorer | ScoreFunction = COSINE,
) -> pd.DataFrame:
    """Whether each image's nearest class texts hold its class; one row per image.

    The classes are ranked by descending cosine similarity to the image, and equal similarities keep the classes'
    order. `rank` (from 1) is the rank of the right class and `correct_at_k` is 1 where it is at most k: the mean of
    `correct_at_1` is the accuracy, in [0, 1], chance 1 / (number of classes), 1 is best.

    Args:
        images: `[n, d]`; native or inverted features, and of any modality; `Features` or an array.
        class_texts: `[c, d]`, one row per class; its ids are the labels. Those of an array are positions: label 0 is
            the first row.
        labels: the right label of each image: a mapping from image id, or a list (or array) in the images' order.
        topk: the k of `correct_at_k`.
        block: images classified at a time; memory grows with `block * c` (see `retrieval`).
        normalise: changes a block of similarities `[b, c]` before the ranking; see `retrieval`.
        scorer: how a pair is scored; see `retrieval`.

    Returns:
        n rows, indexed by image id ("image"), all columns numeric. Where there is one class only, a warning and
        `attrs["degenerate"]` say that the accuracy is 1 whatever the features are.

    Raises:
        XgapError: no images or no classes, different dimensions, an image without label, or a label without class text.

    Source: Radford et al., 2021 (CLIP), section 3.1.2.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> images = np.array([[0.9, 0.1], [0.2, 0.8]])
        >>> classes = xg.Features(np.eye(2), ["cat", "dog"], space="text", origin="text")
        >>> xg.zero_shot(images, classes, ["cat", "cat"])["rank"].tolist()  # of the correct class
        [1, 2]
    """
    images, class_texts = scored_pair(images, class_texts)
    right = torch.tensor(_columns(labels, images.ids, class_texts.ids), device=images.vectors.device)
    ranks = []
    for start, stop, scores in score_blocks(images, class_texts, scorer, block=block):
        if normalise is not None:
            scores = normalise(scores).float()
        target = right[start:stop, None]
        score = scores.gather(1, target)
        earlier = torch.arange(scores.shape[1], device=scores.device) < target
        ranks.append(1 + ((scores > score) | ((scores == score) & earlier)).sum(dim=1))
    rank = torch.cat(ranks).cpu().numpy()
    columns = {f"correct_at_{k}": (rank <= k).astype(float) for k in topk}
    frame = pd.DataFrame({**columns, "rank": rank}, index=pd.Index(images.ids, name="image"))
    frame.attrs["degenerate"] = ""
    if len(class_texts) == 1:
        one = f"there is one class only ({class_texts.ids[0]!r})"
        frame.attrs["degenerate"] = f"{one}, so that the accuracy is 1 whatever the features are"
        notice(frame.attrs["degenerate"])
    return frame


def _columns(labels: Any, images: Sequence[str], classes: Sequence[str]) -> list[int]:
    """The place of each image's label among the classes."""
    if not isinstance(labels, Mapping):
        values = labels.tolist() if hasattr(labels, "tolist") else labels
        if isinstance(values, str) or not hasattr(values, "__len__"):
            raise XgapError(f"labels are a list with one of each image, or a mapping from its id, not {values!r}")
        if len(values) != len(images):
            raise XgapError(f"{len(values)} labels were given for {len(images)} images")
        labels = dict(zip(images, values, strict=True))
    labels = by_id(labels, "image")
    unlabelled = [i for i in images if i not in labels]
    if unlabelled:
        raise XgapError(f"{len(unlabelled)} images have no label, the first is {unlabelled[0]!r}")
    column = {label: i for i, label in enumerate(classes)}
    texts = [str(labels[i]) for i in images]
    nameless = sorted({text for text in texts if text not in column})
    if nameless:
        raise XgapError(f"{len(nameless)} labels have no class text, the first is {nameless[0]!r}")
    return [column[text] for text in texts]
