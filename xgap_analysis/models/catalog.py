"""Models by name: embedded ones, open_clip's pretrained ones, the hub's, timm's, one's own files and directories."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.paths import data_root
from xgap_analysis.models.adaptation.adapted import with_saved_adapter
from xgap_analysis.models.adapters import audio, longclip, slip
from xgap_analysis.models.adapters import timm as images
from xgap_analysis.models.adapters import transformers as huggingface
from xgap_analysis.models.backbones import BACKBONES, HUB, TIMM, WEIGHTS_VARIABLE, published
from xgap_analysis.models.building import (
    CONFIG,
    LOCAL,
    PREFERRED,
    blueprint,
    holds_tokenizer,
    open_clip_model,
    weights_in,
)
from xgap_analysis.models.checkpoint import CHECKPOINTS, named_file, refuse_pointer
from xgap_analysis.models.configuration import checked_open_clip, checked_settings
from xgap_analysis.models.device import chosen_device
from xgap_analysis.models.hub import reachable, readable_errors
from xgap_analysis.models.precision import check_precision
from xgap_analysis.models.registered import MODELS, is_registered, registered_model
from xgap_analysis.models.tower import Model

OTHER_CONFIG, RANDOM = "config.json", "random"
ACTIVATIONS = ("quickgelu", "gelu")  # each also as an ending of an architecture's name: ViT-B-32-gelu//file
OWN_FORMATS = {  # architectures whose checkpoints are files of their own format
    **dict.fromkeys(slip.ARCHITECTURES, slip.load),
    **dict.fromkeys(longclip.ARCHITECTURES, longclip.load),
}
Loaded = tuple[Any, Any, Any]  # model, preprocess, tokenize
CONFIGURATION = ".json"  # of open_clip, in the place of an architecture's name


@dataclass(frozen=True)
class _Source:
    """How a model is made, from a device, the folder of downloads and whether the hub is reachable, with its settings.

    `architecture` is open_clip's name of it, prefix included, where it is a model of open_clip's; `folder` is the
    open_clip directory, which may hold an adapter.
    """

    create: Callable[[torch.device, str | None, bool], Loaded]
    needs_hub: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    architecture: str | None = None
    quick_gelu: bool = False
    folder: Path | None = None


def load_model(
    name_or_path: str | Path,
    *,
    device: str | torch.device | None = None,
    precision: str = "fp32",
    cache_dir: str | Path | None = None,
    activation: str | None = None,
) -> Model:
    """A frozen dual encoder by name.

    Args:
        name_or_path: one of
            `"tiny"` or another embedded model (see `embedded_models`); `"tiny-audio"` is `tiny` with an audio tower;
            `"oracle"`, `"oracle(g=0.9)"`, towers whose scores are known in closed form (see `models.oracle`);
            `"ViT-B-32/openai"`, an open_clip architecture and its pretrained tag;
            `"hf-hub:org/repo"`, an open_clip model on the Hugging Face hub;
            `"local-dir:/path"` or the path of a directory: open_clip's (`open_clip_config.json`, weights, tokenizer), a
            CLIP or SigLIP of transformers (`config.json`, `model.safetensors`, tokenizer, `preprocessor_config.json`),
            or a timm model (`config.json`, `model.safetensors`);
            `"ViT-B-32//path/to/weights.safetensors"`, an architecture and a checkpoint, from the root or from here
            (with `activation`, or `ViT-B-32-gelu//...` and `ViT-B-32-quickgelu//...`);
            `"SLIP-ViT-B-16//path/to/slip_base_100ep.pt"`, SLIP or a CLIP trained beside it (`CLIP-ViT-B-16`);
            `"LongCLIP-ViT-B-16//path/to/longclip-B.pt"`, Long-CLIP;
            `"timm:vit_base_patch14_dinov2.lvd142m"`, an image model of timm's without a text tower; also
            `"timm:NAME//path/to/weights"`;
            `"ViT-B-32/random"` or `"timm:NAME/random"`, seeded random weights, as a control;
            `"my-vit.json//path/to/weights.safetensors"` or `"my-vit.json/random"`, an open_clip configuration of your
            own in the place of an architecture (with a tokenizer beside it, where it needs another than CLIP's);
            `"mine"` or `"mine(option=value)"`, a model that `register_model` has made known.
            `models.backbones.BACKBONES` lists the published ones. Those that come as files of their own are looked for
            in the folder that the environment variable XGAP_WEIGHTS names (`"SLIP-ViT-B-16/yfcc15m"`).
        device: where it computes (`"cpu"`, `"cuda:1"`, `"mps"`); CUDA where there is one, else the CPU.
        precision: `"fp32"`, or `"bf16"` / `"fp16"`: autocast, over a copy of the weights of products in half precision
            (see `models.adapters.halves`). TF32 is off unless torch's settings turn it on.
        cache_dir: where downloads are kept, instead of the libraries' own place.
        activation: `"quickgelu"` or `"gelu"`, for a checkpoint file that does not say; elsewhere a check.

    Nothing of a checkpoint is run: weights are read as numbers, and a configuration says sizes and names of known
    parts, or is refused. A directory without a text tower gives an image model, as timm's are; one whose
    configuration says a `seed` needs no weights, and gives the first ones of that seed.

    Raises:
        XgapError: an unknown name (with the nearest ones), no weights, weights that cannot be fetched or do not fit,
            an unknown device, or an activation other than the one the weights were trained with.

    Example:
        >>> import xgap_analysis as xg
        >>> model = xg.load_model("tiny")
        >>> sorted(model.towers), round(1 / model.logit_scale, 3)  # modalities, and the temperature
        (['image', 'text'], 0.039)
        >>> xg.load_model("tinny")
        Traceback (most recent call last):
            ...
        xgap_analysis.core.errors.XgapError: unknown model 'tinny'; nearest names: tiny, tiny-seed2, tiny-seed1
    """
    from xgap_analysis.models.adapters.openclip import from_open_clip

    name = str(name_or_path)
    if activation not in (None, *ACTIVATIONS):
        raise XgapError(f'activation is "quickgelu" or "gelu", not {activation!r}')
    where = chosen_device(device)
    check_precision(precision, where)
    beside = _audio_folder(name)
    if beside is not None:
        base_model = partial(load_model, device=where, precision=precision, activation=activation)
        return audio.load(beside, name, base_model, _of_two_towers(), precision)
    if is_registered(name):
        return _of_activation(registered_model(name, device=where, precision=precision), activation)
    source = _find(name, activation)
    online = source.needs_hub and reachable()
    with readable_errors(name, unreachable=_local(source, online)):
        model, preprocess, tokenize = source.create(where, None if cache_dir is None else str(cache_dir), online)
    settings = source.settings if tokenize is not None else {**source.settings, "image_only": True}
    made = from_open_clip(model.to(where), tokenize, preprocess, name=name, precision=precision, settings=settings)
    loaded = _of_activation(made, activation)
    return loaded if source.folder is None else with_saved_adapter(loaded, source.folder)


def check_name(name: str, activation: str | None = None) -> None:
    """An `XgapError`, with the nearest names, if `load_model` knows no model by this one; nothing is loaded."""
    if _audio_folder(name) is None and not is_registered(name):
        _find(name, activation)


def _of_activation(model: Model, wanted: str | None) -> Model:
    """The model, where its activation is the one that is wanted."""
    if wanted and model.activation != wanted:
        own = f"is built with {model.activation}" if model.activation else "does not say its activation"
        raise XgapError(f"model {model.name!r} {own}; {wanted} would change its features")
    return model


def embedded_models() -> list[str]:
    """Names of the models that come with the package.

    Example:
        >>> from xgap_analysis.models import embedded_models
        >>> "tiny" in embedded_models()
        True
    """
    return sorted([*_of_two_towers(), *(config.parent.name for config in _folder().glob(f"*/{audio.CONFIG}"))])


def _of_two_towers() -> list[str]:
    return [config.parent.name for config in _folder().glob(f"*/{CONFIG}")]


def _folder() -> Path:
    return data_root() / "models"


def _audio_folder(name: str) -> Path | None:
    """The directory of an audio tower that a name or a path gives; None where it gives none."""
    path = _folder() / name if name in embedded_models() else Path(name.removeprefix(LOCAL)).expanduser()
    return path if audio.holds_audio(path) else None


def _find(name: str, activation: str | None) -> _Source:
    if name.startswith(HUB):
        return _of_open_clip(name, needs_hub=True, settings=_published(name))
    if name.startswith(TIMM):
        return _image_model(name)
    if name.startswith(LOCAL):
        return _directory(Path(name.removeprefix(LOCAL)))
    if name in embedded_models():
        return _directory(_folder() / name)
    if name.partition("//")[0].removesuffix(f"/{RANDOM}").endswith(CONFIGURATION):
        return _own_configuration(name, activation)
    if name.startswith(("/", ".", "~")) or any((Path(name) / config).is_file() for config in (CONFIG, OTHER_CONFIG)):
        return _directory(Path(name))
    if name.partition("/")[0] in OWN_FORMATS:
        return _own_format(name)
    return _architecture(name, activation)


def _published(name: str) -> dict[str, Any]:
    backbone = published(name)
    return {} if backbone is None else backbone.settings


def _local(source: _Source, online: bool) -> str | None:
    """The names that need no network, where the source would have needed one."""
    if online or not source.needs_hub:
        return None
    own = ", ".join(embedded_models()) or "none"
    return f"an embedded model ({own}), 'local-dir:/path' or 'ARCHITECTURE//path/to/file.safetensors'"


def _directory(path: Path) -> _Source:
    path = path.expanduser()
    if not (path / CONFIG).is_file():
        return _other_directory(path)
    config = _configuration(path / CONFIG, "an open_clip configuration")
    shape, _ = checked_open_clip(config, str(path / CONFIG))
    settings = checked_settings(config.get("xgap_analysis"), str(path / CONFIG))
    seed = settings.pop("seed", None)
    if seed is not None and any((path / name).is_file() for name in PREFERRED):
        raise XgapError(f"{path} holds weights, and its {CONFIG} says a seed to draw them from: keep one of the two")
    weights = str(weights_in(path)) if seed is None else None
    text = shape["text_cfg"]
    elsewhere = text.get("hf_tokenizer_name") and not holds_tokenizer(path) and not settings.get("image_only")
    needs_hub = bool(elsewhere or text.get("hf_model_name"))
    source = _of_open_clip(f"{LOCAL}{path}", needs_hub=needs_hub, settings=settings, weights=weights, seed=seed)
    return replace(source, folder=path)


def _configuration(file: Path, what: str) -> dict[str, Any]:
    refuse_pointer(file)
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise XgapError(f"{file} is not {what} ({error!r})") from error


def _other_directory(path: Path) -> _Source:
    """A directory of transformers or of timm."""
    if not (path / OTHER_CONFIG).is_file():
        raise XgapError(
            f"{path} holds no {CONFIG}; an open_clip directory has it beside its weights and tokenizer, one of "
            f"transformers or timm has {OTHER_CONFIG}"
        )
    config = _configuration(path / OTHER_CONFIG, "a configuration")
    if "architecture" in config:
        weights = weights_in(path, ("model.safetensors", "pytorch_model.bin"))
        return _Source(lambda *_: images.load_directory(path, weights), settings={"image_only": True})
    kind = config.get("model_type")
    if kind not in huggingface.MODEL_TYPES:
        known = f"one of {', '.join(huggingface.MODEL_TYPES)}; SigLIP2 of a fixed size is siglip, NaFlex is not read"
        raise XgapError(f"{path / OTHER_CONFIG} is of model_type {kind!r}, not {known}")
    return _Source(lambda *_: huggingface.load(path))


def _image_model(name: str) -> _Source:
    own, _, file = name.removeprefix(TIMM).partition("//")
    own = own if file else own.removesuffix(f"/{RANDOM}")
    images.check_name(own)
    settings = {"image_only": True, **_published(name)}
    if file:
        path = named_file(file)
        return _Source(lambda *_: images.load(own, file=path), settings=settings)
    random = name.endswith(f"/{RANDOM}")
    return _Source(
        lambda _, cache, online: images.load(own, random=random, cache_dir=cache, online=online),
        needs_hub=not random,
        settings=settings,
    )


def _own_format(name: str) -> _Source:
    architecture, _, weights = name.partition("/")
    path = named_file(weights.removeprefix("/")) if weights.startswith("/") else _own_file(architecture, weights)
    load = OWN_FORMATS[architecture]
    return _Source(lambda *_: load(architecture, path), settings=_published(name))


def _own_file(architecture: str, tag: str) -> Path:
    """The checkpoint of a tag, in the folder of such files."""
    tags = {b.name.rpartition("/")[2]: b for b in BACKBONES if b.architecture == architecture}
    if tag and tags and tag not in tags:
        raise unknown_name(f"weights of {architecture}", tag, tags)
    found = tags[tag].local_file() if tag in tags else None
    if found is None:
        files = ", ".join(f"{b.file} of {b.repository}" for b in tags.values()) or "a file of facebookresearch/SLIP"
        raise XgapError(
            f"the weights of {architecture} are {files}: name that file, {architecture}//path/to/file.pt, or the "
            f"folder that it lies in, in the environment variable {WEIGHTS_VARIABLE}"
        )
    return found


def _architecture(name: str, activation: str | None) -> _Source:
    from open_clip import get_model_config, list_models, list_pretrained

    known = list_models()
    before, _, file = name.partition("//")
    architecture, _, tag = (before, "", "") if file else name.rpartition("/")
    architecture = architecture.replace("/", "-")  # OpenAI's own spelling is ViT-B/32
    if name.replace("/", "-") in known:
        _refuse_without_weights(name.replace("/", "-"))
    if architecture not in known:
        architecture, activation = _without_activation(architecture, activation, known)
    if architecture not in known:
        pretrained = [f"{a}/{t}" for a, t in list_pretrained()]
        others = [backbone.name for backbone in BACKBONES]
        first, _, rest = name.partition("/")
        if not file and Path(name).suffix in CHECKPOINTS and first in known:
            raise XgapError(f"a checkpoint file is named after two slashes: {first}//{rest}")
        base, made, _ = name.partition("+")
        if made:
            what = f"no model is stored as {name!r}: load {base!r} and make it again with xg.with_frames or xg.adapted"
            raise XgapError(f"{what}; a tower of clips that xg.fit_frames fitted is not kept in a file")
        raise unknown_name("model", name, {*embedded_models(), *MODELS, *pretrained, *known, *others, *OWN_FORMATS})
    config = get_model_config(architecture)
    tokenizer_from_hub = any(key in config["text_cfg"] for key in ("hf_tokenizer_name", "hf_model_name"))
    quick = activation == "quickgelu"
    if tag == RANDOM:
        return _of_open_clip(architecture, needs_hub=tokenizer_from_hub, seed=0, quick_gelu=quick)
    if file:
        path = named_file(file)
        _refuse_unsaid_activation(architecture, path, activation, bool(config.get("quick_gelu")))
        return _of_open_clip(architecture, needs_hub=tokenizer_from_hub, weights=str(path), quick_gelu=quick)
    return _pretrained(architecture, tag, activation, bool(config.get("quick_gelu")))


def _own_configuration(name: str, activation: str | None) -> _Source:
    """An open_clip configuration in a file, with the weights of another file or random ones."""
    before, _, file = name.partition("//")
    path = before.removesuffix(f"/{RANDOM}")
    if not file and path == before:
        raise XgapError(f"{path} is a configuration without weights; name them as {path}//path/to/weights, or {RANDOM}")
    plan = blueprint(path, None, False)
    text = plan.shape["text_cfg"]
    elsewhere = text.get("hf_tokenizer_name") and not holds_tokenizer(plan.folder)
    return _of_open_clip(
        path,
        needs_hub=bool(elsewhere or text.get("hf_model_name")),
        weights=str(named_file(file)) if file else None,
        seed=None if file else 0,
        quick_gelu=activation == "quickgelu",
    )


def _without_activation(architecture: str, activation: str | None, known: list[str]) -> tuple[str, str | None]:
    """An architecture and the activation that its name ends in, where open_clip knows the name without the ending."""
    for one in ACTIVATIONS:
        own = architecture.removesuffix(f"-{one}")
        if own != architecture and own in known:
            if activation not in (None, one):
                raise XgapError(f"{architecture!r} says {one}, but activation is {activation!r}; say it once")
            return own, one
    return architecture, activation


def _refuse_without_weights(architecture: str) -> None:
    from open_clip.pretrained import list_pretrained_tags_by_model

    tags = [f"{architecture}/{tag}" for tag in list_pretrained_tags_by_model(architecture)]
    raise XgapError(
        f"{architecture!r} is an architecture without weights; say which: {', '.join(tags[:4])}"
        f"{', ' if tags else ''}{architecture}//path/to/weights.safetensors, or {architecture}/{RANDOM} as a control"
    )


def _refuse_unsaid_activation(architecture: str, path: Path, activation: str | None, built_quick: bool) -> None:
    if activation is None and not built_quick:
        file = f"//{str(path).lstrip('/')}" if path.is_absolute() else f"//{path}"
        raise XgapError(
            f"{path} does not say what it was trained with: name it {architecture}-quickgelu{file} (OpenAI's weights "
            f'and those tuned from them) or {architecture}-gelu{file}, or say it as activation="quickgelu" or '
            'activation="gelu" in Python, --activation in xgap encode and xgap invert'
        )


def _pretrained(architecture: str, tag: str, activation: str | None, built_quick: bool) -> _Source:
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    trained = get_pretrained_cfg(architecture, tag)
    if not trained:
        raise unknown_name(f"weights of {architecture}", tag, [*list_pretrained_tags_by_model(architecture), RANDOM])
    quick = bool(trained.get("quick_gelu")) or built_quick  # an architecture made for its weights says it instead
    if activation is not None and (activation == "quickgelu") != quick:
        raise XgapError(
            f"{architecture}/{tag} was trained with {'QuickGELU' if quick else 'GELU'}; with another activation its "
            "features would be wrong, so it is not loaded"
        )
    settings = _published(f"{architecture}/{tag}")
    return _of_open_clip(architecture, needs_hub=True, settings=settings, weights=tag, quick_gelu=quick)


def _of_open_clip(
    architecture: str,
    *,
    needs_hub: bool,
    settings: dict[str, Any] | None = None,
    quick_gelu: bool = False,
    **how: Any,
) -> _Source:
    create = partial(open_clip_model, architecture, quick_gelu=quick_gelu, **how)
    return _Source(create, needs_hub, settings or {}, architecture, quick_gelu)
