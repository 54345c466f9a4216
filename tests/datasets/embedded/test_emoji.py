"""The embedded dataset: whole files, honest splits, and captions that do not give the answer away by spelling."""

import ast
import hashlib
import itertools
import json
import re
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.paths import data_root
from xgap_analysis.datasets import load_dataset
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.embedded import emoji

ROOT = data_root() / "emoji"
CARD = ROOT / "README.md"
CONCEPTS = json.loads((ROOT / "concepts.json").read_text())
DRAWN = json.loads((ROOT / "pictures.json").read_text())
HELD_OUT = {"emojione", "openmoji"}
ARTISTS = {"noto", "noto-v1", "fluent-emoji-flat", "fluent-emoji", "twemoji", "fxemoji"} | HELD_OUT
LANGUAGES = ("de", "es", "fr", "it", "nl", "pt", "pl", "sv", "ru", "ja", "ko", "zh")
DATA = load_dataset("emoji")
PARTS = {name: DATA.split(name) for name in ("train", "val", "test", "seen")}


def concepts_of(data: Dataset) -> set[str]:
    """What the ids say, not the labels."""
    return {i.split("/")[1] for i in data.images.ids} | {i.split("/")[0] for i in data.texts.ids}


def artists_of(data: Dataset) -> set[str]:
    return {i.split("/")[0] for i in data.images.ids}


# Files


def test_every_file_is_the_recorded_one_and_none_is_left_out() -> None:
    recorded = dict(line.split()[::-1] for line in (ROOT / "SHA256SUMS").read_text().splitlines())
    there = [*ROOT.glob("*.json"), *ROOT.glob("sprites/*")]
    actual = {f.relative_to(ROOT).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in there}
    assert actual == recorded
    assert {f"sprites/{artist}.webp" for artist in ARTISTS} <= set(actual)


def test_the_dataset_is_under_twelve_megabytes() -> None:
    shipped = [f for f in ROOT.rglob("*") if f.is_file() and ".cache" not in f.parts]
    assert sum(f.stat().st_size for f in shipped) < 12e6


@pytest.mark.parametrize("file", ["concepts.json", "pictures.json"])
@pytest.mark.parametrize("damage", ["change", "remove"])
def test_a_damaged_file_is_named(file: str, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("concepts.json", "pictures.json", "SHA256SUMS"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "emoji").symlink_to(tmp_path)
    monkeypatch.setattr(emoji, "data_root", lambda: tmp_path)
    assert len(load_dataset("emoji").texts) == len(DATA.texts)
    if damage == "change":
        (tmp_path / file).write_text((tmp_path / file).read_text().replace("1", "2", 1))
    else:
        (tmp_path / file).unlink()
    with pytest.raises(XgapError, match=rf"{file} is not the file that SHA256SUMS records; restore it"):
        load_dataset("emoji")


def test_a_damaged_sheet_is_named_when_an_image_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT, tmp_path / "emoji", ignore=shutil.ignore_patterns(".cache"))
    sheet = tmp_path / "emoji" / "sprites" / "noto.webp"
    sheet.write_bytes(sheet.read_bytes()[:-100] + bytes(100))
    monkeypatch.setattr(emoji, "data_root", lambda: tmp_path)
    images = load_dataset("emoji").images
    with pytest.raises(XgapError, match=r"noto\.webp is not the file that SHA256SUMS records"):
        images[0]
    assert images.select(i for i in images.ids if i.startswith("twemoji/"))[0].size == (64, 64)


# Pictures


def test_every_image_opens_at_its_size_and_shows_something() -> None:
    assert len(DATA.images) == sum(len(drawn) for drawn in DRAWN.values())
    blank = []
    for index, item in enumerate(DATA.images.ids):
        drawing = DATA.images[index]
        assert (drawing.mode, drawing.size) == ("RGB", (64, 64)), item
        if not any(high - low > 16 for low, high in drawing.getextrema()):
            blank.append(item)
    assert blank == ["noto-v1/002a-20e3"]  # white strokes on nothing, in the train split; a new build may mend it


