"""Build the embedded dataset `emoji-scenes`: recipes of scenes, which the package draws from the sheets of data/emoji.

    python data/scenes/build.py            # from concepts, names and drawings of data/emoji; about a minute

It writes `colours.json` (the dominant colour of each drawing), `scenes.json` (the recipes) and `SHA256SUMS`. Each
recipe comes from a generator of its own, seeded by its split and number, and nothing else is random. What the files
hold is said in the data card (README.md). Nothing here is imported by the package.
"""

import argparse
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
EMOJI = HERE.parent / "emoji"
HELD_OUT = ("emojione", "openmoji")  # artists
SHADED = "fluent-emoji"  # the drawings of fluent-emoji-flat once more: left out
SPLITS = {  # name: (scenes, split of the concepts, whether held-out artists and whether the others draw)
    "train": (1200, "train", False, True),
    "val": (200, "val", True, True),
    "seen": (800, "train", True, False),
    "test": (600, "test", True, True),
}
EVALUATED = ("seen", "test")
SINGLES, TWINS, SWAPS, REPLACED, COMPOSED, TARGETS, DOCUMENTS = 100, 200, 100, 100, 200, 4, 150
OBJECTS = (2, 2, 2, 3, 3, 4, 4)  # in a scene; each entry is as likely as another
SECTIONS = (2, 3, 4)  # of a document
WORDS = 2  # of a name, at most
LETTERS = {"r": "red", "y": "yellow", "g": "green", "b": "blue", "p": "purple", "k": "black", "w": "white"}
NO_COLOUR, AGAINST_ITS_NAME = ".", "x"
SIDE, COLUMNS, MAJORITY = 64, 40, 0.5
Value = TypeVar("Value")


@dataclass(frozen=True)
class Thing:
    """One drawing in a scene: which concept, in which cell (0 to 3, row by row), large (L) or small (S)."""

    concept: str
    cell: int
    size: str

    def __str__(self) -> str:
        return f"{self.concept}/{self.cell}{self.size}"


@dataclass(frozen=True)
class Scene:
    """A recipe: who draws, and what."""

    artist: str
    things: tuple[Thing, ...]

    def __str__(self) -> str:
        return " ".join([self.artist, *map(str, self.things)])

    @property
    def concepts(self) -> frozenset[str]:
        return frozenset(thing.concept for thing in self.things)


@dataclass(frozen=True)
class World:
    """What scenes are made of: facts about concepts, and the concepts that each artist may draw, by split."""

    facts: Mapping[str, Any]
    pools: Mapping[str, Mapping[str, Sequence[str]]]
    colours: Mapping[str, Mapping[str, str]]

    def are_apart(self, concept: str, others: Iterable[str]) -> bool:
        """Whether a concept is of another subgroup and another unit than each of the others."""
        own = self.facts[concept]
        there = [self.facts[other] for other in others]
        return all(own["subgroup"] != other["subgroup"] and own["unit"] != other["unit"] for other in there)


# Colours


def shares(pixels: np.ndarray) -> dict[str, float]:
    """The share of each colour among the opaque pixels of a drawing `[64, 64, 4]`, by hue, saturation and value.

    Black is darker than 0.3; white is of saturation below 0.15 and lighter than 0.75; grey, brown, orange and pink are
    no colour here.
    """
    opaque = pixels[..., 3] >= 128
    red, green, blue = (pixels[opaque][:, i] / 255 for i in range(3))
    value = np.max([red, green, blue], axis=0)
    spread = value - np.min([red, green, blue], axis=0)
    saturation = np.where(value > 0, spread / np.maximum(value, 1e-9), 0)
    by = np.maximum(spread, 1e-9)
    hue = 60 * np.where(
        value == red,
        (green - blue) / by % 6,
        np.where(value == green, (blue - red) / by + 2, (red - green) / by + 4),
    )
    black = value < 0.3
    coloured = ~black & (saturation >= 0.15)
    own = {
        "k": black,
        "w": ~black & ~coloured & (value > 0.75),
        "r": coloured & ((hue < 15) | (hue >= 330)) & (saturation >= 0.45),
        "y": coloured & (hue >= 35) & (hue < 62) & (value >= 0.6),
        "g": coloured & (hue >= 62) & (hue < 170),
        "b": coloured & (hue >= 170) & (hue < 250),
        "p": coloured & (hue >= 250) & (hue < 330),
    }
    return {letter: float(mask.mean()) if len(mask) else 0.0 for letter, mask in own.items()}


