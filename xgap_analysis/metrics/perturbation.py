"""What a change of the texts does: to the rank of their image, to their cosine with it, and to the texts themselves."""

import math
from typing import Any

import numpy as np
import pandas as pd

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.relevance import Relevance, RelevanceLike, as_relevance
from xgap_analysis.metrics.caption_protocol import images_by_text, in_folds
from xgap_analysis.metrics.first_rank import reciprocal_rank
from xgap_analysis.metrics.groups import Groups
from xgap_analysis.metrics.significance import bootstrap_interval, holm, paired_test, ratio_interval
from xgap_analysis.metrics.verdicts import verdict

MRR, OWN, OVER, BEYOND, TEXTS = "mrr", "I-T", "I-T over others", "I-T beyond movement", "T-T"
CLAIMED = (MRR, OWN)  # what is said to fall


def perturbation(
    before: Features,
    after: Features,
    images: Features,
    relevance: RelevanceLike,
    *,
    fold: int | None = None,
    seed: int = 0,
    ties: str = "expected",
    groups: Groups | None = None,
    claim: int = -1,
    resamples: int = 2000,
) -> pd.DataFrame:
    """How far changed texts are from their images, and how much of that is the texts' own movement; five rows.

    With `t` and `t'` a text before and after, `v` its image, and `c = t . t'`:

    | quantity | before, after | change |
    |---|---|---|
    | `mrr` | `reciprocal_rank`, texts as queries, images as the gallery | below 0: the image is found later |
    | `I-T` | `t . v`, `t' . v` | below 0: the changed text is further from its image |
    | `I-T over others` | the same less the mean cosine with all other images | below 0: nearer to others than before |
    | `I-T beyond movement` | `c (t . v)`, `t' . v` | `t' . v - c (t . v)`, see below |
    | `T-T` | 1, `c` | `c - 1`, how far the text itself has moved |

    A text that moves by this much in a random direction of the sphere has `c (t . v)` left of its cosine on average.
    The change of `I-T beyond movement` is what is over: near 0, the drop of `I-T` is no more than any movement of that
    size would give; below 0, the text moved away from its image; above 0, towards it. It may move towards all images
    alike, as with a word that is near to every one of them: `I-T over others` says whether it moved towards its own.

    Args:
        before, after: texts with the same ids, in any order.
        images: of the same model, corrected in the same way.
        relevance: which images belong to a text; where several do, `I-T` is the mean over them.
        fold: images of a shuffled block that a text is ranked in, as published with 1,000; the last, partial block is
            left out of `mrr`. None ranks all images.
        seed: of the shuffling.
        ties: of `reciprocal_rank`. The published code takes the best rank among ties, `"best"`.
        groups: a label for each text of `before`; texts of one label are drawn together. None: each text for itself.
        claim: the sign that is claimed of the changes of `mrr` and `I-T`; 0 for none.
        resamples: of the intervals.

    Returns:
        One row per quantity: `before`, `after`, `change` with `low` and `high` (95 % over groups), `p_value` and
        `p_adjusted` (`paired_test`; Holm's over the first four, none of `T-T`, which cannot be above 0), `relative`
        (change over before) with `relative_low` and `relative_high` (NaN where the mean before may be 0), `n`,
        `n_groups`, `effective_groups` (NaN of `T-T`), and `verdict` with its `reason`: of the claim, and of none in the
        other rows.

    Raises:
        XgapError: other ids after than before, a text without an image or without other images, or what
            `reciprocal_rank` refuses.

    Source: Ramshetty et al., Cross-modal attribute insertions (XMAI), ACL 2023: relative drop of MRR, and both cosines.

    Example:
        >>> import torch
        >>> images = Features(torch.eye(3), ["a", "b", "c"], "image", "image")
        >>> texts = Features(torch.eye(3), ["A", "B", "C"], "text", "text")
        >>> changed = Features(torch.eye(3) + torch.eye(3)[[1, 2, 0]], ["A", "B", "C"], "text", "text")
        >>> own = Relevance.from_labels({"A": 1, "B": 2, "C": 3}, {"a": 1, "b": 2, "c": 3})
        >>> perturbation(texts, changed, images, own).set_index("quantity")["change"].round(3).to_dict()
        {'mrr': -0.25, 'I-T': -0.293, 'I-T over others': -0.646, 'I-T beyond movement': 0.0, 'T-T': -0.293}
    """
    if set(before.ids) != set(after.ids):
        raise XgapError("the changed texts have other ids than the texts before; pair them by id")
    after = after.select(before.ids)
    own = as_relevance(relevance, before, images).pairs(before.ids, images.ids)
    lacking = next((text for text in before.ids if text not in own), None)
    if lacking is not None:
        raise XgapError(f"text {lacking!r} has no image that is relevant to it; leave it out")
    values = {
        MRR: [_reciprocal(texts, images, own, fold, seed, ties) for texts in (before, after)],
        **_cosines(before, after, images, own),
    }
    rows = [_row(name, old, new, groups, resamples) for name, (old, new) in values.items()]
    for row, p in zip(rows[:-1], holm([row["p_value"] for row in rows[:-1]]), strict=True):
        said = verdict(row["low"], row["high"], float(p), row["effective_groups"], claim * (row["quantity"] in CLAIMED))
        row |= {"p_adjusted": float(p), "verdict": said.word, "reason": said.reason}
    return pd.DataFrame(rows)


