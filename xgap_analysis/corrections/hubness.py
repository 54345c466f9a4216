"""Corrections of similarities for hubs: gallery items that are near to many queries are made less near.

They look at banks of calibration features instead of the queries that are evaluated. A query's bank is the calibration
set of the space it lies in (an OTI query lies in the text space), a gallery item's bank likewise.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from xgap_analysis.core.calibration import Calibration
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.precision import exact, widest
from xgap_analysis.corrections.banks import bank_of, note_of
from xgap_analysis.corrections.protocol import QueryGallery, ScoreCorrection, register_correction
from xgap_analysis.scoring.blocks import score_blocks
from xgap_analysis.scoring.reductions import top
from xgap_analysis.scoring.scorer import Scorer

BETA = 20.0  # inverse temperature
BETAS = (1 / 1.99, 3.0)  # of the query bank and of the gallery bank, in the code of DBNorm's authors


@register_correction("inverted-softmax")
def inverted_softmax(calibration: Calibration, beta: float = BETA) -> ScoreCorrection:
    """Divide a similarity by what the gallery item gets from a bank of queries.

    Formula: s'(q, g) = exp(beta s(q, g)) / sum over b in the query bank of exp(beta s(b, g)); its logarithm is ranked.

    Raises:
        XgapError: an empty bank, or a beta that is not positive.

    Source: Smith et al., ICLR 2017; Bogolin et al., Cross Modal Retrieval with Querybank Normalisation, CVPR 2022.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(1, 1, (20, 4)), range(20), space="image", origin="image")
        >>> texts = xg.Features(random.normal(-1, 1, (20, 4)), range(20), space="text", origin="text")
        >>> calibration = xg.Calibration({"image": images, "text": texts}, split="train")
        >>> pair = xg.correction("inverted-softmax").fit(calibration).apply(texts, images)
        >>> relevance = xg.Relevance.from_labels([i // 4 for i in range(20)], [i // 4 for i in range(20)])
        >>> len(xg.metrics.scores("retrieval", pair, relevance))  # one row per query, ranked by the corrected scores
        20
    """
    return _rule(calibration, [beta])


@register_correction("dynamic-inverted-softmax")
def dynamic_inverted_softmax(calibration: Calibration, beta: float = BETA, k: int = 1) -> ScoreCorrection:
    """The inverted softmax, for those queries only whose nearest gallery item is a hub of the bank.

    A gallery item is a hub where it is among the k nearest of any query of the bank. The other queries keep their
    similarities.

    Raises:
        XgapError: an empty bank, a beta that is not positive, or a k out of range.

    Source: Bogolin et al., CVPR 2022, section 3.3.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(1, 1, (20, 4)), range(20), space="image", origin="image")
        >>> texts = xg.Features(random.normal(-1, 1, (20, 4)), range(20), space="text", origin="text")
        >>> calibration = xg.Calibration({"image": images, "text": texts}, split="train")
        >>> pair = xg.correction("dynamic-inverted-softmax").fit(calibration).apply(texts, images)
        >>> relevance = xg.Relevance.from_labels([i // 4 for i in range(20)], [i // 4 for i in range(20)])
        >>> len(xg.metrics.scores("retrieval", pair, relevance))  # one row per query, ranked by the corrected scores
        20
    """
    return _rule(calibration, [beta], k)


@register_correction("dual-inverted-softmax")
def dual_inverted_softmax(
    calibration: Calibration, beta: float = BETAS[0], beta_gallery: float = BETAS[1]
) -> ScoreCorrection:
    """The inverted softmax with a bank of queries times the one with a bank of gallery items.

    Formula: s'(q, g) is the product of exp(beta s(q, g)) / sum over b of exp(beta s(b, g)), once with b in the query
    bank, and once, at `beta_gallery`, with b in the gallery bank; its logarithm is ranked.

    Where query and gallery lie in one space, both banks are the same items: with equal temperatures the ranking is then
    that of `inverted-softmax`. A note in the table says so.

    Raises:
        XgapError: an empty bank, or a temperature that is not positive.

    Source: Wang, Jian, Xue, Balance Act (DBNorm), EMNLP 2023; temperatures as in the authors' code.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(1, 1, (20, 4)), range(20), space="image", origin="image")
        >>> texts = xg.Features(random.normal(-1, 1, (20, 4)), range(20), space="text", origin="text")
        >>> calibration = xg.Calibration({"image": images, "text": texts}, split="train")
        >>> pair = xg.correction("dual-inverted-softmax").fit(calibration).apply(texts, images)
        >>> relevance = xg.Relevance.from_labels([i // 4 for i in range(20)], [i // 4 for i in range(20)])
        >>> len(xg.metrics.scores("retrieval", pair, relevance))  # one row per query, ranked by the corrected scores
        20
    """
    return _rule(calibration, [beta, beta_gallery])


@register_correction("dual-dynamic-inverted-softmax")
def dual_dynamic_inverted_softmax(
    calibration: Calibration, beta: float = BETAS[0], beta_gallery: float = BETAS[1], k: int = 1
) -> ScoreCorrection:
    """The dual inverted softmax, each of its two factors for those queries whose nearest item is a hub of that bank.

    Formula: s'(q, g) = f_query(q, g) f_gallery(q, g). A factor is the inverted softmax of its bank where the query's
    nearest gallery item is among the k nearest of any item of that bank, and the similarity itself elsewhere. So a
    query that both banks reach has the dual inverted softmax, and one that neither reaches keeps its ranking.

    A product with a negative similarity would turn the order around. Here a factor w makes w s of a positive similarity
    and s / w of a negative one, which is the authors' order where similarities are positive, and rises with both
    otherwise.

    Raises:
        XgapError: an empty bank, a temperature that is not positive, or a k out of range.

    Source: Wang, Jian, Xue, Balance Act (DBNorm), EMNLP 2023, and the rule of the authors' code, but for its slips (an
    array that is overwritten makes both factors one, and the queries' matrix is not read).

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> random = np.random.default_rng(0)
        >>> images = xg.Features(random.normal(1, 1, (20, 4)), range(20), space="image", origin="image")
        >>> texts = xg.Features(random.normal(-1, 1, (20, 4)), range(20), space="text", origin="text")
        >>> calibration = xg.Calibration({"image": images, "text": texts}, split="train")
        >>> pair = xg.correction("dual-dynamic-inverted-softmax").fit(calibration).apply(texts, images)
        >>> relevance = xg.Relevance.from_labels([i // 4 for i in range(20)], [i // 4 for i in range(20)])
        >>> len(xg.metrics.scores("retrieval", pair, relevance))  # one row per query, ranked by the corrected scores
        20
    """
    return _rule(calibration, [beta, beta_gallery], k)


def _rule(calibration: Calibration, betas: Sequence[float], k: int | None = None) -> ScoreCorrection:
    """One inverse temperature for each bank, the query's and then the gallery's; without k every query is changed."""
    wrong = next((beta for beta in betas if not beta > 0), None)
    if wrong is not None:
        raise XgapError(f"beta, the inverse temperature of the inverted softmax, is positive, not {wrong}")

    def apply(query: Features, gallery: Features, scorer: Scorer) -> QueryGallery:
        banks = []
        for space, beta in zip((query.space, gallery.space), betas, strict=False):  # the gallery's where it has a beta
            bank = bank_of(calibration, space, "the inverted softmax", gallery)
            banks.append(_load(bank, gallery, beta, k, scorer))

        def normalise(scores: Float[Tensor, "b m"]) -> Float[Tensor, "b m"]:
            scores = exact(scores)
            logs = [beta * scores - load for beta, (load, _) in zip(betas, banks, strict=True)]
            if k is None:
                return torch.stack(logs).sum(dim=0).float()
            first = scores.argmax(dim=1)
            caught = torch.stack([hub[first] for _, hub in banks])[..., None]  # [banks, b, 1]
            changed = torch.where(caught, torch.stack(logs), 0.0).sum(dim=0)
            some, every = caught.any(dim=0), caught.all(dim=0)
            return torch.where(every, changed, torch.where(some, times(scores, changed), scores)).float()

        return QueryGallery(query, gallery, normalise, scorer, note_of(query, gallery) if len(betas) > 1 else "")

    return ScoreCorrection(apply)


def times(scores: Float[Tensor, "b m"], log_factor: Float[Tensor, "b m"]) -> Float[Tensor, "b m"]:
    """Numbers that rank each row as `w s` of positive scores, 0, and `s / w` of negative ones, w = exp(log_factor).

    Logarithms are ranked, since w may be too small or too large for a number: those of positive scores lie above zero,
    and those of negative ones, with their sign changed, below it. What is left out (minus infinity) stays so.
    """
    size = scores.abs().log()
    high = (log_factor + size).masked_fill(scores <= 0, torch.inf)
    low = (log_factor - size).masked_fill((scores >= 0) | scores.isneginf(), -torch.inf)
    above = high - high.amin(dim=1, keepdim=True) + 1
    below = low - low.amax(dim=1, keepdim=True) - 1
    ranked = torch.where(scores > 0, above, torch.where(scores < 0, below, 0.0))
    return ranked.masked_fill(scores.isneginf(), -torch.inf)


def _load(
    bank: Features, gallery: Features, beta: float, k: int | None, scorer: Scorer
) -> tuple[Float[Tensor, " m"], Bool[Tensor, " m"]]:
    """What each gallery item gets from a bank, as a logarithm, and whether it is among the k nearest of any of it."""
    if k is not None and not 1 <= k <= len(gallery):
        raise XgapError(f"k lies between 1 and the {len(gallery)} items of the gallery, not {k}")
    load = torch.full((len(gallery),), -torch.inf, dtype=widest(gallery.vectors.device), device=gallery.vectors.device)
    hub = torch.zeros(len(gallery), dtype=torch.bool, device=gallery.vectors.device)
    for _, _, scores in score_blocks(bank, gallery, scorer):
        load = torch.logaddexp(load, (beta * exact(scores)).logsumexp(dim=0))
        if k is not None:
            hub |= top(scores, None, 1, k).any(dim=0)
    return load, hub
