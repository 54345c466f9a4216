"""What a step looks at: images, captions of their labels, augmented; every draw follows from (seed, step) alone."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.images import UNREADABLE
from xgap_analysis.models.adapters.hidden import are_words
from xgap_analysis.training.captions import captions_of, filled
from xgap_analysis.training.given import Further, GivenScores
from xgap_analysis.training.recipe import Recipe


@dataclass(frozen=True)
class Batch:
    """Inputs of one step.

    Args:
        pixels: `[v, n, 3, h, w]`.
        tokens: `[n, k, length]`.
        labels: class numbers `[n]`.
        is_word: `[n, k, length]`, which tokens are words; empty where no term needs that.
        extra: inputs of the towers of further modalities `[n, ...]`, by name.
        pair_scores: `[n, n]` of images with first captions; None where no term needs them.
        is_caption: `[n, k]`, where an item may have fewer than k captions.
        empty: ids `[length]` of an empty caption, none of which is a word; None where no term needs words.
    """

    pixels: Tensor
    tokens: Tensor
    labels: Tensor
    is_word: Tensor = field(default_factory=lambda: torch.zeros(0))
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    pair_scores: Tensor | None = None
    is_caption: Tensor | None = None
    empty: Tensor | None = None


class Drawn(NamedTuple):
    """An item of a batch.

    Args:
        label: of the item.
        image: its id; empty where no term looks at images.
        texts: ids of its captions.
        captions: those, in templates.
        n_own: how many of those, from the first, are its own; others fill its places.
        extra: id of an item of its label in each further modality, by name.
    """

    label: str
    image: str
    texts: tuple[str, ...]
    captions: tuple[str, ...]
    n_own: int
    extra: Mapping[str, str]


@dataclass(frozen=True)
class Unreadable:
    """In place of a batch: an image of it that cannot be read. A value, as the process that loads it may be another."""

    item: str
    reason: str


class Pairs(torch.utils.data.Dataset):
    """Batch by step number, for a `DataLoader`; the same whoever loads it, in whatever order.

    An epoch shows each label once, with one of its images (more with `sampler="shared"`) and some of its captions, all
    drawn at random.

    Args:
        data: its default labels say which captions belong to an image.
        recipe: how many of each, and how they are changed.
        tokenize, augment: captions to ids; an image to pixels.
        further: what there is of further modalities, by name.
        pair_scores: given scores of pairs.
        near: ids of captions by image, where `recipe.captions` chooses them so (see `captions.nearest`).

    Raises:
        XgapError: an item without a label, fewer labels with an image (and a caption, where captions are needed)
            than a batch takes, or a term without what it needs.
    """

    def __init__(
        self,
        data: Dataset,
        recipe: Recipe,
        tokenize: Any,
        augment: Any,
        further: Mapping[str, Further] | None = None,
        pair_scores: GivenScores | None = None,
        near: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._images, self._tokenize, self._augment = data.images, tokenize, augment
        # Numbers and words alone: a process that loads images need not know the terms of the objective.
        self._steps, self._seed, self._templates = recipe.steps, recipe.seed, recipe.templates
        self._policy, self._near, self._n_views = captions_of(recipe.captions), near, recipe.n_views
        self._each = recipe.items_of_a_label
        self._labels_of_batch = recipe.batch // self._each
        _check_items(data, recipe)
        label = _labels(data, data.images.ids if self._policy.of_images else (*data.images.ids, *data.texts.ids))
        self._caption = dict(zip(data.texts.ids, data.texts.captions, strict=True))
        self._of_images, self._of_texts = _by_label(data.images.ids, label), _by_label(data.texts.ids, label)
        self._n_captions = self._policy.number(recipe.n_captions, max(map(len, self._of_texts.values()), default=0))
        by_label = self._n_captions > 0 and not self._policy.of_images
        needed = [term.needed for term, _ in recipe.terms]
        self._empty = tokenize([""])[0] if any(needs.text_tokens or needs.ids for needs in needed) else None
        if any(needs.text_tokens for needs in needed):
            _check_words(data, recipe)
        self._further = _chosen(further or {}, recipe)
        self._of_further = {name: _by_label(own.ids, label) for name, own in self._further.items()}
        if not all(self._of_further.values()):
            name = next(name for name, own in self._of_further.items() if not own)
            what = f"no item of {name!r} has a label in {data.name!r} ({data.split_name})"
            raise XgapError(f"{what}: its labels say which images and texts an item belongs to")
        self._pair_scores = _scores(pair_scores, recipe)
        wanted = [
            name for name in self._of_images.keys() | self._of_texts.keys()
            if (name in self._of_images or not self._n_views) and (name in self._of_texts or not by_label)
            and all(name in own for own in self._of_further.values())
        ]  # fmt: skip
        self.labels = sorted(wanted)
        self._number = {label: i for i, label in enumerate(self.labels)}
        if len(self.labels) < self._labels_of_batch:
            raise XgapError(
                f"a batch takes {recipe.batch} items of {self._labels_of_batch} labels, and {data.name!r} "
                f"({data.split_name}) has {len(self.labels)} labels to train with; take a smaller batch"
            )

    @property
    def towers(self) -> dict[str, nn.Module]:
        """The towers of further modalities that terms read."""
        return {name: own.tower for name, own in self._further.items()}

    @property
    def given(self) -> dict[str, str]:
        """Digests of what is read beside the dataset."""
        scores = {} if self._pair_scores is None else {"pair_scores": self._pair_scores.digest}
        return {**{name: own.digest for name, own in self._further.items()}, **scores}

    def __len__(self) -> int:
        return self._steps

    def drawn(self, step: int) -> list[Drawn]:
        """The items of a step."""
        m = self._labels_of_batch
        epoch, place = divmod(step, len(self.labels) // m)
        order = list(self.labels)
        random.Random(f"{self._seed} epoch {epoch}").shuffle(order)
        draw = random.Random(f"{self._seed} step {step}")
        items = []
        for label in order[place * m : (place + 1) * m]:
            images = _several(draw, self._of_images.get(label, [""]), self._each)
            seed = f"{self._seed} step {step} {label}"
            if self._near is not None and self._n_captions:
                chosen = [filled(self._caption, self._near[image], self._n_captions) for image in images]
            else:
                of_label = {text: self._caption[text] for text in self._of_texts.get(label, ())}
                chosen = self._policy.of_label(of_label, self._each, self._n_captions, draw, f"{seed} captions")
            extra = {
                name: _several(random.Random(f"{seed} {name}"), own[label], self._each)
                for name, own in self._of_further.items()
            }
            for i, (image, own) in enumerate(zip(images, chosen, strict=True)):
                captions = _in_templates(own.texts, self._templates, random.Random(draw.random()))
                beside = {name: ids[i] for name, ids in extra.items()}
                items.append(Drawn(label, image, own.ids, captions, own.n_own, beside))
        return items

    def __getitem__(self, step: int) -> Batch | Unreadable:
        items = self.drawn(step)
        views: list[Tensor] = []
        with torch.random.fork_rng(devices=[]):
            opened = []
            for item in items if self._n_views else []:
                try:
                    opened.append(self._images.opener(item.image))
                except UNREADABLE as error:
                    return Unreadable(item.image, str(error))
            for view in range(self._n_views):
                torch.manual_seed(seed_of(self._seed, step, view))
                views.append(torch.stack([self._augment(image) for image in opened]))
        texts = [text for item in items for text in item.captions]
        tokens = self._tokenize(texts) if texts else torch.zeros(0, dtype=torch.long)
        tokens = tokens.unflatten(0, (len(items), self._n_captions)) if texts else tokens
        scores = self._pair_scores
        return Batch(
            torch.stack(views) if views else torch.zeros(0),
            tokens,
            torch.tensor([self._number[item.label] for item in items]),
            torch.zeros(0) if self._empty is None else are_words(tokens, self._empty),
            {name: own.inputs_of([item.extra[name] for item in items]) for name, own in self._further.items()},
            None if scores is None else scores.of([i.image for i in items], [i.texts[0] for i in items]),
            self._are_captions(items) if self._policy.ragged() and texts else None,
            self._empty,
        )

    def _are_captions(self, items: Sequence[Drawn]) -> Tensor:
        """`[n, k]`, which captions are an item's own."""
        return torch.arange(self._n_captions)[None] < torch.tensor([item.n_own for item in items])[:, None]


