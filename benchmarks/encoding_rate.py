"""Encoding images, against open_clip's model over a DataLoader."""

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

import xgap_analysis as xg
from benchmarks.timing import in_turns, seconds
from xgap_analysis.views.batches import BATCH, Passage, batches


class Pictures(torch.utils.data.Dataset):
    """Items of a dataset as a DataLoader wants them."""

    def __init__(self, images: Any, preprocess: Any) -> None:
        self._images, self._preprocess = images, preprocess

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self._preprocess(self._images[row])


def measure(device: torch.device, quick: bool) -> Iterator[dict[str, Any]]:
    """The embedded model on the embedded images: decoding counts for most."""
    model, data = xg.load_model("tiny", device=str(device)), xg.load_dataset("emoji").split("test")
    images = data.limit(8 if quick else 120).images
    kept: dict[str, torch.Tensor] = {}

    @torch.inference_mode()
    def theirs() -> None:
        loader = DataLoader(Pictures(images, model.preprocess), batch_size=BATCH, num_workers=2)
        parts = [model.image.encode(pixels.to(device)).cpu() for pixels in loader]
        kept["theirs"] = torch.nn.functional.normalize(torch.cat(parts), dim=1)

    def ours() -> None:
        kept["ours"] = xg.encode(model, images, store=None, progress=False).vectors.cpu()

    ours()  # what is opened and cached once is no part of a rate
    pair = in_turns(theirs, ours, 1 if quick else 3)
    pixels = next(batches(Passage(model, images), range(min(BATCH, len(images))))).content.to(device)
    with torch.inference_mode():
        passes = min(seconds(lambda: model.image.encode(pixels))[0] for _ in range(5)) * len(images) / len(pixels)
    waited, took = _waiting(model, images)
    yield {
        "figure": "encoding",
        "model": f"tiny, {len(images)} images",
        "batch": BATCH,
        "baseline": "the model over a DataLoader, two workers",
        "baseline_seconds": pair.baseline,
        "seconds": pair.ours,
        "ratio": pair.ratio,
        "cpu_ratio": pair.cpu_ratio,
        "goal": 1.0,
        "feature_difference": float((kept["theirs"] - kept["ours"]).abs().max()),
        "share_of_time_in_the_model": passes / pair.ours,
        "share_of_time_waiting_for_images": waited / took,
    }


@torch.inference_mode()
def _waiting(model: Any, images: Any) -> tuple[float, float]:
    """Seconds that the model waits for its next batch, the first apart, and seconds in all."""
    coming = (batch.content for batch in batches(Passage(model, images), range(len(images))))
    pixels = next(coming)
    waited, start = 0.0, time.perf_counter()
    while pixels is not None:
        model.image.encode(pixels.to(model.device)).cpu()
        before = time.perf_counter()
        pixels = next(coming, None)
        waited += time.perf_counter() - before
    return waited, time.perf_counter() - start
