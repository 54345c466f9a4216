"""The embedded dataset `emoji-spoken`: the names of `emoji`, spoken by several voices, beside names and images.

What it holds, where it comes from and how it is split is described in its data card, `data/spoken/README.md`.
"""

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from xgap_analysis.core.paths import data_root
from xgap_analysis.core.tags import Tag
from xgap_analysis.datasets.contents import of_values
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.embedded.emoji import load_emoji
from xgap_analysis.datasets.embedded.files import checked, recorded
from xgap_analysis.datasets.items import Items

Own = TypeVar("Own", bound=Items)
SPLITS = ("train", "val", "test", "seen")
WHOSE = {"train": "train", "seen": "held out"}  # voices of a split; the others have all
Place = tuple[str, int, int, int]  # file, row, first column, number of frames


class Sheet(np.ndarray):
    """A log-mel sheet, float32 `[frames, bands]`, that carries what it holds as `tags` (see `core.tags`)."""

    tags: tuple[Tag, ...] = ()

    def __array_finalize__(self, source: Any) -> None:
        self.tags = getattr(source, "tags", ())


@dataclass(frozen=True)
class Recordings:
    """Where every spoken name lies.

    Args:
        root: the folder of the dataset.
        index: what `index.json` says.
        sums: file to SHA-256.
    """

    root: Path
    index: Mapping[str, Any]
    sums: Mapping[str, str]

    @property
    def voices(self) -> Mapping[str, Mapping[str, Any]]:
        """Voice to its split, engine and the engine's name of it."""
        return self.index["voices"]

    def names(self, language: str) -> dict[str, str]:
        """Concept to the word of it that is spoken in a language other than English."""
        return dict(zip(self.index["words"], self.index["languages"][language]["names"], strict=True))

    def lengths(self) -> dict[str, int]:
        """Frames of each spoken name, by its id."""
        return {
            f"{voice}/{concept}": frames
            for voice, facts in self.voices.items()
            for concept, frames in zip(self.index["concepts"], facts["frames"], strict=True)
        }

    def items(self, ids: Iterable[str]) -> Items:
        """The spoken names of ids `<voice>/<concept>`, or `<language>/<concept>` of the words in other languages.

        An item opens as a `Sheet`.
        """
        places = {**self._named(self.voices, self.index["concepts"], "")}
        places |= self._named(self.index["languages"], self.index["words"], "words-")
        return Items(tuple(ids), partial(self._open, places), partial(self._digest, places), "audio")

    def _named(self, parts: Mapping[str, Mapping[str, Any]], concepts: Sequence[str], prefix: str) -> dict[str, Place]:
        named: dict[str, Place] = {}
        for key, facts in parts.items():
            file = f"sheets/{prefix}{key}.webp"
            found = places(facts["frames"], self.index["width"])
            named |= {f"{key}/{concept}": (file, *place) for concept, place in zip(concepts, found, strict=True)}
        return named

    def _open(self, named: Mapping[str, Place], item: str) -> Sheet:
        file, row, column, frames = named[item]
        bands, floor, ceiling = (self.index[key] for key in ("bands", "floor", "ceiling"))
        pixels = _sheet(self.root, file, self.sums[file])[row * bands : (row + 1) * bands, column : column + frames]
        sheet = (floor + (ceiling - floor) / 255 * pixels[::-1].T.astype(np.float32)).astype(np.float32).view(Sheet)
        key, _, concept = item.partition("/")
        voiced = key in self.voices
        said_by: list[Tag] = [("voice", key), ("language", "en")] if voiced else [("language", key)]
        sheet.tags = (("concept", concept), *said_by)
        return sheet

    def _digest(self, named: Mapping[str, Place], item: str) -> str:
        file, *place = named[item]  # the item's name stands for its tags
        return of_values(self.sums[file], *place, *(self.index[key] for key in ("bands", "floor", "ceiling")), item)


