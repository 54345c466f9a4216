"""The embedded dataset `emoji-pieces`: ten names spoken one after the other, and the strip of their drawings.

A piece is to the names and drawings of `emoji-spoken` what a recording of music is to its notes, and a strip what a
page of the score is: each is long, nothing says which moment belongs to which place, and the two are the same only part
by part. Made when it is loaded from what `emoji-spoken` and `emoji` ship.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from xgap_analysis.core.tags import Tag, tagged, tags_of
from xgap_analysis.datasets.contents import of_values
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.embedded.emoji import EDGE
from xgap_analysis.datasets.embedded.spoken import Sheet, load_spoken, renamed
from xgap_analysis.datasets.items import Images, Items
from xgap_analysis.datasets.parts import Parts

PIECES, LENGTH = 100, 10  # pieces of a split, concepts of a piece
SPLITS = ("train", "test", "seen")


@dataclass(frozen=True)
class Piece:
    """What a piece is made of: concepts in their order, all drawn by one artist and spoken by one voice."""

    concepts: Sequence[str]
    artist: str
    voice: str


def load_pieces() -> Dataset:
    """A hundred pieces a split: modalities `audio` and `image`, which share the label `piece` (the default).

    Ids are `<piece>/audio` and `<piece>/image`. Their parts are `names` of audio (with the column `concept`) and
    `regions` of images (with `concept` and `left`, their first column of pixels), ids `<piece>/audio/0` and so on.
    Further label sets: `concept`, of parts; `voice`, of audio; `artist`, of images.

    Splits: `train`, of training concepts, artists and voices; `seen`, of training concepts by held-out artists and
    voices; `test`, of test concepts by any artist and voice.

    Raises:
        XgapError: a missing or damaged file.

    Example:
        >>> data = load_pieces().split("test")
        >>> data.images.select(["test-0/image"])[0].size
        (640, 64)
    """
    spoken = load_spoken()
    splits: dict[str, Callable[[], Dataset]] = {}
    splits |= {split: partial(_part, spoken, split, splits) for split in SPLITS}
    return _part(spoken, "train", splits)


def pieces(data: Dataset, split: str) -> dict[str, Piece]:
    """The pieces of a split by name, each drawn from a generator of its own, seeded with its name."""
    drawn: dict[str, list[str]] = {}
    for item in data.images.ids:
        artist, _, concept = item.partition("/")
        drawn.setdefault(artist, []).append(concept)
    voices = list(dict.fromkeys(data.labels["voice"].values()))
    made = {}
    for number in range(PIECES):
        draw = random.Random(f"emoji-pieces/{split}/{number}")
        artist = draw.choice([a for a, concepts in drawn.items() if len(concepts) >= LENGTH])
        made[f"{split}-{number}"] = Piece(draw.sample(drawn[artist], LENGTH), artist, draw.choice(voices))
    return made


def _part(spoken: Dataset, split: str, splits: Mapping[str, Callable[[], Dataset]]) -> Dataset:
    data = spoken.split(split)
    sounds, made = data.items_of("audio"), pieces(data, split)
    assert isinstance(sounds, Items)
    audio, images = (tuple(f"{name}/{modality}" for name in made) for modality in ("audio", "image"))
    places = [(name, k, concept) for name, one in made.items() for k, concept in enumerate(one.concepts)]
    names = renamed(sounds, {f"{name}/audio/{k}": f"{made[name].voice}/{c}" for name, k, c in places})
    regions = renamed(data.images, {f"{name}/image/{k}": f"{made[name].artist}/{c}" for name, k, c in places})
    concepts = tuple(concept for _, _, concept in places)
    spoken_parts = Parts(names, [i.rpartition("/")[0] for i in names.ids], {"concept": concepts})
    lefts = tuple(k * EDGE for _, k, _ in places)
    drawn_parts = Parts(regions, [i.rpartition("/")[0] for i in regions.ids], {"concept": concepts, "left": lefts})
    return Dataset(
        "emoji-pieces",
        split,
        Images(images, partial(_strip, regions), partial(_digest, regions), parts={"regions": drawn_parts}),
        labels={
            "piece": {item: item.split("/")[0] for item in (*audio, *images)},
            "concept": dict(zip((*names.ids, *regions.ids), concepts * 2, strict=True)),
            "voice": {item: made[item.split("/")[0]].voice for item in audio},
            "artist": {item: made[item.split("/")[0]].artist for item in images},
        },
        splits=splits,
        items={
            "audio": Items(audio, partial(_joined, names), partial(_digest, names), "audio", {"names": spoken_parts})
        },
    )


def _joined(names: Items, item: str) -> Sheet:
    """The names of a piece, one after the other, `[frames, bands]`."""
    sheets = [names.opener(f"{item}/{k}") for k in range(LENGTH)]
    joined = np.concatenate(sheets).view(Sheet)
    joined.tags = _all_tags(sheets)
    return joined


def _strip(regions: Items, item: str) -> Image.Image:
    """The drawings of a piece, from left to right."""
    drawings = [regions.opener(f"{item}/{k}") for k in range(LENGTH)]
    strip = Image.new("RGB", (LENGTH * EDGE, EDGE))
    for k, drawing in enumerate(drawings):
        strip.paste(drawing, (k * EDGE, 0))
    return tagged(strip, _all_tags(drawings))


def _digest(parts: Items, item: str) -> str:
    return of_values("one after another", *(parts.digest_of(f"{item}/{k}") for k in range(LENGTH)))


def _all_tags(parts: Sequence[Any]) -> tuple[Tag, ...]:
    """The tags of parts, each of them once."""
    return tuple(dict.fromkeys(tags_of(list(parts))))
