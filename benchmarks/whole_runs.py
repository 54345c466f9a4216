"""What a researcher waits for on a GPU, each beside a baseline in the same run; random weights.

The model alone against a bare compiled forward in bf16; OTI and OVI of a thousand queries against the plain loop; the
plateau stop against the fixed one.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import open_clip
import torch
from torch import Tensor

import xgap_analysis as xg
from benchmarks.inversion_step import plain_loop, word_ids
from benchmarks.inversion_step import ways as plain_and_ours
from benchmarks.timing import in_turns, matrix_rate, operations
from xgap_analysis.models import Model, from_open_clip
from xgap_analysis.models.precision import autocast
from xgap_analysis.views.inversion.invert import STEPS
from xgap_analysis.views.inversion.loop import starts, unit_features

QUERIES = 1000
PLAIN = 256, 5  # queries and steps of the plain loop, whose time grows with both
NAMES = {"text": "OTI", "image": "OVI"}
GOALS = {("ViT-B-32", "text"): 1.0, ("ViT-B-32", "image"): 45.0}  # seconds on an H100 or H200, in bf16
TIMED = {"text": 150, "image": 50}  # steps; each is like the others, so that some stand for all
ALONE = 0.95  # of the rate of the bare compiled forward


def model_alone(architecture: str, batches: Sequence[int], device: torch.device, quick: bool) -> Iterator[Any]:
    """Images on the device already: what reading costs is another figure."""
    torch.manual_seed(0)
    bare = open_clip.create_model(architecture).to(device).eval()
    model = from_open_clip(bare, word_ids, torch.ones, name=architecture, precision="bf16")
    half = copy.deepcopy(bare).to(torch.bfloat16)
    # On a processor the dry run is of the calls; what the compiler makes of them is not measured there.
    backend = "inductor" if device.type == "cuda" else "eager"
    forward = torch.compile(half.encode_image, backend=backend, dynamic=False)
    rate = matrix_rate(device, torch.bfloat16)
    often = 1 if quick else 20
    for batch in batches:
        pixels = torch.randn(batch, 3, *bare.visual.image_size, device=device)
        half_pixels = pixels.to(torch.bfloat16)

        def theirs(pixels: Tensor = half_pixels) -> None:
            for _ in range(often):
                forward(pixels)

        def ours(pixels: Tensor = pixels) -> None:
            for _ in range(often):
                model.image.encode(pixels)

        with torch.inference_mode():
            theirs(), ours()  # compiled, captured, warm
            pair = in_turns(theirs, ours, 1 if quick else 5)
            flops = operations(partial(half.encode_image, half_pixels))
            cosine = torch.cosine_similarity(forward(half_pixels).float(), model.image.encode(pixels), dim=1)
        yield {
            "figure": "model alone",
            "model": architecture,
            "batch": batch,
            "baseline": "a bare compiled bf16 forward",
            "baseline_seconds": pair.baseline / often,
            "seconds": pair.ours / often,
            "ratio": pair.ratio,
            "cpu_ratio": pair.cpu_ratio,
            "goal": ALONE,
            "images_per_second": batch * often / pair.ours,
            "share_of_matrix_rate": flops / (pair.ours / often) / rate if flops else None,
            "cosine_of_features": float(cosine.min()),
        }


def inversions(architecture: str, device: torch.device, quick: bool) -> Iterator[dict[str, Any]]:
    """OTI and OVI in each precision, as `invert` does them without options, against AdamW over the full sequence."""
    torch.manual_seed(0)
    bare = open_clip.create_model(architecture).to(device)
    size = bare.visual.image_size
    model = from_open_clip(bare, word_ids, open_clip.image_transform(size, is_train=False), name=architecture)
    queries = 4 if quick else QUERIES
    for space, (plain, forward) in zip(NAMES, plain_and_ours(bare, model).values(), strict=True):
        width, exact = model.tower(space).width, None
        # Targets that the tower can reach, in parts, since all at once may not fit.
        tokens = starts([f"t{i}" for i in range(queries)], 1, width, seed=1, std=1).to(device)
        targets = torch.cat([unit_features(forward, part) for part in tokens.split(64)])
        origin = {"text": "image", "image": "text"}[space]
        features = xg.Features(targets.cpu(), [str(i) for i in range(queries)], origin, origin)
        for precision in ("fp32", "bf16"):
            row, made = _inversion(model, plain, features, space, precision, quick)
            exact = made if exact is None else exact
            yield {**row, "cosine_of_features_to_fp32": float((exact * made).sum(dim=1).min())}


def _inversion(
    model: Model, plain: Callable[[Tensor], Tensor], features: xg.Features, space: str, precision: str, quick: bool
) -> tuple[dict[str, Any], Tensor]:
    steps, (most, few) = (2, (4, 1)) if quick else (TIMED[space], PLAIN)
    most = min(most, len(features))
    start = starts([str(i) for i in range(most)], 1, model.tower(space).width, seed=0, std=0.02).to(model.device)
    targets, kept = features.vectors[:most].to(model.device), {}

    def ours() -> None:
        options = {"steps": steps, "tokens": 1, "precision": precision, "store": None, "progress": False}
        kept["features"] = xg.invert(model, features, **options).features.vectors

    def theirs() -> None:
        with autocast(model.device, precision):
            plain_loop(plain, start, targets, few)

    theirs()  # what is allocated once is no part of a loop; of ours, the measured step and the capture are
    pair = in_turns(theirs, ours, 1, scale=most * few / (len(features) * steps))
    whole = STEPS[space] / steps * QUERIES / len(features)
    goal = GOALS.get((model.name, space)) if precision == "bf16" else None
    return {
        "figure": f"{NAMES[space]} of {QUERIES} queries, {precision}",
        "model": model.name,
        "baseline": f"plain loop, full length, {precision}, timed on {most} queries and {few} steps",
        "baseline_seconds": pair.baseline * whole,
        "seconds": pair.ours * whole,
        "ratio": pair.ratio,
        "cpu_ratio": pair.cpu_ratio,
        "steps_timed": steps,
        "goal_seconds": goal,
    }, kept["features"]


def stops(device: torch.device, quick: bool) -> Iterator[dict[str, Any]]:
    """The plateau stop against the fixed one on the embedded model."""
    model, data = xg.load_model("tiny", device=str(device)), xg.load_dataset("emoji").split("test")
    concepts = 6 if quick else (60 if device.type == "cuda" else 10)
    images = xg.encode(model, data.limit(concepts).images, store=None, progress=False)
    kept: dict[str, Any] = {}

    def run(stop: str) -> None:
        options = {"steps": 5 if quick else 150, "store": None, "progress": False}
        kept[stop] = xg.invert(model, images, stop=stop, **options)

    run("fixed"), run("plateau")
    pair = in_turns(partial(run, "fixed"), partial(run, "plateau"), 1 if quick else 3)
    yield {
        "figure": "plateau stop",
        "model": f"tiny, {len(images)} images",
        "baseline": "fixed stop",
        "baseline_seconds": pair.baseline,
        "seconds": pair.ours,
        "ratio": pair.ratio,
        "cpu_ratio": pair.cpu_ratio,
        "share_of_rows_stopped_early": float((kept["plateau"].loss[-1] == kept["plateau"].loss[-2]).float().mean()),
    }
