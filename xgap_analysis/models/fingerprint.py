"""What a model computes, whatever it is called and wherever it lies: weights, configuration, features of probes."""

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.precision import full_precision
from xgap_analysis.models.threads import suited

if TYPE_CHECKING:
    from xgap_analysis.models.tower import Model

PROBES = ("a", "two red cats by the old house", "the sea " * 100)  # short, longer, and longer than any context
DIRECTIONS = 4  # in which a probe's feature is looked at
ROUNDED = 0.1  # of the root mean square that a unit vector has along a direction


def architecture(module: Any) -> str:
    """The digest of a module's canonical configuration: 64 hexadecimal digits.

    It is read off the modules, whatever built them: the kind and every plain setting (heads, eps, pooling, activation,
    ...) of each part, by its name in the model; and the buffers that are no weights (masks).
    """
    parts = []
    for name, part in module.named_modules():
        settings = {key: _plain(value) for key, value in sorted(vars(part).items()) if _is_setting(key, value)}
        parts.append([name, type(part).__qualname__, settings])
    digest = hashlib.sha256(json.dumps(parts).encode())
    weights = set(module.state_dict())
    for name, buffer in module.named_buffers():
        if name not in weights:
            digest.update(f"{name}|{buffer.dtype}|{list(buffer.shape)}|".encode())
            digest.update(buffer.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _is_setting(key: str, value: object) -> bool:
    if key.startswith("_") or key in ("training", "name_or_path"):
        return False
    if isinstance(value, tuple | list):
        return all(isinstance(x, bool | int | float | str | None) for x in value)
    return isinstance(value, bool | int | float | str | None) or _is_function(value)


def _is_function(value: object) -> bool:
    return callable(value) and not isinstance(value, torch.nn.Module) and hasattr(value, "__qualname__")


def _plain(value: Any) -> Any:
    return value.__qualname__ if _is_function(value) else value


def fingerprint(model: "Model") -> str:
    """The digest of a model's weights, configuration and features of fixed probes: 64 hexadecimal digits.

    The probes see what neither weights nor configuration say (a tower of one's own, a function put in place of
    another). Their features are computed without autocast, one by one, and told in tenths: processors, numbers of
    threads and batches differ in the sixth digit. Where such a difference falls on the edge of a tenth, in one of some
    hundred cases, features are computed anew; they are never another model's.
    """
    with full_precision(), torch.inference_mode():
        told = [_of_images(model), _of_texts(model)]
    return hashlib.sha256(json.dumps([model.weights_digest, model.architecture, told]).encode()).hexdigest()


def _of_images(model: "Model") -> list[list[int]]:
    try:
        shape = model.preprocess(Image.fromarray(np.zeros((48, 80, 3), np.uint8))).shape
        with suited(model.image, 1, model.device):
            return _told(model.image.encode(_noise(1, *shape).to(model.device)))
    except XgapError:  # a model without images
        return []


def _of_texts(model: "Model") -> list[list[int]]:
    try:
        ids = getattr(model.tokenize, "silent", model.tokenize)(list(PROBES))  # one is too long on purpose
        with suited(model.text, 1, model.device):
            return [row for one in ids.split(1) for row in _told(model.text.encode(one.to(model.device)))]
    except XgapError:  # a model without texts
        return []


def _told(features: Tensor) -> list[list[int]]:
    """Unit features along a few directions, in units that are the same for any number of dimensions."""
    unit = F.normalize(features.cpu().double(), dim=1)
    along = unit @ F.normalize(_noise(DIRECTIONS, unit.shape[1]).double(), dim=1).T * unit.shape[1] ** 0.5
    rounded: list[list[int]] = (along / ROUNDED).round().nan_to_num(0).long().tolist()
    return rounded


def _noise(*shape: int) -> Tensor:
    """Fixed noise from -1.7 to 1.7, which no version of a generator changes."""
    number = torch.arange(1, torch.Size(shape).numel() + 1, dtype=torch.long)
    for _ in range(3):  # products of numbers below 2**31, which 64 bits hold
        number = (number * 48271 + 11) % (2**31 - 1)
        number = number ^ (number >> 13)
    return ((number % 2**24).float() / 2**24 * 3.4 - 1.7).reshape(shape)


__all__ = ["architecture", "fingerprint"]
