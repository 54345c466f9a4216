"""A correction for hubs by optimal transport: every gallery item receives as much as every other from the banks."""

import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.calibration import Calibration
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.precision import exact, widest
from xgap_analysis.corrections.banks import bank_of, note_of
from xgap_analysis.corrections.protocol import QueryGallery, ScoreCorrection, register_correction
from xgap_analysis.scoring.blocks import score_blocks
from xgap_analysis.scoring.scorer import Scorer

ROWS = 256  # of the query bank at a time


@register_correction("sinkhorn", transductive=True)  # the gallery's other items are in the plan
def sinkhorn(
    calibration: Calibration, tau: float = 0.01, rounds: int = 10, gallery_bank: bool = True
) -> ScoreCorrection:
    """Add to a similarity the potential of the gallery item in a balanced plan between a bank of queries and items.

    Formula: s'(q, g) = s(q, g) + tau log u_g. The plan P_gb = u_g exp(s(b, g) / tau) v_b between the query bank b and
    the items g (gallery, and gallery bank after it) gets equal sums of rows and of columns in turn: v, then u, `rounds`
    times, from equal u. A hub has a low potential. One round with u alone would be the inverted softmax.

    Where query and gallery lie in one space, both banks are the same items, and a note in the table says so. The banks'
    similarities are held at once: `(m + gallery bank) * query bank` numbers.

    Args:
        calibration: its features are the banks, by the spaces of query and gallery.
        tau: temperature of the plan.
        rounds: number of times that both sums are made equal.
        gallery_bank: whether the calibration items of the gallery's space stand beside the gallery.

    Raises:
        XgapError: an empty bank, a temperature that is not positive, or rounds below 1.

    Source: Pan et al., Dual-bank Sinkhorn normalisation (DBSN), ACM Multimedia 2025, and the authors' code, as are
    tau and the number of rounds.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(1, 1, (20, 4)), range(20), space="image", origin="image")
        >>> texts = xg.Features(random.normal(-1, 1, (20, 4)), range(20), space="text", origin="text")
        >>> calibration = xg.Calibration({"image": images, "text": texts}, split="train")
        >>> pair = xg.correction("sinkhorn").fit(calibration).apply(texts, images)
        >>> relevance = xg.Relevance.from_labels([i // 4 for i in range(20)], [i // 4 for i in range(20)])
        >>> len(xg.metrics.scores("retrieval", pair, relevance))  # one row per query, ranked by the corrected scores
        20
    """
    if not tau > 0:
        raise XgapError(f"tau, the temperature of sinkhorn, is positive, not {tau}")
    if rounds < 1:
        raise XgapError(f"sinkhorn takes 1 round or more, not {rounds}")

    def apply(query: Features, gallery: Features, scorer: Scorer) -> QueryGallery:
        bank = bank_of(calibration, query.space, "sinkhorn", gallery)
        items = [gallery, bank_of(calibration, gallery.space, "sinkhorn", gallery)] if gallery_bank else [gallery]
        parts = [[block for *_, block in score_blocks(bank, item, scorer, block=ROWS)] for item in items]
        potential = tau * _potential([torch.cat(blocks, dim=1) for blocks in zip(*parts, strict=True)], tau, rounds)

        def normalise(scores: Float[Tensor, "b m"]) -> Float[Tensor, "b m"]:
            return (exact(scores) + potential[: len(gallery)]).float()

        return QueryGallery(query, gallery, normalise, scorer, note_of(query, gallery) if gallery_bank else "")

    return ScoreCorrection(apply)


def _potential(blocks: list[Float[Tensor, "b n"]], tau: float, rounds: int) -> Float[Tensor, " n"]:
    """Log u of the columns, from blocks of the rows of similarities."""
    n, device = blocks[0].shape[1], blocks[0].device
    start = torch.zeros(n, dtype=widest(device), device=device)
    log_u, log_n, log_b = start, torch.tensor(n).log(), torch.tensor(sum(map(len, blocks))).log()
    for _ in range(rounds):
        load = start - torch.inf
        for block in blocks:
            kernel = exact(block) / tau
            log_v = -log_b - (kernel + log_u).logsumexp(dim=1, keepdim=True)
            load = torch.logaddexp(load, (kernel + log_v).logsumexp(dim=0))
        log_u = -log_n - load
    return log_u
