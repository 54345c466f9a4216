"""Long-CLIP (beichenzbc/Long-CLIP): OpenAI's architecture on captions of 248 tokens.

Its files hold two tables of positions. The first 20 rows, kept from CLIP, are read from `positional_embedding`, the
stretched ones after them from `positional_embedding_res`; so both together are one ordinary table.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xgap_analysis.core.errors import XgapError, notice
from xgap_analysis.models.checkpoint import depth, read_checkpoint, state_dict

Loaded = tuple[Any, Any, Any]  # model, preprocess, tokenize
KEPT, HEAD_WIDTH = 20, 64
STRETCHED = "positional_embedding_res"
GATE, EXPERT = r"(\d+)\.gate\.weight", re.compile(r"\.experts\.(\d+)\.")  # names that CLIP-MoE adds
ARCHITECTURES = {"LongCLIP-ViT-B-16": (768, 16), "LongCLIP-ViT-L-14": (1024, 14)}  # width and patch size


def load(architecture: str, path: Path) -> Loaded:
    """A model of the named size from its file.

    Raises:
        XgapError: the file is no Long-CLIP checkpoint, or one of another size.
    """
    from open_clip import SimpleTokenizer, image_transform

    weights = state_dict(read_checkpoint(path), path)
    if any(map(expert_of, weights)):
        weights = _of_first_experts(weights)
        notice(f"{path} is a CLIP-MoE checkpoint: this is its base, into which load_adapter puts its experts")
    if STRETCHED not in weights or "visual.conv1.weight" not in weights:
        raise XgapError(f"{path} is no Long-CLIP checkpoint: it holds no {STRETCHED} beside a ViT")
    width, _, patch, _ = weights["visual.conv1.weight"].shape
    if (width, patch) != ARCHITECTURES[architecture]:
        raise XgapError(f"{path} holds a ViT of width {width} and patches of {patch} pixels, not {architecture}")
    model = assemble(weights)
    preprocess = image_transform(model.visual.image_size, is_train=False)
    return model, preprocess, SimpleTokenizer(context_length=model.context_length)


def expert_of(name: str) -> tuple[int, str] | None:
    """The number of an expert and the name in its MLP that a weight of CLIP-MoE has; None of other weights."""
    found = EXPERT.search(name)
    return None if found is None else (int(found[1]), name[found.end() :])


def _of_first_experts(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights with the first expert of each block as its MLP, as before the others were made."""
    own = {}
    for name, tensor in weights.items():
        expert = expert_of(name)
        if not (expert and expert[0]) and not re.search(rf"resblocks\.{GATE}$", name):
            own[name.replace(".experts.0.", ".mlp.") if expert else name] = tensor
    return own


def assemble(weights: Mapping[str, Tensor]) -> Any:
    """open_clip's `CLIP` of weights under the published names; sizes are read off their shapes."""
    from open_clip.model import CLIP

    own = {name: tensor for name, tensor in weights.items() if name != STRETCHED}
    own["positional_embedding"] = torch.cat([weights["positional_embedding"][:KEPT], weights[STRETCHED][KEPT:]])
    vision_width, _, patch, _ = own["visual.conv1.weight"].shape
    grid = round((len(own["visual.positional_embedding"]) - 1) ** 0.5)
    width, dim = own["text_projection"].shape
    model = CLIP(
        dim,
        {
            "image_size": grid * patch,
            "patch_size": patch,
            "width": vision_width,
            "layers": depth(own, "visual.transformer.resblocks."),
        },
        {
            "context_length": len(own["positional_embedding"]),
            "vocab_size": len(own["token_embedding.weight"]),
            "width": width,
            "heads": width // HEAD_WIDTH,
            "layers": depth(own, "transformer.resblocks."),
        },
        quick_gelu=True,
    )
    model.load_state_dict(own)
    return model


__all__ = ["ARCHITECTURES", "STRETCHED", "assemble", "load"]
