"""Inverse graph convolution: gallery features step away from those that they resemble in two banks."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.calibration import Calibration
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.precision import exact
from xgap_analysis.corrections.banks import bank_of, note_of
from xgap_analysis.corrections.protocol import QueryGallery, ScoreCorrection, register_correction
from xgap_analysis.scoring.scorer import Scorer

ROWS = 2**12  # of the gallery at a time


@register_correction("inverse-graph-convolution")
def inverse_graph_convolution(
    calibration: Calibration, rate_query: float = 0.5, rate_gallery: float = 0.5, share: float | None = 0.01
) -> ScoreCorrection:
    """Take from every gallery feature what it shares with a bank of queries and with a bank of gallery items.

    Formula: `x' = u((u(x - r_g m_g) + u(x - r_q m_q)) / 2)`, u the scaling to unit length. A message is
    `m = mean_b s(x, b) b` over the share of the bank that is most similar to x; or, without a share,
    `m = mean_b (s(x, b) - mean s) b` over the whole bank, `mean s` over all gallery and bank items, so that there the
    other items of the gallery have a small part in each. Queries do not change.

    The authors choose both rates for each dataset and publish no default; choose them on another split than the one
    that is evaluated. Where query and gallery lie in one space, both banks are the same items, and a note says so.

    Args:
        calibration: its features are the banks, by the spaces of query and gallery.
        rate_query, rate_gallery: r_q and r_g; with 0 nothing changes.
        share: of each bank, in (0, 1], that a gallery item takes part of (LocalAdj; one item at least); None for all.

    Raises:
        XgapError: an empty bank, a share out of range, or banks of other dimensions.

    Source: Jian, Wang, InvGC, Findings of EMNLP 2023, and the authors' code.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(1, 1, (20, 4)), range(20), space="image", origin="image")
        >>> texts = xg.Features(random.normal(-1, 1, (20, 4)), range(20), space="text", origin="text")
        >>> calibration = xg.Calibration({"image": images, "text": texts}, split="train")
        >>> pair = xg.correction("inverse-graph-convolution").fit(calibration).apply(texts, images)
        >>> relevance = xg.Relevance.from_labels([i // 4 for i in range(20)], [i // 4 for i in range(20)])
        >>> len(xg.metrics.scores("retrieval", pair, relevance))  # one row per query, ranked by the corrected scores
        20
    """
    if share is not None and not 0 < share <= 1:
        raise XgapError(f"the share of a bank lies in (0, 1], or is None for all without a choice, not {share}")

    def apply(query: Features, gallery: Features, scorer: Scorer) -> QueryGallery:
        x, total = exact(gallery.vectors), torch.zeros_like(exact(gallery.vectors))
        for space, rate in ((gallery.space, rate_gallery), (query.space, rate_query)):
            bank = exact(bank_of(calibration, space, "inverse-graph-convolution", gallery).vectors)
            moved = x - rate * _message(x, bank, share)
            total += moved / moved.norm(dim=1, keepdim=True)
        return QueryGallery(query, replace(gallery, vectors=total), None, scorer, note_of(query, gallery))

    return ScoreCorrection(apply)


def _message(x: Float[Tensor, "n d"], bank: Float[Tensor, "b d"], share: float | None) -> Float[Tensor, "n d"]:
    if share is None:  # mean over the bank of (s - mean s) b, without the matrix of similarities
        second, mean = bank.T @ bank / len(bank), bank.mean(dim=0)
        return x @ second - (x.mean(dim=0) @ mean) * mean
    k = max(1, int(share * len(bank)))
    parts = []
    for rows in x.split(ROWS):
        best = (rows @ bank.T).topk(k, dim=1)
        parts.append(torch.zeros(len(rows), len(bank), dtype=x.dtype, device=x.device))
        parts[-1].scatter_(1, best.indices, best.values / k)
        parts[-1] = parts[-1] @ bank
    return torch.cat(parts)
