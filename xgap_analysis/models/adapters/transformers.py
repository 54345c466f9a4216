"""CLIP and SigLIP as Hugging Face's transformers publishes them: a directory of configuration, weights, tokenizer and
processor.

The weights are put into open_clip's and timm's modules of the same architecture, so that everything that holds for
those (tokens in, features before the projection, shortcuts) holds here. The tokenizer and the image processor are the
directory's own.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.adapters.assembled import Assembled, TimmVisual
from xgap_analysis.models.captions import whole_lengths
from xgap_analysis.models.checkpoint import read_checkpoint, refuse_pointer, state_dict, under

Loaded = tuple[Any, Any, Any]  # model, preprocess, tokenize
VISION_TYPES = {"clip_vision_model": "clip", "siglip_vision_model": "siglip"}  # an image tower saved alone
MODEL_TYPES = ("clip", "siglip", *VISION_TYPES)
TOKENIZERS = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model")  # one of them
BESIDE = ("tokenizer_config.json", "merges.txt", "special_tokens_map.json")
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
LEGACY_END = 2  # an end token that configurations name wrongly; transformers then pools at the highest id
RENAMED = {  # pieces of names in transformers' encoders, and what they are called in open_clip's
    "encoder.layers.": "transformer.resblocks.",
    "self_attn.": "attn.",
    "layer_norm1.": "ln_1.",
    "layer_norm2.": "ln_2.",
    "mlp.fc1.": "mlp.c_fc.",
    "mlp.fc2.": "mlp.c_proj.",
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.": "conv1.",
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding.": "token_embedding.",
    "pre_layrnorm.": "ln_pre.",
    "post_layernorm.": "ln_post.",
    "final_layer_norm.": "ln_final.",
    "head.": "text_projection.",
}
RENAMED_TIMM = {  # and in timm's
    "encoder.layers.": "blocks.",
    "self_attn.out_proj.": "attn.proj.",
    "self_attn.": "attn.",
    "layer_norm1.": "norm1.",
    "layer_norm2.": "norm2.",
    "embeddings.patch_embedding.": "patch_embed.proj.",
    "embeddings.position_embedding.weight": "pos_embed",
    "post_layernorm.": "norm.",
    "head.probe": "attn_pool.latent",
    "head.attention.out_proj.": "attn_pool.proj.",
    "head.layernorm.": "attn_pool.norm.",
    "head.": "attn_pool.",
}


def load(path: Path) -> Loaded:
    """A model from its directory; the tokenizer is None where it holds the image tower alone.

    Raises:
        XgapError: no weights, tokenizer or processor, or an architecture other than those here.
    """
    from transformers import AutoConfig

    refuse_pointer(path / "config.json", *(path / file for file in (*TOKENIZERS, *BESIDE, *PROCESSORS)))
    weights = _weights(path)
    if not any(name.startswith("vision_model.") for name in weights):
        texts = any(name.startswith("text_model.") for name in weights)
        what = "the text tower alone; a model needs its image tower too" if texts else "no vision_model"
        raise XgapError(f"the weights in {path} hold {what}")
    alone = not any(name.startswith("text_model.") for name in weights)
    for what, files in (() if alone else (("tokenizer", TOKENIZERS),)) + (("image processor", PROCESSORS),):
        if not any((path / file).is_file() for file in files):  # without files transformers makes an empty tokenizer
            raise XgapError(f"{path} holds no {what}; one of {', '.join(files)} is looked for there")
    config = AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    vision = config if config.model_type in VISION_TYPES else config.vision_config
    family = VISION_TYPES.get(config.model_type, config.model_type)
    if alone:
        visual = (clip_visual if family == "clip" else siglip_visual)(vision, weights)
        return Assembled(visual, None), _preprocess(path, vision.image_size), None
    model = (clip if family == "clip" else siglip)(config, weights)
    return model, _preprocess(path, vision.image_size), HuggingFaceTokenizer(path, config)


def clip(config: Any, weights: Mapping[str, Tensor]) -> Any:
    """The model `Assembled` of a `CLIPConfig` and the weights of a `CLIPModel`."""
    visual = clip_visual(config.vision_config, weights)
    end = config.text_config.eos_token_id
    pooling = {"pool_type": "argmax"} if end == LEGACY_END else {"pool_type": "eos", "eos_id": end}
    text = _text(config.text_config, config.projection_dim, **pooling)
    own = _renamed(under("text_model.", weights), RENAMED, "in_proj_")
    text.load_state_dict({**own, "text_projection": weights["text_projection.weight"].T})
    return Assembled(visual, text, logit_scale=float(weights["logit_scale"]))


def clip_visual(sizes: Any, weights: Mapping[str, Tensor]) -> Any:
    """The image tower of a `CLIPVisionConfig`, with its projection where the weights have one."""
    from open_clip.transformer import VisionTransformer

    projection = weights.get("visual_projection.weight")
    visual = VisionTransformer(
        image_size=sizes.image_size,
        patch_size=sizes.patch_size,
        output_dim=sizes.hidden_size if projection is None else len(projection),
        **_encoder(sizes),
    )
    own = _renamed(under("vision_model.", weights), RENAMED, "in_proj_")
    if projection is None:
        visual.proj = None
    else:
        own["proj"] = projection.T
    visual.load_state_dict(own)
    return visual


def siglip(config: Any, weights: Mapping[str, Tensor]) -> Any:
    """The model `Assembled` of a `SiglipConfig` and the weights of a `SiglipModel`."""
    visual = siglip_visual(config.vision_config, weights)
    dim = len(weights["text_model.head.bias"])
    text = _text(config.text_config, dim, pool_type="last", no_causal_mask=True, proj_bias=True)
    text.load_state_dict(_renamed(under("text_model.", weights), RENAMED, "in_proj_"))
    return Assembled(visual, text, float(weights["logit_scale"]), float(weights["logit_bias"]))


def siglip_visual(sizes: Any, weights: Mapping[str, Tensor]) -> TimmVisual:
    """The image tower of a `SiglipVisionConfig`."""
    import timm

    if not getattr(sizes, "vision_use_head", True):
        raise XgapError("this SigLIP has no head over its patches (vision_use_head is false), so no image features")
    trunk = timm.create_model(
        "vit_base_patch16_siglip_224",
        num_classes=0,
        img_size=sizes.image_size,
        patch_size=sizes.patch_size,
        embed_dim=sizes.hidden_size,
        depth=sizes.num_hidden_layers,
        num_heads=sizes.num_attention_heads,
        mlp_ratio=_mlp_ratio(sizes),
        norm_layer=partial(nn.LayerNorm, eps=sizes.layer_norm_eps),
        act_layer=_activation(sizes.hidden_act),
    )
    own = _renamed(under("vision_model.", weights), RENAMED_TIMM, "qkv.")
    own["pos_embed"] = own["pos_embed"][None]
    for kind in ("weight", "bias"):
        made = own.pop(f"attn_pool.attention.in_proj_{kind}").split([sizes.hidden_size, 2 * sizes.hidden_size])
        own[f"attn_pool.q.{kind}"], own[f"attn_pool.kv.{kind}"] = made
    trunk.load_state_dict(own)
    return TimmVisual(trunk, (sizes.image_size, sizes.image_size))


def _text(sizes: Any, dim: int, **pooling: Any) -> Any:
    from open_clip.transformer import TextTransformer

    return TextTransformer(
        context_length=sizes.max_position_embeddings,
        vocab_size=sizes.vocab_size,
        output_dim=dim,
        **_encoder(sizes),
        **pooling,
    )


def _encoder(sizes: Any) -> dict[str, Any]:
    """The arguments of open_clip's transformers for an encoder of transformers."""
    from open_clip.transformer import LayerNorm

    return {
        "width": sizes.hidden_size,
        "heads": sizes.num_attention_heads,
        "layers": sizes.num_hidden_layers,
        "mlp_ratio": _mlp_ratio(sizes),
        "act_layer": _activation(sizes.hidden_act),
        "norm_layer": partial(LayerNorm, eps=sizes.layer_norm_eps),
    }


