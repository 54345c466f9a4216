"""A model with an adapter, which is a model again."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import torch

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.adaptation.adapter import Adapter, Build, adapter
from xgap_analysis.models.adaptation.attached import ABOUT, Attached, attached, saved_adapter
from xgap_analysis.models.adaptation.entered import backbone_of, entered_tower
from xgap_analysis.models.adaptation.tower import head_tower
from xgap_analysis.models.fingerprint import PROBES, architecture, architecture_of, probe_image, weights_digest
from xgap_analysis.models.tower import Model, features_of


def adapted(model: Model, what: str | Adapter | Build, *, seed: int = 0) -> Model:
    """A model with an adapter before any training: the base for most of them (see `Adapter.starts_as_base`).

    Args:
        model: the base, of any library; it is left as it is.
        what: an adapter by name, `"head(width=64)"`, as an `Adapter`, or as its function.
        seed: of the weights that are drawn.

    `xgap train --adapter "head(width=64)"` trains one, and `load_model` of the run's folder gives the adapted model.

    Raises:
        XgapError: an unknown adapter or option, or one that does not fit the model.

    Example:
        >>> import torch
        >>> from xgap_analysis.models import as_model
        >>> base = as_model(lambda captions: torch.tensor([[len(c), c.count("a") + 1.0] for c in captions]))
        >>> adapted(base, "head(width=4)").text.encode(["a red cat"])
        tensor([[9., 3.]])
    """
    dims = dims_of(model)
    own = attached(adapter(what), dims, seed=seed, device=model.device, base=backbone_of(model, dims))
    return with_attached(model, own)


def with_attached(model: Model, own: Attached, name: str | None = None) -> Model:
    """A model with the modules of an adapter, which are frozen.

    Args:
        model: the base.
        own: the adapter's modules, on the device of the model.
        name: as in tables; the base's and the adapter's by default.
    """
    own.modules.eval().requires_grad_(False)
    entered = entered_tower if own.adapter.inside else head_tower
    towers = {
        modality: entered(tower, own, modality) if modality in own.modules else tower
        for modality, tower in model.towers.items()
    }
    return replace(
        model,
        name=f"{model.name}+{own.adapter}" if name is None else name,
        towers=towers,
        weights_digest=_joined(model.weights_digest, weights_digest(own.modules)),
        architecture=_joined(model.architecture or architecture_of(model.towers), architecture(own.modules)),
    )


def with_saved_adapter(model: Model, folder: Path) -> Model:
    """The model of a folder, with the adapter that lies beside its weights, if there is one.

    Raises:
        XgapError: as `saved_adapter`.
    """
    if not (folder / ABOUT).is_file():
        return model
    dims = dims_of(model)
    own = saved_adapter(folder, dims, model.device, backbone_of(model, dims))
    return model if own is None else with_attached(model, own, name=model.name)


def dims_of(model: Model) -> dict[str, int]:
    """Modality to the dimensions of a feature, of each tower that an item is known for.

    Raises:
        XgapError: no tower with known items.
    """
    dims = {}
    for modality, tower in model.towers.items():
        items = {"image": [probe_image()], "text": PROBES[:1]}.get(modality, getattr(tower, "probes", ()))
        if len(items):
            with torch.inference_mode():
                dims[modality] = features_of(tower, tower.prepare(items[:1]), 1, model.device).shape[1]
    if not dims:
        raise XgapError(f"no tower of model {model.name!r} has probes, so the dimensions of its features are unknown")
    return dims


def _joined(*digests: str) -> str:
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()
