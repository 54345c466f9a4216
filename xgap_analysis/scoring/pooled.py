"""Pooled: the gallery item's tokens made one vector, by weights that a query token may choose, then the cosine."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.calls import Call, parse
from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.tokens import NO_DIRECTION
from xgap_analysis.scoring.reductions import Reduction, argument, ratio, reduction, softmax, top
from xgap_analysis.scoring.scorer import register_scorer
from xgap_analysis.scoring.tokens import TokenBlock, similarities

SLOPE = 0.1  # of SCAN's leaky rectifier
TINY = 1e-8  # as in SCAN's code


def contributions(
    query: TokenBlock,
    gallery: TokenBlock,
    weights: str | Call = "softmax",
    tau: int | float = 0.1,
    base: str | None = None,
    outer: str | Call | Reduction = "mean",
) -> Float[Tensor, "tq tg"]:
    """What each token pair of one query and one gallery item adds to the score; see `token_pairs`."""
    query, gallery = query.precise, gallery.precise
    values, weight = _weighed(query, gallery, _rule(weights, tau), base)
    made = (weight * values / _lengths(weight, query, gallery)[:, :, None])[0, :, :, 0]
    return reduction(outer, "outer").weights(made.sum(dim=1), 0)[:, None] * made


@register_scorer("pooled", takes="tokens", contributions=contributions)
def pooled(
    query: TokenBlock,
    gallery: TokenBlock,
    *,
    weights: str | Call = "softmax",
    tau: int | float = 0.1,
    base: str | None = None,
    outer: str | Call | Reduction = "mean",
) -> Float[Tensor, "b m"]:
    """The cosine of a query token with the weighted sum of a gallery item's tokens, reduced over query tokens.

    Formula: `outer_i cos(q_i, sum_j w_ij g_j)`, with weights w from the similarities `s_j = q_i . g_j`:

    | weights | w_ij | where the sum is zero |
    |---|---|---|
    | `uniform` | 1 / t | |
    | `top(k)` | 1 / k for the k most similar tokens, 0 for others | |
    | `softmax` or `softmax(tau)` | `softmax_j(s_j / tau)` | |
    | `minmax(delta)` | `s'_j = (s_j - min) / (max - min)`, 0 below delta, over their sum | uniform |
    | `ratio` | `s_j / sum_j s_j` | uniform; also where it is negative, or absolute weights add up to over 10 |
    | `scan(smooth)` | `softmax_j(smooth a_j)`, a = leaky rectified s (slope 0.1), unit over the query's tokens | |

    | system | is |
    |---|---|
    | mean of frames (CLIP4Clip, Frozen in Time, Prompt Switch) | `uniform` |
    | X-Pool's baselines without parameters | `uniform`, `top(k)`, `softmax(0.01)` |
    | DreamLIP's grouping | `minmax(delta)`: a query token per sub-caption |
    | ComCLIP's sub-images | `ratio` with `base=first` |
    | SCAN, text to image | `scan`, with `outer=mean` or `lse(6)`: words are query tokens, regions gallery tokens |
    | SCAN, image to text | `scan(4)`, with `outer=mean` or `lse(5)`, and regions as the query |

    How to read it: in [-1, 1] but for `outer=sum` and `lse`; higher is nearer. It divides by how much the weighted
    tokens agree (`uniform`: the mean cosine over the length of the mean), which a mean of cosines does not.
    `outer=lse(s)` adds up to `log(t) / s` for the number t of query tokens alone: nothing where each query ranks a
    gallery, and a preference for long texts where these scores, `exchanged`, rank texts for an image. `mean` and
    `lme(s)` add nothing.

    Args:
        query, gallery: blocks of tokens. Their own `weights` are not read.
        weights: how much each gallery token counts.
        tau: of `softmax` without a number of its own.
        base: None, or `"first"`: each gallery item's first token is the item as a whole and gets weight 1; the weighted
            sum of its other tokens is added to it. An item of one token is that token.
        outer: over query tokens, as in `late_interaction`.

    Raises:
        XgapError: an unknown name, `top(k)` where an item has fewer than k tokens to weigh, or tokens that cancel
            out, so that their weighted sum has no direction (the item is named).

    Example:
        >>> import torch
        >>> from xgap_analysis.core.tokens import TokenFeatures
        >>> from xgap_analysis.scoring.score import score
        >>> frames = TokenFeatures(torch.eye(3), [0, 1, 3], ["still", "clip"], "image", "image")
        >>> [round(value, 3) for value in score(frames, frames, "pooled(weights=uniform)")[1].tolist()]
        [0.0, 0.707]

    Source: Gorti et al., X-Pool, CVPR 2022; Zheng et al., DreamLIP, ECCV 2024; Jiang et al., ComCLIP, NAACL 2024;
    Lee et al., Stacked cross attention (SCAN), ECCV 2018.
    """
    rule = _rule(weights, tau)
    outer = reduction(outer, "outer")
    query.require(outer.least, f"outer={outer}")
    query, gallery = query.precise, gallery.precise  # where tokens disagree, a length is a difference of products
    values, weight = _weighed(query, gallery, rule, base)
    cosines = (weight * values).sum(dim=2) / _lengths(weight, query, gallery)
    return outer(cosines, None if query.whole else query.mask[:, :, None], 1, padding_repeats=True)


def _weighed(
    query: TokenBlock, gallery: TokenBlock, by: tuple[str, float], base: str | None
) -> tuple[Float[Tensor, "b tq tg m"], Float[Tensor, "b tq tg m"]]:
    """Similarities, and the weights of gallery tokens."""
    rule, number = by
    if base not in (None, "first"):
        raise XgapError(f"base is None or first (each item's first token is the item as a whole), not {base!r}")
    values = similarities(query, gallery)
    # The first token of an item of one token weighs itself: what base=first then adds to it is itself again.
    own = gallery.mask.clone()
    if base == "first":
        own[:, 0] = gallery.counts == 1
    if rule == "top":
        parts = TokenBlock(gallery.vectors, own, ids=gallery.ids)
        parts.require(int(number), f"weights=top({number:g})")
    mask = own.T[None, None]
    weight = _weights(values, mask, query.mask[:, :, None, None], by)
    if base == "first":
        weight[:, :, 0] += 1
    return values, weight


def token_weights(
    values: Float[Tensor, "b tq tg m"],
    mask: Tensor,
    query_mask: Tensor,
    weights: str | Call,
) -> Float[Tensor, "b tq tg m"]:
    """How much each gallery token counts for each query token: the weights of `pooled`; zero where there is no token.

    Args:
        values: similarities.
        mask: of a shape that fits `[b, 1, tg, m]`: the gallery tokens that are weighed.
        query_mask: of a shape that fits `[b, tq, 1, 1]`: the query tokens.
        weights: as of `pooled`, such as `"softmax(0.1)"`.

    Raises:
        XgapError: an unknown name, or one without its number.

    Example:
        >>> values, whole = torch.tensor([0.1, 0.3, 0.5]).view(1, 1, 3, 1), torch.ones(1, 1, 1, 1, dtype=torch.bool)
        >>> [round(w, 3) for w in token_weights(values, whole.expand(1, 1, 3, 1), whole, "minmax").flatten().tolist()]
        [0.0, 0.333, 0.667]
    """
    return _weights(values, mask, query_mask, _rule(weights))


def _weights(values: Tensor, mask: Tensor, query_mask: Tensor, by: tuple[str, float]) -> Tensor:
    rule, number = by
    return _WEIGHTS[rule](_Similar(values, mask, query_mask, number)).masked_fill(~mask, 0)


def _lengths(weight: Tensor, query: TokenBlock, gallery: TokenBlock) -> Float[Tensor, "b tq m"]:
    """`|sum w g|`, from the products of an item's tokens with each other."""
    b, t, s, m = weight.shape
    across = weight.permute(3, 2, 0, 1).reshape(m, s, b * t)
    square = ((gallery.gram @ across) * across).sum(dim=1).T.reshape(b, t, m)
    total = weight.abs().sum(dim=2)
    length = square.clamp_min(0).sqrt()
    none = ((length <= NO_DIRECTION * total) & query.mask[:, :, None]).nonzero()
    if len(none):
        what = f"the weighted tokens of {gallery.name(int(none[0, 2]))} cancel out and have no direction"
        raise XgapError(f"{what}; use late_interaction, or leave the item out")
    return length.clamp_min(torch.finfo(length.dtype).tiny)


