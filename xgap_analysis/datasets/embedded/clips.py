"""The embedded dataset `emoji-clips`: short clips of one to three events, with captions and times.

A clip is a recipe (who drew it, which events follow one another) and is drawn from the sheets of `data/emoji` when it
is opened. Sources, splits, label sets, known values and traps: its data card, `data/clips/README.md`.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from PIL import Image

from xgap_analysis.core.paths import data_root
from xgap_analysis.core.tags import Tag, TaggedText, tagged
from xgap_analysis.datasets.contents import of_values
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.embedded.emoji import load_emoji
from xgap_analysis.datasets.embedded.files import checked
from xgap_analysis.datasets.embedded.motion import DRAWN_AS, frame
from xgap_analysis.datasets.embedded.wording import sentence
from xgap_analysis.datasets.items import Images, Items, Texts
from xgap_analysis.datasets.parts import Parts

NAME = "emoji-clips"
FRAMES = 12  # of a clip
SPLITS = ("train", "val", "seen", "test")
THEN = ", then "


@dataclass(frozen=True)
class Event:
    """One thing that happens in a clip.

    Args:
        id: of its caption.
        concept: what is seen.
        caption: a sentence, "a kite rises".
        motion: the verb of the sentence.
        start, stop: the frames from the first to the one before `stop`.
        offset: frames from the middle of the event to the time that is recorded for it in error.
    """

    id: str
    concept: str
    caption: str
    motion: str
    start: int
    stop: int
    offset: int

    @property
    def middle(self) -> float:
        """The time of the event, in frames."""
        return (self.start + self.stop - 1) / 2

    @property
    def tags(self) -> tuple[Tag, ...]:
        """What a text about the event says."""
        return ("concept", self.concept), ("motion", self.motion)


@dataclass(frozen=True)
class Clip:
    """A clip: who drew it, and its events in their order, which fill its frames without a blank one between them."""

    id: str
    artist: str
    events: Sequence[Event]

    def frames(self) -> Iterator[tuple[int, Event]]:
        """Time and event of each frame."""
        return ((time, event) for event in self.events for time in range(event.start, event.stop))


@dataclass(frozen=True)
class Drawings:
    """The drawings that clips are made of, by artist and concept, and the names of concepts."""

    images: Images
    names: Mapping[str, str]

    def frame(self, clip: Clip, time: int, event: Event) -> Image.Image:
        """One frame `[64, 64]` of a clip, with its tags."""
        drawing = self.images.opener(f"{clip.artist}/{event.concept}")
        made = frame(drawing, event.motion, time - event.start, event.stop - event.start)
        return tagged(made, (*event.tags, ("artist", clip.artist)))

    def content(self, clip: Clip, time: int, event: Event) -> list[Any]:
        """What a frame is made of."""
        drawing = self.images.digest_of(f"{clip.artist}/{event.concept}")
        return [DRAWN_AS, drawing, event.motion, time - event.start, event.stop - event.start]


def two_digits(time: float, duration: float = FRAMES) -> str:
    """A time as two digits, in per cent of the duration; the end is 99.

    Formula: `min(round(100 time / duration), 99)`.

    Example:
        >>> [two_digits(time) for time in (0, 1, 6, 12)]
        ['00', '08', '50', '99']

    Source: Tang et al., AVicuna, AAAI 2025.
    """
    return f"{min(round(100 * time / duration), 99):02d}"


def load_clips() -> Dataset:
    """The whole dataset; `.split(...)` gives the parts that are used.

    Splits, by concept and by artist, as `emoji` has them:
        train: training concepts, drawn by the artists whose drawings the embedded models were trained on.
        val, test: held-out concepts, drawn by these and by the held-out artists.
        seen: training concepts, drawn by the held-out artists.

    Items:
        `items["video"]`: clips, lists of 12 images of 64 x 64 pixels, with `parts["frames"]` (columns `time`, `event`,
            `concept`, `motion`, `cut`).
        `texts`: a caption per event, "a kite rises"; none occurs twice in a split.
        `items["chain"]`: a caption per clip, "a kite rises, then gloves turn", with `parts["captions"]` (columns
            `event`, `concept`, `motion`, `start`, `stop`, in frames, `begins`, `ends`, in two-digit per cent, `offset`,
            `noisy`, the middle of the event with the offset).

    Label sets: `clip` (the default: a caption and the clip that it is about), `event` (a caption and its frames),
    `concept`, `motion`, `artist`, `n_events`. Parts have labels too.

    Clips of an artist whose drawings `emoji` does not hold are left out.

    Raises:
        XgapError: damaged or missing files.
    """
    whole = json.loads(checked(data_root() / "clips", "clips.json"))
    emoji = load_emoji()
    drawings = Drawings(emoji.images, emoji.class_names["concept"])
    artists = set(emoji.labels["artist"].values())
    clips = {
        split: [clip for clip in _clips(whole, split, drawings.names) if clip.artist in artists] for split in SPLITS
    }
    splits: dict[str, Callable[[], Dataset]] = {}
    splits |= {split: partial(_part, split, clips[split], drawings, splits) for split in SPLITS}
    return _part("all", [clip for split in SPLITS for clip in clips[split]], drawings, splits)


def _clips(whole: Mapping[str, Any], split: str, names: Mapping[str, str]) -> Iterator[Clip]:
    for i, (artist, recipe) in enumerate(whole[split]):
        own, start, events = f"{split}-{i:04d}", 0, []
        for k, (concept, motion, stop, offset) in enumerate(recipe):
            verb = whole["motions"][motion]
            caption = sentence(names[concept], verb)
            events.append(Event(f"{own}/{k}", concept, caption, verb, start, stop, offset))
            start = stop
        yield Clip(own, whole["artists"][artist], tuple(events))


def _part(
    split: str, clips: Sequence[Clip], drawings: Drawings, splits: Mapping[str, Callable[[], Dataset]]
) -> Dataset:
    events = [event for clip in clips for event in clip.events]
    return Dataset(
        NAME,
        split,
        items={
            "text": Texts([e.id for e in events], [TaggedText(e.caption, e.tags) for e in events]),
            "video": _video(clips, drawings),
            "chain": _chains(clips),
        },
        labels=_labels(clips),
        class_names={
            "concept": {e.concept: drawings.names[e.concept] for e in events},
            "motion": {motion: motion for motion in sorted({e.motion for e in events})},
        },
        splits=splits,
    )


def _video(clips: Sequence[Clip], drawings: Drawings) -> Items:
    """Clips as lists of frames, with the frames as parts."""
    by_id = {clip.id: clip for clip in clips}
    rows = [(clip, time, event) for clip in clips for time, event in clip.frames()]
    by_frame = {_frame_id(clip, time): (clip, time, event) for clip, time, event in rows}
    frames = Parts(
        Images(tuple(by_frame), partial(_frame, drawings, by_frame), partial(_frame_content, drawings, by_frame)),
        [clip.id for clip, *_ in rows],
        {
            "time": [time for _, time, _ in rows],
            "event": [event.id for *_, event in rows],
            "concept": [event.concept for *_, event in rows],
            "motion": [event.motion for *_, event in rows],
            "cut": [time == event.start > 0 for _, time, event in rows],
        },
    )
    opener, content = partial(_opened, drawings, by_id), partial(_content, drawings, by_id)
    return Items(tuple(by_id), opener, content, "video", {"frames": frames})


def _opened(drawings: Drawings, clips: Mapping[str, Clip], item: str) -> list[Image.Image]:
    clip = clips[item]
    return [drawings.frame(clip, time, event) for time, event in clip.frames()]


def _content(drawings: Drawings, clips: Mapping[str, Clip], item: str) -> str:
    clip = clips[item]
    return of_values("clip", *(drawings.content(clip, time, event) for time, event in clip.frames()))


def _frame(drawings: Drawings, frames: Mapping[str, tuple[Clip, int, Event]], item: str) -> Image.Image:
    return drawings.frame(*frames[item])


def _frame_content(drawings: Drawings, frames: Mapping[str, tuple[Clip, int, Event]], item: str) -> str:
    return of_values("frame", *drawings.content(*frames[item]))


def _chains(clips: Sequence[Clip]) -> Texts:
    """What happens in a clip, in one caption, with the captions of its events as parts."""
    rows = [(clip, event) for clip in clips for event in clip.events]
    events = [event for _, event in rows]
    columns: dict[str, list[Any]] = {
        "event": [event.id for event in events],
        "concept": [event.concept for event in events],
        "motion": [event.motion for event in events],
        "start": [event.start for event in events],
        "stop": [event.stop for event in events],
        "begins": [two_digits(event.start) for event in events],
        "ends": [two_digits(event.stop) for event in events],
        "offset": [event.offset for event in events],
        "noisy": [event.middle + event.offset for event in events],
    }
    captions = Texts([_link_id(event) for event in events], [TaggedText(e.caption, e.tags) for e in events])
    parts = Parts(captions, [_chain_id(clip) for clip, _ in rows], columns)
    whole = [TaggedText(THEN.join(e.caption for e in c.events), [t for e in c.events for t in e.tags]) for c in clips]
    return Texts([_chain_id(clip) for clip in clips], whole, {"captions": parts})


def _labels(clips: Sequence[Clip]) -> dict[str, dict[str, str]]:
    """The label sets; see `load_clips`."""
    labels: dict[str, dict[str, str]] = {
        label_set: {} for label_set in ("clip", "event", "concept", "motion", "artist", "n_events")
    }
    for clip in clips:
        frames = [_frame_id(clip, time) for time, _ in clip.frames()]
        texts = [item for event in clip.events for item in (event.id, _link_id(event))]
        labels["clip"] |= dict.fromkeys([clip.id, *texts, _chain_id(clip), *frames], clip.id)
        labels["artist"] |= dict.fromkeys([clip.id, *frames], clip.artist)
        labels["n_events"] |= dict.fromkeys([clip.id, *texts, _chain_id(clip), *frames], str(len(clip.events)))
        for event in clip.events:
            own = [event.id, _link_id(event), *frames[event.start : event.stop]]
            labels["event"] |= dict.fromkeys(own, event.id)
            labels["concept"] |= dict.fromkeys(own, event.concept)
            labels["motion"] |= dict.fromkeys(own, event.motion)
    return labels


def _frame_id(clip: Clip, time: int) -> str:
    return f"{clip.id}/frame-{time:02d}"


def _chain_id(clip: Clip) -> str:
    return f"{clip.id}/chain"


def _link_id(event: Event) -> str:
    """The id of an event's caption as a part of the chain."""
    return f"{event.id}/link"
