"""What half precision in the loop of an inversion does to its features: cosine to float32, and retrieval."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

import xgap_analysis as xg
from benchmarks.timing import in_turns

QUERIES = 24


def measure(device: torch.device, quick: bool) -> Iterator[dict[str, Any]]:
    """A row for bf16 and fp16 of OTI and of OVI, on the embedded model and items."""
    model, data = xg.load_model("tiny", device=str(device)), xg.load_dataset("emoji").split("test")
    part = data.limit(6 if quick else 60)
    for name, items in (("OTI", part.images), ("OVI", part.texts)):
        gallery = xg.encode(model, items, store=None, progress=False)
        native = gallery.select(gallery.ids[:QUERIES])
        kept: dict[str, xg.Features] = {}

        def run(precision: str, native: xg.Features = native, kept: dict[str, xg.Features] = kept) -> None:
            steps = 5 if quick else 150  # OVI's thousand would tell no more
            kept[precision] = xg.invert(
                model, native, steps=steps, precision=precision, store=None, progress=False
            ).features

        for precision in ("bf16", "fp16"):
            pair = in_turns(partial(run, "fp32"), partial(run, precision), 1)
            exact, half = kept["fp32"], kept[precision]
            cosine = (exact.vectors * half.vectors).sum(dim=1)
            ap, half_ap = (xg.retrieval(features, gallery, part)["ap"] for features in (exact, half))
            yield {
                "figure": f"{name}, {precision} in the loop",
                "model": f"tiny, {len(native)} items",
                "baseline": "float32",
                "baseline_seconds": pair.baseline,
                "seconds": pair.ours,
                "ratio": pair.ratio,
                "cpu_ratio": pair.cpu_ratio,
                "smallest_cosine_of_features_to_fp32": float(cosine.min()),
                "mean_cosine_of_features_to_fp32": float(cosine.mean()),
                "ap_difference": float(half_ap.mean() - ap.mean()),
                "largest_ap_difference": float((half_ap - ap).abs().max()),
            }
