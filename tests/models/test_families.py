"""The real architectures of open_clip, randomly initialised: what the library itself gives, and the laws of a tower."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from xgap_analysis.models import from_open_clip

WHOLE, SHORT = None, 2  # layers; where more of them add nothing, two do
BOTH = ("image", "text")
FAMILIES = {  # architecture: layers, the spaces without a linear projection, whether the text tower has a shortcut
    "ViT-B-32": (WHOLE, (), True),
    "ViT-B-16-SigLIP": (SHORT, BOTH, False),
    "ViT-B-16-SigLIP2": (SHORT, BOTH, False),
    "PE-Core-B-16": (SHORT, (), True),
    "coca_ViT-B-32": (SHORT, (), False),
    "EVA02-B-16": (SHORT, ("image",), True),
}
VOCABULARY = 1000  # ids of these tests; the real tables would only fill memory


def build(architecture: str, layers: int | None) -> Any:
    """open_clip's own model, with biases and norms away from their neutral start."""
    import open_clip
    from open_clip.coca_model import CoCa
    from open_clip.model import CLIP, CustomTextCLIP

    config = open_clip.get_model_config(architecture)
    config["text_cfg"]["vocab_size"] = VOCABULARY
    if layers is not None:
        config["text_cfg"]["layers"] = layers
        if "layers" in config["vision_cfg"]:
            config["vision_cfg"]["layers"] = layers
        if "multimodal_cfg" in config:
            config["multimodal_cfg"]["layers"] = layers
    kind = CustomTextCLIP if config.pop("custom_text", False) else CLIP
    torch.manual_seed(0)
    model = (CoCa if "multimodal_cfg" in config else kind)(**config)
    if layers is not None and hasattr(model.visual, "trunk"):
        model.visual.trunk.blocks = model.visual.trunk.blocks[:layers]
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 and (name != "visual.trunk.head.bias" or "PE" not in architecture):  # PE's is zero
            parameter.data += 0.02 * torch.randn_like(parameter)
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize("architecture", FAMILIES)
def test_real_architectures(architecture: str, laws: Callable[..., None], own_model: Any) -> None:
    layers, headless, causal = FAMILIES[architecture]
    bare = build(architecture, layers)
    text, visual = getattr(bare, "text", bare), bare.visual
    ids = torch.zeros(2, text.context_length, dtype=torch.long)
    ids[:, :5] = torch.tensor([[998, 7, 8, 9, 999], [998, 9, 7, 11, 999]])
    model = from_open_clip(bare, lambda captions: ids[:1].expand(len(captions), -1), torch.ones, name=architecture)
    patching = visual.trunk.patch_embed.proj if hasattr(visual, "trunk") else visual.conv1
    own = own_model(
        lambda pixels: bare.encode_image(pixels, normalize=False),
        lambda ids: bare.encode_text(ids, normalize=False),
        patching,
        text.token_embedding.weight,
    )
    laws(model, own, (224, 224), ids, headless)
    assert model.image.length == (49 if architecture.endswith("B-32") else 196)
    assert (model.text.shortcut(ids[0], 1, 2) is not None) == causal
