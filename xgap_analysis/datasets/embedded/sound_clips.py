"""The embedded dataset `emoji-sound-clips`: the clips of `emoji-clips` with sound, in which each event is named.

The sound of a clip is silent but for one voice, which begins to say what is seen when an event begins and stops when it
ends. Made when it is loaded from what `emoji-clips` and `emoji-spoken` ship.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from xgap_analysis.datasets.contents import of_values
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.embedded.clips import FRAMES, load_clips
from xgap_analysis.datasets.embedded.spoken import Recordings, Sheet, load_spoken, recordings, renamed
from xgap_analysis.datasets.items import Items, Texts
from xgap_analysis.datasets.parts import Parts

A_FRAME = 20  # frames of sound for each frame of the clip: 0.4 s
SPLITS = ("train", "val", "seen", "test")


@dataclass(frozen=True)
class Utterance:
    """A name within the sound of a clip: the id of the spoken name, and the clip's frames of its event."""

    part: str
    recording: str
    start: int
    stop: int


def load_sound_clips() -> Dataset:
    """Modalities `video`, `text` and `chain` of `emoji-clips` as they are, and `audio`: ids `<clip>/audio`.

    Sound has the parts `names` (columns `event`, `concept`, `start` and `stop`, in frames of the clip, and `cut`,
    whether the name is longer than its event), ids `<event>/audio`; each opens as the whole name. It shares the label
    sets `clip` (the default) and `n_events` with its clip, and its parts `event`, `concept` and `clip` with their
    events; `voice` is that of a clip's sound. Splits are those of both: a voice is held out in `seen`, and a concept in
    `val` and `test`.

    Raises:
        XgapError: a missing or damaged file.

    Example:
        >>> data = load_sound_clips().split("test")
        >>> data.items_of("audio")[0].shape  # twelve frames of the clip
        (240, 40)
    """
    clips, spoken, known = load_clips(), load_spoken(), recordings()
    splits: dict[str, Callable[[], Dataset]] = {}
    splits |= {split: partial(_part, clips, spoken, known, split, splits) for split in SPLITS}
    return _part(clips, spoken, known, "train", splits)


def _part(
    clips: Dataset, spoken: Dataset, known: Recordings, split: str, splits: Mapping[str, Callable[[], Dataset]]
) -> Dataset:
    data = clips.split(split)
    voices = list(dict.fromkeys(spoken.split(split).labels["voice"].values()))
    chains = data.items_of("chain")
    assert isinstance(chains, Texts)
    said = chains.parts_of("captions").of(chains.ids)
    voice_of: dict[str, str] = {}
    spans: dict[str, list[Utterance]] = {}
    for owner, event, concept, start, stop in zip(
        said.owners, *(said.columns[name] for name in ("event", "concept", "start", "stop")), strict=True
    ):
        clip = data.labels["clip"][owner]
        voice = voice_of.setdefault(f"{clip}/audio", random.Random(f"emoji-sound-clips/{clip}").choice(voices))
        spans.setdefault(f"{clip}/audio", []).append(Utterance(f"{event}/audio", f"{voice}/{concept}", start, stop))
    spoken_in = [(clip, one) for clip, own in spans.items() for one in own]
    names = renamed(known.items(()), {one.part: one.recording for _, one in spoken_in})
    lengths = known.lengths()
    columns: dict[str, Sequence[Any]] = {
        "event": [one.part.removesuffix("/audio") for _, one in spoken_in],
        "concept": [one.recording.split("/")[1] for _, one in spoken_in],
        "start": [one.start for _, one in spoken_in],
        "stop": [one.stop for _, one in spoken_in],
        "cut": [lengths[one.recording] > (one.stop - one.start) * A_FRAME for _, one in spoken_in],
    }
    parts = {"names": Parts(names, [clip for clip, _ in spoken_in], columns)}
    floor = float(known.index["floor"])
    audio = Items(tuple(spans), partial(_sound, names, spans, floor), partial(_digest, names, spans), "audio", parts)
    labels = {label_set: dict(of) for label_set, of in data.labels.items()}
    for clip, one in spoken_in:
        event = one.part.removesuffix("/audio")
        for label_set in ("clip", "event", "concept", "n_events"):
            labels[label_set][one.part] = data.labels[label_set][event]
        for label_set in ("clip", "n_events"):
            labels[label_set][clip] = data.labels[label_set][event]
    return Dataset(
        "emoji-sound-clips",
        split,
        items={**data.items, "audio": audio},
        labels={**labels, "voice": voice_of},
        class_names=data.class_names,
        splits=splits,
    )


def _sound(names: Items, spans: Mapping[str, Sequence[Utterance]], floor: float, item: str) -> Sheet:
    """The sound of a clip, `[12 A_FRAME, bands]`."""
    sheets = [names.opener(one.part) for one in spans[item]]
    made = np.full((FRAMES * A_FRAME, sheets[0].shape[1]), floor, np.float32).view(Sheet)
    for one, sheet in zip(spans[item], sheets, strict=True):
        fitting = sheet[: (one.stop - one.start) * A_FRAME]
        made[one.start * A_FRAME : one.start * A_FRAME + len(fitting)] = fitting
    made.tags = tuple(dict.fromkeys(tag for sheet in sheets for tag in sheet.tags))
    return made


def _digest(names: Items, spans: Mapping[str, Sequence[Utterance]], item: str) -> str:
    return of_values(
        "sound of a clip", A_FRAME, *([names.digest_of(one.part), one.start, one.stop] for one in spans[item])
    )