def _reciprocal(
    texts: Features, images: Features, own: dict[str, tuple[str, ...]], fold: int | None, seed: int, ties: str
) -> np.ndarray:
    """One value a text, NaN where its image is in no fold."""
    relevance = Relevance.from_qrels({text: dict.fromkeys(of, 1) for text, of in own.items()})
    by_image = {image: list(of) for image, of in images_by_text(own).items()}
    if fold is None:
        return reciprocal_rank(texts, images, relevance, ties=ties, exclude_self=False).to_numpy()
    known = images.select(i for i in images.ids if i in by_image)
    parts = [
        reciprocal_rank(said, seen, relevance, ties=ties, exclude_self=False)
        for seen, said in in_folds(known, texts, by_image, fold, seed=seed)
    ]
    found = pd.concat(parts)
    return found[~found.index.duplicated()].reindex(list(texts.ids)).to_numpy()


def _cosines(
    before: Features, after: Features, images: Features, own: dict[str, tuple[str, ...]]
) -> dict[str, list[np.ndarray]]:
    place = {image: k for k, image in enumerate(images.ids)}
    rows = np.repeat(np.arange(len(before)), [len(own[text]) for text in before.ids])
    columns = np.array([place[image] for text in before.ids for image in own[text]])
    t, changed, v = (x.vectors.detach().cpu().double().numpy() for x in (before, after, images))
    count = np.bincount(rows)
    others = len(images) - count
    if not others.all():
        raise XgapError(f"text {before.ids[int(others.argmin())]!r} has no other images than its own; give a gallery")
    own_sums = [np.bincount(rows, (x[rows] * v[columns]).sum(1)) for x in (t, changed)]
    old, new = (part / count for part in own_sums)
    over = [part / count - (x @ v.sum(0) - part) / others for part, x in zip(own_sums, (t, changed), strict=True)]
    kept = (t * changed).sum(1)
    return {OWN: [old, new], OVER: over, BEYOND: [kept * old, new], TEXTS: [np.ones(len(t)), kept]}


def _row(name: str, old: np.ndarray, new: np.ndarray, groups: Groups | None, resamples: int) -> dict[str, Any]:
    row: dict[str, Any] = {"quantity": name, "before": float(np.nanmean(old)), "after": float(np.nanmean(new))}
    how: dict[str, Any] = {"groups": groups, "resamples": resamples}
    found = bootstrap_interval(new - old, **how)
    row |= {"change": found.mean, "low": found.low, "high": found.high, "p_value": math.nan}
    row |= {"effective_groups": math.nan}
    if name != TEXTS:
        test = paired_test(old, new, **how)
        row |= {"low": test.low, "high": test.high, "p_value": test.p_value}
        row |= {"effective_groups": test.effective_groups}
    row |= {"p_adjusted": math.nan, "relative": row["change"] / row["before"] if row["before"] else math.nan}
    ratio = ratio_interval(new - old, old, signed=True, **how)
    row |= {"relative_low": ratio.low, "relative_high": ratio.high}
    return {**row, "n": found.n, "n_groups": found.n_groups, "verdict": None, "reason": ""}