@dataclass(frozen=True, eq=False)
class _Similar:
    """Similarities `[b, tq, tg, m]`, where to read them, and the number of the rule."""

    values: Tensor
    mask: Tensor  # of the gallery tokens that are weighed
    query_mask: Tensor
    number: float


def _uniform(of: _Similar) -> Tensor:
    share = of.mask / of.mask.sum(dim=2, keepdim=True)
    return share.to(of.values.dtype).expand_as(of.values).clone()


def _top(of: _Similar) -> Tensor:
    return top(of.values, of.mask, 2, int(of.number)).to(of.values.dtype) / of.number


def _softmax(of: _Similar) -> Tensor:
    return softmax(of.values, of.mask, 2, of.number)


def _minmax(of: _Similar) -> Tensor:
    low = of.values.masked_fill(~of.mask, torch.inf).amin(dim=2, keepdim=True)
    span = of.values.masked_fill(~of.mask, -torch.inf).amax(dim=2, keepdim=True) - low
    flat = span <= NO_DIRECTION  # rounding of float32 vectors: equal similarities
    scaled = (of.values - low) / torch.where(flat, 1, span)
    scaled = torch.where(flat | (scaled < of.number), 0, scaled)
    return ratio(scaled, of.mask, 2)  # none is negative, so that no sum is too small for its parts


def _ratio(of: _Similar) -> Tensor:
    return ratio(of.values, of.mask, 2)


def _scan(of: _Similar) -> Tensor:
    rectified = torch.where(of.values > 0, of.values, SLOPE * of.values)
    over_query = rectified.masked_fill(~of.query_mask, 0).square().sum(dim=1, keepdim=True).sqrt()
    return torch.softmax((of.number * rectified / (over_query + TINY)).masked_fill(~of.mask, -torch.inf), dim=2)


_WEIGHTS: dict[str, Callable[[_Similar], Tensor]] = {
    "uniform": _uniform,
    "top": _top,
    "softmax": _softmax,
    "minmax": _minmax,
    "ratio": _ratio,
    "scan": _scan,
}
_NUMBERS = {"top": "k", "softmax": "tau", "minmax": "delta", "scan": "smooth"}


def _rule(weights: str | Call, tau: int | float | None = None) -> tuple[str, float]:
    """The name of a rule and its number."""
    call = parse(weights) if isinstance(weights, str) else weights
    if not isinstance(call, Call):
        raise XgapError(f"weights is a name such as uniform, softmax or top(3), not {weights!r}")
    if call.name not in _WEIGHTS:
        raise unknown_name("weights", call.name, _WEIGHTS)
    default = {"softmax": tau, "minmax": 0.0, "scan": 9.0}.get(call.name)
    return call.name, argument(call, "weights", _NUMBERS, default)
