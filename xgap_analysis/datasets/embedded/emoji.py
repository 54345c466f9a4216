"""The embedded dataset `emoji`: one concept drawn by several artists, with names, keywords and groups.

Its contents, sources and splits are described in its data card, `data/emoji/README.md`.
"""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from PIL import Image

from xgap_analysis.core.errors import unknown_name
from xgap_analysis.core.paths import data_root
from xgap_analysis.core.tags import TaggedText, tagged
from xgap_analysis.datasets.assemble import assemble
from xgap_analysis.datasets.contents import of_values
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.embedded.files import checked, recorded
from xgap_analysis.datasets.items import Images

EDGE = 64  # pixels, width and height
HELD_OUT_ARTISTS = ("emojione", "openmoji")
NEAR_DUPLICATES = ("fluent-emoji",)  # the drawings of fluent-emoji-flat, shaded: for training only
KEYWORDS_A_CAPTION = 4
SPLITS = ("train", "val", "test", "seen")


def load_emoji(language: str = "en") -> Dataset:
    """The whole dataset; `.split(...)` gives the parts that are used.

    Splits, by concept and by artist:
        train: the concepts and artists the embedded models were trained on.
        val: held-out concepts for choosing ranks and the like, by every artist but `fluent-emoji` (a near duplicate).
        test: other held-out concepts, by the same artists.
        seen: the training concepts drawn by the two held-out artists.

    Texts have ids `<concept>/name`, `<concept>/other-k` and `<concept>/keywords-k`. Names are queries; the
    gallery of text retrieval has the other captions, none of which shares a word stem with its concept's name. With a
    language other than English, the names in that language are the queries (`<concept>/<language>`), and the English
    names the gallery.

    Raises:
        XgapError: a language without names, or damaged files.
    """
    root = data_root() / "emoji"
    concepts = json.loads(checked(root, "concepts.json"))
    drawn = json.loads(checked(root, "pictures.json"))
    languages = sorted({lang for facts in concepts.values() for lang in facts["names"]})
    if language != "en" and language not in languages:
        raise unknown_name("language of emoji", language, ["en", *languages, "parallel"])
    name = "emoji" if language == "en" else f"emoji:{language}"
    splits: dict[str, Callable[[], Dataset]] = {}  # each part knows its siblings: corrections are fitted on train
    splits |= {split: partial(_part, root, name, language, concepts, drawn, split, splits) for split in SPLITS}
    return _part(root, name, language, concepts, drawn, "all", splits)


def _part(
    root: Path,
    name: str,
    language: str,
    concepts: Mapping[str, Any],
    drawn: Mapping[str, Sequence[str]],
    split: str,
    splits: Mapping[str, Callable[[], Dataset]],
) -> Dataset:
    in_split = {"seen": "train"}.get(split, split)
    chosen = {c: facts for c, facts in concepts.items() if split == "all" or facts["split"] == in_split}
    artists = [a for a in drawn if split in ("all", "train") or a not in NEAR_DUPLICATES]
    if split == "train":
        artists = [a for a in artists if a not in HELD_OUT_ARTISTS]
    elif split == "seen":
        artists = list(HELD_OUT_ARTISTS)
    image_ids = tuple(f"{artist}/{c}" for artist in artists for c in drawn[artist] if c in chosen)
    captions: dict[str, str] = {}
    queries: list[str] = []
    for concept, facts in chosen.items():
        captions[f"{concept}/name"] = facts["name"]
        if language != "en":
            if language in facts["names"]:
                captions[f"{concept}/{language}"] = facts["names"][language]
                queries.append(f"{concept}/{language}")
            continue
        apart = facts["keywords_apart"]
        chunks = [apart[i : i + KEYWORDS_A_CAPTION] for i in range(0, len(apart), KEYWORDS_A_CAPTION)]
        others = {f"{concept}/other-{k}": text for k, text in enumerate(facts["other_names_apart"])}
        others |= {f"{concept}/keywords-{k}": " ".join(words) for k, words in enumerate(chunks) if len(words) > 1}
        if others:
            queries.append(f"{concept}/name")
        captions |= others
    labels: dict[str, dict[str, str]] = {"concept": {}, "subgroup": {}, "group": {}}
    for item in image_ids:
        concept = item.split("/")[1]
        labels["concept"][item] = concept
    for item in captions:
        labels["concept"][item] = item.split("/")[0]
    for label_set in ("subgroup", "group"):
        labels[label_set] = {item: chosen[concept][label_set] for item, concept in labels["concept"].items()}
    labels["artist"] = {item: item.split("/")[0] for item in image_ids}
    spoken = {c: facts["name"] if language == "en" else facts["names"].get(language) for c, facts in chosen.items()}
    place = {artist: {concept: k for k, concept in enumerate(order)} for artist, order in drawn.items()}
    sheets = {artist: recorded(root)[f"sprites/{artist}.webp"] for artist in drawn}
    return assemble(
        name,
        split,
        Images(image_ids, partial(_drawing, root, drawn), partial(_content, sheets, place)),
        texts={item: TaggedText(text, [("concept", item.split("/")[0])]) for item, text in captions.items()},
        labels=labels,
        classes={
            "concept": {c: words for c, words in spoken.items() if words},
            **{lv: {x: x.replace("-", " ") for x in sorted(set(labels[lv].values()))} for lv in ("subgroup", "group")},
        },
        text_queries=tuple(queries),
        splits=splits,
    )


def _drawing(root: Path, drawn: Mapping[str, Sequence[str]], item: str) -> Image.Image:
    artist, _, concept = item.partition("/")
    sheet, places = _sheet(root, artist, tuple(drawn[artist]))
    columns = sheet.width // EDGE
    top, left = divmod(places[concept], columns)
    box = (left * EDGE, top * EDGE, (left + 1) * EDGE, (top + 1) * EDGE)
    return tagged(sheet.crop(box), [("concept", concept), ("artist", artist)])


def _content(sheets: Mapping[str, str], place: Mapping[str, Mapping[str, int]], item: str) -> str:
    artist, _, concept = item.partition("/")
    return of_values(sheets[artist], place[artist][concept])


@lru_cache(maxsize=16)
def _sheet(root: Path, artist: str, order: tuple[str, ...]) -> tuple[Image.Image, dict[str, int]]:
    """An artist's sheet on white, decoded once, and the place of each concept on it."""
    with Image.open(io.BytesIO(checked(root, f"sprites/{artist}.webp"))) as sheet:
        rgba = sheet.convert("RGBA")
    ground = Image.new("RGBA", rgba.size, "white")
    ground.alpha_composite(rgba)
    return ground.convert("RGB"), {concept: place for place, concept in enumerate(order)}