@pytest.mark.parametrize("artist", sorted(ARTISTS))
def test_an_image_is_its_square_of_the_sheet_on_white(artist: str) -> None:
    with Image.open(ROOT / "sprites" / f"{artist}.webp") as sheet:
        pixels = np.asarray(sheet.convert("RGBA"))
    cells = pixels.reshape(pixels.shape[0] // 64, 64, -1, 64, 4).swapaxes(1, 2).reshape(-1, 64, 64, 4)
    for place in (0, 1, 41, len(DRAWN[artist]) - 1):
        cell = cells[place].astype(np.float64)
        alpha = cell[..., 3:] / 255
        expected = cell[..., :3] * alpha + 255 * (1 - alpha)
        drawing = DATA.images.select([f"{artist}/{DRAWN[artist][place]}"])[0]
        assert np.abs(np.asarray(drawing, dtype=np.float64) - expected).max() <= 1
    unused = cells[len(DRAWN[artist]) :, ..., 3]
    assert unused.size == 0 or unused.max() < 32  # nothing was drawn that has no name


# Splits


def test_concepts_and_their_units_are_in_one_split_only() -> None:
    split_of_unit: dict[str, set[str]] = {}
    for facts in CONCEPTS.values():
        split_of_unit.setdefault(facts["unit"], set()).add(facts["split"])
    assert {unit: splits for unit, splits in split_of_unit.items() if len(splits) > 1} == {}
    for one, two in itertools.combinations(("train", "val", "test"), 2):
        assert concepts_of(PARTS[one]) & concepts_of(PARTS[two]) == set()
        units = [{CONCEPTS[c]["unit"] for c in concepts_of(PARTS[name])} for name in (one, two)]
        assert units[0] & units[1] == set()
        assert not {*PARTS[one].images.ids} & {*PARTS[two].images.ids}
    for name in ("train", "val", "test"):
        assert concepts_of(PARTS[name]) == {c for c, facts in CONCEPTS.items() if facts["split"] == name}


def test_forms_of_one_activity_share_a_unit() -> None:
    """A man, a woman and a person running are drawn nearly alike."""
    units = {facts["name"]: facts["unit"] for facts in CONCEPTS.values()}
    assert units["man running"] == units["woman running"] == units["person running"]
    assert units["man astronaut"] == units["woman astronaut"] == units["astronaut"]
    assert units["one o’clock"] == units["two-thirty"]
    assert units["one o’clock"] != units["man running"]


def test_the_held_out_artists_drew_nothing_that_was_trained_on() -> None:
    assert artists_of(DATA) == ARTISTS
    assert artists_of(PARTS["train"]) == ARTISTS - HELD_OUT
    assert artists_of(PARTS["seen"]) == HELD_OUT
    assert artists_of(PARTS["test"]) == artists_of(PARTS["val"]) == ARTISTS - {"fluent-emoji"}
    seen_concepts = {i.split("/")[1] for i in PARTS["seen"].images.ids}
    assert seen_concepts <= concepts_of(PARTS["train"])


def test_the_parts_are_large_enough_to_judge_by_and_every_subgroup_of_ten_is_held_out_in_part() -> None:
    held_out = [facts for facts in CONCEPTS.values() if facts["split"] == "test"]
    assert 0.15 < len(held_out) / len(CONCEPTS) < 0.25
    assert len(PARTS["test"].images) > 1500
    assert len(PARTS["test"].text_queries) > 200
    units: dict[str, set[str]] = {}
    for facts in CONCEPTS.values():
        units.setdefault(facts["subgroup"], set()).add(facts["unit"])
    assert {name for name, of in units.items() if len(of) >= 10} <= {facts["subgroup"] for facts in held_out}


def test_a_part_knows_the_other_parts() -> None:
    assert PARTS["test"].split("train").images.ids == PARTS["train"].images.ids
    with pytest.raises(XgapError, match="has no split 'dev'; it has: train, val, test, seen"):
        PARTS["test"].split("dev")


# Items, labels and texts


@pytest.mark.parametrize("data", [DATA, *PARTS.values()], ids=["all", *PARTS])
def test_ids_are_distinct_and_every_item_has_its_labels(data: Dataset) -> None:
    ids = [*data.images.ids, *data.texts.ids]
    assert len(set(ids)) == len(ids)
    for label_set in ("concept", "subgroup", "group"):
        assert set(data.labels[label_set]) == set(ids)
        assert set(data.labels[label_set].values()) <= set(data.class_names[label_set])
    assert next(iter(data.labels)) == "concept"
    for item in ids:
        concept = data.labels["concept"][item]
        assert item.split("/")[1 if item in data.labels["artist"] else 0] == concept
        assert data.labels["subgroup"][item] == CONCEPTS[concept]["subgroup"]
        assert data.labels["group"][item] == CONCEPTS[concept]["group"]
    assert data.labels["artist"] == {i: i.split("/")[0] for i in data.images.ids}
    assert data.class_names["concept"] == {c: CONCEPTS[c]["name"] for c in concepts_of(data)}
    assert all(caption.strip() == caption != "" for caption in data.texts)


@pytest.mark.parametrize("name", [*PARTS])
def test_every_text_query_is_a_name_with_an_answer_in_the_gallery(name: str) -> None:
    data = PARTS[name]
    answers = {data.labels["concept"][i] for i in data.gallery("text")}
    assert data.text_queries
    assert set(data.text_queries) <= set(data.texts.ids)
    for query in data.text_queries:
        assert query.endswith("/name")
        assert data.labels["concept"][query] in answers
    without = [i for i in data.texts.ids if i.endswith("/name") and i not in set(data.text_queries)]
    assert not {data.labels["concept"][i] for i in without} & {
        data.labels["concept"][i] for i in data.texts.ids if not i.endswith("/name")
    }


def words(text: str) -> list[str]:
    plain = "".join(x for x in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(x))
    return re.findall(r"\w+", plain)


def root(word: str) -> str:
    """A word without its endings: grinning, grinned, grins and grin are one."""
    while len(word) > 3 and (ending := re.search(r"(ings?|ed|ers?|est|iest|ies|es|s|ly|y|e|i)$", word)):
        if len(word) - len(ending[0]) < 3:
            break
        word = word[: -len(ending[0])]
    return re.sub(r"([b-df-hj-np-tv-z])\1$", r"\1", word)


def test_the_check_of_spelling_sees_inflections() -> None:
    assert root("grinning") == root("grin")
    assert root("smiling") == root("smile") == root("smiley")
    assert root("running") == root("runner") == root("runs")
    assert root("kissing") == root("kiss")
    assert root("cat") != root("car")


def test_no_gallery_caption_shares_a_word_with_the_name_of_its_concept() -> None:
    shared = []
    for caption_id in DATA.gallery("text"):
        if caption_id.endswith("/name"):
            continue
        caption = DATA.texts.select([caption_id])[0]
        name = CONCEPTS[caption_id.split("/")[0]]["name"]
        for a, b in itertools.product(words(caption), words(name)):
            inside = min(len(a), len(b)) > 2 and (a in b or b in a)
            if inside or root(a) == root(b):
                shared.append((name, caption, a, b))
    assert shared == []


# Other languages


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_in_another_language_ask_for_the_english_ones(language: str) -> None:
    data = load_dataset(f"emoji:{language}").split("test")
    assert data.name == f"emoji:{language}"
    assert data.images.ids == PARTS["test"].images.ids
    assert len(data.text_queries) > 0.9 * len(concepts_of(data))
    gallery = data.gallery("text")
    assert all(i.endswith("/name") for i in gallery)
    answers = {data.labels["concept"][i] for i in gallery}
    assert {data.labels["concept"][i] for i in data.text_queries} <= answers
    for query in data.text_queries[:20]:
        named = CONCEPTS[query.split("/")[0]]["names"][language]
        assert data.texts.select([query])[0] == named == data.class_names["concept"][query.split("/")[0]]


def test_an_unknown_language_or_name_offers_what_is_near() -> None:
    with pytest.raises(XgapError, match=r"unknown language of emoji 'dee'; nearest names: de"):
        load_dataset("emoji:dee")
    with pytest.raises(XgapError, match=r"unknown dataset 'emojy'; nearest names: emoji"):
        load_dataset("emojy")


def words_of(facts: dict[str, Any]) -> Iterator[str]:
    """Every word of a concept that is shown to anybody, in any language."""
    yield facts["name"]
    for kind in ("other_names", "other_names_apart", "keywords", "keywords_apart"):
        yield from facts[kind]
    yield from facts["names"].values()


ESCAPED = re.compile(r"\\|[{}]|&#?\w+;|%[0-9A-Fa-f]{2}|\ufffd|</?\w+>|[\x00-\x1f\x7f]")


def test_nothing_escaped_is_left_in_the_words_of_any_language() -> None:
    left = [(c, words) for c, facts in CONCEPTS.items() for words in words_of(facts) if ESCAPED.search(words)]
    assert left == []
    assert CONCEPTS["0023-20e3"]["names"]["sv"] == "keycap: #"
    for escaped in (r"keycap: \x{23}", r"\u0023", "R&amp;D", "&#35;", "%23", "<b>bold</b>", "a\tb"):
        assert ESCAPED.search(escaped), escaped


def test_the_build_writes_escaped_characters_out() -> None:
    tree = ast.parse((ROOT / "build.py").read_text())
    function = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "unescaped")
    made: dict[str, Any] = {"re": re}
    exec(compile(ast.Module([function], []), "build.py", "exec"), made)
    assert made["unescaped"](r"keycap: \x{23}") == "keycap: #"
    assert made["unescaped"](r"\x{1F600} and <3, 50%") == "\U0001f600 and <3, 50%"


