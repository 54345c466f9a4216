"""Build the recipes of the embedded dataset `emoji-clips` from what lies in `data/emoji`.

    python data/clips/build.py                # writes clips.json and SHA256SUMS beside this script
    python data/clips/build.py --out FOLDER   # or elsewhere, as the test that compares the bytes does

A recipe says who drew a clip and which events follow one another; `xgap_analysis` draws its frames when the clip is
opened. Recipe i of a split comes from a random generator of its own, seeded by the name of the split and i, so that the
same words and drawings give the same bytes on every machine. Nothing here is imported by the package.
"""

import argparse
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

HERE = Path(__file__).parent
EMOJI = HERE.parent / "emoji"
FRAMES, SHORTEST = 12, 3  # of a clip, and of an event: cuts are at least three frames apart
EVENTS = (1, 2, 3, 2)  # of recipes 0, 1, 2, 3, and again: a quarter, a half and a quarter
MOTIONS = ("moves right", "moves left", "rises", "falls", "grows", "shrinks", "turns")
MOST_OFF = 3  # frames between the middle of an event and the noisy time that is recorded for it
HELD_OUT = ("emojione", "openmoji")  # artists
SHADED = "fluent-emoji"  # the drawings of fluent-emoji-flat once more
SPLITS = {  # name: (number of clips, split of the concepts, whether held-out and other artists draw it)
    "train": (800, "train", (False, True)),
    "val": (150, "val", (True, True)),
    "seen": (500, "train", (True, False)),
    "test": (400, "test", (True, True)),
}
WORDS = 2  # of a name, at most
NO_THING = ("symbols",)  # groups whose names are signs and commands ("no entry", "multiply"): nothing that rises
ALIKE = ("clock face",)  # 24 drawings that differ by two hands, all held out
NO_NOUN = (
    *("breast-feeding", "camping", "cooking", "dashing away", "dizzy", "foggy", "high voltage", "locked"),
    *("star-struck", "unlocked"),
)


def fitting(facts: Mapping[str, Any]) -> bool:
    """Whether a concept has a short name that can be the subject of a sentence."""
    name = facts["name"]
    plain = len(name.split()) <= WORDS and re.fullmatch(r"[A-Za-z][A-Za-z’ -]*", name) is not None
    return plain and facts["group"] not in NO_THING and facts["unit"] not in ALIKE and name not in NO_NOUN


def drawn(random: Random, choices: Sequence[Any]) -> Any:
    """One of the choices; `randrange` gives the same numbers in every version of Python."""
    return choices[random.randrange(len(choices))]


def stops_of(random: Random, events: int) -> list[int]:
    """The frame before which each event ends: every way to cut the clip is as likely as any other."""
    ways = [[FRAMES]]
    for _ in range(events - 1):
        ways = [[cut, *way] for way in ways for cut in range(SHORTEST, way[0] - SHORTEST + 1)]
    ways = [way for way in ways if way[0] >= SHORTEST]
    return list(drawn(random, ways))


def recipe(
    split: str, i: int, artists: Mapping[str, Sequence[str]], facts: Mapping[str, Any], taken: set[tuple[str, str]]
) -> list[Any]:
    """Artist and events (concept, motion, stop, offset of the noisy time) of one clip.

    The concepts of a clip are of different subgroups and units, and no caption occurs twice in a split.
    """
    random = Random(f"emoji-clips/{split}/{i}")
    artist = drawn(random, sorted(artists))
    events: list[list[Any]] = []
    for stop in stops_of(random, EVENTS[i % len(EVENTS)]):
        there = [facts[event[0]] for event in events]
        while True:
            concept, motion = drawn(random, artists[artist]), drawn(random, MOTIONS)
            own = facts[concept]
            apart = all(own["subgroup"] != other["subgroup"] and own["unit"] != other["unit"] for other in there)
            if apart and (own["name"], motion) not in taken:
                break
        taken.add((own["name"], motion))
        events.append([concept, motion, stop, random.randrange(2 * MOST_OFF + 1) - MOST_OFF])
    return [artist, events]


def recipes() -> dict[str, list[Any]]:
    """The clips of each split."""
    facts = json.loads((EMOJI / "concepts.json").read_text(encoding="utf-8"))
    drawings = json.loads((EMOJI / "pictures.json").read_text(encoding="utf-8"))
    made: dict[str, list[Any]] = {}
    for split, (n, of_concepts, held_out) in SPLITS.items():
        fit = {c for c, own in facts.items() if own["split"] == of_concepts and fitting(own)}
        artists = {
            artist: [c for c in order if c in fit]
            for artist, order in drawings.items()
            if artist != SHADED and held_out[artist not in HELD_OUT]
        }
        taken: set[tuple[str, str]] = set()
        made[split] = [recipe(split, i, artists, facts, taken) for i in range(n)]
    return made


def text_of(splits: Mapping[str, Sequence[Any]]) -> str:
    """The recipes as JSON: one line a clip, artists and motions as numbers of their lists."""
    artists = sorted({artist for clips in splits.values() for artist, _ in clips})
    parts = [f'"artists":{_compact(artists)}', f'"motions":{_compact(MOTIONS)}']
    for split, clips in splits.items():
        lines = (
            _compact([artists.index(artist), [[c, MOTIONS.index(m), stop, off] for c, m, stop, off in events]])
            for artist, events in clips
        )
        parts.append(f'"{split}":[\n' + ",\n".join(lines) + "\n]")
    return "{" + ",\n".join(parts) + "}\n"


def _compact(values: Any) -> str:
    return json.dumps(values, separators=(",", ":"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE, help="folder of what is written")
    out = parser.parse_args().out
    content = text_of(recipes()).encode()
    (out / "clips.json").write_bytes(content)
    (out / "SHA256SUMS").write_bytes(f"{hashlib.sha256(content).hexdigest()}  clips.json\n".encode())
    print(f"{out / 'clips.json'}: {len(content)} bytes")


if __name__ == "__main__":
    main()
