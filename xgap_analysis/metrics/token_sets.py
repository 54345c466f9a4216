"""Sets of tokens: their spread within an item and between items, and the share of a score that one token makes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.precision import exact
from xgap_analysis.core.tokens import ScoredLike, as_scored, as_tokens
from xgap_analysis.metrics.groups import Groups
from xgap_analysis.metrics.significance import Interval, bootstrap_interval, ratio_interval


def token_spread(tokens: ScoredLike, *, groups: Groups | None = None, **how: Any) -> pd.DataFrame:
    """How widely tokens spread within an item, beside how widely items spread; one row per measure.

    Formula, for unit tokens `v_ij` of item i, their mean `m_i`, and the mean m of all `m_i` (items count alike):

    | row | formula | how to read it |
    |---|---|---|
    | `agreement` | `mean_i ||m_i||` | 1 where the tokens of an item coincide, 0 where they cancel out |
    | `within` | `mean_i mean_j ||v_ij - m_i||^2`, which is `mean_i (1 - ||m_i||^2)` | in [0, 1]; 0 for one token each |
    | `between` | `mean_i ||m_i - m||^2` | in [0, 1]; 0 where all items have one mean |
    | `share_within` | `within / (within + between)` | of the spread of all tokens, the part inside items |

    A pooled vector forgets what `within` measures. A `share_within` near 1 means that tokens of one item lie no nearer
    to each other than those of different items.

    Args:
        tokens: of one modality, as views such as `patches`, `words` and `frames` give them; one vector per item is a
            set of one.
        groups: label of each item; items of one label are drawn together.
        how: `level`, `resamples` and `seed` of the bootstrap; m stays that of all items.

    Returns:
        A table with columns `value`, `low`, `high` and `n` (items).

    Raises:
        XgapError: no items, or groups that do not fit.

    Example:
        >>> import torch, xgap_analysis as xg
        >>> tokens = xg.TokenFeatures(torch.eye(4), [0, 2, 4], ["a", "b"], "image", "image")
        >>> token_spread(tokens).value.round(3).to_dict()
        {'agreement': 0.707, 'within': 0.5, 'between': 0.25, 'share_within': 0.667}

    Source: the decomposition of a sum of squares; agreement is the mean resultant length of Mardia and Jupp,
    Directional statistics, 2000, section 9.2.
    """
    tokens = as_tokens(as_scored(tokens))
    if not len(tokens):
        raise XgapError("the spread of tokens needs an item at least, and there is none")
    vectors = exact(tokens.vectors)
    owner = torch.repeat_interleave(torch.arange(len(tokens)), tokens.lengths).to(vectors.device)
    means = vectors.new_zeros(len(tokens), tokens.dim).index_add_(0, owner, vectors)
    means /= tokens.lengths.to(vectors.device)[:, None]
    off = (vectors - means[owner]).square().sum(dim=1)
    within = (torch.zeros_like(means[:, 0]).index_add_(0, owner, off).cpu() / tokens.lengths).numpy()
    between = (means - means.mean(dim=0)).square().sum(dim=1).cpu().numpy()
    values = {"agreement": means.norm(dim=1).cpu().numpy(), "within": within, "between": between}
    rows = {name: bootstrap_interval(of, groups=groups, **how) for name, of in values.items()}
    rows["share_within"] = ratio_interval(within, within + between, groups=groups, **how)
    return pd.DataFrame({name: _row(of) for name, of in rows.items()}).T.astype({"n": int})


def one_token_share(
    contributions: Sequence[Tensor | np.ndarray], *, groups: Groups | None = None, **how: Any
) -> pd.DataFrame:
    """The share of a score that one token makes; one row for the query's tokens and one for the gallery item's.

    Formula, for a pair whose score is `sum_ij c_ij` over query tokens i and gallery tokens j: `max_j |c_.j| / sum_j
    |c_.j|` with `c_.j = sum_i c_ij` for the gallery, and the same of rows for the query; then the mean over pairs.

    How to read it: in (0, 1]. 1: one token makes the whole score. `even`, beside it, is the mean of `1 / tokens`: what
    equal contributions would give.

    Args:
        contributions: for each pair, a matrix `[tq, tg]` of what each pair of tokens adds to its score.
        groups: label of each pair; pairs of one label (of one query, say) are drawn together.
        how: `level`, `resamples` and `seed` of the bootstrap.

    Returns:
        A table with columns `value`, `low`, `high`, `n` (pairs) and `even`. A pair whose contributions are all zero has
        no share, and is left out.

    Raises:
        XgapError: something else than matrices of finite numbers, or no pair with a score.

    Example:
        >>> one_token_share([np.array([[0.5, 0.0], [0.25, 0.25]])]).value.to_dict()
        {'query': 0.5, 'gallery': 0.75}
    """
    shares: dict[str, list[float]] = {"query": [], "gallery": []}
    even: dict[str, list[float]] = {"query": [], "gallery": []}
    for number, given in enumerate(contributions):
        matrix = np.asarray(given.detach().cpu().double() if isinstance(given, Tensor) else given, dtype=np.float64)
        if matrix.ndim != 2 or not matrix.size or not np.isfinite(matrix).all():
            what = f"contributions of pair {number} are of shape {matrix.shape}"
            raise XgapError(f"{what}; give a matrix [query tokens, gallery tokens] of finite numbers for each pair")
        for name, axis in (("query", 1), ("gallery", 0)):
            size = np.abs(matrix.sum(axis=axis))
            shares[name].append(float(size.max() / size.sum()) if size.any() else np.nan)
            even[name].append(1 / len(size))
    rows = {name: bootstrap_interval(of, groups=groups, **how) for name, of in shares.items()}
    table = pd.DataFrame({name: _row(of) for name, of in rows.items()}).T.astype({"n": int})
    return table.assign(even={name: np.mean(of) for name, of in even.items()})


def _row(of: Interval) -> dict[str, float]:
    return {"value": of.mean, "low": of.low, "high": of.high, "n": of.n}
