"""Which token pairs made a score: what each pair of one query and one gallery item adds to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.calls import Call
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.tokens import ScoredLike, TokenFeatures, as_tokens, scored_pair
from xgap_analysis.scoring.blocks import check_pair
from xgap_analysis.scoring.cosine import COSINE
from xgap_analysis.scoring.rows import single
from xgap_analysis.scoring.scorer import SCORERS, ScoreFunction, Scorer
from xgap_analysis.scoring.scorer import scorer as as_scorer
from xgap_analysis.scoring.tokens import block_of_tokens, similarities


@dataclass(frozen=True, eq=False)
class TokenPairs:
    """The token pairs of one query and one gallery item, and what each adds to their score.

    Args:
        similarities: `[tq, tg]` the cosine of each query token with each gallery token.
        contributions: `[tq, tg]` what each pair adds; they sum to the score. One of a negative similarity is negative.
    """

    similarities: Tensor
    contributions: Tensor

    @property
    def score(self) -> float:
        """The score: the sum of the contributions."""
        return float(self.contributions.sum())

    def table(self, query: Sequence[str] | None = None, gallery: Sequence[str] | None = None) -> pd.DataFrame:
        """One row per pair: `query_token` and `gallery_token`, `similarity` and `contribution`.

        Args:
            query, gallery: names of the tokens; their numbers, from 0, by default.
        """
        named = [
            range(n) if of is None else of for of, n in zip((query, gallery), self.similarities.shape, strict=True)
        ]
        places = list(product(*map(range, self.similarities.shape)))
        return pd.DataFrame(
            {
                "query_token": [named[0][i] for i, _ in places],
                "gallery_token": [named[1][j] for _, j in places],
                "similarity": self.similarities.flatten().tolist(),
                "contribution": self.contributions.flatten().tolist(),
            }
        )


def token_pairs(
    query: ScoredLike, gallery: ScoredLike, scorer: str | Call | Scorer | ScoreFunction = COSINE
) -> TokenPairs:
    """What each pair of tokens adds to the score of one query with one gallery item.

    | scorer | contribution of query token i and gallery token j, with `S_ij = q_i . g_j` |
    |---|---|
    | `late_interaction` | `u_i w_ij S_ij`: w and u make the inner and the outer reduction weighted sums |
    | the same, `symmetric` | the mean of both directions |
    | the same, `outer=assignment` | `S_ij / min(tq, tg)` for partners, 0 for others |
    | `pooled` | `u_i w_ij S_ij / ||sum_j w_ij g_j||`, w its weights |
    | `cosine` and others of one vector per item | the score itself |

    How to read it: the contributions sum to the score. A maximum has a row with one number; in a mean of cosines each
    pair has its share, and a negative similarity takes away from the score. Weights are read as they are, though they
    depend on the similarities too: without one token, the others would weigh more.

    Args:
        query, gallery: features of one item each, as `select([id])` gives them.
        scorer: one of these, by name or as it is, or one registered with `contributions`.

    Raises:
        XgapError: more than one item, or another scorer.

    Example:
        >>> import torch, xgap_analysis as xg
        >>> words = xg.TokenFeatures(torch.eye(3)[:2], [0, 2], ["text"], "text", "text")
        >>> patches = xg.TokenFeatures(torch.eye(3), [0, 3], ["image"], "image", "image")
        >>> pairs = xg.token_pairs(words, patches, "late_interaction")
        >>> pairs.score, pairs.contributions.tolist()
        (1.0, [[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]])
    """
    query, gallery = map(as_tokens, scored_pair(query, gallery))
    check_pair(query, gallery, None)
    for of, name in ((query, "query"), (gallery, "gallery")):
        if len(of) > 1:
            raise XgapError(f"token pairs are of one item each, and the {name} has {len(of)}; take one by select([id])")
    scoring, device = as_scorer(scorer), query.vectors.device
    blocks = [block_of_tokens(of, torch.tensor([0]), device) for of in (query, gallery)]
    return TokenPairs(similarities(*blocks)[0, :, :, 0].cpu(), _contributions(scoring, query, gallery).cpu().double())


def _contributions(scoring: Scorer, query: TokenFeatures, gallery: TokenFeatures) -> Float[Tensor, "tq tg"]:
    if scoring.takes in ("vectors", None):
        return scoring(single(query, "query", scoring), single(gallery, "gallery", scoring).to(query.vectors.device))
    own: ScoreFunction | None = getattr(scoring.function, "contributions", None)
    if own is None:
        known = sorted(name for name, f in SCORERS.items() if getattr(f, "contributions", None) is not None)
        what = f"scorer {scoring} does not say what each pair of tokens adds to its score"
        raise XgapError(f"{what}; these do: {', '.join(known)}, and scorers of one vector per item")
    blocks = [block_of_tokens(of, torch.tensor([0]), query.vectors.device) for of in (query, gallery)]
    expected = scoring(*blocks)  # which refuses what does not fit
    made = own(*blocks, **scoring.options)
    shape = tuple(int(block.counts[0]) for block in blocks)
    if not isinstance(made, Tensor) or tuple(made.shape) != shape:
        found = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
        raise XgapError(f"contributions of scorer {scoring} must be a tensor {shape}, not {found}")
    if not torch.allclose(made.cpu().double().sum(), expected.cpu().double().sum(), rtol=1e-4, atol=1e-5):
        what = f"contributions of scorer {scoring} sum to {float(made.sum()):.4g}, and its score is"
        raise XgapError(f"{what} {float(expected):.4g}; they must sum to the score")
    return made