# A smaller task


def test_a_limit_is_a_fair_part_with_the_same_items_each_time() -> None:
    small = PARTS["test"].limit(30)
    assert small.split_name == "test[30]"
    assert len(concepts_of(small)) == 30
    assert concepts_of(small) <= concepts_of(PARTS["test"].limit(60))
    assert small.images.ids == load_dataset("emoji").split("test").limit(30).images.ids
    assert len({CONCEPTS[c]["group"] for c in concepts_of(small)}) > 3
    assert set(small.text_queries) <= set(small.texts.ids)
    assert small.images[0].size == (64, 64)


# The data card


def card_row(first: str) -> str:
    """The row of a table of the data card whose first cell is this, without thousands separators."""
    rows = [line for line in CARD.read_text().splitlines() if re.match(rf"\| *[*`]*{re.escape(first)}[*`]* *\|", line)]
    assert rows, f"the data card has no table row for {first}"
    return " ".join(rows).replace(",", "")


def numbers(text: str) -> set[int]:
    return {int(x) for x in re.findall(r"(?<![\w.-])\d+(?![\w.])", text)}


def test_the_data_card_has_the_counts_of_the_files() -> None:
    for artist, drawn in DRAWN.items():
        assert len(drawn) in numbers(card_row(artist)), artist
    for name, data in PARTS.items():
        counts = numbers(card_row(name))
        assert {len(data.images), len({i.split("/")[1] for i in data.images.ids})} <= counts, name
