"""open_clip models from a configuration, weights, and a tokenizer, each read here.

The library's own loader would hand the configuration on unread, read half-precision weights as they are, and write
through the root logger, which it sets up for the whole process. So only its modules are taken: models, transforms,
tokenizers.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from xgap_analysis.core.errors import XgapError, notice
from xgap_analysis.models.adapters.assembled import Assembled, seeded
from xgap_analysis.models.backbones import HUB
from xgap_analysis.models.checkpoint import read_checkpoint, refuse_pointer, state_dict, under
from xgap_analysis.models.configuration import checked_open_clip, plain_text_model
from xgap_analysis.models.hub import fetched

CONFIG, LOCAL = "open_clip_config.json", "local-dir:"
HUB_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
PREFERRED = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")  # the preferred kind first
TOKENIZER_FILES = (
    *("tokenizer.json", "vocab.json", "vocab.txt"),
    *("spiece.model", "tokenizer.model", "sentencepiece.bpe.model"),
)
SCALES = ("logit_scale", "logit_bias")


@dataclass(frozen=True)
class Blueprint:
    """What an open_clip model is to be.

    Args:
        architecture: open_clip's name of it, prefix included.
        shape: its `model_cfg`.
        preprocess: what it says of its transform.
        folder: of its files, where it has one.
    """

    architecture: str
    shape: dict[str, Any]
    preprocess: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None


def blueprint(architecture: str, cache: str | None, online: bool) -> Blueprint:
    """The configuration of an architecture of open_clip's, of a repository of the hub's, or of a directory.

    Args:
        architecture: `"ViT-B-32"`, `"hf-hub:org/name"`, `"local-dir:/path"`, or the path of a configuration, `.json`.
        cache: the folder of downloads.
        online: whether the hub may be used.

    Raises:
        XgapError: a configuration that says what it may not.
    """
    from open_clip import get_model_config

    if architecture.startswith(LOCAL):
        file = Path(architecture.removeprefix(LOCAL)) / CONFIG
    elif architecture.endswith(".json"):
        file = Path(architecture).expanduser()
    elif architecture.startswith(HUB):
        file = fetched(architecture.removeprefix(HUB), (CONFIG,), cache, online)
    else:
        return Blueprint(architecture, get_model_config(architecture))
    refuse_pointer(file)
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise XgapError(f"there is no configuration {file}") from error
    except ValueError as error:
        raise XgapError(f"{file} is not an open_clip configuration ({error})") from error
    if isinstance(said, dict) and "model_cfg" not in said and "vision_cfg" in said:  # as open_clip's own files are
        said = {"model_cfg": said}
    shape, preprocess = checked_open_clip(said, str(file))
    return Blueprint(architecture, shape, preprocess, None if architecture.startswith(HUB) else file.parent)


def tokenizer(plan: Blueprint, cache: str | None, online: bool) -> Any:
    """open_clip's tokenizer of a model.

    Raises:
        XgapError: the directory has none, and the one that its configuration names cannot be fetched.
    """
    from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SimpleTokenizer

    text = plan.shape["text_cfg"]
    length = text.get("context_length") or DEFAULT_CONTEXT_LENGTH
    options = text.get("tokenizer_kwargs") or {}
    name = text.get("hf_tokenizer_name")
    if not name:
        return SimpleTokenizer(context_length=length, **{k: v for k, v in options.items() if k == "clean"})
    source, beside = name, holds_tokenizer(plan.folder)
    if plan.folder is not None and beside:
        refuse_pointer(*(plan.folder / file for file in (*TOKENIZER_FILES, "tokenizer_config.json", "merges.txt")))
        source = str(plan.folder)
    try:
        return HFTokenizer(
            source,
            context_length=length,
            cache_dir=cache,
            tokenizer_mode=text.get("tokenizer_mode"),
            **options,
            trust_remote_code=False,  # explicit, because transformers would prompt the user otherwise
            local_files_only=beside or not online,
        )
    except Exception as error:
        if plan.folder is None or beside:
            raise
        raise XgapError(
            f"{plan.folder} holds no tokenizer (none of {', '.join(TOKENIZER_FILES)}), and {name!r}, which its "
            f"{CONFIG} names, cannot be fetched from the hub: put the files of the tokenizer beside the weights"
        ) from error


def holds_tokenizer(folder: Path | None) -> bool:
    """Whether a directory has a tokenizer of its own."""
    return folder is not None and any((folder / file).is_file() for file in TOKENIZER_FILES)


def module(plan: Blueprint, *, quick_gelu: bool = False, cache: str | None = None, online: bool = False) -> Any:
    """The model without its weights: with random ones, of the state that torch's generator is in.

    Args:
        plan: what it is to be.
        quick_gelu: to be forced.
        cache, online: for the configuration of a text tower of transformers.
    """
    from open_clip import CLIP, CoCa, CustomTextCLIP
    from open_clip.model import set_model_preprocess_cfg
    from open_clip.transform import PreprocessCfg

    shape = deepcopy(plan.shape)
    if quick_gelu:
        shape["quick_gelu"] = True
    text, vision = shape["text_cfg"], shape["vision_cfg"]
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False
    custom = shape.pop("custom_text", False) or "hf_model_name" in text
    kind = (CoCa if "multimodal_cfg" in shape else CustomTextCLIP) if custom else CLIP
    with _text_model(text, cache, online):
        model = kind(**shape)
    prepared = asdict(PreprocessCfg()) | {k: v for k, v in plan.preprocess.items() if v is not None}
    prepared["size"] = getattr(model.visual, "image_size", prepared["size"])
    set_model_preprocess_cfg(model, prepared)
    return model


@contextmanager
def _text_model(text: dict[str, Any], cache: str | None, online: bool) -> Iterator[None]:
    """Within, the text tower of transformers that a configuration names is a folder with its sizes alone."""
    name = text.get("hf_model_name")
    if not name:
        yield
        return
    text["hf_model_pretrained"] = False
    here = Path(name) / "config.json"
    file = here if here.is_file() else fetched(name, ("config.json",), cache, online)
    sizes = plain_text_model(json.loads(file.read_text(encoding="utf-8")), f"{name}/config.json")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(sizes), encoding="utf-8")
        text["hf_model_name"] = folder
        yield


def transform(model: Any) -> Any:
    """The model's own transform for evaluation."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    return image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)


