"""One scene of `emoji-scenes`: what its recipe says, how it is drawn, and what can be said about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

from PIL import Image

from xgap_analysis.core.tags import Tag, TaggedText, tagged
from xgap_analysis.datasets.contents import of_values
from xgap_analysis.datasets.embedded.wording import with_article
from xgap_analysis.datasets.items import Images

CELL = 64  # pixels; a scene has two by two cells
EDGE = 2 * CELL
SMALL = 40  # pixels of a small drawing, in the middle of its cell
REGION = 64  # pixels of a region, whatever the size of its drawing
DRAWN_AS = "scene 1"  # to be changed with the way of drawing: what was computed from the old one is not found again
SIZES = {"L": "large", "S": "small"}
Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True)
class Thing:
    """One drawing in a scene.

    Args:
        concept, name: what it is.
        cell: 0 to 3, row by row.
        size: `"large"` or `"small"`.
        colour: of half of its pixels or more; empty where none is.
    """

    concept: str
    name: str
    cell: int
    size: str
    colour: str = ""

    @property
    def box(self) -> Box:
        """Its place in the image of the scene, in pixels."""
        top, left = (CELL * place for place in divmod(self.cell, 2))
        margin = 0 if self.size == "large" else (CELL - SMALL) // 2
        return left + margin, top + margin, left + CELL - margin, top + CELL - margin

    @property
    def attributes(self) -> tuple[str, ...]:
        """Its size, and its colour where it has one that its name does not say already."""
        return (self.size, self.colour) if self.colour and self.colour not in self.name.split() else (self.size,)

    @property
    def tags(self) -> tuple[Tag, ...]:
        """What is known of it."""
        known = (("concept", self.concept), ("size", self.size), ("colour", self.colour))
        return tuple((kind, name) for kind, name in known if name)

    def named(self, *attributes: str) -> str:
        """Its name with an article and attributes: "a bear", "a large yellow bear"."""
        words = " ".join([*attributes, self.name])
        return with_article(words) if with_article(self.name) != self.name else words

    def caption(self) -> TaggedText:
        """The sub-caption: its name with all its attributes."""
        return TaggedText(self.named(*self.attributes), self.tags)


@dataclass(frozen=True)
class Scene:
    """A scene by its recipe: who drew it, and what is in it."""

    id: str
    artist: str
    things: tuple[Thing, ...]

    @property
    def tags(self) -> tuple[Tag, ...]:
        """What is known of all that is in it, and who drew it."""
        return (*(tag for thing in self.things for tag in thing.tags), ("artist", self.artist))

    def image(self, drawings: Images) -> Image.Image:
        """The scene `[128, 128]`, on white, from drawings with ids `<artist>/<concept>`."""
        made = Image.new("RGB", (EDGE, EDGE), "white")
        for thing in self.things:
            drawing = drawings.opener(f"{self.artist}/{thing.concept}")
            left, top, right, bottom = thing.box
            if drawing.size != (right - left, bottom - top):
                drawing = drawing.resize((right - left, bottom - top), Image.Resampling.LANCZOS)
            made.paste(drawing, (left, top))
        return tagged(made, self.tags)

    def region(self, place: int, drawings: Images) -> Image.Image:
        """The box of one thing `[64, 64]`."""
        thing = self.things[place]
        made = self.image(drawings).crop(thing.box)
        if made.size != (REGION, REGION):
            made = made.resize((REGION, REGION), Image.Resampling.BICUBIC)
        return tagged(made, (*thing.tags, ("artist", self.artist)))

    def content(self, drawings: Images) -> str:
        """The digest of what it is drawn from: sheets, places on them, cells and sizes; not of pixels."""
        parts = ([drawings.digest_of(f"{self.artist}/{t.concept}"), t.cell, t.size] for t in self.things)
        return of_values(DRAWN_AS, *parts)

    def region_content(self, place: int, drawings: Images) -> str:
        """The digest of what a region is drawn from."""
        return of_values(self.content(drawings), place)

    def listed(self) -> TaggedText:
        """The list caption: "a bear, a kite and a cup"."""
        return TaggedText(joined([thing.named() for thing in self.things]), self._of_concepts())

    def sentences(self) -> list[TaggedText]:
        """A sentence for each two things in one row or column; the list caption where no two are."""
        made = [related(a, b) for i, a in enumerate(self.things) for b in self.things[i + 1 :] if relation(a, b)]
        return made or [self.listed()]

    def long(self) -> TaggedText:
        """All that can be said: the sub-captions, and the sentences."""
        parts = [joined([thing.caption() for thing in self.things]), *self.sentences()]
        if len(parts) == 2 and parts[1] == self.listed():
            parts.pop()
        return TaggedText(". ".join(parts), tuple(tag for thing in self.things for tag in thing.tags))

    def _of_concepts(self) -> list[Tag]:
        return [("concept", thing.concept) for thing in self.things]


def read(item: str, recipe: str, names: Mapping[str, str], colours: Mapping[str, Mapping[str, str]]) -> Scene:
    """A scene from its recipe, such as `"noto 1f43b/0L 1fa81/3S"`.

    Args:
        item: the id of the scene.
        recipe: artist, and concept, cell and size of each thing.
        names: concept to its name.
        colours: artist to concept to colour, empty where a drawing has none.
    """
    artist, *things = recipe.split(" ")
    found = []
    for thing in things:
        concept, _, place = thing.partition("/")
        colour = colours[artist].get(concept, "")
        found.append(Thing(concept, names[concept], int(place[0]), SIZES[place[1]], colour))
    return Scene(item, artist, tuple(found))


def relation(a: Thing, b: Thing) -> str:
    """Where a is, seen from b: "left of", "right of", "above" or "below" within a row or column; else nothing."""
    (row, column), (other_row, other_column) = divmod(a.cell, 2), divmod(b.cell, 2)
    if row == other_row:
        return "left of" if column < other_column else "right of"
    if column == other_column:
        return "above" if row < other_row else "below"
    return ""


def related(a: Thing, b: Thing) -> TaggedText:
    """The sentence about two things: "a bear left of a kite"."""
    tags = [("concept", a.concept), ("concept", b.concept)]
    return TaggedText(f"{a.named()} {relation(a, b)} {b.named()}", tags)


def exchanged(scene: Scene, a: int, b: int, what: str) -> Scene:
    """A scene in which two things have exchanged their cell or their size (`what`)."""
    things = list(scene.things)
    for own, other in permutations((a, b)):
        things[own] = replace(things[own], **{what: getattr(scene.things[other], what)})
    return replace(scene, things=tuple(things))


def replaced(scene: Scene, place: int, thing: Thing) -> Scene:
    """A scene with another thing in one place."""
    return replace(scene, things=(*scene.things[:place], thing, *scene.things[place + 1 :]))


def joined(words: Sequence[str]) -> str:
    """A list in a sentence: "a, b and c"."""
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)
