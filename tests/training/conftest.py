"""A small model as an open_clip directory, and a small dataset with two captions a label."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

SHAPE = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An open_clip directory with fresh weights; its tokenizer is open_clip's own."""
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("start")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = CLIP(**SHAPE)
    config = {"model_cfg": SHAPE, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(made.state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="session")
def data() -> "object":
    """12 labels with a colour each: two pictures and two captions a label."""
    from xgap_analysis.datasets import Dataset, Images, Texts

    def picture(item: str) -> Image.Image:
        label, take = map(int, item.split("/"))
        noise = np.random.default_rng(100 * label + take).integers(0, 60, (40, 40, 3))
        colour = np.array([label * 16, 200 - label * 16, (label * 53) % 200])
        return Image.fromarray((noise + colour).clip(0, 255).astype(np.uint8))

    images = [f"{label}/{take}" for label in range(12) for take in range(2)]
    texts = [f"{label}/text-{k}" for label in range(12) for k in range(2)]
    captions = [f"colour number {label} in words {k}" for label in range(12) for k in range(2)]
    labels = {item: item.split("/")[0] for item in (*images, *texts)}
    return Dataset(
        name="colours",
        split_name="train",
        images=Images(tuple(images), picture, "colours"),
        texts=Texts(tuple(texts), tuple(captions)),
        labels={"colour": labels},
    )
