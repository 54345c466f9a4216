"""Which captions of an item a step looks at."""

import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from xgap_analysis.core.calls import options_alone, parse
from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.models.tower import Model
from xgap_analysis.views.encode import encode

DEFAULTS: Mapping[str, Mapping[str, int | float]] = {
    "one": {},
    "mix": {"p": 0.5},
    "all": {},
    "first_sentence": {},
    "near": {"top": 20, "threshold": 0.27},
}
SENTENCE = re.compile(r"\s*(.*?[.!?\u3002\uff01\uff1f])(?=\s|$|(?<=[\u3002\uff01\uff1f]))", re.DOTALL)
BLOCK = 1024  # images whose nearest captions are looked for at a time


class Chosen(NamedTuple):
    """Captions of one item.

    Args:
        ids: k of them.
        texts: the same as they are shown.
        n_own: how many, from the first, are captions of the item; others fill its places.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    n_own: int


@dataclass(frozen=True)
class Captions:
    """A policy of captions.

    | policy | an item's captions in a step |
    |---|---|
    | `one` | drawn from those of its label, as many as terms look at |
    | `mix(p=0.5)` | each with probability p one of its label's alternatives, and else the original: the first in the dataset (VeCLIP) |
    | `all` | all of its label; where labels have different numbers, terms that can (`Needs.is_caption`) leave out what fills places, and others see captions again |
    | `first_sentence` | a caption, then its first sentence (Long-CLIP) |
    | `near(top=20, threshold=0.27)` | those of the whole dataset nearest to its image, in the model that training starts from, with a cosine above the threshold; an image may have none (MCIP) |

    A term reads as many of them as it looks at, from the first: `clip` one for each augmentation, `multi-positive` all.

    Args:
        name: in the table.
        options: of the policy.
    """  # noqa: E501

    name: str = "one"
    options: Mapping[str, int | float] = field(default_factory=dict)

    @property
    def of_images(self) -> bool:
        """Whether captions are chosen by the image and not by the label."""
        return self.name == "near"

    def number(self, looked_at: int, most: int) -> int:
        """Captions of an item in a step.

        Args:
            looked_at: by the terms; none where no term looks at captions.
            most: captions of a label.
        """
        if not looked_at:
            return 0
        of_policy = {
            "all": max(most, looked_at),
            "first_sentence": max(2, looked_at),
            "near": self.options.get("top", 0),
        }
        return int(of_policy.get(self.name, looked_at))

    def ragged(self) -> bool:
        """Whether items have different numbers of captions."""
        return self.name in ("all", "near")

    def of_label(self, texts: Mapping[str, str], items: int, k: int, draw: random.Random, seed: str) -> list[Chosen]:
        """The captions of so many items of one label.

        Args:
            texts: the label's captions by id, in the dataset's order.
            items: of the label in the batch.
            k: captions of each.
            draw: shuffles them, in the same way whatever the policy.
            seed: of what else is drawn.
        """
        ids = list(texts) or [""]
        draw.shuffle(ids)
        if not k:
            return [Chosen((), (), 0)] * items
        if self.name == "mix":
            ids = _mixed(list(texts), items * k, self.options["p"], random.Random(seed))
        if self.name == "all":
            return [Chosen(*_texts(texts, _cycled(ids, k)), len(ids))] * items
        if self.name == "first_sentence":
            own = _cycled(ids, items * math.ceil(k / 2))
            both = [pair for item in own for pair in ((item, texts[item]), (item, first_sentence(texts[item])))]
            step = len(both) // items
            rows = [both[i * step : i * step + k] for i in range(items)]
            return [Chosen(tuple(i for i, _ in row), tuple(t for _, t in row), k) for row in rows]
        ids = _cycled(ids, items * k)
        return [Chosen(*_texts(texts, ids[i * k : (i + 1) * k]), k) for i in range(items)]


def captions_of(text: str) -> Captions:
    """A policy by name, with options.

    Raises:
        XgapError: an unknown name or option (the nearest are given), or an option out of range.

    Example:
        >>> captions_of("near(top=5)").options
        {'top': 5, 'threshold': 0.27}
    """
    call = parse(text)
    if call.name not in DEFAULTS:
        raise unknown_name("policy of captions", call.name, DEFAULTS)
    given: dict[str, Any] = options_alone(call, "a policy of captions")
    unknown = [option for option in given if option not in DEFAULTS[call.name]]
    if unknown:
        raise unknown_name(f"option of {call.name}", unknown[0], DEFAULTS[call.name])
    options = {**DEFAULTS[call.name], **given}
    ranges = {"p": (0, 1), "top": (1, 10**6), "threshold": (-1, 1)}
    for option, value in options.items():
        low, high = ranges[option]
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise XgapError(f"{option} of captions={text!r} is from {low} to {high}, not {value!r}")
        if option == "top" and not isinstance(value, int):
            raise XgapError(f"top of captions={text!r} is a number of captions, not {value!r}")
    return Captions(call.name, {o: value if o == "top" else float(value) for o, value in options.items()})


def first_sentence(text: str) -> str:
    """A text up to its first full stop, question mark or exclamation mark before a space; all of it without one.

    Example:
        >>> first_sentence("A bear. It sleeps, 3.5 m above the ground.")
        'A bear.'
    """
    found = SENTENCE.match(text)
    return found[1] if found else text


def nearest(model: Model, data: Dataset, policy: Captions) -> dict[str, tuple[str, ...]]:
    """Ids of the captions nearest to each image, by cosine, nearest first; captions that are spelled alike count once.

    Args:
        model: whose space it is.
        data: its images, and its captions of whatever label.
        policy: `near`, with its options.

    Source: the pseudo-captions of MCIP (Schall et al., SISAP 2024), which are drawn from CC12M.
    """
    top, threshold = int(policy.options["top"]), policy.options["threshold"]
    ids = {caption: item for item, caption in reversed(list(zip(data.texts.ids, data.texts.captions, strict=True)))}
    kept = [item for item in data.texts.ids if item in set(ids.values())]
    texts = encode(model, data.texts.select(kept), store=None, progress=False)
    images = encode(model, data.images, store=None, progress=False)
    found: dict[str, tuple[str, ...]] = {}
    for start in range(0, len(images), BLOCK):
        cosine = images.vectors[start : start + BLOCK] @ texts.vectors.T
        values, columns = cosine.topk(min(top, len(kept)), dim=1)
        for item, value, column in zip(images.ids[start : start + BLOCK], values, columns, strict=True):
            found[item] = tuple(kept[c] for c in column[value > threshold].tolist())
    return found


def filled(texts: Mapping[str, str], ids: Sequence[str], k: int) -> Chosen:
    """Captions of an image, with others in the places that are left."""
    own = list(ids) or [next(iter(texts))]
    return Chosen(*_texts(texts, _cycled(own, k)), len(ids))


def _mixed(ids: Sequence[str], n: int, p: float, draw: random.Random) -> list[str]:
    """The first of the ids, or, with probability p, one of the others where there are any."""
    others = ids[1:]
    return [draw.choice(others) if draw.random() < p and others else ids[0] for _ in range(n)]


def _cycled(ids: Sequence[str], n: int) -> list[str]:
    return (list(ids) * math.ceil(n / len(ids)))[:n]


def _texts(texts: Mapping[str, str], ids: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(ids), tuple(texts[item] for item in ids)