def weights_in(folder: Path, preferred: Sequence[str] = PREFERRED) -> Path:
    """The checkpoint of a directory.

    Args:
        folder: the directory.
        preferred: names that are looked for first; then any checkpoint is.

    Raises:
        XgapError: it has none, or a note of where it is.
    """
    found = [folder / name for name in preferred if (folder / name).is_file()]
    if found:
        refuse_pointer(found[0])
        return found[0]
    others = sorted((f for f in folder.iterdir() if f.suffix in SUFFIXES), key=lambda f: (SUFFIXES.index(f.suffix), f))
    if not others:
        raise XgapError(f"{folder} holds no weights; {preferred[0]} is looked for there")
    if len(others) > 1:
        names = ", ".join(f.name for f in others)
        what = f"{folder} holds {len(others)} checkpoints ({names}); {others[0].name} is read"
        notice(what)
    refuse_pointer(others[0])
    return others[0]


def fill(model: Any, path: Path) -> Any:
    """The model with the weights of a file; where the file has an image tower alone, a model of that.

    Raises:
        XgapError: no weights of this architecture.
    """
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    weights = state_dict(read_checkpoint(path), path)
    if not any(name.startswith("visual.") for name in weights) and any("token_embedding" in name for name in weights):
        raise XgapError(f"{path} holds a text tower alone; a model needs its image tower too")
    table = "positional_embedding"
    if _image_tower_alone(weights):
        own = under("visual.", weights)
        resized = _resize_image_positions(own, model.visual, table)
        model.visual.load_state_dict(own)
        _say_resized(path, [resized])
        scale, bias = (weights.get(name) for name in SCALES)
        return Assembled(model.visual, None, float(scale or 0.0), None if bias is None else float(bias))
    weights = convert_state_dict(model, weights)
    if table in weights and not hasattr(model, table):
        weights = convert_to_custom_text_state_dict(weights)
    for name in SCALES:
        own_scale = getattr(model, name, None)
        if own_scale is not None and name in weights:
            weights[name] = weights[name].reshape(own_scale.shape)
    if getattr(model, "logit_bias", None) is not None:
        weights.setdefault("logit_bias", torch.zeros_like(model.logit_bias))
    if "text.transformer.embeddings.position_ids" not in model.state_dict():  # of older releases of transformers
        weights.pop("text.transformer.embeddings.position_ids", None)
    changes = [
        _resize_image_positions(weights, model.visual, f"visual.{table}"),
        *(_resize_text_positions(weights, model, name) for name in (table, f"text.{table}")),
    ]
    model.load_state_dict(weights)
    _say_resized(path, changes)
    return model


