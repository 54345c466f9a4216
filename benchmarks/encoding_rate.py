"""Encoding images: ours against open_clip's loop, a DataLoader whose workers decode, and its batches to the model."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

import xgap_analysis as xg
from benchmarks.timing import in_turns, seconds
from xgap_analysis.datasets.reading.readers import MANY, cores, processes_for
from xgap_analysis.models.threads import suited
from xgap_analysis.views.batches import Passage, batches, on_device

SIZE = 500, 375  # of a photograph in ImageNet
JPEGS = {"cpu": ("ViT-B-32", 2000), "cuda": ("ViT-B-32", 20000)}


class Pictures(torch.utils.data.Dataset):
    """Items of a dataset as a DataLoader wants them."""

    def __init__(self, images: Any, preprocess: Any) -> None:
        self._images, self._preprocess = images, preprocess

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self._preprocess(self._images[row])


class Files(torch.utils.data.Dataset):
    """Image files as open_clip's loop opens them."""

    def __init__(self, paths: list[Path], preprocess: Any) -> None:
        self._paths, self._preprocess = paths, preprocess

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self._preprocess(Image.open(self._paths[row]))


def measure(device: torch.device, quick: bool) -> Iterator[dict[str, Any]]:
    """Small embedded images, of which the model is most of the work or Python is, and files of photographs."""
    data = xg.load_dataset("emoji").split("test")
    model = xg.load_model("tiny", device=str(device))
    few = data.images.select(data.images.ids[: 8 if quick else 690])
    yield _pair(model, few, Pictures(few, model.preprocess), "images", 1 if quick else 3)
    name, n = JPEGS[device.type]
    n = int(os.environ.get("XGAP_BENCH_JPEGS", 8 if quick else n))
    with tempfile.TemporaryDirectory() as folder:
        paths = jpegs(Path(folder), n)
        precision = "bf16" if device.type == "cuda" else "fp32"
        small = "tiny" if quick else f"{name}/random"
        photographs = xg.load_model(small, device=str(device), precision=precision)
        files = Files(paths, photographs.preprocess)
        yield _pair(photographs, paths, files, f"JPEGs of {SIZE[0]} x {SIZE[1]}", 1)


def jpegs(folder: Path, n: int, quality: int = 90) -> list[Path]:
    """Files of smooth noise, of about the bytes of a photograph."""
    random, paths = np.random.default_rng(0), []
    for i in range(n):
        coarse = random.integers(0, 256, (47, 63, 3), dtype=np.uint8)
        paths.append(folder / f"{i:06}.jpg")
        Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC).save(paths[-1], quality=quality)
    return paths


def _pair(model: Any, items: Any, dataset: Any, what: str, rounds: int) -> dict[str, Any]:
    """The row of one model on some images: two readers on a processor, all cores on a GPU's machine."""
    workers = 2 if model.device.type == "cpu" else processes_for(MANY, cores())
    kept: dict[str, torch.Tensor] = {}

    with Passage(model, xg.views.listing.as_items(items)) as way:
        size = way.size
        pixels = next(batches(way, range(min(size, len(dataset))))).content

    @torch.inference_mode()
    def theirs() -> None:
        gpu = model.device.type == "cuda"
        loader = DataLoader(dataset, batch_size=size, num_workers=workers, pin_memory=gpu)
        with suited(
            model.image, size, model.device
        ):  # as ours: on a busy processor threads of small products only wait
            parts = [model.image.encode(on_device(pixels, model.device)) for pixels in loader]
        kept["theirs"] = torch.nn.functional.normalize(torch.cat(parts).cpu(), dim=1)

    def ours() -> None:
        kept["ours"] = xg.encode(model, items, store=None, progress=False).vectors.cpu()

    ours() if rounds > 1 else xg.encode(model, items[:2], store=None, progress=False)  # what is opened and cached once
    pair = in_turns(theirs, ours, rounds)
    with torch.inference_mode():
        moved = on_device(pixels, model.device)
        with suited(model.image, size, model.device):
            one = min(seconds(lambda: model.image.encode(moved))[0] for _ in range(5))
    return {
        "figure": "encoding",
        "model": f"{model.name}, {len(dataset)} {what}",
        "batch": size,
        "baseline": f"the model over a DataLoader, {workers} workers",
        "baseline_seconds": pair.baseline,
        "seconds": pair.ours,
        "ratio": pair.ratio,
        "cpu_ratio": pair.cpu_ratio,
        "goal": 1.0,
        "feature_difference": float((kept["theirs"] - kept["ours"]).abs().max()),
        "share_of_time_in_the_model": one * len(dataset) / len(pixels) / pair.ours,
        "share_of_time_waiting_for_images": _waiting(model, items),
    }


@torch.inference_mode()
def _waiting(model: Any, items: Any) -> float:
    """The share of the time in which the model waits, over the first images."""
    listed = xg.views.listing.as_items(items)
    with Passage(model, listed) as way, way.waiting.whole():
        for batch in batches(way, range(min(len(listed), 4 * way.size))):
            way.features(batch.content, batch.size).cpu()
    return way.waiting.share
