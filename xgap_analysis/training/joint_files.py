"""Joint encoders in files: weights as safetensors, and in the header as JSON the sizes and what they were fitted to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.weights import read_weights, save_weights
from xgap_analysis.training.joint import AUDIO, VIDEO, FittedJoint, JointEncoder

HELD = {"key": "joint", "kind": "a joint encoder"}  # in a file
SIZES = ("dim", "queries", "heads")


def save_joint(fitted: FittedJoint, path: Path | str) -> Path:
    """Write a fitted joint encoder to a file, whole or not at all; `load_joint` reads it.

    Args:
        fitted: from `fit_joint`.
        path: ends in `.safetensors`; its folder is made where it is missing.

    Raises:
        XgapError: another suffix, or a place that cannot be written.

    Example:
        >>> import tempfile, torch, xgap_analysis as xg
        >>> x = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
        >>> texts, sounds, clips = (xg.Features(x, "abcdefgh", space, space) for space in ("text", "audio", "image"))
        >>> fitted = xg.fit_joint(texts, sounds, clips, queries=2, epochs=1)
        >>> path = save_joint(fitted, tempfile.mkdtemp() + "/joint.safetensors")
        >>> torch.equal(load_joint(path).encode(sounds).vectors, fitted.encode(sounds).vectors)
        True
    """
    about = {**fitted.module.sizes, "losses": fitted.losses, "models": {k: dict(v) for k, v in fitted.models.items()}}
    return save_weights(fitted.module.state_dict(), path, **HELD, about=about)


def load_joint(path: Path | str) -> FittedJoint:
    """A fitted joint encoder from a file of `save_joint`; it refuses tokens of another model, as before.

    Raises:
        XgapError: a file that cannot be read or holds something else.

    Example:
        >>> import tempfile, torch, xgap_analysis as xg
        >>> x = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
        >>> texts, sounds, clips = (xg.Features(x, "abcdefgh", space, space) for space in ("text", "audio", "image"))
        >>> fitted = xg.fit_joint(texts, sounds, clips, queries=2, epochs=1)
        >>> path = xg.save_joint(fitted, tempfile.mkdtemp() + "/joint.safetensors")
        >>> xg.load_joint(path).losses == fitted.losses
        True
    """
    with read_weights(path, **HELD) as (about, weights):
        sizes, models = _sizes(about), _models(about["models"])
        losses = tuple(map(float, about["losses"]))
    if max(sizes.values()) > sum(weight.numel() for weight in weights.values()):
        raise XgapError(f"{path} holds fewer weights than its sizes {sizes} need")  # or queries would fill the memory
    with torch.device("meta"):  # sizes of a few bytes take no memory, and no random numbers are drawn
        module = JointEncoder(**sizes)
    own = {name: tuple(weight.shape) for name, weight in module.state_dict().items()}
    there = {name: tuple(weight.shape) for name, weight in weights.items()}
    if own != there or not all(torch.isfinite(weight).all() for weight in weights.values()):
        raise XgapError(f"{path} holds other weights than those of a joint encoder of sizes {sizes}")
    module.load_state_dict({name: weight.float() for name, weight in weights.items()}, assign=True)
    return FittedJoint(module.eval().requires_grad_(False), losses, models)


def _sizes(about: Mapping[str, Any]) -> dict[str, int]:
    sizes = {name: about[name] for name in SIZES}
    wrong = next((value for value in sizes.values() if type(value) is not int or value < 1), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r} is no size")
    return sizes


def _models(made: Any) -> dict[str, dict[str, str]]:
    return {name: {str(key): str(value) for key, value in made.get(name, {}).items()} for name in (AUDIO, VIDEO)}
