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
from xgap_analysis.models.adaptation.adapted import with_attached
from xgap_analysis.models.adaptation.adapter import Adapter, Build
from xgap_analysis.models.adaptation.adapter import adapter as as_adapter
from xgap_analysis.models.adaptation.attached import ABOUT, Attached, attached, check_images_alone, saved_adapter
from xgap_analysis.models.adaptation.backbone import Backbone
from xgap_analysis.models.adapters.assembled import seeded
from xgap_analysis.models.adapters.openclip import from_open_clip
from xgap_analysis.models.building import CONFIG, blueprint, module
from xgap_analysis.models.catalog import _audio_folder, _find, _local
from xgap_analysis.models.device import chosen_device
from xgap_analysis.models.hub import reachable, readable_errors
from xgap_analysis.models.registered import is_registered
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
        tokenizer: its tokenizer.
        shape: its `model_cfg`.
        settings: see `Model`.
        attached: the adapter that is trained in place of the module; None where there is none.
    """

    name: str
    module: Any
    preprocess: Any
    tokenizer: Callable[[Sequence[str]], Tensor]
    shape: dict[str, Any]
    settings: dict[str, Any]
    attached: Attached | None = None

    @property
    def tokenize(self) -> Callable[[Sequence[str]], Tensor]:
        """Captions to token ids `[n, length]`, as the adapter reads them where there is one."""
        own: Callable[[Sequence[str]], Tensor] = self.tokenizer
        return own if self.attached is None else self.attached.tokenizer(own)

    def image_only(self) -> None:
        """Say that only its image tower will have been trained, so that questions to the other are refused.

        Raises:
            XgapError: an adapter that an image tower alone cannot have.
        """
        if self.attached is not None:
            check_images_alone(self.attached, _backbone(self.module, self.tokenizer))
        self.settings["image_only"] = True

    def frozen(self) -> Model:
        """The model as it is now, for evaluation; later training does not reach it."""
        module = copy.deepcopy(self.module)
        model = from_open_clip(module, self.tokenizer, self.preprocess, name=self.name, settings=self.settings)
        return model if self.attached is None else with_attached(model, self.attached.copied())

    def save(self, folder: Path) -> Path:
        """Write an open_clip directory: configuration, weights and tokenizer; the weights last, whole or not at all.

        An adapter lies beside them in files of its own; open_clip itself does not read those.
        """
        from open_clip.push_to_hf_hub import save_config_for_hf
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_config_for_hf(self.module, folder / CONFIG, self.shape)
        if self.settings:
            config = json.loads((folder / CONFIG).read_text("utf-8"))
            (folder / CONFIG).write_text(json.dumps({**config, "xgap_analysis": self.settings}, indent=2), "utf-8")
        if hasattr(self.tokenizer, "save_pretrained"):  # open_clip's own tokenizer needs no file
            self.tokenizer.save_pretrained(str(folder))
        if self.attached is not None:
            self.attached.save(folder)
        temporary = folder / f".{WEIGHTS}"
        tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in self.module.state_dict().items()}
        save_file(tensors, temporary)
        temporary.replace(folder / WEIGHTS)
        return folder


def load_trainable(
    name_or_path: str | Path,
    *,
    device: str | torch.device | None = None,
    scratch: bool = False,
    seed: int = 0,
    adapter: str | Adapter | Build | None = None,
) -> Trainable:
    """An open_clip model to be trained.

    Args:
        name_or_path: as `load_model` takes it.
        device: where it computes; CUDA where there is one, else the CPU.
        scratch: start from fresh weights of the same architecture, drawn from `seed`.
        seed: of the fresh weights, and of an adapter's.
        adapter: put into the model, in whose place it is trained (see `models.adaptation`). A model that was saved
            with an adapter has it already, with its weights, unless `scratch`.

    Raises:
        XgapError: as `load_model`; an adapter that does not fit the model, or another one than it has.
    """
    name = str(name_or_path)
    where = chosen_device(device)
    if is_registered(name) or _audio_folder(name) is not None:
        raise XgapError(f"{name!r} is not an open_clip model, and only those can be trained")
    source = _find(name, None)
    if source.architecture is None:
        raise XgapError(f"{name!r} is not an open_clip model, and only those can be trained")
    online = source.needs_hub and reachable()
    with readable_errors(name, unreachable=_local(source, online)):
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
    own, folder = own.float(), None if scratch else source.folder
    return Trainable(name, own, preprocess, tokenize, shape, settings, _attached(own, tokenize, adapter, folder, seed))


def feature_dim(module: Any) -> int:
    """Dimensions d of the features of an open_clip module."""
    size = module.visual.image_size
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    was_training = module.training
    module.eval()
    with torch.no_grad():
        made = module.encode_image(torch.zeros(1, 3, height, width, device=next(module.parameters()).device))
    module.train(was_training)
    return int(made.shape[1])


def _backbone(module: Any, tokenize: Any) -> Backbone:
    return Backbone(dict.fromkeys(("image", "text"), feature_dim(module)), module, tokenize)


def _attached(
    module: Any, tokenize: Any, wanted: str | Adapter | Build | None, folder: Path | None, seed: int
) -> Attached | None:
    device = next(module.parameters()).device
    if wanted is None and (folder is None or not (folder / ABOUT).is_file()):
        return None
    base = _backbone(module, tokenize)
    dims = base.dims
    there = None if folder is None else saved_adapter(folder, dims, device, base)
    if wanted is None:
        return there
    chosen = as_adapter(wanted)
    if there is None:
        return attached(chosen, dims, seed=seed, device=device, base=base)
    if there.adapter.in_full != chosen.in_full:
        what = f"the model in {folder} has adapter {there.adapter.in_full}"
        raise XgapError(f"{what}, not {chosen.in_full}: train that one on, or start from its base")
    return there
