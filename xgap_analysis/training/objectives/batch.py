"""What a term of an objective is computed from: the features of one batch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor


@dataclass(frozen=True)
class BatchFeatures:
    """Features of the n items of one batch, all unit rows; each item is of another label.

    Args:
        images: `[v, n, d]`, v augmentations of each image; empty where no term needs images.
        texts: `[n, k, d]`, k captions of each image; empty where no term needs captions.
        scale, bias: of the logits; the scale is 1 / temperature.
        labels: class numbers `[n]`.
        teacher: the same batch through the model as it was before training, without gradients, where a term needs it
            (`Needs.teacher`).

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> batch = xg.BatchFeatures(unit[None], unit[:, None], torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> round(float(xg.objective("clip").loss(batch)), 4)  # each image is equal to its caption
        0.0
    """

    images: Tensor
    texts: Tensor
    scale: Tensor
    bias: Tensor
    labels: Tensor
    teacher: Optional["BatchFeatures"] = None

    def mean_over_pairs(self, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The mean of a loss of images and texts over the augmentations, each with a caption of its own in turn.

        Args:
            loss: of images `[n, d]` and texts `[n, d]`, pairs by index.
        """
        k = self.texts.shape[1]
        return torch.stack([loss(images, self.texts[:, v % k]) for v, images in enumerate(self.images)]).mean()
