"""Image models without a text side (DINOv2, DINOv3, any other of timm's), as controls."""

from pathlib import Path
from typing import Any

from xgap_analysis.errors import unknown_name
from xgap_analysis.models.backbones import TIMM

Loaded = tuple[Any, Any, Any]  # model, preprocess, tokenize


def load(name: str, *, file: Path | None = None, random: bool = False, cache_dir: str | None = None) -> Loaded:
    """A timm model with its own pooling and its own transform for evaluation.

    Args:
        name: timm's, with the tag of its weights (`"vit_base_patch14_dinov2.lvd142m"`), or `"local-dir:/path"`.
        file: weights to take instead of the hub's; the names that the original authors gave are understood too,
            where timm understands them.
        random: seeded random weights.
        cache_dir: where downloads are kept.
    """
    import timm

    from xgap_analysis.models.assembled import Assembled, TimmVisual, seeded

    overlay = None if file is None else {"file": str(file)}
    with seeded():
        trunk = timm.create_model(
            name, pretrained=not random, num_classes=0, pretrained_cfg_overlay=overlay, cache_dir=cache_dir
        )
    data = timm.data.resolve_model_data_config(trunk)
    height, width = data["input_size"][1:]
    preprocess = timm.data.create_transform(**data, is_training=False)
    return Assembled(TimmVisual(trunk, (height, width)), None), preprocess, None


def check_name(name: str) -> None:
    """Whether timm has a model of this name.

    Raises:
        XgapError: it has not; the nearest names are told.
    """
    import timm

    architecture, _, tag = name.partition(".")
    tagged = timm.list_pretrained()
    if not timm.is_model(architecture) or (tag and name not in tagged):
        known = timm.list_pretrained(f"{architecture}.*") if timm.is_model(architecture) else []
        raise unknown_name("model", f"{TIMM}{name}", [f"{TIMM}{one}" for one in known or tagged])


__all__ = ["check_name", "load"]
