"""SLIP, and the CLIP baselines trained beside it, from the checkpoints of facebookresearch/SLIP.

Such a file is a training state: `state_dict` with the names of data-parallel training, an optimiser, `args`. Its model
is a plain timm ViT: class token, exact GELU, a projection without bias; and OpenAI's causal text
tower with QuickGELU. SLIP's head for the image-image loss (`image_mlp`) takes no part in features.

One difference from the original stays: captions longer than the context keep their end token here, by which features
are pooled; the original cuts it off, and then pools at whichever word has the highest id.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.checkpoint import depth, read_checkpoint, state_dict, under

Loaded = tuple[Any, Any, Any]  # model, preprocess, tokenize
IMAGE_SIZE, HEAD_WIDTH = 224, 64
TRUNKS = {  # by width: the letter of the size, timm's name, attention heads (the small one follows MoCo v3)
    384: ("S", "vit_small_patch16_224", 12),
    768: ("B", "vit_base_patch16_224", 12),
    1024: ("L", "vit_large_patch16_224", 16),
}
ARCHITECTURES = tuple(f"{loss}-ViT-{size}-16" for loss in ("SLIP", "CLIP") for size, _, _ in TRUNKS.values())


def load(architecture: str, path: Path) -> Loaded:
    """A model of the named kind from its file.

    Raises:
        XgapError: the file is no such checkpoint, or one of another kind.
    """
    from open_clip import SimpleTokenizer, image_transform
    from open_clip.constants import IMAGENET_MEAN, IMAGENET_STD

    weights = state_dict(read_checkpoint(path), path)
    found = _architecture(weights, path)
    if found != architecture:
        raise XgapError(f"{path} holds a {found}, not a {architecture}; name it {found}/{path.absolute()}")
    model = assemble(weights)
    preprocess = image_transform(
        IMAGE_SIZE,
        is_train=False,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        resize_mode="shortest",
        interpolation="bilinear",
    )
    return model, preprocess, SimpleTokenizer(context_length=model.text.context_length)


def assemble(weights: Mapping[str, Tensor]) -> Any:
    """The model `Assembled` of weights under the published names; sizes are read off their shapes."""
    import timm
    from open_clip.transformer import QuickGELU, TextTransformer

    from xgap_analysis.models.adapters.assembled import Assembled, TimmVisual

    visual_weights, projection = under("visual.", weights), weights["image_projection"]
    _, name, heads = TRUNKS[len(projection)]
    trunk = timm.create_model(name, num_classes=0, num_heads=heads, depth=depth(visual_weights, "blocks."))
    trunk.load_state_dict(visual_weights)
    width, dim = weights["text_projection"].shape
    text = TextTransformer(
        context_length=len(weights["positional_embedding"]),
        vocab_size=len(weights["token_embedding.weight"]),
        width=width,
        heads=width // HEAD_WIDTH,
        layers=depth(weights, "transformer.resblocks."),
        output_dim=dim,
        act_layer=QuickGELU,
    )
    apart = ("visual.", "image_mlp.", "image_projection", "logit_scale")
    text.load_state_dict({name: tensor for name, tensor in weights.items() if not name.startswith(apart)})
    visual = TimmVisual(trunk, (IMAGE_SIZE, IMAGE_SIZE), projection)
    return Assembled(visual, text, logit_scale=float(weights["logit_scale"]))


def _architecture(weights: Mapping[str, Tensor], path: Path) -> str:
    """The name of what the weights are."""
    if "visual.cls_token" in weights and "image_mlp.layer1.weight" in weights and "text_projection" not in weights:
        raise XgapError(f"{path} holds a SimCLR model, which has no text tower and no projection of its images")
    width = len(weights.get("image_projection", ()))
    if width not in TRUNKS or "visual.cls_token" not in weights or "text_projection" not in weights:
        raise XgapError(f"{path} is no SLIP checkpoint: no timm ViT with an image_projection and a text tower is in it")
    loss = "SLIP" if any(name.startswith("image_mlp.") for name in weights) else "CLIP"
    return f"{loss}-ViT-{TRUNKS[width][0]}-16"


__all__ = ["ARCHITECTURES", "assemble", "load"]