def _resize_image_positions(weights: dict[str, Tensor], visual: Any, name: str) -> str:
    """Fit a square table of positions, class token first, to the model's grid, as open_clip does; say what was done."""
    table, grid = weights.get(name), getattr(visual, "grid_size", None)
    if table is None or grid is None or len(table) == grid[0] * grid[1] + 1:
        return ""
    first, patches = table[:1], table[1:]
    edge = int(len(patches) ** 0.5)
    image = patches.reshape(1, edge, edge, -1).permute(0, 3, 1, 2)
    image = F.interpolate(image, size=tuple(grid), mode="bicubic", antialias=True, align_corners=False)
    weights[name] = torch.cat([first, image.permute(0, 2, 3, 1).reshape(grid[0] * grid[1], -1)])
    return f"{edge} x {edge} patches to {grid[0]} x {grid[1]}"


def _resize_text_positions(weights: dict[str, Tensor], model: Any, name: str) -> str:
    """Fit a table of positions to the model's context, as open_clip does; say what was done."""
    table, wanted = weights.get(name), model.state_dict().get(name)
    if table is None or wanted is None or len(table) == len(wanted) or table.shape[1] != wanted.shape[1]:
        return ""
    row = F.interpolate(table.T[None], size=len(wanted), mode="linear", align_corners=False)
    weights[name] = row[0].T
    return f"{len(table)} tokens to {len(wanted)}"


def _say_resized(path: Path, resized: list[str]) -> None:
    done = [one for one in resized if one]
    if done:
        what = "the position embeddings were resized to those of the configuration"
        notice(f"{path}: {what}: {', '.join(done)}")


def pretrained_file(trained: Mapping[str, Any], cache: str | None, online: bool) -> Path:
    """The file of weights that open_clip's table of pretrained models names."""
    from open_clip.pretrained import download_pretrained_from_url

    place = trained.get("hf_hub", "")
    if place:
        repository, _, file = place.rpartition("/")
        safe = [f"{Path(file).with_suffix('.safetensors')}"] if file.endswith((".bin", ".pth", ".pt")) else []
        return fetched(repository, (*safe, file) if file else HUB_WEIGHTS, cache, online)
    url = trained["url"]
    kept = Path(cache or "~/.cache/clip").expanduser() / Path(url).name
    if not online and not kept.is_file():
        raise FileNotFoundError(f"{kept} is not there, and the network cannot be reached")
    return Path(download_pretrained_from_url(url, cache_dir=cache))


def open_clip_model(
    architecture: str,
    device: torch.device,
    cache: str | None,
    online: bool,
    *,
    weights: str | None = None,
    seed: int | None = None,
    quick_gelu: bool = False,
) -> tuple[Any, Any, Any]:
    """Model, transform and tokenizer by open_clip's name for its architecture, prefix included.

    Args:
        architecture, cache, online: as in `blueprint`.
        device: where it computes.
        weights: a tag or a file; None for those of a repository of the hub's.
        seed: of random weights, where it is to have those.
        quick_gelu: to be forced.
    """
    from open_clip.pretrained import get_pretrained_cfg

    plan = blueprint(architecture, cache, online)
    tag = weights if weights and ":" not in architecture else None
    trained = get_pretrained_cfg(architecture, tag) if tag else {}
    if trained:
        plan = replace(plan, preprocess=_transform_of(trained))
    tokenize = None if _needs_no_tokenizer(plan, weights) else tokenizer(plan, cache, online)  # small, so it is first
    if trained:
        file: Path | None = pretrained_file(trained, cache, online)
    elif weights or seed is not None:
        file = Path(weights) if weights else None
    else:
        file = fetched(architecture.removeprefix(HUB), HUB_WEIGHTS, cache, online)
    with seeded(seed or 0):
        model = module(plan, quick_gelu=quick_gelu, cache=cache, online=online)
    if file is not None:
        model = fill(model, file)
    preprocess = transform(model)
    return model.to(device), preprocess, None if getattr(model, "text", model) is None else tokenize


def _transform_of(trained: Mapping[str, Any]) -> dict[str, Any]:
    from open_clip.transform import PreprocessCfg

    return {key: trained[key] for key in asdict(PreprocessCfg()) if trained.get(key) is not None}


def _needs_no_tokenizer(plan: Blueprint, file: str | None) -> bool:
    """Whether a directory lacks the tokenizer that it names, and holds an image tower alone, which needs none."""
    if plan.folder is None or file is None or holds_tokenizer(plan.folder):
        return False
    return bool(plan.shape["text_cfg"].get("hf_tokenizer_name")) and _image_tower_alone(
        state_dict(read_checkpoint(Path(file)), Path(file))
    )


def _image_tower_alone(weights: Mapping[str, Any]) -> bool:
    return all(name.startswith(("visual.", *SCALES)) for name in weights)


__all__ = ["CONFIG", "LOCAL", "Blueprint", "blueprint", "holds_tokenizer", "module", "open_clip_model", "weights_in"]
