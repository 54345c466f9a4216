"""The embedded dataset `emoji:parallel`: the names of each concept in 13 languages, as captions of one item."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from xgap_analysis.core.paths import data_root
from xgap_analysis.core.tags import TaggedText
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.embedded.emoji import SPLITS, load_emoji
from xgap_analysis.datasets.embedded.files import checked
from xgap_analysis.datasets.items import Texts
from xgap_analysis.datasets.parts import Parts

VARIANT = "parallel"
LANGUAGES = ("en", "de", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "sv", "zh")


def load_parallel() -> Dataset:
    """The images of `emoji`, and one text per concept: its name, with the names in all languages as parts.

    Splits are those of `emoji`. A text has the id `<concept>/name` and `parts["captions"]`, 13 names with the ids
    `<concept>/<language>` and the columns `language` and `concept`. Names that are spelled alike in two languages are
    two captions. Label sets of the captions: `concept`, `subgroup`, `group` and `language`.

    Raises:
        XgapError: damaged files.
    """
    emoji = load_emoji()
    facts = json.loads(checked(data_root() / "emoji", "concepts.json"))
    names = {c: {"en": own["name"], **own["names"]} for c, own in facts.items()}
    splits: dict[str, Callable[[], Dataset]] = {}
    splits |= {split: partial(_of_split, emoji, split, names, splits) for split in SPLITS}
    return _part(emoji, names, splits)


def _of_split(emoji: Dataset, split: str, names: Mapping[str, Any], splits: Mapping[str, Any]) -> Dataset:
    return _part(emoji.split(split), names, splits)


def _part(
    emoji: Dataset, names: Mapping[str, Mapping[str, str]], splits: Mapping[str, Callable[[], Dataset]]
) -> Dataset:
    chosen = tuple(emoji.class_names["concept"])
    rows = [(c, language) for c in chosen for language in LANGUAGES if language in names[c]]
    captions = Parts(
        Texts([f"{c}/{x}" for c, x in rows], [_tagged(names[c][x], c, x) for c, x in rows]),
        [f"{c}/name" for c, _ in rows],
        {"language": [x for _, x in rows], "concept": [c for c, _ in rows]},
    )
    own = {f"{c}/name": c for c in chosen} | {f"{c}/{x}": c for c, x in rows}
    of_images = set(emoji.images.ids)
    labels = {label_set: {i: x for i, x in of.items() if i in of_images} for label_set, of in emoji.labels.items()}
    for label_set in ("concept", "subgroup", "group"):
        of_concept = {c: emoji.labels[label_set][f"{c}/name"] for c in chosen}
        labels[label_set] |= {item: of_concept[c] for item, c in own.items()}
    labels["language"] = {f"{c}/name": "en" for c in chosen} | {f"{c}/{x}": x for c, x in rows}
    texts = Texts(
        [f"{c}/name" for c in chosen], [_tagged(names[c]["en"], c, "en") for c in chosen], {"captions": captions}
    )
    return replace(
        emoji,
        name=f"{emoji.name}:{VARIANT}",
        items={**emoji.items, "text": texts},
        labels=labels,
        query_ids={},
        splits=splits,
    )


def _tagged(name: str, concept: str, language: str) -> TaggedText:
    return TaggedText(name, [("concept", concept), ("language", language)])
