"""What the configuration beside a checkpoint may say: sizes and names of known parts, nothing that loads or runs more.

A configuration comes with weights from anywhere, and the libraries hand much of it on: keywords of a tokenizer, names
of models to be fetched, arguments of classes. So every word of it is on a list here, with the kind of value it has.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from xgap_analysis.core.errors import XgapError

NUMBER, INTEGER, WORD, SWITCH = (int, float), int, str, bool
SIZE = "a number or a list of numbers"
KIND_NAMES: Mapping[Any, str] = {NUMBER: "a number", INTEGER: "an integer", WORD: "a word", SWITCH: "true or false"}
Kinds = Mapping[str, Any]

BLOCK: Kinds = {  # of a transformer, in either tower
    **dict.fromkeys(("width", "layers", "heads", "mlp_ratio", "ls_init_value"), NUMBER),
    **dict.fromkeys(("final_ln_after_pool", "output_tokens", "qk_norm", "scaled_cosine_attn"), SWITCH),
    **dict.fromkeys(("scale_heads", "scale_attn_inner", "scale_attn", "scale_fc"), SWITCH),
    **dict.fromkeys(("pool_type", "block_type"), WORD),
    "act_kwargs": {"approximate": WORD},
    "norm_kwargs": {"eps": NUMBER, "elementwise_affine": SWITCH, "bias": SWITCH},
}
VISION: Kinds = {
    **BLOCK,
    **dict.fromkeys(("image_size", "layers", "patch_size"), SIZE),
    **dict.fromkeys(("head_width", "patch_dropout", "attn_pooler_queries", "attn_pooler_heads"), NUMBER),
    **dict.fromkeys(("timm_drop", "timm_drop_path"), NUMBER),
    **dict.fromkeys(("attentional_pool", "no_ln_pre", "timm_model_pretrained", "timm_proj_bias"), SWITCH),
    **dict.fromkeys(("pos_embed_type", "timm_model_name", "timm_pool", "timm_proj"), WORD),
}
TOKENIZER: Kinds = {"clean": WORD, "strip_sep_token": SWITCH, "language": WORD}
TEXT: Kinds = {
    **BLOCK,
    **dict.fromkeys(("context_length", "vocab_size", "pad_id", "eos_id"), NUMBER),
    **dict.fromkeys(("embed_cls", "no_causal_mask", "proj_bias", "hf_model_pretrained"), SWITCH),
    **dict.fromkeys(("hf_tokenizer_name", "tokenizer_mode", "hf_model_name", "hf_proj_type"), WORD),
    **dict.fromkeys(("hf_pooler_type", "proj_type"), WORD),
    "tokenizer_kwargs": TOKENIZER,
}
MODEL: Kinds = {
    **dict.fromkeys(("embed_dim", "init_logit_scale", "init_logit_bias"), NUMBER),
    **dict.fromkeys(("quick_gelu", "nonscalar_logit_scale", "custom_text"), SWITCH),
    "vision_cfg": VISION,
    "text_cfg": TEXT,
    "multimodal_cfg": {**TEXT, **dict.fromkeys(("dim_head", "n_queries", "attn_pooler_heads"), NUMBER)},
}
PREPROCESS: Kinds = {
    **dict.fromkeys(("size", "mean", "std"), SIZE),
    **dict.fromkeys(("mode", "interpolation", "resize_mode"), WORD),
    "fill_color": NUMBER,
}
TIMM_DATA: Kinds = {
    **dict.fromkeys(("input_size", "test_input_size", "min_input_size", "mean", "std", "pool_size"), SIZE),
    **dict.fromkeys(("crop_pct", "test_crop_pct", "num_classes", "label_offset"), NUMBER),
    **dict.fromkeys(("interpolation", "crop_mode"), WORD),
    "fixed_input_size": SWITCH,
}
SETTINGS: Kinds = {
    **dict.fromkeys(("oti_tokens", "ovi_tokens"), NUMBER),
    "image_only": SWITCH,
    "seed": INTEGER,  # of the first weights, where it has no others
    "description": WORD,
    "isoclip": dict.fromkeys(("image", "text"), SIZE),
}
AUDIO: Kinds = dict.fromkeys(
    ("bands", "frames", "width", "layers", "heads", "dimensions", "floor", "mean", "std"), NUMBER
)
AUDIO_DIRECTORY: Kinds = {"description": WORD, "base": {"name": WORD, "weights": WORD}, "audio_cfg": AUDIO}
LARGEST = 4096  # of the sizes of an audio tower: weights of other sizes are refused before memory is taken for them
TEXT_MODELS = ("roberta", "xlm-roberta", "mt5", "bert", "m2m_100")  # what open_clip builds a text tower of


def checked_open_clip(config: Any, where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The `model_cfg` and the `preprocess_cfg` of an open_clip configuration.

    Unknown entries of the second take no part in anything, and are left out.

    Raises:
        XgapError: an entry that is not on the list, or of another kind.
    """
    if not isinstance(config, Mapping) or not isinstance(config.get("model_cfg"), Mapping):
        raise XgapError(f"{where} is not an open_clip configuration (it has no model_cfg)")
    shape = _checked(config["model_cfg"], MODEL, f"{where}: model_cfg")
    for part in ("vision_cfg", "text_cfg"):
        if not isinstance(shape.get(part), Mapping):
            raise XgapError(f"{where} is not an open_clip configuration ({part!r} is missing)")
    _check_timm_name(shape["vision_cfg"].get("timm_model_name"), where)
    prepared = config.get("preprocess_cfg") or {}
    known = {key: value for key, value in dict(prepared).items() if key in PREPROCESS}
    return shape, _checked(known, PREPROCESS, f"{where}: preprocess_cfg")


