"""What a researcher waits for on a GPU: encoding at its share of the matrix rate, OTI and OVI of a thousand queries."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import open_clip
import torch
from torch import Tensor

from benchmarks.inversion_step import loop_of, word_ids
from benchmarks.timing import matrix_rate, operations, seconds
from xgap_analysis.models import from_open_clip
from xgap_analysis.views.inversion.invert import STEPS, pseudo_forward
from xgap_analysis.views.inversion.loop import starts, unit_features

QUERIES = 1000
NAMES = {"text": "OTI", "image": "OVI"}
GOALS = {("ViT-B-32", "text"): 2.0, ("ViT-B-32", "image"): 60.0}  # seconds
SHARE = 0.5  # of the matrix rate, for encoding
TIMED = {"text": 150, "image": 20}  # steps; each is like the others, so that some stand for all


def measure(architecture: str, batches: list[int], device: torch.device, quick: bool) -> Iterator[dict[str, Any]]:
    """A row for encoding, OTI and OVI at each batch size and precision; random weights."""
    torch.manual_seed(0)
    bare = open_clip.create_model(architecture).to(device)
    yield from _encoding(bare, architecture, batches, device)
    model = from_open_clip(bare, word_ids, torch.ones, name=architecture)
    for side in NAMES:
        forward, width = pseudo_forward(model, side, "a photo of {}", 1), model.tower(side).width
        for batch in batches:
            for row in _inversion(forward, side, width, batch, device, quick):
                goal = GOALS.get((architecture, side))
                met = None if goal is None else row["whole_seconds"] <= goal
                yield {**row, "model": architecture, "goal_seconds": goal, "met": met}


def _inversion(
    forward: Callable[[Tensor], Tensor], side: str, width: int, batch: int, device: torch.device, quick: bool
) -> Iterator[dict[str, Any]]:
    ids = [str(i) for i in range(batch)]
    start = starts(ids, 1, width, seed=0, std=0.02).to(device)
    targets = unit_features(forward, starts(ids, 1, width, seed=1, std=1).to(device))
    steps = 2 if quick else TIMED[side]
    rounds = math.ceil(QUERIES / batch) if side == "text" and not quick else 1
    exact = None
    for precision in ("fp32", "bf16"):
        run = partial(loop_of(forward, start, targets, steps, precision).run, start, targets)
        first = seconds(run)[0]
        took = sum(seconds(run)[0] for _ in range(rounds))
        features = run().features
        exact = features if exact is None else exact
        yield {
            "figure": f"{NAMES[side]} of {QUERIES} queries",
            "batch": batch,
            "precision": precision,
            "whole_seconds": took * QUERIES / (rounds * batch) * STEPS[side] / steps,
            "steps_timed": steps,
            "first_batch_seconds": first,  # with the capture of the graph
            "cosine_of_features_to_fp32": float((exact * features).sum(dim=1).min()),
        }


def _encoding(bare: Any, architecture: str, batches: list[int], device: torch.device) -> Iterator[dict[str, Any]]:
    """Images on the device already: what reading costs is another figure."""
    model = from_open_clip(bare, word_ids, torch.ones, name=architecture, precision="bf16")
    rate = matrix_rate(device, torch.bfloat16)
    for batch in batches:
        pixels = torch.randn(batch, 3, *bare.visual.image_size, device=device)
        run = partial(model.image.encode, pixels.contiguous(memory_format=torch.channels_last))
        with torch.inference_mode():
            flops = operations(run)
            took = min(seconds(run)[0] for _ in range(5))
        share = flops / took / rate
        yield {
            "figure": "encoding of images",
            "model": architecture,
            "batch": batch,
            "precision": "bf16",
            "images_per_second": batch / took,
            "share_of_matrix_rate": share,
            "goal_share": SHARE,
            "met": share >= SHARE,
        }
