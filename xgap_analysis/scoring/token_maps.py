"""Token maps: TokenFeatures to TokenFeatures of the same items, without parameters that are learned."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from xgap_analysis.core.calls import Call, parse
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.precision import widest
from xgap_analysis.core.registry import Registry, check_options
from xgap_analysis.core.tokens import TokenFeatures

TokenMap = Callable[[TokenFeatures], TokenFeatures]
MOST_ROUNDS = 100  # of the search for medoids
TOKEN_MAPS: Registry[Callable[..., TokenFeatures]] = Registry("token map", lambda function: function)


def register_token_map(name: str) -> Callable[[Callable[..., TokenFeatures]], Callable[..., TokenFeatures]]:
    """Make a map of tokens known by name; the function begins with the tokens, and its options are keywords.

    Raises:
        XgapError: the name is taken by other code.
    """

    def add(function: Callable[..., TokenFeatures]) -> Callable[..., TokenFeatures]:
        TOKEN_MAPS.add(name, function)
        return function

    return add


def token_map(wanted: str | Call) -> TokenMap:
    """A map by its notation: `token_map("medoids(4)")`, `token_map("top(k=10, by=norms)")`.

    Raises:
        XgapError: an unknown name or option (the nearest are given), or too many arguments.

    Example:
        >>> import torch
        >>> clip = TokenFeatures(torch.eye(4), [0, 4], ["clip"], "image", "image")
        >>> token_map("windows(2)")(clip).vectors[0].tolist()
        [0.7071067690849304, 0.7071067690849304, 0.0, 0.0]
    """
    call = parse(wanted) if isinstance(wanted, str) else wanted
    function = TOKEN_MAPS[call.name]
    check_options("token map", call.name, function, 1, call.options)
    try:
        inspect.signature(function).bind(None, *call.arguments, **call.options)
    except TypeError as error:
        takes = " and ".join(inspect.signature(function).parameters)
        raise XgapError(f"{call.name} takes {takes}, not what stands in {str(call)!r}") from error
    return lambda tokens: function(tokens, *call.arguments, **call.options)


@register_token_map("top")
def top_tokens(tokens: TokenFeatures, k: int = 10, by: str = "weights") -> TokenFeatures:
    """The k tokens of each item that weigh most, in their own order; of equal ones, the first.

    Args:
        tokens: with `weights`, such as the attention that the class token pays to a patch.
        k: tokens kept.
        by: `weights`, or `norms` (the lengths that the vectors had).

    Raises:
        XgapError: no weights to read, another word for `by`, or an item of fewer than k tokens.
    """
    if by not in ("weights", "norms"):
        raise XgapError(f"tokens are kept by weights or norms, not by {by!r}")
    _require(tokens, k, f"top({k})")
    values = tokens.weights if by == "weights" else tokens.norms
    if values is None:
        raise XgapError("these tokens have no weights; keep them by=norms, or give them weights")
    items, held = _items(tokens), np.asarray(values.cpu(), dtype=np.float64)
    order = np.lexsort((np.arange(len(held)), -held, items))  # by item, then from the greatest weight
    first = tokens.offsets.numpy()[items[order]]
    return _rows(tokens, np.sort(order[np.arange(len(held)) - first < k]), f"top({k}, by={by})")


@register_token_map("medoids")
def medoids(tokens: TokenFeatures, k: int = 16) -> TokenFeatures:
    """The k tokens of each item that stand for the others: medoids by Euclidean distance, in the tokens' order.

    The vectors are clustered with their lengths (`norms`). The first medoid is the longest vector, each further one
    that which is farthest from those chosen (KKZ). Then each token goes to its nearest medoid, and each group's medoid
    becomes the token with the least sum of distances to the group, until none changes or for 100 rounds.

    MeVTR takes 16 of 64 frames as the key events of a video.

    Args:
        tokens: frames, say.
        k: medoids of each item.

    Raises:
        XgapError: an item of fewer than k tokens.

    Source: Zhang et al., Multi-event video-text retrieval (MeVTR), ICCV 2023; Katsavounidis, Kuo, Zhang, A new
    initialization technique for generalized Lloyd iteration, IEEE Signal Processing Letters 1994.
    """
    _require(tokens, k, f"medoids({k})")
    length = tokens.norms.to(widest(tokens.vectors.device))
    vectors = tokens.vectors.to(length.dtype) * length[:, None]
    kept = []
    for start, stop in zip(tokens.offsets[:-1].tolist(), tokens.offsets[1:].tolist(), strict=True):
        kept.append(start + _medoids(vectors[start:stop], length[start:stop], k).cpu())
    return _rows(tokens, torch.cat(kept).numpy(), f"medoids({k})")


@register_token_map("windows")
def windows(tokens: TokenFeatures, size: int = 8) -> TokenFeatures:
    """The mean of each `size` neighbours, one window around each token; the border reflects.

    A window reaches from `ceil(size / 2)` tokens before its token to the rest behind it. Its `norms` are the lengths of
    the means of unit vectors: cosine times norm is the mean of the cosines of its tokens, which HowToCaption ranks; the
    cosine alone (as scorers compute it) divides by how much the tokens agree. Weights are averaged likewise.

    Args:
        tokens: in the order of time.
        size: tokens of a window; where an item has fewer, its border reflects several times.

    Raises:
        XgapError: a size below 1, or a window whose tokens cancel out (the item is named).

    Source: Shvetsova et al., HowToCaption, ECCV 2024.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise XgapError(f"a window is of a whole number of tokens of 1 or more, not {size!r}")
    places = [
        start + reflected(length, size, length)
        for start, length in zip(tokens.offsets[:-1].tolist(), tokens.lengths.tolist(), strict=True)
    ]
    index = torch.from_numpy(np.concatenate(places)).to(tokens.vectors.device)
    vectors = tokens.vectors.to(widest(tokens.vectors.device))[index].mean(dim=1)
    weights = None if tokens.weights is None else tokens.weights[index].mean(dim=1)
    return _made(tokens, vectors, tokens.offsets, f"windows({size})", weights)


