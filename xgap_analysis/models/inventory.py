"""Which models are available: the embedded ones and the published backbones."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xgap_analysis.core.paths import data_root

WEIGHTS = "open_clip_model.safetensors"
OPEN_CLIP_FILES = (WEIGHTS, "open_clip_pytorch_model.bin")
TIMM_FILES = ("model.safetensors", "pytorch_model.bin")
DEFAULT_MODELS = ("tiny", "tiny-intra", "tiny-nogap", "tiny-image", "tiny-seed1", "tiny-seed2", "tiny-untrained")
AUDIO_CONFIG, AUDIO_WEIGHTS = "audio_config.json", "audio_model.safetensors"  # of `adapters.audio`, which needs torch


def models() -> list[dict[str, Any]]:
    """The embedded models: name, whether available, parameters (in all and by tower), where the weights come from, the
    papers' settings, input size, feature dimensions, description.

    One that is drawn from a seed has the parameters of another of its shape. The description is what the model's
    configuration (`xgap_analysis.description`) or the first paragraph of its README says.
    """
    rows = []
    root = data_root() / "models"
    configs = {path.parent.name: json.loads(path.read_text("utf-8")) for path in root.glob("*/open_clip_config.json")}
    sizes = {name: _parameters(root / name / WEIGHTS) for name in configs if (root / name / WEIGHTS).is_file()}
    for name in sorted(configs.keys() | set(DEFAULT_MODELS)):
        folder, config = root / name, configs.get(name, {})
        shape, own = config.get("model_cfg", {}), config.get("xgap_analysis", {})
        drawn = "seed" in own
        alike = (
            n
            for n in sizes
            if configs[n]["model_cfg"] == shape and "image_only" not in configs[n].get("xgap_analysis", {})
        )
        counts = sizes.get(next(alike, "") if drawn else name, {})
        rows.append(
            _model_row(
                name,
                available=drawn or name in sizes,
                image=counts.get("image"),
                text=None if own.get("image_only") else counts.get("text"),
                parameters=counts.get("all"),
                weights="embedded",
                settings=own,
                image_size=shape.get("vision_cfg", {}).get("image_size"),
                dimensions=shape.get("embed_dim"),
                description=own.get("description") or _first_paragraph(folder),
            )
        )
    return sorted(rows + _beside_an_audio_tower(rows), key=lambda row: str(row["model"]))


def _beside_an_audio_tower(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The embedded models with an audio tower: the rows of those that they add it to, with its parameters."""
    base = {row["model"]: row for row in rows}
    found = []
    for file in (data_root() / "models").glob(f"*/{AUDIO_CONFIG}"):
        said, weights = json.loads(file.read_text("utf-8")), file.parent / AUDIO_WEIGHTS
        own = base.get(said["base"]["name"], {"available": False, "parameters": None})
        there = bool(own["available"]) and weights.is_file()
        total = own["parameters"] + _parameters(weights)["all"] if there else None
        about = {"available": there, "parameters": total, "description": said.get("description", "")}
        found.append({**own, "model": file.parent.name, **about})
    return found


def registered() -> list[dict[str, Any]]:
    """The models that `register_model` has made known, in the rows of `models`; nothing is loaded."""
    from xgap_analysis.models.registered import MODELS

    return [
        _model_row(
            name,
            available=True,
            image=None,
            text=None,
            parameters=None,
            weights="registered",
            settings={},
            description=entry.about,
        )
        for name, entry in sorted(MODELS.items())
    ]


def backbones() -> list[dict[str, Any]]:
    """The published backbones, in the rows of `models`; whether the hub's cache or the folder of weights has them.

    No network is used, and no model library.
    """
    from xgap_analysis.models.backbones import BACKBONES, TIMM

    rows = []
    for backbone in BACKBONES:
        if backbone.file:
            found = backbone.local_file() is not None
        else:
            found = _in_cache(backbone.repository, TIMM_FILES if backbone.name.startswith(TIMM) else OPEN_CLIP_FILES)
        rows.append(
            _model_row(
                backbone.name,
                available=found,
                image=backbone.image_parameters,
                text=backbone.text_parameters,
                parameters=backbone.image_parameters + (backbone.text_parameters or 0),
                weights=f"{backbone.file} of {backbone.repository}" if backbone.file else f"hub: {backbone.repository}",
                settings=backbone.settings,
            )
        )
    return rows


def pretrained() -> list[dict[str, Any]]:
    """open_clip's pretrained models, by the name that loads them, and whether the hub's cache here has their weights.

    No network is used.
    """
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    rows = []
    for architecture, tag in open_clip.list_pretrained():
        repository, _, file = get_pretrained_cfg(architecture, tag).get("hf_hub", "").rpartition("/")
        found = bool(repository) and _in_cache(repository, (file,) if file else OPEN_CLIP_FILES)
        rows.append({"model": f"{architecture}/{tag}", "available": found})
    return rows


def _model_row(
    name: str,
    *,
    available: bool,
    image: int | None,
    text: int | None,
    parameters: int | None,
    weights: str,
    settings: Mapping[str, Any],
    image_size: int | None = None,
    dimensions: int | None = None,
    description: str = "",
) -> dict[str, Any]:
    isoclip = settings.get("isoclip", {})
    return {
        "model": name,
        "available": available,
        "parameters": parameters,
        "image_parameters": image,
        "text_parameters": text,
        "weights": weights,
        "ovi_tokens": settings.get("ovi_tokens"),
        "isoclip_image": isoclip.get("image"),
        "isoclip_text": isoclip.get("text"),
        "image_size": image_size,
        "dimensions": dimensions,
        "description": description,
    }


def _in_cache(repository: str, files: Sequence[str]) -> bool:
    """Whether the hub's cache on this machine has one of these files."""
    from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(repository, file), str) for file in files)


def _parameters(weights: Path) -> dict[str, int]:
    """Numbers in an open_clip safetensors file, from its header alone: in all, and of each tower."""
    from safetensors import safe_open

    with safe_open(weights, framework="np") as file:
        sizes = {name: math.prod(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  no mapping
    image = sum(size for name, size in sizes.items() if name.startswith("visual."))
    scales = sum(size for name, size in sizes.items() if name.startswith("logit_"))
    return {"all": sum(sizes.values()), "image": image, "text": sum(sizes.values()) - image - scales}


def _first_paragraph(folder: Path) -> str:
    card = folder / "README.md"
    if not card.is_file():
        return ""
    paragraphs = [p for p in card.read_text("utf-8").split("\n\n") if p.strip() and not p.startswith(("#", "---"))]
    return " ".join(paragraphs[0].split()) if paragraphs else ""
