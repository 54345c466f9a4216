"""The published backbones as one table: the name that loads each, its size, its weights, and the papers' settings."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HUB, TIMM = "hf-hub:", "timm:"
WEIGHTS_VARIABLE = "XGAP_WEIGHTS"  # the folder of checkpoint files that come from no hub


@dataclass(frozen=True)
class Backbone:
    """A published model. Settings that were not published are left out.

    Args:
        name: what `load_model` takes: `"ARCHITECTURE/TAG"`, or `"timm:NAME"`.
        image_parameters, text_parameters: of each tower, its projection included; no text parameters where there is
            no text tower.
        repository: of the weights: on the Hugging Face hub, or on GitHub where `file` is said.
        file: the checkpoint's own name, where it comes as a file and from no hub.
        ovi_tokens: pseudo-patches P of OVI.
        isoclip: `(k_top, k_bottom)` of IsoCLIP for each tower.
        oti_tokens: pseudo-tokens R of OTI.
    """

    name: str
    image_parameters: int
    text_parameters: int | None
    repository: str
    file: str = ""
    ovi_tokens: int | None = None
    isoclip: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    oti_tokens: int = 1

    @property
    def architecture(self) -> str:
        """The part of the name before the tag."""
        return self.name.rpartition("/")[0]

    @property
    def settings(self) -> dict[str, Any]:
        """What goes into `Model.settings`."""
        found: dict[str, Any] = {}
        if self.text_parameters is not None:
            found["oti_tokens"] = self.oti_tokens
        if self.ovi_tokens is not None:
            found["ovi_tokens"] = self.ovi_tokens
        if self.isoclip:
            found["isoclip"] = dict(self.isoclip)
        return found

    def local_file(self) -> Path | None:
        """The checkpoint in the folder that the environment names, or None where it is not there."""
        folder = os.environ.get(WEIGHTS_VARIABLE)
        path = Path(folder).expanduser() / self.file if folder and self.file else None
        return path if path is not None and path.is_file() else None


# Sources of the settings. P and R: Mistretta et al. (ICLR 2025), its public configurations, which take the 100-epoch
# SLIP checkpoints. k_top and k_bottom: Magistri et al. (CVPR 2026), its public run scripts.
BACKBONES = (
    Backbone(
        "ViT-B-32/openai",
        *(87_849_216, 63_428_096, "timm/vit_base_patch32_clip_224.openai"),
        ovi_tokens=1,
        isoclip={"image": (150, 50), "text": (20, 100)},
    ),
    Backbone(
        "ViT-B-16/openai",
        *(86_192_640, 63_428_096, "timm/vit_base_patch16_clip_224.openai"),
        isoclip={"image": (200, 50), "text": (10, 50)},
    ),
    Backbone(
        "ViT-L-14/openai",
        *(303_966_208, 123_650_304, "timm/vit_large_patch14_clip_224.openai"),
        ovi_tokens=4,
        isoclip={"image": (250, 200), "text": (10, 300)},
    ),
    Backbone(
        "ViT-B-32/datacomp_xl_s13b_b90k",
        *(87_849_216, 63_428_096, "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K"),
        ovi_tokens=1,
        isoclip={"image": (50, 50)},
    ),
    Backbone(
        "ViT-B-16/datacomp_xl_s13b_b90k",
        *(86_192_640, 63_428_096, "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K"),
        isoclip={"image": (100, 100), "text": (2, 150)},
    ),
    Backbone(
        "ViT-L-14/datacomp_xl_s13b_b90k",
        *(303_966_208, 123_650_304, "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K"),
        ovi_tokens=2,
    ),
    Backbone("ViT-B-16-SigLIP/webli", 92_884_224, 110_271_744, "timm/ViT-B-16-SigLIP", ovi_tokens=4),
    Backbone(
        "ViT-B-16-SigLIP2/webli",
        *(92_884_224, 282_303_744, "timm/ViT-B-16-SigLIP2"),
        isoclip={"image": (350, 50)},
    ),
    Backbone("PE-Core-B-16/meta", 93_673_984, 353_986_560, "timm/PE-Core-B-16", isoclip={"image": (300, 50)}),
    Backbone(
        "SLIP-ViT-B-16/yfcc15m",
        *(86_191_872, 63_428_096, "facebookresearch/SLIP", "slip_base_100ep.pt"),
        ovi_tokens=1,
    ),
    Backbone(
        "SLIP-ViT-L-16/yfcc15m",
        *(303_825_920, 63_428_096, "facebookresearch/SLIP", "slip_large_100ep.pt"),
        ovi_tokens=2,
    ),
    Backbone("CLIP-ViT-B-16/yfcc15m", 86_191_872, 63_428_096, "facebookresearch/SLIP", "clip_base_25ep.pt"),
    Backbone("CLIP-ViT-L-16/yfcc15m", 303_825_920, 63_428_096, "facebookresearch/SLIP", "clip_large_25ep.pt"),
    Backbone("LongCLIP-ViT-B-16/sharegpt4v", 86_192_640, 63_515_648, "beichenzbc/Long-CLIP", "longclip-B.pt"),
    Backbone("LongCLIP-ViT-L-14/sharegpt4v", 303_966_208, 123_781_632, "beichenzbc/Long-CLIP", "longclip-L.pt"),
    Backbone(f"{TIMM}vit_base_patch14_dinov2.lvd142m", 86_579_712, None, "timm/vit_base_patch14_dinov2.lvd142m"),
    Backbone(f"{TIMM}vit_large_patch14_dinov2.lvd142m", 304_367_616, None, "timm/vit_large_patch14_dinov2.lvd142m"),
    Backbone(f"{TIMM}vit_base_patch16_dinov3.lvd1689m", 85_641_216, None, "timm/vit_base_patch16_dinov3.lvd1689m"),
    Backbone(f"{TIMM}vit_large_patch16_dinov3.lvd1689m", 303_079_424, None, "timm/vit_large_patch16_dinov3.lvd1689m"),
)


def published(name: str) -> Backbone | None:
    """The entry of a model, also under other spellings of the same weights, or None.

    Args:
        name: `"ViT-B/32/openai"`, `"ViT-B-32-quickgelu/openai"`, `"hf-hub:timm/ViT-B-16-SigLIP"`, or an architecture
            and a file of the published name (`"SLIP-ViT-B-16//path/slip_base_100ep.pt"`).

    Example:
        >>> from xgap_analysis.models import published
        >>> published("ViT-B-32/openai").isoclip
        {'image': (150, 50), 'text': (20, 100)}
    """
    if name.startswith(HUB):
        repository = name.removeprefix(HUB)  # open_clip's, as the prefix says, so neither timm's nor a file's
        theirs = (b for b in BACKBONES if not b.file and not b.name.startswith(TIMM))
        return next((b for b in theirs if b.repository == repository), None)
    before, _, file = name.partition("//")
    if file:
        return next((b for b in BACKBONES if b.file == Path(file).name and b.architecture == before), None)
    architecture, _, tag = name.rpartition("/")
    plain = architecture.replace("/", "-").removesuffix("-quickgelu")
    own = f"{plain}/{tag}" if plain else tag
    return next((b for b in BACKBONES if b.name == own), None)


__all__ = ["BACKBONES", "HUB", "TIMM", "WEIGHTS_VARIABLE", "Backbone", "published"]
