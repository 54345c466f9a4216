"""A tower of clips: frames at even times, prepared as images are, through one module."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from xgap_analysis.core.calls import Call, options_alone, parse, spelled
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.registry import Registry, check_options
from xgap_analysis.models.adapters.assembled import seeded
from xgap_analysis.models.fingerprint import architecture, architecture_of, probe_image, weights_digest
from xgap_analysis.models.precision import autocast
from xgap_analysis.models.tower import Model

LEADING = 1
Build = Callable[..., nn.Module]  # (model, **options) -> a module from pixels [n, f, 3, h, w] to features [n, d]


FRAME_TOWERS: Registry[Build] = Registry("frame tower", lambda build: build)


def register_frames(name: str, *, frames: int) -> Callable[[Build], Build]:
    """Make a tower of clips known by name to `with_frames`.

    Args:
        name: as in tables.
        frames: of a clip that it reads by default; an option `frames` of the function is in its place where given.

    Raises:
        XgapError: the name is taken by other code.
    """

    def add(build: Build) -> Build:
        FRAME_TOWERS.add(name, build)
        build.frames = frames  # type: ignore[attr-defined]
        return build

    return add


def with_frames(model: Model, wanted: str | Call, *, frames: int | None = None, seed: int = 0) -> Model:
    """A model with a tower of clips: `with_frames(model, "prompt_switch(prompts=4)")`.

    Its clips lie in the space of the images, so that `"V-T"` and `"T-V"` compare them in a study.

    Args:
        model: left as it is; with an image tower. A tower of clips that it may have is replaced.
        wanted: `"mean"`, `"prompt_switch"`, `"space_time"` (see `FRAME_TOWERS`), with options.
        frames: of a clip that are read, at even times; by default as many as the tower is made for.
        seed: of the weights that are drawn.

    Raises:
        XgapError: an unknown name or option, or a model that the tower does not fit.

    Example:
        >>> import xgap_analysis as xg
        >>> model = with_frames(xg.load_model("tiny"), "space_time(frames=2)")
        >>> clips = [model.tower("video").preprocess(clip) for clip in model.tower("video").probes]
        >>> model.name, tuple(model.tower("video").encode(torch.stack(clips)).shape)
        ('tiny+space_time(frames=2)', (1, 512))
    """
    return with_video(model, *video_tower(model, wanted, frames=frames, seed=seed))


def video_tower(
    model: Model, wanted: str | Call, *, frames: int | None = None, seed: int = 0
) -> tuple["VideoTower", str]:
    """A tower of clips whose weights may be trained yet, and its name with the model's; see `with_frames`.

    Raises:
        XgapError: as `with_frames`.
    """
    call = parse(wanted) if isinstance(wanted, str) else wanted
    options = options_alone(call, "a frame tower")
    build = FRAME_TOWERS[call.name]
    check_options("frame tower", call.name, build, LEADING, options)
    with seeded(seed):
        module = build(model, **options).to(model.device)
    by_default: int = build.frames  # type: ignore[attr-defined]
    read = options.get("frames", by_default) if frames is None else frames
    before = model.towers.get("video")
    base = before.base if isinstance(before, VideoTower) else model  # its tower of clips is replaced, with its name
    return VideoTower(model, module, read), f"{base.name}+{spelled(call.name, (), options)}"


def with_video(model: Model, tower: "VideoTower", name: str) -> Model:
    """A model with this tower of clips, in the place of one that it may have.

    Args:
        model: the base.
        tower: of clips, which is frozen.
        name: as in tables.
    """
    tower.module.eval().requires_grad_(False)
    digests = (model.weights_digest, weights_digest(tower.module))
    parts = (model.architecture or architecture_of(model.towers), architecture(tower.module), str(tower.frames))
    return replace(
        model,
        name=name,
        towers={**model.towers, "video": tower},
        weights_digest=hashlib.sha256(json.dumps(digests).encode()).hexdigest(),
        architecture=hashlib.sha256(json.dumps(parts).encode()).hexdigest(),
    )


def even_times(n: int, frames: int) -> list[int]:
    """Which of n frames stand in the middles of so many equal parts of a clip; of fewer frames, some twice.

    Example:
        >>> even_times(12, 4), even_times(1, 2)
        ([1, 4, 7, 10], [0, 0])
    """
    return [(2 * i + 1) * n // (2 * frames) for i in range(frames)]


class VideoTower:
    """The tower of clips; see `Tower`. An item is a list of images, its frames in their order.

    Args:
        model: the base, whose image tower says how a frame is prepared.
        module: from pixels `[n, f, 3, h, w]` to features `[n, d]`.
        frames: that it reads of a clip.
    """

    space = "image"

    def __init__(self, model: Model, module: nn.Module, frames: int) -> None:
        if isinstance(frames, bool) or not isinstance(frames, int) or frames < 1:
            raise XgapError(f"a clip is read by one frame or more, a whole number, not {frames!r}")
        self.base, self.module, self.frames = model, module, frames

    @property
    def probes(self) -> Sequence[Any]:
        """A clip by which towers are distinguished."""
        return ([probe_image(), probe_image().transpose(Image.Transpose.FLIP_LEFT_RIGHT)],)

    def reading(self, frames: int) -> "VideoTower":
        """The same tower, reading another number of frames."""
        return VideoTower(self.base, self.module, frames)

    def preprocess(self, item: Sequence[Image.Image]) -> Tensor:
        """Pixels `[f, 3, h, w]` of a clip.

        Raises:
            XgapError: something else than a list of images, or a model that does not prepare images as pixels.
        """
        if not isinstance(item, Sequence) or not item or not all(isinstance(one, Image.Image) for one in item):
            raise XgapError(f"a clip is a list of images, its frames, not {type(item).__name__}")
        pixels = [self.base.preprocess(item[time]) for time in even_times(len(item), self.frames)]
        if not all(isinstance(one, Tensor) for one in pixels):
            what = f"{self.base.name!r} prepares an image as {type(pixels[0]).__name__}"
            what = f"a tower of clips reads pixels, and {what}"
            raise XgapError(f"{what}; compare its frames as a set of vectors instead: the view 'frames'")
        return torch.stack(pixels)

    def prepare(self, items: Sequence[Any]) -> Tensor:
        """Pixels `[n, f, 3, h, w]` of clips."""
        return torch.stack([self.preprocess(item) for item in items])

    def encode(self, batch: Tensor) -> Tensor:
        """See `Tower.encode`."""
        pixels = batch.to(self.base.device)
        with autocast(pixels.device, self.base.precision):
            made: Tensor = self.module(pixels)
        return made.float()


class MeanOfFrames(nn.Module):
    """The mean of the unit features of frames, as the model gives them."""

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.encode = tower.encode

    def forward(self, pixels: Tensor) -> Tensor:
        """Features `[n, d]` of pixels `[n, f, 3, h, w]`."""
        features = torch.nn.functional.normalize(self.encode(pixels.flatten(0, 1)).float(), dim=-1)
        return features.unflatten(0, pixels.shape[:2]).mean(dim=1)


@register_frames("mean", frames=12)
def mean_of_frames(model: Model) -> MeanOfFrames:
    """The mean of the frames' unit features, with nothing to train: what other towers of clips are compared with.

    Source: Luo et al., CLIP4Clip, Neurocomputing 2022 (its parameter-free form).
    """
    return MeanOfFrames(model.image)