def reflected(count: int, size: int, windows: int) -> Int[np.ndarray, "w s"]:
    """The places, from 0 to count - 1, of the tokens in each window; the border reflects.

    Window w reaches from `w - ceil(size / 2)` on; the end tokens stand once at a reflection.
    """
    reach = np.arange(windows)[:, None] - (size + 1) // 2 + np.arange(size)
    if count == 1:
        return np.zeros_like(reach)
    period = 2 * (count - 1)  # there and back, without the end tokens twice
    folded = reach % period
    return np.minimum(folded, period - folded)


@register_token_map("mixed")
def mixed(
    tokens: TokenFeatures,
    k: int = 10,
    *,
    whole: Features | None = None,
    weight: float = 1.0,
    tau: float = 1.0,
) -> TokenFeatures:
    """Sub-regions of an item: its vector as a whole, and to it a mixture of tokens around each of k chosen ones.

    Formula: `f_j = u(c + weight u(sum_i w_ji p_i))` with `w_j = softmax_i(p_j . p_i / tau)`, u the scaling to unit
    length, c the item as a whole, and j over the k tokens of the greatest weight. MacCap chooses by the attention of
    the class token (give it as `weights`) and mixes by the softmax of the chosen token's own row of attention; where
    there are no weights, `c . p` stands for the first, and the tokens' similarities always for the second. MacCap adds
    noise too: see the correction `noise`.

    Args:
        tokens: patches in the shared space, with or without `weights`.
        k: sub-regions of an item.
        whole: each item's own vector, by id; by default the direction of the mean of its tokens.
        weight: of the mixture; with 0 every sub-region is the item as a whole.
        tau: temperature of the mixture.

    Raises:
        XgapError: an item of fewer than k tokens, or without a vector in `whole`, or a tau that is not positive.

    Source: Qiu et al., Mining fine-grained image-text alignment (MacCap), AAAI 2024.
    """
    if not tau > 0:
        raise XgapError(f"tau, the temperature of a mixture, is positive, not {tau}")
    _require(tokens, k, f"mixed({k})")
    number = widest(tokens.vectors.device)
    given = tokens.pooled() if whole is None else whole.select(tokens.ids)
    if given.dim != tokens.dim:
        raise XgapError(f"the vectors of whole items have {given.dim} dimensions, their tokens {tokens.dim}")
    items = given.vectors.to(tokens.vectors.device, number)
    chosen = []
    for row, (start, stop) in enumerate(zip(tokens.offsets[:-1].tolist(), tokens.offsets[1:].tolist(), strict=True)):
        parts = tokens.vectors[start:stop].to(number)
        by = parts @ items[row] if tokens.weights is None else tokens.weights[start:stop].to(number)
        best = by.sort(descending=True, stable=True).indices[:k]
        mixture = torch.softmax(parts[best] @ parts.T / tau, dim=1) @ parts
        chosen.append(items[row] + weight * mixture / mixture.norm(dim=1, keepdim=True))
    return _made(tokens, torch.cat(chosen), k * torch.arange(len(tokens) + 1), f"mixed({k})")


