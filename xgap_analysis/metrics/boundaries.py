"""Where a sequence of tokens changes, and how well predicted spans of time match true ones."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.tokens import TokenFeatures

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)  # of the intersection over union, as AVicuna and Untrimmed AVEL take them
COLUMNS = ("item", "label", "start", "stop")


def adjacent_cosines(tokens: TokenFeatures) -> dict[str, Float[np.ndarray, " t"]]:
    """By item, the cosine of each token with the next: `[t - 1]` of an item of t tokens.

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> clip = xg.TokenFeatures(torch.eye(2)[[0, 0, 1]], [0, 3], ["clip"], "image", "video")
        >>> adjacent_cosines(clip)["clip"].tolist()
        [1.0, 0.0]
    """
    made = {}
    for item, start, stop in zip(tokens.ids, tokens.offsets[:-1].tolist(), tokens.offsets[1:].tolist(), strict=True):
        own = tokens.vectors[start:stop].cpu().double().numpy()
        made[item] = (own[1:] * own[:-1]).sum(axis=1)
    return made


def boundaries(tokens: TokenFeatures, k: int | Mapping[str, int]) -> dict[str, Int[np.ndarray, " k"]]:
    """By item, the k places where its tokens change most: the first token behind each change, in order of time.

    Formula: the k values of t, from 1, of the lowest `cos(x_(t-1), x_t)`; of equal ones, the earliest.

    How to read it: k boundaries cut an item into k + 1 spans (`spans`). No text is read, so that this is what the
    features of a modality say of time by themselves.

    Args:
        tokens: frames, or the slots of `interleave`, in order of time.
        k: of each item, or by item.

    Raises:
        XgapError: an item of k tokens or fewer, or one that `k` does not name.

    Source: the control of AVicuna (Tang et al., AAAI 2025), which writes boundaries as words; ours, without a model.

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> clip = xg.TokenFeatures(torch.eye(3)[[0, 0, 1, 1, 2]], [0, 5], ["clip"], "image", "video")
        >>> boundaries(clip, 2)["clip"].tolist()
        [2, 4]
    """
    made = {}
    for item, cosines in adjacent_cosines(tokens).items():
        if isinstance(k, Mapping) and item not in k:
            raise XgapError(f"the number of boundaries of item {item!r} is not given")
        own = k[item] if isinstance(k, Mapping) else k
        if isinstance(own, bool) or not isinstance(own, int | np.integer) or not 0 <= own <= len(cosines):
            what = f"item {item!r} of {len(cosines) + 1} tokens has up to {len(cosines)} boundaries"
            raise XgapError(f"{what}, a whole number, and not {own!r}")
        made[item] = np.sort(cosines.argsort(kind="stable")[:own]) + 1
    return made


def spans(found: Mapping[str, Sequence[int] | np.ndarray], lengths: Mapping[str, int] | int) -> pd.DataFrame:
    """The spans between boundaries: one row each, with columns `item`, `start` and `stop` (the first token behind it).

    Args:
        found: boundaries by item, as `boundaries` gives them.
        lengths: the number of tokens of each item.

    Example:
        >>> spans({"clip": [2, 4]}, 5)[["start", "stop"]].to_numpy().tolist()
        [[0, 2], [2, 4], [4, 5]]
    """
    rows = []
    for item, own in found.items():
        ends = [0, *map(int, own), lengths if isinstance(lengths, int) else lengths[item]]
        rows += [(item, start, stop) for start, stop in pairwise(ends)]
    return pd.DataFrame(rows, columns=["item", "start", "stop"])


def temporal_iou(first: Any, second: Any) -> Float[np.ndarray, "n m"]:
    """Intersection over union of spans of time: `[n, m]`, from 0 (apart) to 1 (equal).

    Args:
        first, second: `[n, 2]` and `[m, 2]`, the start and the stop of each span `[start, stop)`, in one unit.

    Raises:
        XgapError: other shapes, or a span that stops before it starts.

    Example:
        >>> round(float(temporal_iou([[0, 50]], [[25, 75]])[0, 0]), 4)
        0.3333
    """
    a, b = (_checked(of) for of in (first, second))
    both = np.minimum(a[:, None, 1], b[None, :, 1]) - np.maximum(a[:, None, 0], b[None, :, 0])
    both = both.clip(min=0)
    whole = (a[:, 1] - a[:, 0])[:, None] + (b[:, 1] - b[:, 0])[None] - both
    made: Float[np.ndarray, "n m"] = np.divide(both, whole, out=np.zeros_like(both), where=whole > 0)
    return made


def temporal_map(predicted: pd.DataFrame, true: pd.DataFrame, thresholds: Sequence[float] = THRESHOLDS) -> pd.DataFrame:
    """Average precision of predicted spans, by label and by the overlap that counts as a hit.

    Formula: predictions of a label go by descending `score` (of equal ones, by their order). Each is a hit if, of the
    true spans of its item and label that no earlier one took, that with the greatest IoU has an IoU of the threshold or
    more, which it then takes. AP is the area under precision over recall, the precision made non-increasing: the
    greatest precision at this recall or a higher one.

    Args:
        predicted: a row per span, with the columns `item`, `label`, `start`, `stop` and `score`.
        true: a row per span, with the columns `item`, `label`, `start`, `stop`.
        thresholds: of the IoU.

    Returns:
        A row per label that has a true span and a column per threshold, in [0, 1], 1 the best; `.mean()` is mAP at each
        threshold, `.mean(axis=None)` its average. Predictions of other labels are in no row.

    Raises:
        XgapError: a column that is missing, no true span, or as `temporal_iou`.

    Source: the evaluation of ActivityNet (Caba Heilbron et al., CVPR 2015), whose average AVicuna reports.

    Example:
        >>> true = pd.DataFrame([("clip", "bear", 0, 50)], columns=["item", "label", "start", "stop"])
        >>> temporal_map(true.assign(score=1.0, stop=40), true).loc["bear"].tolist()
        [1.0, 1.0, 1.0, 1.0, 0.0]
    """
    for given, columns, what in ((predicted, (*COLUMNS, "score"), "predicted"), (true, COLUMNS, "true")):
        lacking = next((name for name in columns if name not in given), None)
        if lacking is not None:
            raise XgapError(f"{what} spans need the columns {', '.join(columns)}; {lacking!r} is missing")
    if not len(true):
        raise XgapError("there is no true span to be found")
    rows = {}
    for label, wanted in true.groupby("label", sort=True):
        own = predicted[predicted["label"] == label]
        own = own.iloc[(-own["score"].to_numpy(float)).argsort(kind="stable")]
        rows[label] = [_average_precision(_hits(own, wanted, threshold), len(wanted)) for threshold in thresholds]
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(thresholds)).rename_axis("label")


def _hits(predicted: pd.DataFrame, true: pd.DataFrame, threshold: float) -> np.ndarray:
    """Whether each prediction, in their order, takes a true span."""
    wanted = {item: of[["start", "stop"]].to_numpy(float) for item, of in true.groupby("item")}
    free = {item: np.ones(len(of), dtype=bool) for item, of in wanted.items()}
    hits = np.zeros(len(predicted), dtype=bool)
    for row, (item, start, stop) in enumerate(predicted[["item", "start", "stop"]].itertuples(index=False)):
        if item in wanted and free[item].any():
            overlap = np.where(free[item], temporal_iou([[start, stop]], wanted[item])[0], -1)
            best = int(overlap.argmax())
            if overlap[best] >= threshold:
                hits[row], free[item][best] = True, False
    return hits


def _average_precision(hits: np.ndarray, n_true: int) -> float:
    precision = hits.cumsum() / np.arange(1, len(hits) + 1)
    greatest = np.maximum.accumulate(precision[::-1])[::-1]
    return float(greatest[hits].sum() / n_true)


def _checked(given: Any) -> Float[np.ndarray, "n 2"]:
    made = np.asarray(given, dtype=np.float64)
    if made.ndim != 2 or made.shape[1] != 2:
        raise XgapError(f"spans of time are [n, 2], a start and a stop each, not of shape {made.shape}")
    if not (made[:, 1] >= made[:, 0]).all():
        wrong = made[~(made[:, 1] >= made[:, 0])][0].tolist()
        raise XgapError(f"a span of time stops before it starts: {wrong}")
    return made
