"""Retrieval at any cut-off: what the first k of a ranking hold, under the definitions that the field has for it."""

from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd
from torch import Tensor

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.precision import exact
from xgap_analysis.core.relevance import RelevanceLike, as_relevance
from xgap_analysis.core.tokens import ScoredLike, scored_pair
from xgap_analysis.metrics.block_ranks import Ranks
from xgap_analysis.metrics.retrieval import Counted, per_query
from xgap_analysis.scoring.blocks import ScoreNormaliser
from xgap_analysis.scoring.cosine import COSINE
from xgap_analysis.scoring.scorer import ScoreFunction, Scorer

GAINS: dict[str, Callable[[Tensor], Tensor]] = {"linear": exact, "exponential": lambda grade: exact(grade).exp2() - 1}


def cutoffs(
    query: ScoredLike,
    gallery: ScoredLike,
    relevance: RelevanceLike,
    *,
    ks: Sequence[int] = (5, 20),
    gain: str = "linear",
    reachable: bool = False,
    exclude_self: bool = True,
    block: int | None = None,
    normalise: ScoreNormaliser | None = None,
    scorer: str | Scorer | ScoreFunction = COSINE,
) -> pd.DataFrame:
    """Precision, recall, average precision, mP and nDCG of the first k, for any k; one row per query.

    R is the number of relevant items, `rel(i)` says whether rank i is relevant, `P(i)` is the precision of the first i.

    | column | formula | range, good end |
    |---|---|---|
    | `n_relevant` | R | 0 .. n_gallery |
    | `precision_at_k` | P(k); a shorter gallery counts as followed by others | [0, 1], 1 |
    | `recall_at_k` | share of the R relevant items among the first k | [0, 1], 1 |
    | `ap_at_k` | `sum over i <= k of P(i) rel(i) / R` (map_cut of trec_eval) | [0, 1], 1 |
    | `mp_at_k` | P(min(k, rank of the last relevant item)) (Radenovic et al., 2018, and their code) | [0, 1], 1 |
    | `ndcg_at_k` | `sum over i <= k of gain(i) / log2(i + 1)`, over its best with all R items | [0, 1], 1 |

    With exponential gains the last is `ndcg_exp_at_k`. `ap_at_k` cannot reach 1 where R is above k; with `reachable`,
    `ap_reachable_at_k` stands in its place, which is over min(k, R).

    Args:
        query, gallery, relevance, exclude_self, block, normalise, scorer: as in `retrieval`.
        ks: cut-offs, each 1 or more.
        gain: of a grade g: `"linear"` (g, as trec_eval), or `"exponential"` (2^g - 1, as in learning to rank). For
            grades of 0 and 1 they are the same.
        reachable: average precision over min(k, R), which the first k can reach, and not over R.

    Returns:
        n rows, indexed by query id ("query"); NaN where a query has no relevant item; `attrs` as of `retrieval`.

    Raises:
        XgapError: as `retrieval`, or an unknown gain.

    Source: Jarvelin and Kekalainen, Cumulated gain-based evaluation of IR techniques, 2002; exponential gains, Burges
    et al., Learning to rank using gradient descent, ICML 2005.

    Example:
        >>> import numpy as np
        >>> import xgap_analysis as xg
        >>> images = np.array([[1.0, 0.0], [0.9, 0.1], [0.5, 0.5], [0.0, 1.0]])
        >>> table = xg.metrics.cutoffs(images, images, ["cat", "cat", "dog", "cat"], ks=[1, 2])
        >>> table.loc["0", ["precision_at_1", "recall_at_1", "precision_at_2", "ap_at_2"]].tolist()
        [1.0, 0.5, 0.5, 0.5]
    """
    if gain not in GAINS:
        raise unknown_name("gain", gain, GAINS)
    if not isinstance(ks, Sequence) or not ks:
        raise XgapError(f"ks is a list of cut-offs, such as [5, 20], not {ks!r}")
    query, gallery = scored_pair(query, gallery)
    measure = partial(_measure, ks=ks, gain=gain, reachable=reachable)
    bound = as_relevance(relevance, query, gallery)
    return per_query(query, gallery, bound, measure, ks, exclude_self, block, normalise, scorer)


def _measure(ranks: Ranks, ks: Sequence[int], gain: str, reachable: bool) -> dict[str, Tensor]:
    of = Counted.of(ranks)
    some = exact(of.n > 0) / (of.n > 0)  # 1, or NaN for a query without relevant items
    columns = {"n_relevant": of.n}
    ap, name = "ap_reachable" if reachable else "ap", "ndcg" if gain == "linear" else "ndcg_exp"
    for k in ks:
        first = of.rank < k
        columns |= {
            f"precision_at_{k}": of.total(first) / k * some,
            f"recall_at_{k}": of.total(first) / of.n,
            f"{ap}_at_{k}": of.total(of.precision * first) / (of.n.clamp(max=k) if reachable else of.n),
            f"mp_at_{k}": of.mp(k),
            f"{name}_at_{k}": of.ndcg(k, GAINS[gain]),
        }
    return columns
