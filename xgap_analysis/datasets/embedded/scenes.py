"""The embedded dataset `emoji-scenes`: images of one to four emoji, with boxes, attributes, relations and captions.

A scene is a recipe (who drew it, which concepts, where, how large) and is drawn from the sheets of `data/emoji` when
it is opened. Sources, splits, label sets, known results and traps: its data card, `data/scenes/README.md`.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from xgap_analysis.core.errors import notice, unknown_name
from xgap_analysis.core.paths import data_root
from xgap_analysis.core.tags import TaggedText
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.embedded.emoji import load_emoji
from xgap_analysis.datasets.embedded.files import checked
from xgap_analysis.datasets.embedded.scene import Scene, Thing, read
from xgap_analysis.datasets.items import Images, Texts
from xgap_analysis.datasets.parts import Parts

NAME = "emoji-scenes"
SPLITS, EVALUATED = ("train", "val", "seen", "test"), ("seen", "test")
COLOURS = {"r": "red", "y": "yellow", "g": "green", "b": "blue", "p": "purple", "k": "black", "w": "white"}
SHARE_ALIKE = "openmoji"  # the one sheet that a redistribution may leave out
PLAIN = ("", "long")  # variants that have every split
KINDS = ("size", "colour", "subgroup", "group")  # label sets of things, besides the concept


@dataclass(frozen=True)
class World:
    """What scenes are read and drawn from.

    Args:
        recipes: by split, and by split and kind, as the file has them.
        drawings: of emoji, with ids `<artist>/<concept>`.
        names: of concepts.
        label_sets: subgroup and group of concepts.
        colours: artist to concept to colour.
        left_out: the artists whose sheets are not there.
    """

    recipes: Mapping[str, Any]
    drawings: Images
    names: Mapping[str, str]
    label_sets: Mapping[str, Mapping[str, str]]
    colours: Mapping[str, Mapping[str, str]]
    left_out: frozenset[str]

    def read(self, item: str, recipe: str) -> Scene | None:
        """A scene; None where its artist's sheet is left out."""
        scene = read(item, recipe, self.names, self.colours)
        return None if scene.artist in self.left_out else scene

    def scenes(self, split: str, kind: str = "") -> list[Scene | None]:
        """The scenes of a split in their order, None in the places of those that are left out."""
        recipes = self.recipes[f"{split}:{kind}" if kind else split]
        own = f"{split}-{kind}" if kind else split
        return [self.read(f"{own}-{i:04d}", recipe) for i, recipe in enumerate(recipes)]

    def thing(self, concept: str, artist: str, cell: int, size: str) -> Thing:
        """A thing that an artist draws."""
        return Thing(concept, self.names[concept], cell, size, self.colours[artist].get(concept, ""))


@dataclass(frozen=True)
class Caption:
    """A text about things.

    Args:
        id, text: of it.
        things: which of them it names, in its order: its sub-captions.
        scene: the label of the scene that it describes; empty where it describes none.
    """

    id: str
    text: TaggedText
    things: Sequence[Thing]
    scene: str = ""


def load_scenes(variant: str = "") -> Dataset:
    """The whole dataset; `.split(...)` gives the parts that are used.

    Splits, by concept and by artist, as `emoji` has them:
        train: training concepts, drawn by five artists.
        val, test: held-out concepts, drawn by these five and by the two held-out artists.
        seen: training concepts, drawn by the held-out artists.

    Items:
        `images`: scenes of 128 x 128 pixels, with `parts["regions"]`, 64 x 64 pixels each (columns `box` (left, top,
            right, bottom), `concept`, `name`, `size`, `colour`).
        `texts`: one caption per scene, "a bear, a kite and a cup", with `parts["captions"]`, one per thing, "a large
            yellow bear" (the same columns); `parts["names"]`, "a bear"; and `parts["sentences"]`, "a bear left of a
            kite".

    Label sets: `scene` (the default: a caption and its scene), `artist`, `n_things`; of parts `concept`, `size`,
    `colour` (where a drawing has one), `subgroup`, `group`, and `scene`.

    Args:
        variant: of the texts, or a task (splits seen and test alone):
            `"long"`: the texts say all, attributes and relations;
            `"single"`: scenes of one thing, a control of the size of things;
            `"twins"`, `"swaps"`, `"objects"`, `"attributes"`: pairs of scenes with pairs of captions, which differ in
                the cells of two things, in their sizes, in one thing, in the size of one thing; labels `pair`, `kind`;
            `"composed"`: a scene and "a kite instead of a bear";
            `"documents"`, `"documents-25"`: documents of two to four sections, half or 25 % of them texts; their split
                `train` has scenes and long captions, for corrections to be fitted on.
            See `datasets.embedded.scene_tasks`.

    Raises:
        XgapError: an unknown variant, or damaged or missing files.
    """
    from xgap_analysis.datasets.embedded.scene_tasks import TASKS

    world = _world()
    if variant not in PLAIN and variant not in TASKS:
        raise unknown_name(f"variant of {NAME}", variant, [*filter(None, PLAIN), *TASKS])
    make = TASKS.get(variant) or (_long if variant == "long" else _plain)
    name = f"{NAME}:{variant}" if variant else NAME
    own = SPLITS if variant in PLAIN else EVALUATED
    splits: dict[str, Callable[[], Dataset]] = {}
    splits |= {split: partial(make, world, name, (split,), splits) for split in own}
    if variant.startswith("documents"):  # what sections are made of, for corrections to be fitted on
        splits["train"] = partial(_long, world, name, ("train",), splits)
    return make(world, name, own, splits)