def colour_of(pixels: np.ndarray, name: str) -> str:
    """The letter of the colour that holds half of a drawing, or that none does, or that it is not the name's."""
    of = shares(pixels)
    best = max(of, key=lambda letter: of[letter])
    letter = best if of[best] >= MAJORITY else NO_COLOUR
    named = [own for own, word in LETTERS.items() if word in words_of(name)]
    return AGAINST_ITS_NAME if named and letter not in named else letter


def words_of(name: str) -> list[str]:
    return name.lower().replace(":", " ").split()


def colours(artist: str, order: Sequence[str], facts: Mapping[str, Any]) -> str:
    """One letter for each drawing of an artist."""
    with Image.open(EMOJI / "sprites" / f"{artist}.webp") as sheet:
        pixels = np.asarray(sheet.convert("RGBA")).astype(float)
    places = (divmod(k, COLUMNS) for k in range(len(order)))
    tiles = (pixels[y * SIDE : (y + 1) * SIDE, x * SIDE : (x + 1) * SIDE] for y, x in places)
    return "".join(colour_of(tile, facts[c]["name"]) for tile, c in zip(tiles, order, strict=True))


# Recipes


def pick(random: Random, choices: Sequence[Value]) -> Value:
    """One of the choices; only `random()` gives the same numbers in every version of Python."""
    return choices[int(random.random() * len(choices))]


def shuffled(random: Random, choices: Sequence[Value]) -> list[Value]:
    left = list(choices)
    return [left.pop(int(random.random() * len(left))) for _ in range(len(left))]


def generator(*parts: object) -> Random:
    return Random("/".join(["emoji-scenes", *map(str, parts)]))


def laid_out(random: Random, artist: str, concepts: Sequence[str]) -> Scene:
    """Concepts in cells and sizes that are drawn anew."""
    cells = shuffled(random, range(4))
    things = (Thing(c, cell, pick(random, "LS")) for c, cell in zip(concepts, cells, strict=False))
    return Scene(artist, tuple(things))


def drawn(world: World, random: Random, pool: Mapping[str, Sequence[str]], n: int) -> Scene:
    """A scene of n concepts of different subgroups and units, by one artist."""
    artist = pick(random, sorted(pool))
    concepts: list[str] = []
    while len(concepts) < n:
        concept = pick(random, pool[artist])
        if world.are_apart(concept, concepts):
            concepts.append(concept)
    return laid_out(random, artist, concepts)


def are_nested(one: frozenset[str], others: Iterable[frozenset[str]]) -> bool:
    """Whether a caption that lists what is in a scene is true of another one too, or the other way round."""
    return any(one <= other or other <= one for other in others)


def scenes(world: World, split: str) -> list[Scene]:
    """The scenes of a split, of which none holds all that another one holds."""
    made: list[Scene] = []
    for i in range(SPLITS[split][0]):
        random = generator(split, i)
        n = pick(random, OBJECTS)
        scene = drawn(world, random, world.pools[split], n)
        while are_nested(scene.concepts, (other.concepts for other in made)):
            scene = drawn(world, random, world.pools[split], n)
        made.append(scene)
    return made


def singles(world: World, split: str) -> list[Scene]:
    """Scenes of one drawing each, of which no two are of one concept."""
    made: list[Scene] = []
    for i in range(SINGLES):
        random = generator(split, "single", i)
        scene = drawn(world, random, world.pools[split], 1)
        while are_nested(scene.concepts, (other.concepts for other in made)):
            scene = drawn(world, random, world.pools[split], 1)
        made.append(scene)
    return made