def _medoids(x: Float[Tensor, "t d"], length: Float[Tensor, " t"], k: int) -> Int[Tensor, " k"]:
    distance = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    chosen = [int(length.argmax())]
    while len(chosen) < k:
        near = distance[chosen].amin(dim=0)
        near[chosen] = -1  # also where others lie in the same place
        chosen.append(int(near.argmax()))
    found = torch.tensor(chosen, device=x.device)
    for _ in range(MOST_ROUNDS):
        own = distance[found].clone()
        own[torch.arange(k), found] = -1  # a medoid is of its own group, though another lie in its place
        group = own.argmin(dim=0)
        same = group[:, None] == group[None]
        total = torch.where(same, distance, 0).sum(dim=1)
        anew = torch.stack([torch.where(group == j, total, torch.inf).argmin() for j in range(k)])
        if bool((anew == found).all()):
            break
        found = anew
    return found.sort().values


def _items(tokens: TokenFeatures) -> np.ndarray:
    """The position of each token's item."""
    return np.repeat(np.arange(len(tokens)), tokens.lengths.numpy())


def _require(tokens: TokenFeatures, k: int, what: str) -> None:
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise XgapError(f"k of {what} must be a whole number of 1 or more")
    few = (tokens.lengths < k).nonzero()
    if len(few):
        item, n = tokens.ids[int(few[0])], int(tokens.lengths[few[0]])
        raise XgapError(f"{what} needs {k} tokens per item, and item {item!r} has {n}; choose a smaller k")


def _rows(tokens: TokenFeatures, rows: np.ndarray, what: str) -> TokenFeatures:
    """Some of the tokens, at least one of each item, by ascending position."""
    index = torch.from_numpy(rows).to(tokens.vectors.device)
    counts = np.bincount(_items(tokens)[rows], minlength=len(tokens))
    offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(counts)]))
    held: dict[str, Any] = {f.name: getattr(tokens, f.name) for f in fields(tokens)}
    weights = None if tokens.weights is None else tokens.weights[index]
    made = {"vectors": tokens.vectors[index], "norms": tokens.norms[index], "weights": weights, "offsets": offsets}
    return TokenFeatures(**{**held, **made, "provenance": {**tokens.provenance, "token_map": what}})


def _made(
    tokens: TokenFeatures, vectors: Tensor, offsets: Tensor, what: str, weights: Tensor | None = None
) -> TokenFeatures:
    """New tokens of the same items."""
    about = {**tokens.provenance, "token_map": what}
    names = (tokens.ids, tokens.space, tokens.origin)
    return TokenFeatures(vectors, offsets, *names, about, tokens.items, weights=weights)
