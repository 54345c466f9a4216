"""Image models without a text side: timm's own features and pictures, and a clear answer to every question of text."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models import load_model

SHORT = {"depth": 2}
KINDS = {  # timm's name, its arguments in the configuration, size of its pixels, patches
    "DINOv2": ("vit_small_patch14_dinov2", {**SHORT, "img_size": 70}, 70, 25),
    "DINOv2 with registers": ("vit_small_patch14_reg4_dinov2", {**SHORT, "img_size": 56}, 56, 16),
    "DINOv3": ("vit_small_patch16_dinov3", {**SHORT, "img_size": 64}, 64, 16),
    "a plain ViT": ("vit_tiny_patch16_224", SHORT, 224, 196),
}


def timm_directory(path: Path, name: str, arguments: dict[str, Any], size: int) -> Any:
    """A timm model in the files of the published repositories."""
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0, **arguments)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path / "model.safetensors")
    pretrained = {"input_size": [3, size, size], "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}
    pretrained |= {"interpolation": "bicubic", "crop_pct": 0.9, "num_classes": 0, "fixed_input_size": True}
    config = {"architecture": name, "num_classes": 0, "model_args": arguments, "pretrained_cfg": pretrained}
    (path / "config.json").write_text(json.dumps(config))
    return model.eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefix", ["", "local-dir:"])
def test_a_directory_gives_timms_own_features(
    kind: str, prefix: str, tmp_path: Path, laws: Callable[..., None], own_model: Any
) -> None:
    name, arguments, size, patches = KINDS[kind]
    bare = timm_directory(tmp_path, name, arguments, size)
    model = load_model(f"{prefix}{tmp_path}", device="cpu")
    laws(model, own_model(bare, patching=bare.patch_embed.proj), (size, size), None, headless=("image",))
    assert model.image.length == patches


def test_questions_of_text_are_answered_in_one_sentence(tmp_path: Path) -> None:
    timm_directory(tmp_path, *KINDS["DINOv2"][:3])
    model = load_model(tmp_path, device="cpu")
    questions: list[Callable[[], Any]] = [
        lambda: model.tokenize(["a photo"]),
        lambda: model.text.encode(torch.zeros(1, 4)),
        lambda: model.tower("text").projection,
        lambda: model.text.length,
    ]
    for ask in questions:
        with pytest.raises(XgapError, match=f"{tmp_path}' has no text tower"):
            ask()
    with pytest.raises(XgapError, match="ends without a linear projection"):
        _ = model.image.projection


def test_images_are_prepared_as_timm_does(tmp_path: Path) -> None:
    import timm

    bare = timm_directory(tmp_path, *KINDS["DINOv2"][:3])
    model = load_model(tmp_path, device="cpu")
    drawing = Image.effect_noise((90, 60), 80).convert("RGB")
    bare = timm.create_model(f"local-dir:{tmp_path}", num_classes=0)  # for its settings
    own = timm.data.create_transform(**timm.data.resolve_model_data_config(bare), is_training=False)
    assert torch.equal(model.preprocess(drawing), own(drawing))
    white = model.preprocess(Image.new("RGB", (90, 60), "white"))
    torch.testing.assert_close(white[:, 0, 0], (1 - torch.tensor([0.4, 0.5, 0.6])) / torch.tensor([0.2, 0.3, 0.4]))


def test_random_weights_are_seeded_and_a_file_gives_its_own(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    random = load_model("timm:vit_tiny_patch16_224/random", device="cpu")
    assert torch.equal(torch.rand(1), expected)
    assert random.weights_digest == load_model("timm:vit_tiny_patch16_224/random", device="cpu").weights_digest
    bare = timm.create_model("vit_tiny_patch16_224")  # with the classifier that published files have
    torch.save({"model": bare.state_dict()}, tmp_path / "weights.pth")
    model = load_model(f"timm:vit_tiny_patch16_224/{tmp_path}/weights.pth", device="cpu")
    pixels = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        pooled = bare.eval().forward_head(bare.forward_features(pixels), pre_logits=True)
        torch.testing.assert_close(model.image.encode(pixels), pooled, atol=1e-5, rtol=1e-5)
    assert model.weights_digest != random.weights_digest


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:vit_base_patch14_dinov3.lvd142m", "unknown model.*timm:vit_base_patch14_dinov2.lvd142m"),
        ("timm:vit_base_patch14_dinov2.lvd14m", "nearest names: timm:vit_base_patch14_dinov2.lvd142m"),
        ("timm:", "unknown model"),
        ("timm:vit_tiny_patch16_224//nowhere/w.pth", "no checkpoint /nowhere/w.pth"),
    ],
)
def test_names_that_lead_nowhere(name: str, message: str) -> None:
    with pytest.raises(XgapError, match=message):
        load_model(name)


def test_broken_directories_are_reported_in_one_sentence(tmp_path: Path) -> None:
    timm_directory(tmp_path, *KINDS["DINOv3"][:3])
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    damage = ((whole[:1000], "cannot be loaded"), (b"", "cannot be loaded"), (None, "holds no weights"))
    for content, message in damage:
        weights.unlink(missing_ok=True) if content is None else weights.write_bytes(content)
        with pytest.raises(XgapError, match=message) as told:
            load_model(tmp_path)
        assert "\n" not in str(told.value)
    weights.write_bytes(whole)
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "no_such_vit"}))
    with pytest.raises(XgapError, match="Unknown model"):
        load_model(tmp_path)