def chosen(
    split: str, kind: str, made: Sequence[Scene], n: int, of: Callable[[Random, Scene], Any | None]
) -> list[list[Any]]:
    """What is made of the first n scenes of which it can be made, each with the number of its scene before it."""
    found: list[list[Any]] = []
    for i, scene in enumerate(made):
        own = of(generator(split, kind, i), scene)
        if own is not None:
            found.append([i, *own])
        if len(found) == n:
            return found
    raise SystemExit(f"only {len(found)} of {n} {kind} can be made of the scenes of {split}")


def twins(random: Random, scene: Scene) -> list[int] | None:
    """Two things that stand in one row or column: their cells are exchanged, and with them their relation."""
    pairs = [(a, b) for a, b in combinations(range(len(scene.things)), 2) if in_line(scene.things[a], scene.things[b])]
    return list(pick(random, [pick(random, [(a, b), (b, a)]) for a, b in pairs])) if pairs else None


def in_line(a: Thing, b: Thing) -> bool:
    return a.cell // 2 == b.cell // 2 or a.cell % 2 == b.cell % 2


def swaps(random: Random, scene: Scene) -> list[int] | None:
    """Two things of different sizes, which are exchanged."""
    n = len(scene.things)
    pairs = [(a, b) for a, b in combinations(range(n), 2) if scene.things[a].size != scene.things[b].size]
    return list(pick(random, pairs)) if pairs else None


def replaced(world: World, split: str) -> Callable[[Random, Scene], list[Any] | None]:
    """One thing, a concept of its subgroup that could stand there (hard), and one of another subgroup (easy)."""

    def of(random: Random, scene: Scene) -> list[Any] | None:
        place = int(random.random() * len(scene.things))
        pool, own = world.pools[split][scene.artist], scene.things[place].concept
        others = [thing.concept for thing in scene.things if thing.concept != own]
        facts = world.facts
        fit = [c for c in pool if world.are_apart(c, others) and facts[c]["unit"] != facts[own]["unit"]]
        hard = [c for c in fit if facts[c]["subgroup"] == facts[own]["subgroup"]]
        easy = [c for c in fit if facts[c]["subgroup"] != facts[own]["subgroup"]]
        return [place, pick(random, hard), pick(random, easy)] if hard and easy else None

    return of


def attributes(world: World) -> Callable[[Random, Scene], list[Any] | None]:
    """One thing of a colour that its name does not say, and another colour. (Its size can be replaced as well.)"""

    def of(random: Random, scene: Scene) -> list[Any] | None:
        fit = [
            (place, letter)
            for place, thing in enumerate(scene.things)
            if (letter := world.colours[scene.artist][thing.concept]) in LETTERS
            and not set(words_of(world.facts[thing.concept]["name"])) & set(LETTERS.values())
        ]
        if not fit:
            return None
        place, letter = pick(random, fit)
        return [place, LETTERS[pick(random, sorted(set(LETTERS) - {letter}))]]

    return of


def composed(world: World, split: str, made: Sequence[Scene]) -> list[list[Any]]:
    """A scene as reference, one thing of it, the concept to stand in its place, and scenes of the edited concepts.

    The first and third target are by the reference's artist, the others by another one, where one draws all of it.
    What a target shows is neither part of another query's target or reference, nor the other way round.
    """
    pools = world.pools[split]
    references = [scene.concepts for scene in made[:COMPOSED]]
    edited: list[frozenset[str]] = []
    found: list[list[Any]] = []
    for i, scene in enumerate(made[:COMPOSED]):
        random = generator(split, "composed", i)
        place = int(random.random() * len(scene.things))
        kept = [thing.concept for k, thing in enumerate(scene.things) if k != place]
        while True:
            new = pick(random, pools[scene.artist])
            after = frozenset([*kept, new])
            apart = world.are_apart(new, [*kept, scene.things[place].concept])
            if apart and not are_nested(after, [*references, *edited]):
                break
        edited.append(after)
        others = [artist for artist in sorted(pools) if artist != scene.artist and after <= set(pools[artist])]
        others = others or [scene.artist]
        concepts = [*kept[:place], new, *kept[place:]]
        artists = [scene.artist, pick(random, others), scene.artist, pick(random, others)]
        targets = [laid_out(random, artist, concepts) for artist in artists[:TARGETS]]
        found.append([i, place, new, list(map(str, targets))])
    return found


