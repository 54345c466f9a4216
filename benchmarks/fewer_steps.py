"""What fewer steps cost: steps, seconds, cosine reached and retrieval, on the embedded model and images."""

from collections.abc import Iterator
from typing import Any

import torch

import xgap_analysis as xg
from benchmarks.timing import seconds
from xgap_analysis.views.inversion.amortised import AmortisedInverter

SETTLED = 1e-4


def measure(device: torch.device, quick: bool) -> Iterator[dict[str, Any]]:
    """A row a way; the cosine of the paper's 150 steps is the one to reach."""
    model, data = xg.load_model("tiny", device=str(device)), xg.load_dataset("emoji").split("test")
    part = data.limit(6 if quick else 60)
    images = xg.encode(model, part.images, store=None, progress=False)
    most = 6 if quick else 150
    seen_ids = set(images.ids)
    rest = xg.load_dataset("emoji").split("train").limit(6 if quick else 200).images
    seen = xg.encode(model, rest, store=None, progress=False)
    seen = seen.select(i for i in seen.ids if i not in seen_ids)

    def row(way: str, steps: int, took: float, features: xg.Features) -> dict[str, Any]:
        return {
            "figure": "fewer steps",
            "model": f"tiny, {len(images)} images",
            "way": way,
            "steps": steps,
            "seconds": took,
            "cosine": float((features.vectors * images.vectors).sum(dim=1).mean()),
            "ap": float(xg.retrieval(features, images, part)["ap"].mean()),
        }

    yield row("native, no inversion", 0, 0.0, images)
    made: dict[str, Any] = {}

    def run(name: str, **options: Any) -> float:
        def go() -> None:
            made[name] = xg.invert(model, images, store=None, progress=False, **options)

        return seconds(go)[0]

    took = run("normal", steps=most)
    yield row("normal start (the paper's)", most, took, made["normal"].features)
    reached = float(made["normal"].loss[-1].mean()) + SETTLED
    for start in ("normal", "closed-form"):
        run("long", steps=most, start=start)
        curve = made["long"].loss.mean(dim=1)
        enough = int((curve <= reached).int().argmax()) if bool((curve <= reached).any()) else most
        took = run("short", steps=max(1, enough), start=start)
        yield row(f"{start} start, to the cosine of {most} steps", enough, took, made["short"].features)
    took = run("plateau", steps=most, stop="plateau")
    moved = made["plateau"].loss.diff(dim=0).abs().sum(dim=1) > 0
    yield row("normal start, plateau", int(moved.nonzero()[-1]) + 1, took, made["plateau"].features)
    fitting = seconds(lambda: made.update(inverter=AmortisedInverter.fit(model, seen, steps=5 if quick else 300)))[0]
    took = seconds(lambda: made.update(amortised=made["inverter"].apply(model, images)))[0]
    yield {**row("amortised (fitted on train)", 0, took, made["amortised"]), "fit_seconds": fitting}
