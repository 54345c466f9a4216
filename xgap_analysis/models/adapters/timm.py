"""Image models without a text tower (DINOv2, DINOv3, any other of timm's), as controls."""

import json
import tempfile
from pathlib import Path
from typing import Any

from xgap_analysis.core.errors import unknown_name
from xgap_analysis.models.backbones import TIMM
from xgap_analysis.models.checkpoint import read_checkpoint, state_dict
from xgap_analysis.models.configuration import checked_timm
from xgap_analysis.models.hub import fetched

Loaded = tuple[Any, Any, Any]  # model, preprocess, tokenize
HUB_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def load(
    name: str, *, file: Path | None = None, random: bool = False, cache_dir: str | None = None, online: bool = False
) -> Loaded:
    """A timm model with its own pooling and its own transform for evaluation.

    Args:
        name: timm's, with the tag of its weights (`"vit_base_patch14_dinov2.lvd142m"`).
        file: weights to take instead of the hub's; the names that the original authors gave are understood too,
            where timm understands them.
        random: seeded random weights.
        cache_dir: where downloads are kept.
        online: whether the hub may be used.
    """
    import timm

    published = timm.models.get_pretrained_cfg(name)
    if file is None and not random and published is not None and published.hf_hub_id and not published.custom_load:
        named = published.hf_hub_filename
        safe = (str(Path(named).with_suffix(".safetensors")), named) if named else HUB_WEIGHTS
        file = fetched(published.hf_hub_id, safe, cache_dir, online)
    return _built(name, None if random else file, pretrained=not random, cache_dir=cache_dir)


def load_directory(path: Path, weights: Path) -> Loaded:
    """A timm model from its directory.

    Args:
        path: it holds `config.json`.
        weights: its checkpoint.
    """
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    name, arguments, data = checked_timm(config, str(path / "config.json"))
    own: dict[str, Any] = {"architecture": name, "pretrained_cfg": data, "model_args": arguments}
    with tempfile.TemporaryDirectory() as folder:  # timm reconciles the two parts when it reads them from a file
        (Path(folder) / "config.json").write_text(json.dumps(own), encoding="utf-8")
        return _built(f"local-dir:{folder}", weights)


def _built(name: str, file: Path | None, *, pretrained: bool = True, cache_dir: str | None = None) -> Loaded:
    import timm

    from xgap_analysis.models.adapters.assembled import Assembled, TimmVisual, seeded

    # Weights are read here, so that nothing else in a configuration says what is read, and how.
    read = None if file is None else {"state_dict": state_dict(read_checkpoint(file), file), "source": "", "file": ""}
    with seeded():
        trunk: Any = timm.create_model(
            name, pretrained=pretrained, num_classes=0, pretrained_cfg_overlay=read, cache_dir=cache_dir
        )
    if file is not None:
        trunk.pretrained_cfg.pop("state_dict", None)  # or the weights would stay in memory twice
    data = timm.data.resolve_model_data_config(trunk)
    height, width = data["input_size"][1:]
    preprocess = timm.data.create_transform(**data, is_training=False)
    return Assembled(TimmVisual(trunk, (height, width)), None), preprocess, None


def check_name(name: str) -> None:
    """Whether timm has a model of this name.

    Raises:
        XgapError: it has not; the message has the nearest names.
    """
    import timm

    architecture, _, tag = name.partition(".")
    tagged = timm.list_pretrained()
    if not timm.is_model(architecture) or (tag and name not in tagged):
        known = timm.list_pretrained(f"{architecture}.*") if timm.is_model(architecture) else []
        raise unknown_name("model", f"{TIMM}{name}", [f"{TIMM}{one}" for one in known or tagged])


__all__ = ["check_name", "load", "load_directory"]
