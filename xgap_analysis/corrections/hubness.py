"""Corrections of similarities for hubs: gallery items that are near to many queries are made less near.

They look at banks of calibration features instead of the queries that are judged. A query's bank is the calibration
set of the side it lies on (an OTI query lies on the text side), a gallery item's bank likewise.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from xgap_analysis.core.calibration import Calibration
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.precision import exact, widest
from xgap_analysis.corrections.protocol import QueryGallery, ScoreCorrection, register_correction
from xgap_analysis.metrics.neighbourhoods import nearest
from xgap_analysis.scoring.blocks import score_blocks
from xgap_analysis.scoring.scorer import Scorer

BETA = 20.0  # inverse temperature


@register_correction("inverted-softmax")
def inverted_softmax(calibration: Calibration, beta: float = BETA) -> ScoreCorrection:
    """Divide a similarity by what the gallery item gets from a bank of queries.

    Formula: s'(q, g) = exp(beta s(q, g)) / sum over b in the query bank of exp(beta s(b, g)); its logarithm is ranked.

    Raises:
        XgapError: an empty bank, or a beta that is not positive.

    Source: Smith et al., ICLR 2017; Bogolin et al., Cross Modal Retrieval with Querybank Normalisation, CVPR 2022.
    """
    return _rule(calibration, beta, gallery_bank=False, dynamic=False)


@register_correction("dynamic-inverted-softmax")
def dynamic_inverted_softmax(calibration: Calibration, beta: float = BETA, k: int = 1) -> ScoreCorrection:
    """The inverted softmax, for those queries only whose nearest gallery item is a hub of the bank.

    A gallery item is a hub where it is among the k nearest of any query of the bank. The other queries keep their
    similarities.

    Raises:
        XgapError: an empty bank, a beta that is not positive, or a k out of range.

    Source: Bogolin et al., CVPR 2022, section 3.3.
    """
    return _rule(calibration, beta, gallery_bank=False, dynamic=True, k=k)


@register_correction("dual-inverted-softmax")
def dual_inverted_softmax(calibration: Calibration, beta: float = BETA) -> ScoreCorrection:
    """The inverted softmax with a bank of queries times the one with a bank of gallery items.

    Formula: s'(q, g) is the product of exp(beta s(q, g)) / sum over b of exp(beta s(b, g)), once with b in the query
    bank and once with b in the gallery bank.

    Raises:
        XgapError: an empty bank, or a beta that is not positive.

    Source: Wang, Jian, Xue, Balance Act (DBNorm), EMNLP 2023.
    """
    return _rule(calibration, beta, gallery_bank=True, dynamic=False)


@register_correction("dual-dynamic-inverted-softmax")
def dual_dynamic_inverted_softmax(calibration: Calibration, beta: float = BETA, k: int = 1) -> ScoreCorrection:
    """The dual inverted softmax, for those queries only whose nearest gallery item is a hub of either bank.

    Raises:
        XgapError: an empty bank, a beta that is not positive, or a k out of range.

    Source: Wang, Jian, Xue, Balance Act (DBNorm), EMNLP 2023.
    """
    return _rule(calibration, beta, gallery_bank=True, dynamic=True, k=k)


def _rule(calibration: Calibration, beta: float, gallery_bank: bool, dynamic: bool, k: int = 1) -> ScoreCorrection:
    if not beta > 0:
        raise XgapError(f"beta, the inverse temperature of the inverted softmax, is positive, not {beta}")

    def apply(query: Features, gallery: Features, scorer: Scorer) -> QueryGallery:
        spaces = (query.space, gallery.space) if gallery_bank else (query.space,)
        banks = [calibration.of(space) for space in spaces]
        weights = torch.zeros(len(gallery), dtype=widest(gallery.vectors.device), device=gallery.vectors.device)
        hub = torch.zeros(len(gallery), dtype=torch.bool, device=gallery.vectors.device)
        for bank in banks:
            if not len(bank):
                raise XgapError("the bank of the inverted softmax is empty: fit it on a split that has items")
            heard, chosen = _bank(bank, gallery, beta, k if dynamic else 0, scorer)
            weights, hub = weights + heard, hub | chosen

        def normalise(scores: Float[Tensor, "b m"]) -> Float[Tensor, "b m"]:
            changed = len(banks) * beta * exact(scores) - weights
            if dynamic:
                changed = torch.where(hub[scores.argmax(dim=1)][:, None], changed, exact(scores))
            return changed.float()

        return QueryGallery(query, gallery, normalise, scorer)

    return ScoreCorrection(apply)


def _bank(
    bank: Features, gallery: Features, beta: float, k: int, scorer: Scorer
) -> tuple[Float[Tensor, " m"], Bool[Tensor, " m"]]:
    """What each gallery item hears from a bank, as a logarithm, and whether it is among the k nearest of any of it."""
    heard = torch.full((len(gallery),), -torch.inf, dtype=widest(gallery.vectors.device), device=gallery.vectors.device)
    hub = torch.zeros(len(gallery), dtype=torch.bool, device=gallery.vectors.device)
    if not 0 <= k <= len(gallery):
        raise XgapError(f"k lies between 1 and the {len(gallery)} items of the gallery, not {k}")
    for _, _, scores in score_blocks(bank.to(gallery.vectors.device), gallery, scorer):
        heard = torch.logaddexp(heard, (beta * exact(scores)).logsumexp(dim=0))
        if k:
            hub |= nearest(scores, k).any(dim=0)
    return heard, hub
