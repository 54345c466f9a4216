"""What a term of an objective is computed from: the features of one batch."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, Protocol, runtime_checkable

import torch
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.scoring.tokens import TokenBlock


@runtime_checkable
class Towers(Protocol):
    """The towers that are trained, for a term that encodes something of its own (`Needs.towers`).

    Both give unit features `[m, d]` and the unit tokens of each place: patches `[m, P, d]`, and all places of the ids
    `[m, length, d]`, special ones and padding among them.
    """

    def image(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Of pixels `[m, 3, h, w]`, as `BatchFeatures.pixels` has them."""

    def text(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Of token ids `[m, length]`, as `BatchFeatures.ids` has them."""


@dataclass(frozen=True)
class BatchFeatures:
    """Features of the n items of one batch, all unit rows; each item is of another label, but with `sampler="shared"`.

    Where the recipe leaves a modality of an item out (`Recipe.dropout`), its rows are zero.

    What comes after `labels` is there where an active term says that it needs it (see `Needs`); a term reads it with
    `batch.needed("image_tokens")`, which says so where it is not.

    Args:
        images: `[v, n, d]`, v augmentations of each image; empty where no term needs images.
        texts: `[n, k, d]`, k captions of each image; empty where no term needs captions.
        scale, bias: of the logits; the scale is 1 / temperature.
        labels: class numbers `[n]`.
        teacher: the same batch through the model as it was before training, without gradients.
        image_tokens: vectors `[n, P, d]` and mask `[n, P]`: the patches of the first augmentation of each image,
            without class token, through the tower's last layers and head (the view `patches`).
        text_tokens: vectors `[n, L, d]` and mask `[n, L]`: the words of the first caption of each item, without start,
            end and padding (the view `words`). One caption's only: it is drawn anew at each step.
        extra: rows `[n, d]` of the same items in further modalities, by name, in the order in which they were given.
        pair_scores: `[n, n]`, row i the given scores of image i with the first caption of each item.
        is_caption: `[n, k]`, which rows of `texts` are captions, where an item may have fewer than k of them; None
            where all are.
        pixels: `[n, 3, h, w]` of the first augmentation, as the image tower takes them.
        ids: `[n, k, length]`, the token ids of the captions.
        is_word: `[n, k, length]`, which of the ids are words.
        empty: `[length]`, the ids of an empty caption, none of which is a word.
        towers: encode what a term makes of `pixels` and `ids`.
        seed: of what terms draw in this step; see `generator`.

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
    image_tokens: TokenBlock | None = None
    text_tokens: TokenBlock | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    pair_scores: Tensor | None = None
    is_caption: Tensor | None = None
    pixels: Tensor | None = None
    ids: Tensor | None = None
    is_word: Tensor | None = None
    empty: Tensor | None = None
    towers: Towers | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        n, k = len(self.labels), self.texts.shape[1]
        laws: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {  # name to the beginning of its shape
            "image_tokens": (None if self.image_tokens is None else self.image_tokens.vectors, (n,)),
            "text_tokens": (None if self.text_tokens is None else self.text_tokens.vectors, (n,)),
            "pair_scores": (self.pair_scores, (n, n)),
            "is_caption": (self.is_caption, (n, k)),
            "pixels": (self.pixels, (n, 3)),
            "ids": (self.ids, (n, k)),
            "is_word": (self.is_word, (n, k)),
            **{f"extra[{name!r}]": (rows, (n,)) for name, rows in self.extra.items()},
        }
        for name, (tensor, law) in laws.items():
            if tensor is not None and tuple(tensor.shape[: len(law)]) != law:
                raise XgapError(
                    f"{name} of a batch of {n} items is [{', '.join(map(str, law))}, ...], not {[*tensor.shape]}"
                )

    def needed(self, name: str) -> Any:
        """A field that is None, or empty, where no term says that it needs it.

        Raises:
            XgapError: it is not there.
        """
        found = getattr(self, name)
        if found is None or (name == "extra" and not found):
            raise XgapError(
                f"this batch has no {name}: a term that reads it is registered with needs=Needs({name}=...)"
            )
        return found

    def generator(self, what: str) -> torch.Generator:
        """A generator, on the processor, for what a term draws: it follows from the run's seed, the step and the name.

        Args:
            what: the name of the term, so that no two terms draw alike and none changes what another draws.
        """
        digest = hashlib.sha256(f"{self.seed} {what}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """Images `[n, d]` of each augmentation, with a caption of their own each, in turn `[n, d]`."""
        k = self.texts.shape[1]
        return [(images, self.texts[:, v % k]) for v, images in enumerate(self.images)]

    def mean_over_pairs(self, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The mean of a loss of images and texts over the augmentations, each with a caption of its own in turn.

        Args:
            loss: of images `[n, d]` and texts `[n, d]`, pairs by index.
        """
        return torch.stack([loss(images, texts) for images, texts in self.pairs()]).mean()
