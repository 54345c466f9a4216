"""Models whose weights are to change: open_clip modules by the names of `load_model`, and back into a folder."""

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.adapters.assembled import seeded
from xgap_analysis.models.adapters.openclip import from_open_clip
from xgap_analysis.models.building import CONFIG, blueprint, module
from xgap_analysis.models.catalog import _find, _local
from xgap_analysis.models.device import chosen_device
from xgap_analysis.models.hub import reachable, told
from xgap_analysis.models.tower import Model

WEIGHTS = "open_clip_model.safetensors"
NOT_INHERITED = ("description", "image_only")  # what a folder says of itself and not of what is trained from it


@dataclass(frozen=True, eq=False)
class Trainable:
    """An open_clip module with what stands before it.

    Args:
        name: what it was loaded by.
        module: open_clip's model, weights in float32.
        preprocess: its transform for evaluation.
        tokenize: its tokenizer.
        shape: its `model_cfg`.
        settings: see `Model`.
    """

    name: str
    module: Any
    preprocess: Any
    tokenize: Callable[[Sequence[str]], Tensor]
    shape: dict[str, Any]
    settings: dict[str, Any]

    def frozen(self) -> Model:
        """The model as it is now, for evaluation; later training does not reach it."""
        module = copy.deepcopy(self.module)
        return from_open_clip(module, self.tokenize, self.preprocess, name=self.name, settings=self.settings)

    def save(self, folder: Path) -> Path:
        """Write an open_clip directory: configuration, weights and tokenizer; the weights last, whole or not at all."""
        from open_clip.push_to_hf_hub import save_config_for_hf
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_config_for_hf(self.module, folder / CONFIG, self.shape)
        if self.settings:
            config = json.loads((folder / CONFIG).read_text("utf-8"))
            (folder / CONFIG).write_text(json.dumps({**config, "xgap_analysis": self.settings}, indent=2), "utf-8")
        if hasattr(self.tokenize, "save_pretrained"):  # open_clip's own tokenizer needs no file
            self.tokenize.save_pretrained(str(folder))
        temporary = folder / f".{WEIGHTS}"
        tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in self.module.state_dict().items()}
        save_file(tensors, temporary)
        temporary.replace(folder / WEIGHTS)
        return folder


def load_trainable(
    name_or_path: str | Path, *, device: str | torch.device | None = None, scratch: bool = False, seed: int = 0
) -> Trainable:
    """An open_clip model to be trained.

    Args:
        name_or_path: as `load_model` takes it.
        device: where it computes; CUDA where there is one, else the CPU.
        scratch: start from fresh weights of the same architecture, drawn from `seed`.
        seed: of the fresh weights.

    Raises:
        XgapError: as `load_model`.
    """
    name = str(name_or_path)
    where = chosen_device(device)
    source = _find(name, None)
    if source.architecture is None:
        raise XgapError(f"{name!r} is no model of open_clip's, and only those are trained")
    online = source.needs_hub and reachable()
    with told(name, unreachable=_local(source, online)):
        own, preprocess, tokenize = source.create(where, None, online)
        if tokenize is None:
            raise XgapError(f"{name!r} holds an image tower alone, and only models with both towers are trained")
        plan = blueprint(source.architecture, None, online)
        if scratch:
            with seeded(seed):
                own = module(plan, quick_gelu=source.quick_gelu, online=online).to(where)
    shape = plan.shape
    if source.quick_gelu:
        shape["quick_gelu"] = True
    settings = {key: value for key, value in source.settings.items() if key not in NOT_INHERITED}
    return Trainable(name, own.float(), preprocess, tokenize, shape, settings)
