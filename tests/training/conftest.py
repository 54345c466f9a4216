"""A small model as an open_clip directory, and a small dataset with two captions a label."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from xgap_analysis.scoring.tokens import TokenBlock
from xgap_analysis.training import BatchFeatures

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

    def drawing(item: str) -> Image.Image:
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
        images=Images(tuple(images), drawing, "colours"),
        texts=Texts(tuple(texts), tuple(captions)),
        labels={"colour": labels},
    )


@pytest.fixture(scope="session")
def full_batch() -> "Callable[..., BatchFeatures]":
    """`full_batch(seed=0, n=4, k=2, d=5, dtype=torch.float64, **fields)`: random features of a batch, with ragged
    tokens, a further modality, given scores, token ids, and a teacher that has the same; `fields` replace some of it.
    """

    def made(
        seed: int = 0, n: int = 4, k: int = 2, d: int = 5, dtype: torch.dtype = torch.float64, **fields: object
    ) -> BatchFeatures:
        rng = torch.Generator().manual_seed(seed)

        def unit(*shape: int) -> torch.Tensor:
            return normalize(torch.randn(*shape, d, dtype=dtype, generator=rng), dim=-1)

        def tokens(length: int) -> TokenBlock:
            counts = torch.randint(1, length + 1, (n,), generator=rng)
            counts[0] = length
            mask = torch.arange(length)[None] < counts[:, None]
            return TokenBlock(unit(n, length).masked_fill(~mask[..., None], 0.0), mask)

        images, texts = unit(2, n), unit(n, k)
        patches = unit(n, 6)
        given = {
            "image_tokens": TokenBlock(patches, torch.ones(n, 6, dtype=torch.bool)),
            "text_tokens": tokens(3),
            "extra": {"audio": unit(n)},
            "pair_scores": torch.rand(n, n, dtype=dtype, generator=rng),
            "ids": torch.randint(1, 9, (n, k, 7), generator=rng),
            "is_word": torch.arange(7).expand(n, k, 7) % 6 != 0,
        }
        number = torch.tensor
        scale, bias = number(5.0, dtype=dtype), number(-1.0, dtype=dtype)
        labels = torch.arange(n)
        before = {**given, "image_tokens": TokenBlock(unit(n, 6), given["image_tokens"].mask), "text_tokens": tokens(3)}
        teacher = BatchFeatures(unit(2, n), unit(n, k), number(8.0, dtype=dtype), bias, labels, **before)
        of = {"images": images, "texts": texts, "scale": scale, "bias": bias, "labels": labels, "teacher": teacher}
        return BatchFeatures(**{**of, **given, **fields})

    return made
