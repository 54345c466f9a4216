"""What a model computes, whatever it is called and wherever it lies: weights, configuration, features of probes."""

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from xgap_analysis.models.precision import full_precision
from xgap_analysis.models.threads import suited
from xgap_analysis.models.tower import features_of

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


def weights_digest(module: Any) -> str:
    """SHA-256 over names, shapes and bytes of a module's weights: 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}|{tensor.dtype}|{list(tensor.shape)}|".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def weights_of(towers: Mapping[str, Any]) -> str:
    """The digest of the weights that towers hold; empty where they hold none that can be seen."""
    return _digest_of(towers, weights_digest)


def architecture_of(towers: Mapping[str, Any]) -> str:
    """The digest of the configurations of the modules that towers hold; empty where none can be seen."""
    return _digest_of(towers, architecture)


def _digest_of(towers: Mapping[str, Any], digest: Callable[[Any], str]) -> str:
    """One digest of the modules of towers, each of which counts once; empty where there are none."""
    modules = {id(module): module for modality in sorted(towers) for module in modules_of(towers[modality])}
    digests = [digest(module) for module in modules.values()]
    if len(digests) < 2:
        return "".join(digests)
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def modules_of(tower: Any) -> list[torch.nn.Module]:
    """The torch modules with weights that a tower is, or holds as attributes (bound methods of theirs included)."""
    held = [tower, getattr(tower, "encode", None), *(vars(tower).values() if hasattr(tower, "__dict__") else ())]
    held += [getattr(value, "__self__", None) for value in held]
    modules = [value for value in held if isinstance(value, torch.nn.Module) and value.state_dict()]
    return modules[:1] if modules and modules[0] is tower else modules


def fingerprint(model: "Model") -> str:
    """The digest of a model's weights, configuration and features of fixed probes: 64 hexadecimal digits.

    The probes see what neither weights nor configuration say (a tower of one's own, a function put in place of
    another). Their features are computed without autocast, one by one, and rounded to tenths: processors, numbers of
    threads and batches differ in the sixth digit. Where such a difference falls on the edge of a tenth, in one of some
    hundred cases, features are computed anew; they are never another model's.

    A tower that has `probes` is probed by these, as one of a further modality must be. Such a one with neither these
    nor weights is like no other: its fingerprint is drawn anew, so that nothing of another process is taken for its
    own.
    """
    further = sorted(model.towers.keys() - {"image", "text"})
    with full_precision(), torch.inference_mode():
        rounded = [_of_images(model), _of_texts(model)]
        others = {modality: _of_items(model, modality, _own_probes(model.towers[modality])) for modality in further}
    parts: list[Any] = [model.weights_digest, model.architecture or architecture_of(model.towers), rounded]
    if others:
        parts.append(others)
    if not is_known(model):
        parts.append(secrets.token_hex(16))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def is_known(model: "Model") -> bool:
    """Whether each tower can be identified, by its weights or by probes, so that its features may be stored."""
    further = [tower for modality, tower in model.towers.items() if modality not in ("image", "text")]
    return all(modules_of(tower) or len(_own_probes(tower)) for tower in further)


def probe_image() -> Image.Image:
    """A fixed image of noise."""
    return Image.fromarray(((_noise(48, 80, 3) + 1.7) / 3.4 * 255).round().byte().numpy())


def _own_probes(tower: Any) -> Sequence[Any]:
    probes: Sequence[Any] = getattr(tower, "probes", ())
    return probes


def _of_images(model: "Model") -> list[list[int]]:
    if "image" not in model.towers:
        return []
    black = Image.fromarray(np.zeros((48, 80, 3), np.uint8))
    if not hasattr(model.image, "preprocess"):
        return _of_items(model, "image", _own_probes(model.image) or (probe_image(),))
    with suited(model.image, 1, model.device):
        return _rounded(model.image.encode(_noise(1, *model.preprocess(black).shape).to(model.device)))


def _of_texts(model: "Model") -> list[list[int]]:
    if "text" not in model.towers:
        return []
    if not hasattr(model.text, "tokenize"):
        # a tower of one's own need not take what is too long
        return _of_items(model, "text", _own_probes(model.text) or PROBES[:-1])
    probes = _own_probes(model.text) or PROBES  # of these, one is too long on purpose
    ids = getattr(model.tokenize, "silent", model.tokenize)(list(probes))
    with suited(model.text, 1, model.device):
        return [row for one in ids.split(1) for row in _rounded(model.text.encode(one.to(model.device)))]


def _of_items(model: "Model", modality: str, items: Sequence[Any]) -> list[list[int]]:
    tower = model.towers[modality]
    with suited(tower, 1, model.device):
        return [row for item in items for row in _rounded(features_of(tower, tower.prepare([item]), 1, model.device))]


def _rounded(features: Tensor) -> list[list[int]]:
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


__all__ = [
    "architecture",
    "architecture_of",
    "fingerprint",
    "is_known",
    "modules_of",
    "probe_image",
    "weights_digest",
    "weights_of",
]