def _mlp_ratio(sizes: Any) -> float:
    return (sizes.intermediate_size + 0.5) / sizes.hidden_size  # the libraries round the product down


def _activation(name: str) -> Callable[..., nn.Module]:
    from open_clip.transformer import QuickGELU

    known: dict[str, Callable[..., nn.Module]] = {
        "quick_gelu": QuickGELU,
        "gelu": nn.GELU,
        "gelu_pytorch_tanh": partial(nn.GELU, approximate="tanh"),
    }
    if name not in known:
        raise XgapError(f"the activation {name!r} is none of {', '.join(known)}")
    return known[name]


def _renamed(weights: Mapping[str, Tensor], names: Mapping[str, str], joint: str) -> dict[str, Tensor]:
    """The weights under other names, with queries, keys and values in one piece called `joint`."""
    own: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        for old, new in names.items():
            name = name.replace(old, new)
        own[name] = tensor
    joined = {}
    for name in own:
        if found := re.fullmatch(r"(.*attn\.)q_proj\.(weight|bias)", name):
            block, kind = found.groups()
            joined[f"{block}{joint}{kind}"] = torch.cat([own[f"{block}{part}_proj.{kind}"] for part in "qkv"])
    apart = re.compile(r".*attn\.[qkv]_proj\..*|.*position_ids")
    return {**{name: tensor for name, tensor in own.items() if not apart.fullmatch(name)}, **joined}


