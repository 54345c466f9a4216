"""Fitted scorers in files: weights as safetensors, and beside them in JSON what they are and were fitted on.

Nothing in a file is run: the code is that of the learned scorer which is registered here under the name in the file.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xgap_analysis.core.calls import Call, options_alone, parse, spelled
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.registry import check_options, check_values, options_of
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.core.weights import read_weights, save_weights
from xgap_analysis.scoring.learned.fit import LEADING, LEARNED
from xgap_analysis.scoring.learned.fitted import MODEL_KEYS, Fitted, FittedOn
from xgap_analysis.scoring.learned.pairs import paired
from xgap_analysis.scoring.scorer import Scorer

HELD = {"key": "scorer", "kind": "a fitted scorer"}  # in a file
KEPT = (*MODEL_KEYS, "correction", "fitted_on")  # of provenance: what features of later are compared with
FREE = ("epochs", "batch", "seed")  # options that say nothing of the size of the weights


def save_scorer(scorer: Scorer, path: Path | str) -> Path:
    """Write a fitted scorer to a file, whole or not at all; `load_scorer` reads it.

    Args:
        scorer: from `fit_scorer`.
        path: ends in `.safetensors`; its folder is made where it is missing.

    Raises:
        XgapError: a scorer that was not fitted, one made of several (save its parts), another suffix, or a place that
            cannot be written.

    Example:
        >>> import tempfile, torch, xgap_analysis as xg
        >>> x = torch.randn(6, 8)
        >>> texts, clips = (xg.Features(x, "abcdef", space, space) for space in ("text", "image"))
        >>> fitted = xg.fit_scorer("x_pool(epochs=0)", texts, clips)
        >>> path = save_scorer(fitted, tempfile.mkdtemp() + "/x_pool.safetensors")
        >>> torch.equal(xg.score(texts, clips, load_scorer(path)), xg.score(texts, clips, fitted))
        True
    """
    own = getattr(scorer, "function", None)
    if not isinstance(own, Fitted):
        raise XgapError(f"scorer {scorer} has no weights of its own; save what xg.fit_scorer gives")
    call = parse(own.name)
    options = {**options_of(LEARNED[call.name], LEADING), **call.options}  # a later default changes nothing
    of = own.fitted_on
    about = {
        "scorer": spelled(call.name, (), options),
        "name": own.name,
        "losses": own.losses,
        "query": of.query,
        "gallery": of.gallery,
        "dim": of.dim,
        "split": of.split,
        "provenance": [{key: own[key] for key in KEPT if key in own} for own in of.provenance],
        "items": sorted(of.items),
    }
    return save_weights(own.module.state_dict(), path, **HELD, about=about)


def load_scorer(path: Path | str) -> Scorer:
    """A fitted scorer from a file of `save_scorer`; it refuses features unlike those of its fit, as before.

    Raises:
        XgapError: a file that cannot be read or holds something else, a learned scorer that is not known here, or
            weights of other options.

    Example:
        >>> import tempfile, torch, xgap_analysis as xg
        >>> x = torch.randn(6, 8)
        >>> texts, clips = (xg.Features(x, "abcdef", space, space) for space in ("text", "image"))
        >>> fitted = xg.fit_scorer("x_pool(epochs=0)", texts, clips)
        >>> path = xg.save_scorer(fitted, tempfile.mkdtemp() + "/x_pool.safetensors")
        >>> str(xg.load_scorer(path))
        'x_pool(epochs=0)'
    """
    path = Path(path)
    with read_weights(path, **HELD) as (about, weights):
        call, on = parse(str(about["scorer"])), _fitted_on(about)
        name, losses = str(about["name"]), tuple(map(float, about["losses"]))
    made = _made(path, call, on.dim, weights)
    return Scorer(name, replace(made, name=name, fitted_on=on, losses=losses))


def _made(path: Path, call: Call, dim: int, weights: Mapping[str, Tensor]) -> Fitted:
    """The scorer of these options with the weights of a file."""
    maker, options = LEARNED[call.name], options_alone(call, call.name)
    check_options("learned scorer", call.name, maker, LEADING, options)
    check_values(call.name, maker, LEADING, options)
    size = sum(weight.numel() for weight in weights.values())
    sizes = [value for key, value in options.items() if isinstance(value, int) and key not in FREE]
    if max([dim, *sizes]) > size:  # or a file of a few bytes would have us take any memory
        raise XgapError(f"{path} holds {size} weights, which are too few for its options {call} and {dim} dimensions")
    two = TokenFeatures(torch.eye(2, dim).repeat_interleave(2, 0) + 1, [0, 2, 4], ["a", "b"], "a", "a")
    pairs = paired(two, two)
    learned = maker(pairs, **{**options, "epochs": 0})
    own = learned.module.state_dict()
    shapes = [{key: tuple(w.shape) for key, w in of.items()} for of in (own, weights)]
    if shapes[0] != shapes[1] or any(not torch.isfinite(w).all() for w in weights.values()):
        raise XgapError(f"{path} holds other weights than those of {call} for {dim} dimensions")
    learned.module.load_state_dict(dict(weights))
    return Fitted(str(call), learned.module, learned.scoring, FittedOn.of(pairs, ""))


def _fitted_on(about: Mapping[str, Any]) -> FittedOn:
    query, gallery = about["provenance"]
    items = frozenset((str(origin), str(of), str(item)) for origin, of, item in about["items"])
    first, second = (tuple(map(str, about[role])) for role in ("query", "gallery"))
    dim = about["dim"]
    if type(dim) is not int or dim < 1:
        raise ValueError(f"{dim!r} is no number of dimensions")
    return FittedOn(first, second, dim, str(about["split"]), (dict(query), dict(gallery)), items)
