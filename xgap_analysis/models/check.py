"""Whether a tower of one's own keeps the law of its protocol, in one sentence."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.fingerprint import PROBES, probe_image
from xgap_analysis.models.tower import TOKEN_PARTS, features_of

TOLERANCE = 1e-3  # of the largest feature: rounding in half precision is below it


def check_tower(tower: Any, items: Sequence[Any] | None = None, *, device: str | torch.device = "cpu") -> str:
    """Run the law of a tower: shapes, the same features twice and in other company, and for an `Invertible` one
    `encode(batch) == encode_tokens(embed(batch), batch)` with a gradient that reaches the tokens.

    Args:
        tower: see `models.tower.Tower` and `Invertible`.
        items: two or more, of different content; for images and texts there are some, others are taken from its
            `probes`.
        device: where it computes.

    Returns:
        What it is, in one sentence.

    Raises:
        XgapError: what is broken, in one sentence.

    Example:
        >>> import xgap_analysis as xg
        >>> xg.check_tower(xg.load_model("tiny").text)
        'tower TextTower: text, 512 dimensions; it encodes and can be inverted into, with 16 tokens of 128 dimensions'
    """
    what = f"tower {type(tower).__name__}"
    for part, kind in (("space", "a name"), ("prepare", "a function"), ("encode", "a function")):
        own = getattr(tower, part, None)
        if not (isinstance(own, str) and own) if part == "space" else not callable(own):
            raise XgapError(f"{what} has no {part}, which is {kind}: a tower has space, prepare and encode")
    given = _items_for(tower, items)
    where = torch.device(device)
    with torch.no_grad():
        batch, features = _first_pass(what, tower, given, where)
        _check_features(what, tower, given, features, where)
    is_a = f"{what}: {tower.space}, {features.shape[1]} dimensions"
    there = [part for part in TOKEN_PARTS if hasattr(tower, part)]
    if not {"embed", "encode_tokens"} & set(there):
        return f"{is_a}; it encodes"
    _check_tokens(what, tower, batch, features, where)
    _check_projection(what, tower, features.shape[1])
    return f"{is_a}; it encodes and can be inverted into, with {tower.length} tokens of {tower.width} dimensions"


def _items_for(tower: Any, items: Sequence[Any] | None) -> list[Any]:
    known: dict[str, Sequence[Any]] = {"image": (probe_image(), probe_image().rotate(180)), "text": PROBES[:2]}
    given = items if items is not None else getattr(tower, "probes", known.get(tower.space, ()))
    if len(given) < 2:
        raise XgapError(
            f"a tower of {tower.space} items is checked with two items or more: check_tower(tower, [item, other])"
        )
    return list(given)


def _first_pass(what: str, tower: Any, items: Sequence[Any], device: torch.device) -> tuple[Any, Tensor]:
    """A batch of the items and its features."""
    part = "prepare"
    try:
        batch = tower.prepare(items)
        part = "encode"
        return batch, features_of(tower, batch, len(items), device)
    except XgapError:
        raise
    except Exception as error:
        kind, said = type(items[0]).__name__, f"{type(error).__name__}: {error}"
        raise XgapError(f"{part} of {what} fails for {len(items)} items of {tower.space} ({kind}): {said}") from error


def _check_features(what: str, tower: Any, items: Sequence[Any], features: Tensor, device: torch.device) -> None:
    if not bool(torch.isfinite(features).all()):
        raise XgapError(f"{what} gives features that are NaN or infinite")
    again = features_of(tower, tower.prepare(items), len(items), device)
    if _apart(features, again):
        raise XgapError(f"{what} gives other features for the same items the second time: call .eval() on its module")
    if not _apart(features[:1], features[1:]):
        raise XgapError(f"{what} gives the same feature for all items, so it does not read them")
    alone = torch.cat([features_of(tower, tower.prepare([item]), 1, device) for item in items])
    if _apart(features, alone):
        raise XgapError(
            f"{what} gives an item another feature in other company: mask the padding, or call .eval() on its module"
        )


def _check_tokens(what: str, tower: Any, batch: Any, features: Tensor, device: torch.device) -> None:
    lacking = [part for part in TOKEN_PARTS if not hasattr(tower, part)]
    if lacking:
        raise XgapError(f"{what} has no {lacking[0]}: a tower to be inverted into has {', '.join(TOKEN_PARTS)}")
    if not isinstance(batch, Tensor):
        raise XgapError(f"prepare of {what} gives a {type(batch).__name__}; a tower to be inverted into takes tensors")
    batch = batch.to(device)
    with torch.no_grad():
        tokens = tower.embed(batch)
    expected = [len(batch), tower.length, tower.width]
    if not isinstance(tokens, Tensor) or list(tokens.shape) != expected:
        shape = list(tokens.shape) if isinstance(tokens, Tensor) else type(tokens).__name__
        raise XgapError(f"embed of {what} gives {shape}; its tokens are [n, length, width], here {expected}")
    tokens = tokens.detach().clone().requires_grad_()
    with torch.enable_grad():
        found = tower.encode_tokens(tokens, batch)
        if list(found.shape) != list(features.shape):
            raise XgapError(f"encode_tokens of {what} gives {list(found.shape)}, and encode {list(features.shape)}")
        if _apart(features, found.detach().float()):
            raise XgapError(f"{what} breaks its law: encode_tokens(embed(batch), batch) is not encode(batch)")
        if not found.requires_grad:
            raise XgapError(f"no gradient reaches the tokens of {what}: encode_tokens must not run under torch.no_grad")
        (gradient,) = torch.autograd.grad(found.square().sum(), tokens, allow_unused=True)
    if gradient is None or not bool(gradient.abs().sum() > 0):
        raise XgapError(f"no gradient reaches the tokens of {what}: encode_tokens does not read its tokens")
    _check_shortcut(what, tower, batch, tokens.detach())


def _check_shortcut(what: str, tower: Any, batch: Tensor, tokens: Tensor) -> None:
    make = getattr(tower, "shortcut", None)
    quick = make(batch[0], 1, 1) if make is not None and tower.space == "text" else None
    if quick is None:
        return
    pseudo = tokens[:1, 2:3].clone()
    with torch.no_grad():
        whole = tokens[:1].clone()
        whole[:, 1:2] = pseudo
        if _apart(tower.encode_tokens(whole, batch[0]).float(), quick(pseudo).float()):
            raise XgapError(f"the shortcut of {what} gives other features than encode_tokens")


def _check_projection(what: str, tower: Any, dim: int) -> None:
    try:
        projection = getattr(tower, "projection", None)
    except XgapError:  # it says that it has none
        return
    if projection is not None and (projection.ndim != 2 or projection.shape[1] != dim):
        shape = list(projection.shape)
        raise XgapError(f"the projection of {what} is {shape}, not [p, d] with d = {dim}, the dimensions of a feature")


def _apart(x: Tensor, y: Tensor) -> bool:
    """Whether features differ by more than rounding."""
    return bool((x - y).abs().max() > TOLERANCE * x.abs().max())
