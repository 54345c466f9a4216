"""What a step looks at: images, captions of their labels, augmented; every draw follows from (seed, step) alone."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.images import UNREADABLE
from xgap_analysis.training.recipe import Recipe


@dataclass(frozen=True)
class Batch:
    """Inputs of one step.

    Args:
        pixels: `[v, n, 3, h, w]`.
        tokens: `[n, k, length]`.
        labels: class numbers `[n]`.
    """

    pixels: Tensor
    tokens: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Unreadable:
    """In place of a batch: an image of it that cannot be read. A value, as the process that loads it may be another."""

    item: str
    reason: str


class Pairs(torch.utils.data.Dataset):
    """Batch by step number, for a `DataLoader`; the same whoever loads it, in whatever order.

    An epoch shows each label once, with one of its images and some of its captions, all drawn at random.

    Args:
        data: its default labels say which captions belong to an image.
        recipe: how many of each, and how they are changed.
        tokenize, augment: captions to ids; a picture to pixels.

    Raises:
        XgapError: an item without a label, or fewer labels with an image (and a caption, where captions are asked for)
            than a batch takes.
    """

    def __init__(self, data: Dataset, recipe: Recipe, tokenize: Any, augment: Any) -> None:
        self._images, self._tokenize, self._augment = data.images, tokenize, augment
        # Numbers and words alone: a process that loads images need not know the terms of the objective.
        self._steps, self._batch, self._seed, self._templates = (
            recipe.steps,
            recipe.batch,
            recipe.seed,
            recipe.templates,
        )
        self._n_views, self._n_captions = recipe.n_views, recipe.n_captions
        _check_items(data, recipe)
        label = _labels(data)
        caption = dict(zip(data.texts.ids, data.texts.captions, strict=True))
        pictures: dict[str, list[str]] = {}
        captions: dict[str, list[str]] = {}
        for item in data.images.ids:
            pictures.setdefault(label[item], []).append(item)
        for item, text in caption.items():
            captions.setdefault(label[item], []).append(text)
        wanted = [
            name for name in pictures.keys() | captions.keys()
            if (name in pictures or not self._n_views) and (name in captions or not self._n_captions)
        ]  # fmt: skip
        self.labels = sorted(wanted)
        self._number = {label: i for i, label in enumerate(self.labels)}
        self._pictures, self._captions = pictures, captions
        if len(self.labels) < recipe.batch:
            raise XgapError(
                f"a batch takes {recipe.batch} items of different labels, and {data.name!r} ({data.split_name}) has "
                f"{len(self.labels)} labels to train with; take a smaller batch"
            )

    def __len__(self) -> int:
        return self._steps

    def drawn(self, step: int) -> list[tuple[str, str, list[str]]]:
        """Label, image id and captions of each item of a step."""
        epoch, place = divmod(step, len(self.labels) // self._batch)
        order = list(self.labels)
        random.Random(f"{self._seed} epoch {epoch}").shuffle(order)
        draw = random.Random(f"{self._seed} step {step}")
        items = []
        for label in order[place * self._batch : (place + 1) * self._batch]:
            image = draw.choice(self._pictures.get(label, [""]))
            texts = list(self._captions.get(label, [""]))
            draw.shuffle(texts)  # the same draws however many are looked at
            texts = (texts * math.ceil(self._n_captions / len(texts)))[: self._n_captions]
            seed = draw.random()
            items.append((label, image, _in_templates(texts, self._templates, random.Random(seed))))
        return items

    def __getitem__(self, step: int) -> Batch | Unreadable:
        items = self.drawn(step)
        views: list[Tensor] = []
        with torch.random.fork_rng(devices=[]):
            pictures = []
            for _, image, _ in items if self._n_views else []:
                try:
                    pictures.append(self._images.opener(image))
                except UNREADABLE as error:
                    return Unreadable(image, str(error))
            for view in range(self._n_views):
                torch.manual_seed(seed_of(self._seed, step, view))
                views.append(torch.stack([self._augment(picture) for picture in pictures]))
        texts = [text for _, _, captions in items for text in captions]
        tokens = self._tokenize(texts) if texts else torch.zeros(0, dtype=torch.long)
        return Batch(
            torch.stack(views) if views else torch.zeros(0),
            tokens.unflatten(0, (len(items), self._n_captions)) if texts else tokens,
            torch.tensor([self._number[label] for label, _, _ in items]),
        )


def augmentation(module: Any, preprocess: Any, kind: str) -> Any:
    """Picture to pixels: the model's own size and normalisation, with the recipe's changes before them.

    Source: crops as open_clip trains (Radford et al., 2021); the rest, Chen et al., 2020 (SimCLR), appendix A, without
    blur.
    """
    from open_clip import get_model_preprocess_cfg
    from torchvision import transforms as T

    if kind == "none":
        return preprocess
    settings = get_model_preprocess_cfg(module)
    size, how = settings["size"], getattr(T.InterpolationMode, settings["interpolation"].upper(), None)
    crop = T.RandomResizedCrop(size, scale=(0.9, 1.0) if kind == "crop" else (0.5, 1.0), interpolation=how or 3)
    colours = [
        T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
        T.RandomGrayscale(p=0.2),
        T.RandomHorizontalFlip(),
    ]
    finish = [T.ToTensor(), T.Normalize(settings["mean"], settings["std"])]
    return T.Compose([crop, *(colours if kind == "simclr" else []), *finish])


def _check_items(data: Dataset, recipe: Recipe) -> None:
    """Refuses data without the items that a term needs."""
    for kind, has in (("images", len(data.images)), ("captions", len(data.texts))):
        needing = [str(term) for term, _ in recipe.terms if getattr(term.needed, kind)]
        if needing and not has:
            raise XgapError(f"objective {needing[0]!r} needs {kind}, and {data.name!r} ({data.split_name}) has none")


def _labels(data: Dataset) -> Mapping[str, str]:
    """The label of each item that is trained on."""
    where = f"{data.name!r} ({data.split_name})"
    if data.default_label_set in data.judgements:
        what = f"relevance is judged item by item in {where}"
        raise XgapError(f"{what}, and training needs a label for each item: captions go with the images of their label")
    label = data.labels_of()
    missing = [item for item in (*data.images.ids, *data.texts.ids) if item not in label]
    if missing:
        what = f"{len(missing)} items of {where} have no label, the first is {missing[0]!r}"
        raise XgapError(f"{what}; give each a label, or take them out of the training data")
    return label


def _in_templates(texts: Sequence[str], templates: Sequence[str], draw: random.Random) -> list[str]:
    return [draw.choice(templates).replace("{}", text) for text in texts]


def seed_of(*parts: int) -> int:
    """A seed for torch from several numbers."""
    return random.Random(" ".join(map(str, parts))).getrandbits(63)