def places(lengths: Sequence[int], width: int) -> list[tuple[int, int, int]]:
    """Row, first column and frames of each item of a sheet: side by side, a new row where the next does not fit."""
    row, column, found = 0, 0, []
    for length in lengths:
        if column + length > width:
            row, column = row + 1, 0
        found.append((row, column, length))
        column += length
    return found


def renamed(items: Own, of: Mapping[str, str]) -> Own:
    """Items under other ids: each id of `of` opens as the item that it is mapped to, which may have several."""
    return replace(items, ids=tuple(of), opener=partial(_opened, items, of), content=partial(_content, items, of))


def _opened(items: Items, of: Mapping[str, str], item: str) -> Any:
    return items.opener(of[item])


def _content(items: Items, of: Mapping[str, str], item: str) -> str:
    return items.digest_of(of[item])


def recordings() -> Recordings:
    """The recordings that are there.

    Raises:
        XgapError: a missing or damaged file.
    """
    root = data_root() / "spoken"
    index = json.loads(checked(root, "index.json"))
    return Recordings(root, index, recorded(root))


def load_spoken() -> Dataset:
    """Spoken names (`audio`), written names (`text`) and drawings (`image`) of the concepts of `emoji`.

    Splits, by concept and by voice; images are those of the split of `emoji` of the same name:
        train: training concepts in the four training voices.
        val: held-out concepts for choosing, in all six voices.
        test: other held-out concepts, in all six voices.
        seen: the training concepts in the two held-out voices.

    Ids are `<voice>/<concept>`, `<concept>/name` and `<artist>/<concept>`. Label sets are `concept` (the default) and
    `subgroup` of all items, `language` of spoken and written names, `voice` and `engine` of spoken ones, and `artist`
    of images.

    Raises:
        XgapError: a missing or damaged file.

    Example:
        >>> data = load_spoken()
        >>> {modality: len(items) for modality, items in data.split("seen").items.items()}
        {'image': 2009, 'text': 1206, 'audio': 2412}
        >>> data.items_of("audio").select(["rms/1f43b"])[0].shape  # "bear": frames of 20 ms, mel bands
        (19, 40)
    """
    known = recordings()
    emoji = load_emoji()
    splits: dict[str, Callable[[], Dataset]] = {}
    splits |= {name: partial(_part, known, emoji, name, splits) for name in SPLITS}
    return _part(known, emoji, "all", splits)


def _part(known: Recordings, emoji: Dataset, split: str, splits: Mapping[str, Callable[[], Dataset]]) -> Dataset:
    drawn = emoji if split == "all" else emoji.split(split)
    concepts = list(drawn.class_names["concept"])
    voices = [v for v, facts in known.voices.items() if split not in WHOSE or facts["split"] == WHOSE[split]]
    texts = drawn.texts.select(f"{c}/name" for c in concepts)
    audio = known.items(f"{voice}/{concept}" for voice in voices for concept in concepts)
    concept = {i: i.split("/")[1] for i in (*drawn.images.ids, *audio.ids)}
    concept |= {i: i.split("/")[0] for i in texts.ids}
    subgroup = {i: drawn.labels["subgroup"][f"{c}/name"] for i, c in concept.items()}
    voice = {i: i.split("/")[0] for i in audio.ids}
    return Dataset(
        "emoji-spoken",
        split,
        drawn.images,
        texts,
        labels={
            "concept": concept,
            "subgroup": subgroup,
            "voice": voice,
            "engine": {i: known.voices[v]["engine"] for i, v in voice.items()},
            "language": dict.fromkeys((*texts.ids, *audio.ids), "en"),
            "artist": drawn.labels["artist"],
        },
        class_names={label_set: drawn.class_names[label_set] for label_set in ("concept", "subgroup")},
        splits=splits,
        items={"audio": audio},
    )


@lru_cache(maxsize=12)
def _sheet(root: Path, file: str, digest: str) -> np.ndarray:
    """A voice's sheet as bytes `[rows bands, width]`, decoded once for each content that is recorded for it."""
    with Image.open(io.BytesIO(checked(root, file))) as sheet:
        return np.asarray(sheet.convert("L"))