def documents(split: str, made: Sequence[Scene]) -> list[list[Any]]:
    """The section that is sought, and the sections: a scene, and a number below 100 that a text share has to exceed.

    No scene is in two documents.
    """
    order = shuffled(generator(split, "documents"), range(len(made)))
    found: list[list[Any]] = []
    for i in range(DOCUMENTS):
        random = generator(split, "documents", i)
        n = pick(random, SECTIONS)
        sections = [[order.pop(), int(random.random() * 100)] for _ in range(n)]
        found.append([int(random.random() * n), sections])
    return found


def recipes(facts: Mapping[str, Any], drawings: Mapping[str, Sequence[str]], of: Mapping[str, str]) -> dict[str, Any]:
    """All recipes, by split and kind.

    Args:
        facts, drawings: concepts.json and pictures.json of emoji.
        of: artist to the letters of its drawings, as `colours` gives them.
    """
    letters = {artist: dict(zip(drawings[artist], own, strict=True)) for artist, own in of.items()}
    short = {c for c, own in facts.items() if len(own["name"].split()) <= WORDS}
    pools = {
        split: {
            artist: [c for c in own if c in short and facts[c]["split"] == part and own[c] != AGAINST_ITS_NAME]
            for artist, own in letters.items()
            if (held_out if artist in HELD_OUT else others)
        }
        for split, (_, part, held_out, others) in SPLITS.items()
    }
    world = World(facts, pools, letters)
    made = {split: scenes(world, split) for split in SPLITS}
    found: dict[str, Any] = {split: list(map(str, own)) for split, own in made.items()}
    for split in EVALUATED:
        own = made[split]
        found |= {
            f"{split}:single": list(map(str, singles(world, split))),
            f"{split}:twins": chosen(split, "twins", own, TWINS, twins),
            f"{split}:swaps": chosen(split, "swaps", own, SWAPS, swaps),
            f"{split}:objects": chosen(split, "objects", own, REPLACED, replaced(world, split)),
            f"{split}:attributes": chosen(split, "attributes", own, REPLACED, attributes(world)),
            f"{split}:composed": composed(world, split, own),
            f"{split}:documents": documents(split, own),
        }
    return found


def text_of(values: Mapping[str, Any]) -> str:
    """JSON with one recipe a line."""

    def lines(own: Any) -> str:
        if isinstance(own, str):
            return json.dumps(own)
        return "[\n" + ",\n".join(json.dumps(one, separators=(",", ":")) for one in own) + "\n]"

    return "{\n" + ",\n".join(f'"{name}":{lines(own)}' for name, own in values.items()) + "\n}\n"


def read(name: str) -> Any:
    return json.loads((EMOJI / name).read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE, help="folder of what is written")
    out = parser.parse_args().out
    facts, drawings = read("concepts.json"), read("pictures.json")
    of = {artist: colours(artist, order, facts) for artist, order in drawings.items() if artist != SHADED}
    files = {"colours.json": text_of(of), "scenes.json": text_of(recipes(facts, drawings, of))}
    for name, text in files.items():
        (out / name).write_text(text, encoding="utf-8", newline="\n")
        print(f"{out / name}: {len(text.encode())} bytes")
    sums = (f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n" for name, text in files.items())
    (out / "SHA256SUMS").write_text("".join(sums), encoding="utf-8", newline="\n")
    named = [(c, letter) for artist in of for c, letter in zip(drawings[artist], of[artist], strict=True)]
    coloured = sum(letter in LETTERS for _, letter in named)
    worded = [letter for c, letter in named if set(words_of(facts[c]["name"])) & set(LETTERS.values())]
    print(f"{len(named)} drawings, {coloured} with a colour; {len(worded)} with a colour in their names, of which")
    print(f"{sum(letter in LETTERS for letter in worded)} agree and the others are left out")


if __name__ == "__main__":
    main()