def _world() -> World:
    root = data_root()
    letters = json.loads(checked(root / "scenes", "colours.json"))
    recipes = json.loads(checked(root / "scenes", "scenes.json"))
    order = json.loads(checked(root / "emoji", "pictures.json"))
    emoji = load_emoji()
    colours = {
        artist: {c: COLOURS[x] for c, x in zip(order[artist], own, strict=True) if x in COLOURS}
        for artist, own in letters.items()
    }
    label_sets = {label_set: _by_concept(emoji, label_set) for label_set in ("subgroup", "group")}
    return World(recipes, emoji.images, emoji.class_names["concept"], label_sets, colours, _left_out(root))


def _by_concept(emoji: Dataset, label_set: str) -> dict[str, str]:
    of = emoji.labels[label_set]
    return {concept: of[item] for item, concept in emoji.labels["concept"].items()}


def _left_out(root: Path) -> frozenset[str]:
    if (root / "emoji" / "sprites" / f"{SHARE_ALIKE}.webp").is_file():
        return frozenset()
    notice(f"the sheet of {SHARE_ALIKE} is not there, so scenes by {SHARE_ALIKE} are left out of {NAME}")
    return frozenset({SHARE_ALIKE})


def split_name(splits: Sequence[str]) -> str:
    """What a table calls these splits together."""
    return splits[0] if len(splits) == 1 else "all"


def _plain(world: World, name: str, splits: Sequence[str], known: Mapping[str, Callable[[], Dataset]]) -> Dataset:
    scenes = [scene for split in splits for scene in world.scenes(split) if scene]
    return described(world, name, splits, scenes, [listed(scene) for scene in scenes], known)


def _long(world: World, name: str, splits: Sequence[str], known: Mapping[str, Callable[[], Dataset]]) -> Dataset:
    scenes = [scene for split in splits for scene in world.scenes(split) if scene]
    captions = [Caption(f"{scene.id}/long", scene.long(), scene.things, scene.id) for scene in scenes]
    return described(world, name, splits, scenes, captions, known)


def listed(scene: Scene) -> Caption:
    """The list caption of a scene."""
    return Caption(f"{scene.id}/list", scene.listed(), scene.things, scene.id)


def described(
    world: World,
    name: str,
    splits: Sequence[str],
    scenes: Sequence[Scene],
    captions: Sequence[Caption],
    known: Mapping[str, Callable[[], Dataset]],
    labels: Mapping[str, Mapping[str, str]] | None = None,
    **more: Any,
) -> Dataset:
    """A dataset of scenes and captions, with all their parts and label sets.

    Args:
        labels: further label sets, by name.
        more: further arguments of `Dataset`.
    """
    of = {scene.id: scene for scene in scenes}
    found = {**_labels(world, scenes, captions), **(labels or {})}
    concepts = sorted({thing.concept for scene in scenes for thing in scene.things})
    return Dataset(
        name,
        split_name(splits),
        images=images_of(world, scenes),
        texts=texts_of(captions, of),
        labels=found,
        class_names={
            "concept": {concept: world.names[concept] for concept in concepts},
            **{kind: {x: x.replace("-", " ") for x in sorted(set(found[kind].values()))} for kind in KINDS},
        },
        splits=known,
        **more,
    )