def _weights(path: Path) -> dict[str, Tensor]:
    index = path / "model.safetensors.index.json"
    if index.is_file():
        refuse_pointer(index)
        files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        outside = next((file for file in files if Path(file).name != file), None)
        if outside is not None:
            raise XgapError(f"{index} names {outside!r}, which is not a file beside it")
    else:
        files = [file for file in ("model.safetensors", "pytorch_model.bin") if (path / file).is_file()][:1]
    if not files:
        raise XgapError(f"{path} holds no weights; model.safetensors or pytorch_model.bin is looked for there")
    return {k: t for file in files for k, t in state_dict(read_checkpoint(path / file), path / file).items()}


def _preprocess(path: Path, size: int) -> Callable[[Image.Image], Tensor]:
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(path, trust_remote_code=False, local_files_only=True)

    def preprocess(image: Image.Image) -> Tensor:
        return processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"][0]

    given = tuple(preprocess(Image.new("RGB", (2 * size, size))).shape)
    if given != (3, size, size):
        raise XgapError(f"the processor in {path} gives pixels {list(given)}, but its model takes [3, {size}, {size}]")
    return preprocess


class HuggingFaceTokenizer:
    """The tokenizer of a directory, with the lower case that its model was trained with.

    Raises:
        XgapError: it gives ids that the model has no embedding for.
    """

    def __init__(self, path: Path, config: Any) -> None:
        from transformers import AutoTokenizer, PreTrainedTokenizerFast

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)
        except ImportError:  # SigLIP's class wants the SentencePiece library, though its tokenizer.json is there too
            if not (path / "tokenizer.json").is_file():
                raise
            self._tokenizer = PreTrainedTokenizerFast.from_pretrained(path, local_files_only=True)
        self._length = config.text_config.max_position_embeddings
        self._lower = _lowers(path, config)
        highest, known = int(self(["a"]).max()), config.text_config.vocab_size
        if highest >= known:
            what = f"the tokenizer in {path} gives ids up to {highest}"
            raise XgapError(f"{what}, but its model knows {known} words")

    def __call__(self, captions: Sequence[str]) -> Tensor:
        """Token ids `[n, length]`."""
        return self._tokenizer(
            self._cased(captions), padding="max_length", truncation=True, max_length=self._length, return_tensors="pt"
        ).input_ids

    def lengths(self, captions: Sequence[str]) -> list[int]:
        """How many tokens captions have before they are cut."""
        return whole_lengths(self._tokenizer, self._cased(captions))

    def _cased(self, captions: Sequence[str]) -> list[str]:
        return [caption.lower() if self._lower else caption for caption in captions]


def _lowers(path: Path, config: Any) -> bool:
    """Whether captions are put in lower case before the tokenizer.

    What the tokenizer's own configuration says is done. Where it says nothing, a SigLIP with Gemma's tokenizer is
    SigLIP 2, which was trained on lower case (transformers' `Siglip2Tokenizer`, open_clip's entries); Gemma's class
    knows nothing of it.
    """
    file = path / "tokenizer_config.json"
    said = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if isinstance(said.get("do_lower_case"), bool):
        return said["do_lower_case"]
    return config.model_type == "siglip" and str(said.get("tokenizer_class")).startswith(("Gemma", "Siglip2"))


__all__ = ["MODEL_TYPES", "HuggingFaceTokenizer", "clip", "load", "siglip"]
