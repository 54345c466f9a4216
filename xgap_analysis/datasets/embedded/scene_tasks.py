"""The tasks of `emoji-scenes`: hard negatives in pairs, composed queries, documents, and single things."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from PIL import Image

from xgap_analysis.core.relevance import Relevance
from xgap_analysis.core.tags import TaggedText
from xgap_analysis.datasets.contents import of_values
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.embedded.scene import Scene, Thing, exchanged, joined, related, replaced
from xgap_analysis.datasets.embedded.scenes import (
    Caption,
    World,
    described,
    images_of,
    listed,
    split_name,
)
from xgap_analysis.datasets.items import Images, Items, Texts
from xgap_analysis.datasets.parts import Parts

Known = Mapping[str, Callable[[], Dataset]]
SHARES = (0, 25, 50, 75, 100)  # per cent of the sections that are texts
OTHER = {"large": "small", "small": "large"}


@dataclass(frozen=True)
class Pair:
    """Two scenes that differ in one respect, and a caption of each.

    Args:
        id: of the pair; the images are `<id>/image-0` and `<id>/image-1`, and the texts `<id>/text-0` and
            `<id>/text-1`, which describe them.
        kind: in what they differ.
        scenes: of the pair.
        captions: of the pair, and perhaps a third one, which describes neither.
    """

    id: str
    kind: str
    scenes: tuple[Scene, Scene]
    captions: tuple[Caption, ...]

    @staticmethod
    def of(
        own: str, kind: str, first: Scene, second: Scene, texts: Sequence[TaggedText], things: Sequence[Sequence[Thing]]
    ) -> "Pair":
        """A pair of two scenes; a third text, if there is one, describes neither."""
        scenes = (replace(first, id=f"{own}/image-0"), replace(second, id=f"{own}/image-1"))
        labels = [*(scene.id for scene in scenes), ""]
        captions = (
            Caption(f"{own}/text-{k}", text, named, label)
            for k, (text, named, label) in enumerate(zip(texts, things, labels, strict=False))
        )
        return Pair(own, kind, scenes, tuple(captions))


def twins(world: World, split: str) -> Iterator[Pair]:
    """Two things of a scene exchange their cells, which turns their relation round."""
    for i, scene, (a, b) in _recipes(world, split, "twins"):
        twin = exchanged(scene, a, b, "cell")
        things = [[s.things[a], s.things[b]] for s in (scene, twin)]
        yield Pair.of(f"{split}-twins-{i:03d}", "twin", scene, twin, [related(*own) for own in things], things)


def swaps(world: World, split: str) -> Iterator[Pair]:
    """A large and a small thing of a scene exchange their sizes."""
    for i, scene, (a, b) in _recipes(world, split, "swaps"):
        swapped = exchanged(scene, a, b, "size")
        things = [[s.things[a], s.things[b]] for s in (scene, swapped)]
        texts = [_with_sizes(own) for own in things]
        yield Pair.of(f"{split}-swaps-{i:03d}", "swap", scene, swapped, texts, things)


def objects(world: World, split: str) -> Iterator[Pair]:
    """One thing of a scene is replaced: by another of its subgroup (`hard`), or of another subgroup (`easy`)."""
    for i, scene, (place, hard, easy) in _recipes(world, split, "objects"):
        old = scene.things[place]
        for kind, concept in (("hard", hard), ("easy", easy)):
            other = replaced(scene, place, world.thing(concept, scene.artist, old.cell, old.size))
            texts, things = [scene.listed(), other.listed()], [scene.things, other.things]
            yield Pair.of(f"{split}-objects-{i:03d}-{kind}", kind, scene, other, texts, things)


def attributes(world: World, split: str) -> Iterator[Pair]:
    """One thing of a scene has the other size; the third text gives it a colour that it does not have."""
    for i, scene, (place, colour) in _recipes(world, split, "attributes"):
        old = scene.things[place]
        other = replaced(scene, place, replace(old, size=OTHER[old.size]))
        wrong = replace(old, colour=colour)
        things = [scene.things, other.things, replaced(scene, place, wrong).things]
        texts = [
            TaggedText(
                joined([t.named(*t.attributes) if k == place else t.named() for k, t in enumerate(own)]),
                [tag for t in own for tag in t.tags],
            )
            for own in things
        ]
        yield Pair.of(f"{split}-attributes-{i:03d}", "attribute", scene, other, texts, things)


def _with_sizes(things: Sequence[Thing]) -> TaggedText:
    tags = [tag for thing in things for tag in thing.tags if tag[0] != "colour"]
    return TaggedText(joined([thing.named(thing.size) for thing in things]), tags)


def _recipes(world: World, split: str, kind: str) -> Iterator[tuple[int, Scene, Sequence[Any]]]:
    """Number, scene and the rest of each recipe of a kind."""
    scenes = world.scenes(split)
    for i, (number, *rest) in enumerate(world.recipes[f"{split}:{kind}"]):
        scene = scenes[number]
        if scene:
            yield i, scene, rest


def _pairs(
    of: Callable[[World, str], Iterator[Pair]], world: World, name: str, splits: Sequence[str], known: Known
) -> Dataset:
    """Pairs as a dataset: label sets `scene` (a caption and its scene), `contrast` (the pair) and `kind`, besides
    those of scenes.
    """
    pairs = [pair for split in splits for pair in of(world, split)]
    items = {pair.id: [s.id for s in pair.scenes] + [c.id for c in pair.captions] for pair in pairs}
    labels = {
        "contrast": {item: pair.id for pair in pairs for item in items[pair.id]},
        "kind": {item: pair.kind for pair in pairs for item in items[pair.id]},
    }
    scenes = [scene for pair in pairs for scene in pair.scenes]
    captions = [caption for pair in pairs for caption in pair.captions]
    return described(world, name, splits, scenes, captions, known, labels)


def _single(world: World, name: str, splits: Sequence[str], known: Known) -> Dataset:
    """Scenes of one thing each, of which no two are of one concept."""
    scenes = [scene for split in splits for scene in world.scenes(split, "single") if scene]
    return described(world, name, splits, scenes, [listed(scene) for scene in scenes], known)


def _composed(world: World, name: str, splits: Sequence[str], known: Known) -> Dataset:
    """A scene, and a text that replaces one thing of it; four scenes show the result.

    Images are the references, under the ids of their scenes, and the targets, `<reference>/target-0` to `target-3` (the
    first and third by the reference's artist). A text has the id `<reference>/edit` and says "a kite instead of a
    bear"; its sub-captions are of the new and the old thing, and its part `reference` is the image that it changes
    (see the view `composed`). Relevance `target` has the targets for the id of the text
    and for that of the reference, so that a composed query may have either; the reference itself is never ranked: by
    its id, or as junk. Label sets of texts: `reference`, `added`, `removed`.
    """
    scenes: list[Scene] = []
    captions: list[Caption] = []
    relevant: dict[str, dict[str, int]] = {}
    labels: dict[str, dict[str, str]] = {"reference": {}, "added": {}, "removed": {}}
    for split in splits:
        for _, reference, (place, concept, recipes) in _recipes(world, split, "composed"):
            read = [world.read(f"{reference.id}/target-{k}", recipe) for k, recipe in enumerate(recipes)]
            targets, old = [target for target in read if target], reference.things[place]
            new = world.thing(concept, reference.artist, old.cell, old.size)
            text = TaggedText(f"{new.named()} instead of {old.named()}", [("concept", concept)])
            edit = Caption(f"{reference.id}/edit", text, [new, old])
            scenes += [reference, *targets]
            captions.append(edit)
            relevant |= {query: {target.id: 1 for target in targets} for query in (edit.id, reference.id)}
            labels["reference"] |= dict.fromkeys((edit.id, *(s.id for s in (reference, *targets))), reference.id)
            labels["added"][edit.id], labels["removed"][edit.id] = concept, old.concept
    junk = {caption.id: [labels["reference"][caption.id]] for caption in captions}
    relevance = {"target": Relevance.from_qrels(relevant, junk)}
    made = described(world, name, splits, scenes, captions, known, labels, judgements=relevance)
    references = made.images.select(labels["reference"][caption.id] for caption in captions)
    parts = {**made.texts.parts, "reference": Parts(references, [caption.id for caption in captions])}
    return replace(made, items={**made.items, "text": replace(made.texts, parts=parts)})


def _documents(share: int, world: World, name: str, splits: Sequence[str], known: Known) -> Dataset:
    """Documents of sections, each shown as its scene or as its long caption; a query is the list caption of one.

    `items["document"]` open as lists of images and texts, with `parts["images"]` and `parts["texts"]` (column
    `section`, its place). Every section has a number from 0 to 99, and is a text where the share (in per cent) exceeds
    it, so that a section that is a text stays one at a higher share. Label sets: `document` (the default) and
    `section`, of queries, documents and sections.
    """
    labels: dict[str, dict[str, str]] = {"document": {}, "section": {}}
    sections: dict[str, list[Scene | Caption]] = {}
    queries: list[Caption] = []
    for split in splits:
        scenes = world.scenes(split)
        for i, (sought, recipe) in enumerate(world.recipes[f"{split}:documents"]):
            own = f"{split}-documents-{i:03d}"
            of = [scene for number, _ in recipe if (scene := scenes[number])]
            if len(of) < len(recipe):
                continue
            made = [
                Caption(f"{own}/section-{k}", scene.long(), scene.things)
                if share > drawn
                else replace(scene, id=f"{own}/section-{k}")
                for k, (scene, (_, drawn)) in enumerate(zip(of, recipe, strict=True))
            ]
            query = replace(listed(of[sought]), id=f"{own}/query", scene="")
            sections[own] = made
            queries.append(query)
            labels["document"] |= dict.fromkeys((own, query.id, *(section.id for section in made)), own)
            labels["section"] |= {query.id: made[sought].id, **{section.id: section.id for section in made}}
    return Dataset(
        name,
        split_name(splits),
        items={"text": Texts([q.id for q in queries], [q.text for q in queries]), "document": _items(world, sections)},
        labels=labels,
        splits=known,
    )


def _items(world: World, sections: Mapping[str, Sequence[Scene | Caption]]) -> Items:
    rows = [(own, place, section) for own, of in sections.items() for place, section in enumerate(of)]
    shown = [(own, place, section) for own, place, section in rows if isinstance(section, Scene)]
    said = [(own, place, section) for own, place, section in rows if isinstance(section, Caption)]
    images = replace(images_of(world, [section for *_, section in shown]), parts={})
    texts = Texts([section.id for *_, section in said], [section.text for *_, section in said])
    parts = {
        "images": Parts(images, [own for own, *_ in shown], {"section": [place for _, place, _ in shown]}),
        "texts": Parts(texts, [own for own, *_ in said], {"section": [place for _, place, _ in said]}),
    }
    opener, content = partial(_document, world.drawings, sections), partial(_content, world.drawings, sections)
    return Items(tuple(sections), opener, content, "document", parts)


def _document(
    drawings: Images, sections: Mapping[str, Sequence[Scene | Caption]], item: str
) -> list[Image.Image | TaggedText]:
    return [s.image(drawings) if isinstance(s, Scene) else s.text for s in sections[item]]


def _content(drawings: Images, sections: Mapping[str, Sequence[Scene | Caption]], item: str) -> str:
    return of_values(*(s.content(drawings) if isinstance(s, Scene) else s.text for s in sections[item]))


TASKS: Mapping[str, Callable[[World, str, Sequence[str], Known], Dataset]] = {
    "single": _single,
    **{of.__name__: partial(_pairs, of) for of in (twins, swaps, objects, attributes)},
    "composed": _composed,
    "documents": partial(_documents, 50),
    **{f"documents-{share}": partial(_documents, share) for share in SHARES},
}