def checked_timm(config: Mapping[str, Any], where: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Architecture, arguments and data settings of a timm configuration; where it says weights are is left out.

    Raises:
        XgapError: an unknown architecture, or an argument that its class does not have or that is no plain value.
    """
    import timm
    import torch

    name = config.get("architecture")
    _check_timm_name(name, where)
    data = config.get("pretrained_cfg", config)
    data = data if isinstance(data, Mapping) else {}
    data = {**data, **({"num_classes": config["num_classes"]} if "num_classes" in config else {})}
    settings = _checked({k: v for k, v in data.items() if k in TIMM_DATA}, TIMM_DATA, f"{where}: pretrained_cfg")
    settings |= {key: value for key in ("first_conv", "classifier") if isinstance(value := data.get(key), str)}
    arguments = dict(config.get("model_args") or {})
    if arguments:
        with torch.device("meta"):
            kind: Any = type(timm.create_model(str(name), pretrained=False))
        known = {p for base in kind.__mro__ for p in inspect.signature(base.__init__).parameters}
        for key, value in arguments.items():
            if key not in known or not _is_plain(value):
                raise XgapError(f"{where}: model_args says {key!r}, which is no plain argument of {name}")
    return str(name), arguments, settings


def checked_settings(said: Any, where: str) -> dict[str, Any]:
    """What a configuration says for this package: the entries of `Model.settings`, and a description.

    Raises:
        XgapError: another entry, or one of another kind.
    """
    settings = _checked(said or {}, SETTINGS, f"{where}: xgap_analysis")
    if settings.get("isoclip"):
        settings["isoclip"] = {space: tuple(bands) for space, bands in settings["isoclip"].items()}
    return settings


def checked_audio(config: Any, where: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The sizes of an audio tower, and name and weights of the model that it was trained for.

    Raises:
        XgapError: an entry that is missing, not on the list, of another kind, or a size that no tower has.
    """
    said = _checked(config, AUDIO_DIRECTORY, where)
    for part in ("base", "audio_cfg"):
        lacking = [key for key in AUDIO_DIRECTORY[part] if (said.get(part) or {}).get(key) is None]
        if lacking:
            raise XgapError(f"{where} is not the configuration of an audio tower ({part} has no {lacking[0]!r})")
    sizes = said["audio_cfg"]
    for key in ("bands", "frames", "width", "layers", "heads", "dimensions"):
        if not isinstance(sizes[key], int) or not 1 <= sizes[key] <= LARGEST:
            raise XgapError(f"{where}: {key} is {sizes[key]!r}, not a whole number from 1 to {LARGEST}")
    if sizes["width"] % sizes["heads"] or not sizes["std"] > 0:
        raise XgapError(f"{where}: width must be a multiple of heads, and std above 0")
    return sizes, said["base"]


def plain_text_model(config: Any, where: str) -> dict[str, Any]:
    """The sizes out of the configuration of a text model of transformers, without what would fetch or run anything.

    Raises:
        XgapError: a kind that open_clip builds no text tower of.
    """
    kind = config.get("model_type") if isinstance(config, Mapping) else None
    if kind not in TEXT_MODELS:
        raise XgapError(f"{where} is of model_type {kind!r}, not one of {', '.join(TEXT_MODELS)}")
    words = ("model_type", "hidden_act", "activation_function", "feed_forward_proj", "dense_act_fn")
    kept = {k: v for k, v in config.items() if k in words and isinstance(v, str)}
    return kept | {k: v for k, v in config.items() if isinstance(v, int | float) and k != "trust_remote_code"}


def _checked(said: Any, kinds: Kinds, where: str) -> dict[str, Any]:
    if not isinstance(said, Mapping):
        raise XgapError(f"{where} is {type(said).__name__}, not an object of JSON")
    checked: dict[str, Any] = {}
    for key, value in said.items():
        if key == "trust_remote_code" and value is False:
            continue
        if key not in kinds:
            hint = ", and no code of a checkpoint is run" if "code" in key else ""
            raise XgapError(f"{where} says {key!r}, which is none of {', '.join(sorted(kinds))}{hint}")
        kind = kinds[key]
        if isinstance(kind, Mapping):
            checked[key] = value if value is None else _checked(value, kind, f"{where}.{key}")
            continue
        if value is not None and not _is_of(value, kind):
            wanted = KIND_NAMES.get(kind, kind)
            raise XgapError(f"{where}: {key} is {str(value)[:40]!r}, not {wanted}")
        checked[key] = value
    return checked


def _is_of(value: Any, kind: Any) -> bool:
    if kind == SIZE:
        return all(_is_of(x, NUMBER) for x in value) if isinstance(value, list | tuple) else _is_of(value, NUMBER)
    return isinstance(value, kind) and (kind is SWITCH or not isinstance(value, bool))


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(one) for one in value)
    return value is None or isinstance(value, bool | int | float | str)


def _check_timm_name(name: Any, where: str) -> None:
    """A name of timm's own, so none that would be fetched (`hf-hub:`) or read (`local-dir:`)."""
    import timm

    if name is not None and not (isinstance(name, str) and timm.is_model(name.partition(".")[0])):
        raise XgapError(f"{where}: Unknown model {str(name)[:80]!r}; it must be the name of an architecture of timm's")


__all__ = ["checked_audio", "checked_open_clip", "checked_settings", "checked_timm", "plain_text_model"]
