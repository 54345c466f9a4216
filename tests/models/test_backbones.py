"""The table of published backbones against the libraries that it speaks of."""

from collections.abc import Mapping

import pytest
import torch

from xgap_analysis.models.backbones import BACKBONES, TIMM, Backbone, published

OPEN_CLIP = [b for b in BACKBONES if not b.file and not b.name.startswith(TIMM)]
IMAGES = [b for b in BACKBONES if b.name.startswith(TIMM)]


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("backbone", OPEN_CLIP, ids=lambda b: b.name)
def test_open_clip_builds_what_the_table_says(backbone: Backbone) -> None:
    import open_clip
    from open_clip.model import CLIP, CustomTextCLIP

    config = open_clip.get_model_config(backbone.architecture)
    kind = CustomTextCLIP if config.pop("custom_text", False) else CLIP
    with torch.device("meta"):
        model = kind(**config)
    image, scales = count(model.visual), 1 + (model.logit_bias is not None)
    assert (backbone.image_parameters, backbone.text_parameters) == (image, count(model) - image - scales)
    trained = open_clip.get_pretrained_cfg(backbone.architecture, backbone.name.rpartition("/")[2])
    assert trained["hf_hub"].strip("/") == backbone.repository


@pytest.mark.parametrize("backbone", IMAGES, ids=lambda b: b.name)
def test_timm_builds_what_the_table_says(backbone: Backbone) -> None:
    import timm

    with torch.device("meta"):
        model = timm.create_model(backbone.name.removeprefix(TIMM), num_classes=0)
    assert (backbone.image_parameters, backbone.text_parameters) == (count(model), None)
    assert model.pretrained_cfg["hf_hub_id"] == backbone.repository


def test_files_hold_what_the_table_says() -> None:
    text = {512: 63_428_096, 768: 123_650_304}  # of the CLIP with 77 positions, by width
    added = {512: (248 - 77) * 512, 768: (248 - 77) * 768}
    trunks = {"B": 85_798_656 + 768 * 512, "L": 303_301_632 + 1024 * 512}  # timm's ViTs, and a projection
    for backbone in (b for b in BACKBONES if b.file):
        if "LongCLIP" in backbone.name:
            width = 512 if "B-16" in backbone.name else 768
            assert backbone.text_parameters == text[width] + added[width]
            plain = published("ViT-B-16/openai" if width == 512 else "ViT-L-14/openai")
            assert plain is not None
            assert backbone.image_parameters == plain.image_parameters
        else:
            assert backbone.text_parameters == text[512]
            assert backbone.image_parameters == trunks[backbone.name.split("-")[2]]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ViT-B-32/openai", {"ovi_tokens": 1, "isoclip": {"image": (150, 50), "text": (20, 100)}}),
        ("ViT-B/32/openai", {"ovi_tokens": 1, "isoclip": {"image": (150, 50), "text": (20, 100)}}),
        ("ViT-B-32-quickgelu/openai", {"ovi_tokens": 1, "isoclip": {"image": (150, 50), "text": (20, 100)}}),
        ("hf-hub:timm/vit_base_patch16_clip_224.openai", {"isoclip": {"image": (200, 50), "text": (10, 50)}}),
        ("ViT-L-14/openai", {"ovi_tokens": 4, "isoclip": {"image": (250, 200), "text": (10, 300)}}),
        ("ViT-B-32/datacomp_xl_s13b_b90k", {"ovi_tokens": 1, "isoclip": {"image": (50, 50)}}),
        ("ViT-B-16/datacomp_xl_s13b_b90k", {"isoclip": {"image": (100, 100), "text": (2, 150)}}),
        ("ViT-L-14/datacomp_xl_s13b_b90k", {"ovi_tokens": 2}),
        ("hf-hub:timm/ViT-B-16-SigLIP", {"ovi_tokens": 4}),
        ("ViT-B-16-SigLIP2/webli", {"isoclip": {"image": (350, 50)}}),
        ("PE-Core-B-16/meta", {"isoclip": {"image": (300, 50)}}),
        ("SLIP-ViT-B-16/yfcc15m", {"ovi_tokens": 1}),
        ("SLIP-ViT-L-16//data/slip_large_100ep.pt", {"ovi_tokens": 2}),
    ],
)
def test_the_papers_settings(name: str, settings: Mapping[str, object]) -> None:
    backbone = published(name)
    assert backbone is not None
    assert backbone.settings == {"oti_tokens": 1, **settings}


@pytest.mark.parametrize(
    "name",
    [
        "ViT-B-32/laion2b_s34b_b79k",
        "ViT-B-32/random",
        "ViT-B-32//my/tuned.pt",
        "SLIP-ViT-B-16//data/slip_base_25ep.pt",
        "CLIP-ViT-B-16//data/slip_base_100ep.pt",
        "hf-hub:timm/vit_base_patch14_dinov2.lvd142m",
        "hf-hub:facebookresearch/SLIP",
        "tiny",
        "",
    ],
)
def test_other_weights_have_no_published_settings(name: str) -> None:
    assert published(name) is None


def test_image_models_have_no_settings_of_texts() -> None:
    for backbone in IMAGES:
        assert backbone.settings == {}
        assert published(backbone.name) is backbone


def test_a_loaded_model_brings_its_settings() -> None:
    from xgap_analysis.models.catalog import _find

    for backbone in OPEN_CLIP:
        assert _find(backbone.name, None).settings == backbone.settings
        assert _find(f"hf-hub:{backbone.repository}", None).settings == backbone.settings
    for backbone in IMAGES:
        assert _find(backbone.name, None).settings == {"image_only": True}
    assert _find("ViT-B/32/openai", None).settings["ovi_tokens"] == 1


def test_isoclip_takes_the_published_ranks(make_model: object) -> None:
    from xgap_analysis.corrections.projector import _ranks

    model = make_model("native", settings={"isoclip": {"image": (5, 3)}})  # type: ignore[operator]
    assert _ranks(model, "image", 24) == (5, 3)
    assert _ranks(model, "text", 24) == (round(24 * 20 / 512), round(24 * 100 / 512))  # nothing published
