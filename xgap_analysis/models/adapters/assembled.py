"""Models put together from open_clip's and timm's own parts, with the face of open_clip's `CustomTextCLIP`."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_DRAWING = threading.RLock()


class Assembled(nn.Module):
    """An image and a text module on one sphere, for `from_open_clip`.

    Args:
        visual: open_clip's `VisionTransformer`, or a `TimmVisual`.
        text: open_clip's `TextTransformer`; None for an image model alone.
        logit_scale: the logarithm of the scale, as the libraries keep it.
        logit_bias: None where the model has none.
    """

    def __init__(
        self, visual: nn.Module, text: nn.Module | None, logit_scale: float = 0.0, logit_bias: float | None = None
    ) -> None:
        super().__init__()
        self.visual, self.text = visual, text
        self.logit_scale = nn.Parameter(torch.tensor(float(logit_scale)))
        self.logit_bias = None if logit_bias is None else nn.Parameter(torch.tensor(float(logit_bias)))

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """Features `[n, d]` of pixels `[n, 3, h, w]`."""
        features = self.visual(image)
        return F.normalize(features, dim=-1) if normalize else features

    def encode_text(self, text: Tensor, normalize: bool = False) -> Tensor:
        """Features `[n, d]` of token ids `[n, length]`."""
        assert self.text is not None
        features = self.text(text)
        return F.normalize(features, dim=-1) if normalize else features


class TimmVisual(nn.Module):
    """A timm model as an image tower; open_clip's own wrapper builds one by its name only, never from given shapes.

    Args:
        trunk: a timm model without a classifier.
        image_size: height and width of its pixels.
        projection: `[p, d]`, the linear head after it; None where there is none.
    """

    def __init__(self, trunk: Any, image_size: tuple[int, int], projection: Tensor | None = None) -> None:
        super().__init__()
        self.trunk, self.image_size, self.head = trunk, image_size, nn.Sequential()
        if projection is not None:
            linear = nn.Linear(len(projection), projection.shape[1], bias=False)
            linear.weight.data.copy_(projection.T)
            self.head.add_module("proj", linear)

    def forward(self, pixels: Tensor) -> Tensor:
        """Features `[n, d]` of pixels `[n, 3, h, w]`."""
        return self.head(self.trunk(pixels))


@contextlib.contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Within, random weights are the same every time; the generator outside is left as it was.

    The generator is the process's, so threads take turns.
    """
    with _DRAWING, torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


__all__ = ["Assembled", "TimmVisual", "seeded"]
