"""The embedded dataset `emoji-m3`: triples whose drawing is determined only by text and sound together.

A triple has a text of several words, each of another concept and in another language; a spoken word; and a drawing. The
language of the spoken word determines which word of the text is drawn; the meaning of the spoken word is irrelevant. So
with n words neither text nor sound alone retrieves the drawing more often than one time in n, and a sum of scores of
pairs of modalities cannot do better either: the task of Symile (Saporta et al., NeurIPS 2024), of which this is the
smallest case, made when it is loaded from words that `emoji-spoken` ships.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.tags import TaggedText
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.embedded.emoji import load_emoji
from xgap_analysis.datasets.embedded.spoken import Recordings, recordings, renamed
from xgap_analysis.datasets.items import Texts

SIZES = {"train": 1000, "test": 300}  # triples
ENGLISH_VOICE = "gb-m3"  # the other languages are spoken by a voice of this kind


@dataclass(frozen=True)
class Triple:
    """What a triple is made of.

    Args:
        words: concept and language of each word of the text, in order.
        place: of the word that is drawn.
        spoken: the concept whose name in the language of that word is spoken.
        artist: who drew it.
    """

    words: tuple[tuple[str, str], ...]
    place: int
    spoken: str
    artist: str

    @property
    def concept(self) -> str:
        """The concept that is drawn."""
        return self.words[self.place][0]

    @property
    def language(self) -> str:
        """The language of the spoken word, and of the word that is drawn."""
        return self.words[self.place][1]

    @property
    def recording(self) -> str:
        """The id of the spoken word."""
        return f"{ENGLISH_VOICE if self.language == 'en' else self.language}/{self.spoken}"


def load_triples(words: int | str = 5) -> Dataset:
    """Triples of `words` written words, a spoken word and a drawing; splits `train` and `test` by concept.

    A text, a sound and an image of one triple share the label `triple` (the default), and the ids of a triple's parts
    are `<triple>/text`, `<triple>/audio` and `<triple>/image`. Further label sets: `concept`, what is drawn (of images
    and texts); `language`, of the spoken word (of sounds and texts); `spoken`, the concept that is spoken.

    Args:
        words: of a text, from 1 to 5 (`"emoji-m3:2"`); the chance level for the text alone is 1 / words.

    Raises:
        XgapError: another number of words, or a missing or damaged file.

    Example:
        >>> data = load_triples().split("test")
        >>> data.texts.select(["test-0/text"])[0].count(",")
        4
    """
    known = recordings()
    languages = ("en", *known.index["languages"])
    count = int(words) if str(words).isdecimal() else 0
    if not 1 <= count <= len(languages):
        raise XgapError(f"a triple has from 1 to {len(languages)} words ({', '.join(languages)}), not {words!r}")
    emoji = load_emoji()
    splits: dict[str, Callable[[], Dataset]] = {}
    splits |= {split: partial(_part, known, emoji, count, split, splits) for split in SIZES}
    return _part(known, emoji, count, "train", splits)


def triples(known: Recordings, data: Dataset, words: int, split: str) -> dict[str, Triple]:
    """The triples of a split by name, each drawn from a generator of its own, seeded with its name."""
    concepts = [c for c in known.index["words"] if c in data.class_names["concept"]]
    artists: dict[str, list[str]] = {c: [] for c in concepts}
    for item in data.images.ids:
        artist, _, concept = item.partition("/")
        if concept in artists:
            artists[concept].append(artist)
    languages = ["en", *known.index["languages"]]
    made = {}
    for number in range(SIZES[split]):
        draw = random.Random(f"emoji-m3/{split}/{number}")
        text = tuple(zip(draw.sample(concepts, words), draw.sample(languages, words), strict=True))
        place = draw.randrange(words)
        spoken = draw.choice([c for c in concepts if c != text[place][0]])
        made[f"{split}-{number}"] = Triple(text, place, spoken, draw.choice(artists[text[place][0]]))
    return made


def _part(
    known: Recordings, emoji: Dataset, words: int, split: str, splits: Mapping[str, Callable[[], Dataset]]
) -> Dataset:
    data = emoji.split(split)
    made = triples(known, data, words, split)
    in_language = {"en": data.class_names["concept"]}
    for language in known.index["languages"]:
        in_language[language] = known.names(language)
    texts = {
        f"{name}/text": TaggedText(
            ", ".join(in_language[language][concept] for concept, language in one.words),
            [tag for concept, language in one.words for tag in (("concept", concept), ("language", language))],
        )
        for name, one in made.items()
    }
    drawing = {f"{name}/image": f"{one.artist}/{one.concept}" for name, one in made.items()}
    recording = {f"{name}/audio": one.recording for name, one in made.items()}
    ids = {name: [f"{name}/{part}" for part in ("text", "audio", "image")] for name in made}
    return Dataset(
        "emoji-m3" if words == 5 else f"emoji-m3:{words}",
        split,
        renamed(data.images, drawing),
        Texts(tuple(texts), tuple(texts.values())),
        labels={
            "triple": {i: name for name, own in ids.items() for i in own},
            "concept": {i: made[name].concept for name, own in ids.items() for i in (own[0], own[2])},
            "language": {i: made[name].language for name, own in ids.items() for i in own[:2]},
            "spoken": {own[1]: made[name].spoken for name, own in ids.items()},
        },
        splits=splits,
        items={"audio": renamed(known.items(()), recording)},
    )
