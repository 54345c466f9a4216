"""Late interaction: every token of a query beside every token of a gallery item, reduced twice."""

import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.calls import Call
from xgap_analysis.core.errors import XgapError
from xgap_analysis.scoring.reductions import Reduction, reduction
from xgap_analysis.scoring.scorer import Joins, register_scorer
from xgap_analysis.scoring.tokens import TokenBlock, similarities

ASSIGNMENT = "assignment"


def joined(
    inner: str | Call | Reduction = "max", outer: str | Call | Reduction = "mean", symmetric: bool = False
) -> Joins:
    """What may stand for the tokens of a query and of a gallery item: the mean of products is the product of means."""
    if symmetric or _name(outer) == ASSIGNMENT or not reduction(inner, "inner").linear:
        return None, None
    return _name(outer) if reduction(outer, "outer").linear else None, _name(inner)  # type: ignore[return-value]


def contributions(
    query: TokenBlock,
    gallery: TokenBlock,
    inner: str | Call | Reduction = "max",
    outer: str | Call | Reduction = "mean",
    symmetric: bool = False,
) -> Float[Tensor, "tq tg"]:
    """What each token pair of one query and one gallery item adds to the score; see `token_pairs`."""
    values = similarities(query, gallery)[0, :, :, 0]
    if _name(outer) == ASSIGNMENT:
        return _partners(values) * values / min(values.shape)
    inner, outer = reduction(inner, "inner"), reduction(outer, "outer")
    forth = _weighted(values, inner, outer)
    return (forth + _weighted(values.T, inner, outer).T) / 2 if symmetric else forth


def _weighted(values: Float[Tensor, "t s"], inner: Reduction, outer: Reduction) -> Float[Tensor, "t s"]:
    made = inner.weights(values, 1) * values
    return outer.weights(made.sum(dim=1), 0)[:, None] * made


def _partners(values: Float[Tensor, "t s"]) -> Float[Tensor, "t s"]:
    from scipy.optimize import linear_sum_assignment

    marks = torch.zeros_like(values)
    marks[linear_sum_assignment(values.cpu().double().numpy(), maximize=True)] = 1
    return marks


@register_scorer("late_interaction", takes="tokens", joins=joined, contributions=contributions)
def late_interaction(
    query: TokenBlock,
    gallery: TokenBlock,
    *,
    inner: str | Call | Reduction = "max",
    outer: str | Call | Reduction = "mean",
    symmetric: bool = False,
) -> Float[Tensor, "b m"]:
    """The similarities `S = q_i . g_j` of all token pairs, reduced over gallery tokens, then over query tokens.

    Formula: `outer_i inner_j S_ij`. With one token per query and per gallery item each of these is the cosine.

    | reduction | of values x |
    |---|---|
    | `max` | the largest |
    | `mean`, `sum` | over the item's tokens |
    | `top(k)` | the mean of the k largest |
    | `softmax(tau)` | `sum_j w_j x_j`, `w = softmax(x / tau)`: the maximum for small tau, the mean for large |

    `outer=assignment` gives each token at most one partner, chosen for the largest total, and takes the mean over the
    `min(t_q, t_g)` pairs; it is slow (one assignment problem per pair on a processor), so use it behind `rerank`.

    | system | is |
    |---|---|
    | FILIP, ColBERT-like | `max`, `mean` (ColBERT itself: `max`, `sum`); the other direction swaps query and gallery |
    | MeVTR's maxP, SPRC, best window | `max` with one query token |
    | GRAIN, mean of cosines | `mean`, `mean` |

    How to read it: in [-1, 1] but for `sum`; higher is nearer. Values of one direction are not comparable with those
    of the other where `inner` and `outer` differ: `symmetric` takes the mean of both.

    Args:
        query, gallery: blocks of tokens. Their `weights` are not read.
        inner: over gallery tokens, for each query token.
        outer: over query tokens.
        symmetric: the mean of this score and of the score with query and gallery exchanged.

    Raises:
        XgapError: an unknown reduction, or `top(k)` where an item has fewer than k tokens.

    Example:
        >>> import torch
        >>> from xgap_analysis.core.tokens import TokenFeatures
        >>> from xgap_analysis.scoring.score import score
        >>> frames = TokenFeatures(torch.eye(3), [0, 1, 3], ["still", "clip"], "image", "image")
        >>> words = TokenFeatures(torch.eye(3)[1:], [0, 2], ["text"], "text", "text")
        >>> score(words, frames, "late_interaction(inner=max, outer=mean)").tolist()
        [[0.0, 1.0]]

    Source: Yao et al., FILIP, ICLR 2022; Khattab and Zaharia, ColBERT, SIGIR 2020.
    """
    if _name(outer) == ASSIGNMENT:
        if str(inner) != "max":
            raise XgapError(f"outer=assignment chooses partners itself: leave out inner={inner}")
        return _assigned(query, gallery)
    inner, outer = reduction(inner, "inner"), reduction(outer, "outer")
    gallery.require(inner.least, f"inner={inner}")
    query.require(outer.least, f"outer={outer}")
    values = similarities(query, gallery)
    of_query = None if query.whole else query.mask[:, :, None]
    of_gallery = None if gallery.whole else gallery.mask.T[None]
    over_gallery = inner(
        values, None if of_gallery is None else of_gallery[None], 2, padding_repeats=True
    )  # [b, tq, m]
    forth = outer(over_gallery, of_query, 1, padding_repeats=True)
    if not symmetric:
        return forth
    query.require(inner.least, f"inner={inner}")
    gallery.require(outer.least, f"outer={outer}")
    over_query = inner(values, None if of_query is None else of_query[..., None], 1, padding_repeats=True)  # [b, tg, m]
    return (forth + outer(over_query, of_gallery, 1, padding_repeats=True)) / 2


def _name(of: str | Call | Reduction) -> str:
    return of.strip() if isinstance(of, str) else of.name


def _assigned(query: TokenBlock, gallery: TokenBlock) -> Tensor:
    from scipy.optimize import linear_sum_assignment

    values = similarities(query, gallery).permute(0, 3, 1, 2).cpu().double().numpy()  # [b, m, tq, tg]
    scores = torch.empty(len(query), len(gallery))
    t_query, t_gallery = query.counts.tolist(), gallery.counts.tolist()
    places_query, places_gallery = query.mask.cpu().numpy(), gallery.mask.cpu().numpy()
    for i in range(len(query)):
        for j in range(len(gallery)):
            own = values[i, j][places_query[i]][:, places_gallery[j]]
            rows, columns = linear_sum_assignment(own, maximize=True)
            scores[i, j] = own[rows, columns].sum() / min(t_query[i], t_gallery[j])
    return scores.to(query.vectors.device)