def augmentation(module: Any, preprocess: Any, kind: str) -> Any:
    """Image to pixels: the model's own size and normalisation, with the recipe's changes before them.

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


def _check_words(data: Dataset, recipe: Recipe) -> None:
    """Refuses captions without words, where a term reads the words of captions."""
    blank = [item for item, text in zip(data.texts.ids, data.texts.captions, strict=True) if not text.strip()]
    if blank and "{}" in recipe.templates:
        term = next(str(term) for term, _ in recipe.terms if term.needed.text_tokens)
        what = f"objective {term!r} reads the words of captions, and text {blank[0]!r} of {data.name!r} has none"
        raise XgapError(f"{what}; take it out of the training data, or use templates with words")


def _labels(data: Dataset, items: Sequence[str]) -> Mapping[str, str]:
    """The label of each item that is trained on, these at least."""
    where = f"{data.name!r} ({data.split_name})"
    if data.default_label_set in data.judgements:
        what = f"relevance is given item by item in {where}"
        raise XgapError(f"{what}, and training needs a label for each item: captions go with the images of their label")
    label = data.labels_of()
    missing = [item for item in items if item not in label]
    if missing:
        what = f"{len(missing)} items of {where} have no label, the first is {missing[0]!r}"
        raise XgapError(f"{what}; give each a label, or take them out of the training data")
    return label


def _by_label(ids: Sequence[str], label: Mapping[str, str]) -> dict[str, list[str]]:
    """Ids by their label, of those that have one."""
    found: dict[str, list[str]] = {}
    for item in ids:
        if item in label:
            found.setdefault(label[item], []).append(item)
    return found


def _several(draw: random.Random, ids: Sequence[str], n: int) -> list[str]:
    """So many of the ids, none twice while there are others."""
    if n == 1:
        return [draw.choice(ids)]
    drawn = list(ids)
    draw.shuffle(drawn)
    return (drawn * math.ceil(n / len(drawn)))[:n]


def _chosen(further: Mapping[str, Further], recipe: Recipe) -> dict[str, Further]:
    """The further modalities that terms read; none where no term reads any.

    Raises:
        XgapError: fewer than a term needs.
    """
    needing = {str(term): term.needed.extra for term, _ in recipe.terms if term.needed.extra}
    for term, n in needing.items():
        if n > len(further):
            there = ", ".join(further) or "none"
            raise XgapError(
                f"objective {term!r} needs {n} modalities beside images and texts, and there is {there}: "
                'give them, train(..., further={"audio": Further(ids, vectors)})'
            )
    return dict(further) if needing else {}


def _scores(given: GivenScores | None, recipe: Recipe) -> GivenScores | None:
    """The given scores, where a term reads them.

    Raises:
        XgapError: a term that reads them, and none are given.
    """
    needing = [str(term) for term, _ in recipe.terms if term.needed.pair_scores]
    if needing and given is None:
        raise XgapError(
            f"objective {needing[0]!r} needs scores of image-text pairs, and none are given: "
            "train(..., pair_scores=GivenScores(image_ids, text_ids, scores))"
        )
    return given if needing else None


def _in_templates(texts: Sequence[str], templates: Sequence[str], draw: random.Random) -> tuple[str, ...]:
    return tuple(draw.choice(templates).replace("{}", text) for text in texts)


def seed_of(*parts: int) -> int:
    """A seed for torch from several numbers."""
    return random.Random(" ".join(map(str, parts))).getrandbits(63)