def images_of(world: World, scenes: Sequence[Scene]) -> Images:
    """Scenes as images, with their regions as parts."""
    of = {scene.id: scene for scene in scenes}
    rows = [(scene, place) for scene in scenes for place in range(len(scene.things))]
    by_id = {f"{scene.id}/region-{place}": (scene, place) for scene, place in rows}
    regions = Parts(
        Images(tuple(by_id), partial(_region, world.drawings, by_id), partial(_region_content, world.drawings, by_id)),
        [scene.id for scene, _ in rows],
        {"box": [scene.things[place].box for scene, place in rows], **_columns([s.things[place] for s, place in rows])},
    )
    opener, content = partial(_image, world.drawings, of), partial(_content, world.drawings, of)
    return Images(tuple(of), opener, content, parts={"regions": regions})


def texts_of(captions: Sequence[Caption], scenes: Mapping[str, Scene]) -> Texts:
    """Captions as texts, with what they name as parts: with attributes, without, and, of scenes, in sentences."""
    rows = [(caption, place, thing) for caption in captions for place, thing in enumerate(caption.things)]
    owners, columns = [caption.id for caption, *_ in rows], _columns([thing for *_, thing in rows])
    said = [thing.caption() for *_, thing in rows]
    plain = [TaggedText(thing.named(), [("concept", thing.concept)]) for *_, thing in rows]
    parts = {
        "captions": Parts(Texts([f"{c.id}/caption-{place}" for c, place, _ in rows], said), owners, columns),
        "names": Parts(Texts([f"{c.id}/name-{place}" for c, place, _ in rows], plain), owners, columns),
    }
    pairs = [
        (caption.id, f"{caption.id}/sentence-{k}", sentence)
        for caption in captions
        if caption.scene in scenes
        for k, sentence in enumerate(scenes[caption.scene].sentences())
    ]
    if pairs:
        parts["sentences"] = Parts(Texts([i for _, i, _ in pairs], [s for *_, s in pairs]), [o for o, *_ in pairs])
    return Texts([caption.id for caption in captions], [caption.text for caption in captions], parts)


def _columns(things: Sequence[Thing]) -> dict[str, list[str]]:
    return {column: [getattr(thing, column) for thing in things] for column in ("concept", "name", "size", "colour")}


def _labels(world: World, scenes: Sequence[Scene], captions: Sequence[Caption]) -> dict[str, dict[str, str]]:
    """Label sets of scenes, captions and their parts."""
    found: dict[str, dict[str, str]] = {
        label_set: {} for label_set in ("scene", "artist", "n_things", "concept", "subgroup", "group", "size", "colour")
    }
    for scene in scenes:
        found["scene"][scene.id] = scene.id
        found["artist"][scene.id] = scene.artist
        found["n_things"][scene.id] = str(len(scene.things))
    for caption in captions:
        if caption.scene:
            found["scene"][caption.id] = caption.scene
        found["n_things"][caption.id] = str(len(caption.things))
    for part, owner, thing in _parts(scenes, captions):
        own = {"concept": thing.concept, "size": thing.size, "colour": thing.colour}
        own |= {label_set: of[thing.concept] for label_set, of in world.label_sets.items()}
        own |= {label_set: found[label_set].get(owner, "") for label_set in ("scene", "artist")}
        for label_set, label in own.items():
            if label:
                found[label_set][part] = label
    return found


def _parts(scenes: Sequence[Scene], captions: Sequence[Caption]) -> Iterator[tuple[str, str, Thing]]:
    """Id, owner and thing of each region and sub-caption."""
    for scene in scenes:
        for place, thing in enumerate(scene.things):
            yield f"{scene.id}/region-{place}", scene.id, thing
    for caption in captions:
        for place, thing in enumerate(caption.things):
            yield f"{caption.id}/caption-{place}", caption.id, thing
            yield f"{caption.id}/name-{place}", caption.id, thing


# Items are opened by functions of this module, with what they need bound to them, so that other processes can do it.


def _image(drawings: Images, scenes: Mapping[str, Scene], item: str) -> Image.Image:
    return scenes[item].image(drawings)


def _content(drawings: Images, scenes: Mapping[str, Scene], item: str) -> str:
    return scenes[item].content(drawings)


def _region(drawings: Images, rows: Mapping[str, tuple[Scene, int]], item: str) -> Image.Image:
    scene, place = rows[item]
    return scene.region(place, drawings)


def _region_content(drawings: Images, rows: Mapping[str, tuple[Scene, int]], item: str) -> str:
    scene, place = rows[item]
    return scene.region_content(place, drawings)
