"""`emoji-scenes`: whole files, honest splits, drawings and texts that say the same, and the oracle's closed forms."""

import hashlib
import importlib.util
import json
import shutil
from functools import cache
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.paths import data_root
from xgap_analysis.core.tags import tags_of
from xgap_analysis.datasets.embedded import emoji, scenes
from xgap_analysis.datasets.embedded.scene_tasks import TASKS

ROOT, EMOJI = data_root() / "scenes", data_root() / "emoji"
CONCEPTS = json.loads((EMOJI / "concepts.json").read_text())
DRAWN = json.loads((EMOJI / "pictures.json").read_text())
RECIPES = json.loads((ROOT / "scenes.json").read_text())
COLOURS = json.loads((ROOT / "colours.json").read_text())
HELD_OUT = {"emojione", "openmoji"}
OTHERS = {"noto", "noto-v1", "fluent-emoji-flat", "twemoji", "fxemoji"}
ARTISTS = {"train": OTHERS, "val": OTHERS | HELD_OUT, "seen": HELD_OUT, "test": OTHERS | HELD_OUT}
OF_CONCEPTS = {"train": "train", "val": "val", "seen": "train", "test": "test"}
SIZES = {"train": 1200, "val": 200, "seen": 800, "test": 600}
BOTH = ("seen", "test")
PAIRS = {"twins": 200, "swaps": 100, "objects": 200, "attributes": 100}
OWN = 0.651746  # cosine of the oracle's image and text of one concept
EXACT = {"abs": 1e-6}
MAX = "late_interaction(inner=max, outer=mean)"


def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_scenes", ROOT / "build.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = made  # dataclasses look their module up
    spec.loader.exec_module(made)
    return made


@pytest.fixture(scope="module")
def parts() -> dict[str, xg.Dataset]:
    data = xg.load_dataset("emoji-scenes")
    return {split: data.split(split) for split in SIZES}


@pytest.fixture(scope="module")
def oracle() -> xg.Model:
    return xg.load_model("oracle")


@cache
def task(kind: str, split: str = "test") -> xg.Dataset:
    return xg.load_dataset(f"emoji-scenes:{kind}").split(split)


def encoded(model: xg.Model, items: Any) -> xg.Features:
    return xg.encode(model, items, store=None, progress=False)


def sets(model: xg.Model, items: Any, part: str) -> xg.TokenFeatures:
    return xg.tokens(model, items, part, store=None, progress=False)


def concepts_of(data: xg.Dataset) -> dict[str, frozenset[str]]:
    table = data.images.parts_of("regions").table()
    return {owner: frozenset(own["concept"]) for owner, own in table.groupby("owner")}


# Files


def test_the_files_are_the_recorded_ones_and_small() -> None:
    recorded = dict(line.split()[::-1] for line in (ROOT / "SHA256SUMS").read_text().splitlines())
    actual = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in ROOT.glob("*.json")}
    assert actual == recorded
    assert sum(f.stat().st_size for f in ROOT.glob("*") if f.is_file()) < 600e3


def test_the_recipes_are_made_anew_to_the_same_bytes() -> None:
    made = build()
    assert made.text_of(made.recipes(CONCEPTS, DRAWN, COLOURS)).encode() == (ROOT / "scenes.json").read_bytes()
    assert made.text_of(COLOURS).encode() == (ROOT / "colours.json").read_bytes()


def test_colours_are_those_of_the_drawings() -> None:
    made = build()
    found = made.colours("fxemoji", DRAWN["fxemoji"], CONCEPTS)
    same = np.mean([a == b for a, b in zip(found, COLOURS["fxemoji"], strict=True)])
    assert same > 0.99  # a decoder of another version may round a pixel otherwise
    assert set(COLOURS) == OTHERS | HELD_OUT
    assert all(len(COLOURS[artist]) == len(DRAWN[artist]) for artist in COLOURS)
    heart = {"2764": "r", "1f49b": "y", "1f49a": "g", "1f499": "b", "1f49c": "p", "1f5a4": "k"}
    for concept, letter in heart.items():
        assert COLOURS["twemoji"][DRAWN["twemoji"].index(concept)] == letter


def test_a_drawing_whose_colour_is_not_the_one_of_its_name_is_in_no_scene() -> None:
    against = {
        (artist, c) for artist, own in COLOURS.items() for c, x in zip(DRAWN[artist], own, strict=True) if x == "x"
    }
    assert len(against) > 50
    for split in SIZES:
        for recipe in RECIPES[split]:
            artist, *things = recipe.split()
            assert not {(artist, thing.split("/")[0]) for thing in things} & against


@pytest.mark.parametrize("file", ["scenes.json", "colours.json"])
@pytest.mark.parametrize("damage", ["change", "remove"])
def test_a_damaged_file_is_named(file: str, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT, tmp_path / "scenes")
    (tmp_path / "emoji").symlink_to(EMOJI)
    monkeypatch.setattr(scenes, "data_root", lambda: tmp_path)
    if damage == "change":
        (tmp_path / "scenes" / file).write_text((ROOT / file).read_text().replace("r", "s", 1))
    else:
        (tmp_path / "scenes" / file).unlink()
    with pytest.raises(XgapError, match=rf"{file} is not the file that SHA256SUMS records; restore it"):
        xg.load_dataset("emoji-scenes")


def test_scenes_of_openmoji_go_with_its_sheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(EMOJI, tmp_path / "emoji", ignore=shutil.ignore_patterns(".cache", "openmoji.webp"))
    (tmp_path / "scenes").symlink_to(ROOT)
    monkeypatch.setattr(scenes, "data_root", lambda: tmp_path)
    monkeypatch.setattr(emoji, "data_root", lambda: tmp_path)
    for variant in ("", ":long", *(f":{name}" for name in TASKS)):
        with pytest.warns(UserWarning, match="the sheet of openmoji is not there, so scenes by openmoji are left out"):
            data = xg.load_dataset(f"emoji-scenes{variant}").split("test")
        left = set(data.labels.get("artist", {}).values())
        assert "openmoji" not in left
        assert len(data.texts)
        for own in data.items.values():
            assert own[0] is not None  # it opens


def test_a_missing_sheet_is_named_when_a_scene_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(EMOJI, tmp_path / "emoji", ignore=shutil.ignore_patterns(".cache", "noto.webp"))
    (tmp_path / "scenes").symlink_to(ROOT)
    monkeypatch.setattr(scenes, "data_root", lambda: tmp_path)
    monkeypatch.setattr(emoji, "data_root", lambda: tmp_path)
    data = xg.load_dataset("emoji-scenes").split("train")
    item = next(i for i in data.images.ids if data.labels["artist"][i] == "noto")
    with pytest.raises(XgapError, match=r"noto\.webp is not the file"):
        data.images.opener(item)


def test_an_unknown_variant_is_explained() -> None:
    with pytest.raises(XgapError, match="unknown variant of emoji-scenes 'twin'; nearest names: twins"):
        xg.load_dataset("emoji-scenes:twin")
    with pytest.raises(XgapError, match="has no split 'train'; it has: seen, test"):
        xg.load_dataset("emoji-scenes:twins").split("train")


# Splits


@pytest.mark.parametrize("split", SIZES)
def test_splits_are_by_concept_and_artist(split: str, parts: dict[str, xg.Dataset]) -> None:
    data = parts[split]
    assert len(data.images) == len(data.texts) == SIZES[split]
    assert {data.labels["artist"][i] for i in data.images.ids} == ARTISTS[split]
    concepts = set(data.images.parts_of("regions").columns["concept"])
    assert {CONCEPTS[c]["split"] for c in concepts} == {OF_CONCEPTS[split]}
    assert max(len(CONCEPTS[c]["name"].split()) for c in concepts) == 2


def test_tasks_keep_to_the_splits() -> None:
    for kind in TASKS:
        for split in BOTH:
            data = task(kind, split)
            items = [tag for own in data.items.values() for i in range(0, len(own), 41) for tag in tags_of(own[i])]
            assert {CONCEPTS[name]["split"] for what, name in items if what == "concept"} == {OF_CONCEPTS[split]}
            assert {name for what, name in items if what == "artist"} <= ARTISTS[split]


def test_counts_of_tasks() -> None:
    for split in BOTH:
        for kind, n in PAIRS.items():
            data = task(kind, split)
            assert (len(data.images), len(data.texts)) == (2 * n, (3 if kind == "attributes" else 2) * n)
        assert (len(task("single", split).images), len(task("composed", split).images)) == (100, 200 + 4 * 200)
        for share in (0, 25, 50, 75, 100):
            assert len(task(f"documents-{share}", split).items["document"]) == 150


def test_all_splits_together_hold_each_item_once(parts: dict[str, xg.Dataset]) -> None:
    whole = xg.load_dataset("emoji-scenes")
    assert len(set(whole.images.ids)) == len(whole.images) == sum(SIZES.values())
    assert whole.split_name == "all"


@pytest.mark.parametrize("split", SIZES)
def test_no_caption_is_true_of_another_scene(split: str, parts: dict[str, xg.Dataset]) -> None:
    found = concepts_of(parts[split])
    assert all(len(own) == int(parts[split].labels["n_things"][i]) for i, own in found.items())
    assert not any(a <= b or b <= a for a, b in combinations(found.values(), 2))


def test_things_of_a_scene_are_of_different_subgroups_and_units(parts: dict[str, xg.Dataset]) -> None:
    for data in parts.values():
        for own in concepts_of(data).values():
            for label_set in ("subgroup", "unit"):
                assert len({CONCEPTS[c][label_set] for c in own}) == len(own)


# Drawings and texts


def test_boxes_hold_the_drawings_and_nothing_is_outside(parts: dict[str, xg.Dataset]) -> None:
    data = parts["test"]
    table = data.images.parts_of("regions").table()
    for item in data.images.ids[:40]:
        image = data.images.opener(item)
        assert (image.size, image.mode) == ((128, 128), "RGB")
        own = table[table["owner"] == item]
        outside = np.asarray(image).copy()
        for box, size in zip(own["box"], own["size"], strict=True):
            left, top, right, bottom = box
            assert (right - left, bottom - top) == ((64, 64) if size == "large" else (40, 40))
            assert left // 64 == (right - 1) // 64
            assert outside[top:bottom, left:right].min() < 255
            outside[top:bottom, left:right] = 255
        assert outside.min() == 255
        assert len({(box[0] // 64, box[1] // 64) for box in own["box"]}) == len(own)


def test_a_large_region_is_the_drawing_itself(parts: dict[str, xg.Dataset]) -> None:
    data, drawings = parts["test"], xg.load_dataset("emoji").images
    regions = data.images.parts_of("regions")
    for place in [k for k, size in enumerate(regions.columns["size"]) if size == "large"][:20]:
        artist, concept = data.labels["artist"][regions.owners[place]], regions.columns["concept"][place]
        assert np.array_equal(np.asarray(regions.items[place]), np.asarray(drawings.opener(f"{artist}/{concept}")))
        assert ("concept", concept) in tags_of(regions.items[place])
    assert {image.size for image in (regions.items[k] for k in range(30))} == {(64, 64)}


def test_texts_say_what_is_drawn(parts: dict[str, xg.Dataset]) -> None:
    for split in BOTH:
        data = parts[split]
        said, plain = data.texts.parts_of("captions"), data.texts.parts_of("names")
        for text, name, size, colour in zip(
            said.items, *(said.columns[c] for c in ("name", "size", "colour")), strict=True
        ):
            words = f"{size} {name}" if not colour or colour in name.split() else f"{size} {colour} {name}"
            assert text in (words, f"a {words}", f"an {words}")
        for caption, item in zip(data.texts.captions, data.texts.ids, strict=True):
            own = plain.of([item]).items.captions
            assert caption == ", ".join(own[:-1]) + " and " + own[-1]
            assert tags_of(caption) == tuple(tag for name in own for tag in tags_of(name))


def test_relations_are_those_of_the_boxes(parts: dict[str, xg.Dataset]) -> None:
    for data in (parts["test"], task("twins")):
        table = data.images.parts_of("regions").table()
        boxes = {
            owner: {
                scenes.Thing(c, n, 0, "").named(): b
                for c, n, b in zip(own["concept"], own["name"], own["box"], strict=True)
            }
            for owner, own in table.groupby("owner")
        }
        texts = data.texts.parts_of("sentences")
        pairs = list(zip(texts.items, texts.owners, strict=True))
        if data.name.endswith("twins"):
            pairs = list(zip(data.texts.captions, data.texts.ids, strict=True))
        checked = 0
        for text, owner in pairs:
            for words, axis, sign in (
                (" left of ", 0, -1),
                (" right of ", 0, 1),
                (" above ", 1, -1),
                (" below ", 1, 1),
            ):
                if words in text:
                    own = boxes[data.labels["scene"][owner]]
                    a, b = (own[part] for part in text.split(words))
                    assert np.sign(a[axis] // 64 - b[axis] // 64) == sign
                    assert a[1 - axis] // 64 == b[1 - axis] // 64
                    checked += 1
        assert checked > 300


def test_digests_are_of_recipes_and_sheets(parts: dict[str, xg.Dataset]) -> None:
    data = parts["test"]
    digests = [data.images.digest_of(i) for i in data.images.ids]
    regions = data.images.parts_of("regions").items
    assert len(set(digests)) == len(digests)
    assert len({regions.digest_of(i) for i in regions.ids}) == len(regions)
    assert data.images.digest == xg.load_dataset("emoji-scenes").split("test").images.digest
    long = xg.load_dataset("emoji-scenes:long").split("test")
    assert [long.images.digest_of(i) for i in long.images.ids] == digests  # the same scenes
    assert all(len(a) > len(b) for a, b in zip(long.texts, data.texts, strict=True))


def test_other_processes_can_open_the_items(parts: dict[str, xg.Dataset]) -> None:
    import pickle

    images = pickle.loads(pickle.dumps(parts["test"].images.select(parts["test"].images.ids[:2])))
    assert np.array_equal(np.asarray(images[0]), np.asarray(parts["test"].images[0]))


# Tasks


def pairs_of(data: xg.Dataset) -> list[tuple[list[Image.Image], list[str]]]:
    """The two images, and the two texts that describe them, of each pair."""
    texts = dict(zip(data.texts.ids, data.texts.captions, strict=True))
    names = list(dict.fromkeys(data.labels["contrast"][i] for i in data.images.ids))
    return [
        ([data.images.opener(f"{p}/image-{k}") for k in (0, 1)], [texts[f"{p}/text-{k}"] for k in (0, 1)])
        for p in names
    ]


@pytest.mark.parametrize("kind", PAIRS)
def test_a_contrast_of_two_scenes_is_no_pair_of_an_image_and_its_captions(kind: str) -> None:
    data = task(kind)
    assert "pair" not in data.labels  # what this name means elsewhere in the package
    assert data.default_label_set == "scene"
    assert all(data.labels["contrast"][i] == i.rpartition("/")[0] for i in (*data.images.ids, *data.texts.ids))


@pytest.mark.parametrize("kind", PAIRS)
def test_the_two_of_a_pair_differ_in_what_the_kind_says(kind: str) -> None:
    for split in BOTH:
        pairs = pairs_of(task(kind, split))[:40]
        assert len(pairs) == 40
        for (first, second), (text, other) in pairs:
            assert not np.array_equal(np.asarray(first), np.asarray(second))
            assert text != other
            tags, changed = sorted(tags_of(first)), sorted(tags_of(second))
            differing = {what for what, _ in set(tags) ^ set(changed)}
            if kind == "twins":
                assert tags == changed
                assert sorted(text.replace(" of ", " ").split()) != sorted(other.replace(" of ", " ").split())
            elif kind in ("swaps", "attributes"):
                assert differing <= {"size"}
                assert {t for t in tags if t[0] != "size"} == {t for t in changed if t[0] != "size"}
                assert (sorted(text.split()) == sorted(other.split())) == (kind == "swaps")
            else:
                assert "concept" in differing
                assert len({t for t in tags if t[0] == "concept"} - {t for t in changed if t[0] == "concept"}) == 1


def test_hard_replacements_are_of_the_same_subgroup_and_easy_ones_are_not() -> None:
    for split in BOTH:
        data = task("objects", split)
        found = concepts_of(data)
        assert {data.labels["kind"][i] for i in data.images.ids} == {"hard", "easy"}
        for name in {data.labels["contrast"][i] for i in data.images.ids}:
            (old,), (new,) = (found[f"{name}/image-{a}"] - found[f"{name}/image-{b}"] for a, b in ((0, 1), (1, 0)))
            same = CONCEPTS[old]["subgroup"] == CONCEPTS[new]["subgroup"]
            assert same == (data.labels["kind"][f"{name}/image-0"] == "hard")
            assert CONCEPTS[old]["unit"] != CONCEPTS[new]["unit"]


def test_a_wrong_colour_describes_neither_scene() -> None:
    data = task("attributes")
    wrong = [i for i in data.texts.ids if i not in data.labels["scene"]]
    assert len(wrong) == 100
    texts = dict(zip(data.texts.ids, data.texts.captions, strict=True))
    for item in wrong:
        own = texts[item.removesuffix("2") + "0"].split()
        different = [(a, b) for a, b in zip(own, texts[item].split(), strict=True) if a != b]
        assert len(different) == 1
        assert set(different[0]) <= set(scenes.COLOURS.values())


@pytest.mark.parametrize("split", BOTH)
def test_targets_show_the_edit_and_nothing_else_in_the_gallery_does(split: str) -> None:
    data = task("composed", split)
    found, relevance = concepts_of(data), data.relevance()
    for item in data.texts.ids:
        reference = data.labels["reference"][item]
        new, old = data.labels["added"][item], data.labels["removed"][item]
        after = found[reference] - {old} | {new}
        assert old in found[reference]
        assert new not in found[reference]
        showing = {i for i, own in found.items() if own >= after}
        assert showing == {f"{reference}/target-{k}" for k in range(4)}
        assert relevance.qrels is not None
        assert set(relevance.qrels[item]) == set(relevance.qrels[reference]) == showing
        artist = data.labels["artist"]
        assert artist[f"{reference}/target-0"] == artist[f"{reference}/target-2"] == artist[reference]


def test_documents_have_the_share_of_texts_that_they_say(parts: dict[str, xg.Dataset]) -> None:
    before: set[str] = set()
    for share in (0, 25, 50, 75, 100):
        data = task(f"documents-{share}", "seen")
        images, texts = (data.items["document"].parts[name] for name in ("images", "texts"))
        of = len(texts) / (len(texts) + len(images))
        assert of == pytest.approx(share / 100, abs=0.04)
        assert before <= set(texts.items.ids)  # a section stays a text
        before = set(texts.items.ids)
        assert {data.labels["section"][i] for i in data.texts.ids} <= {*texts.items.ids, *images.items.ids}
        opened = data.items["document"][0]
        assert 2 <= len(opened) <= 4
    scenes_of = [CONCEPTS[name]["name"] for what, name in tags_of(opened) if what == "concept"]
    assert scenes_of


# The oracle


@pytest.mark.parametrize("split", ["seen", "test"])
def test_a_caption_retrieves_its_scene_through_regions(
    split: str, parts: dict[str, xg.Dataset], oracle: xg.Model
) -> None:
    data = parts[split].limit(150)
    regions = sets(oracle, data.images, "regions")
    for name in ("captions", "names"):
        texts = sets(oracle, data.texts, name)
        assert xg.retrieval(texts, regions, data, scorer=MAX)["hit_at_1"].mean() == 1
        own = xg.score(texts, regions, MAX).diagonal()
        assert own.numpy() == pytest.approx(np.full(len(own), OWN), **EXACT)
    shuffled = xg.retrieval(sets(oracle, data.texts, "captions"), regions, data.shuffled(), scorer=MAX)
    assert shuffled["hit_at_1"].mean() < 0.05


def test_the_best_assignment_is_the_identity(parts: dict[str, xg.Dataset], oracle: xg.Model) -> None:
    data = parts["test"].limit(30)
    captions, regions = sets(oracle, data.texts, "captions"), sets(oracle, data.images, "regions")
    for text, image in zip(captions.ids, regions.ids, strict=True):
        cosines = captions.tokens_of(text) @ regions.tokens_of(image).T
        assert cosines.numpy() == pytest.approx(OWN * np.eye(len(cosines)), **EXACT)
    best = xg.score(captions, regions, "late_interaction(inner=max, outer=assignment)").diagonal()
    assert best.numpy() == pytest.approx(np.full(len(best), OWN), **EXACT)


def test_a_whole_scene_is_the_unit_mean_of_its_things(parts: dict[str, xg.Dataset], oracle: xg.Model) -> None:
    data = parts["test"].limit(60)
    images, names = encoded(oracle, data.images), sets(oracle, data.texts, "names")
    for item, vector in zip(images.ids, images.vectors, strict=True):
        k = int(data.labels["n_things"][item])
        expected = (1 / k) / np.sqrt((1 / k + 0.09 + 0.49) * 1.49)
        cosines = names.tokens_of(f"{item}/list").double() @ vector.double()
        assert cosines.numpy() == pytest.approx(np.full(k, expected), **EXACT)
    pooled = sets(oracle, data.images, "regions").pooled()
    assert (pooled.vectors * images.vectors).sum(dim=1).numpy() == pytest.approx(np.ones(len(images)), **EXACT)
    texts = encoded(oracle, data.texts)
    assert xg.retrieval(texts, images, data)["hit_at_1"].mean() == 1


def test_the_whole_in_place_of_all_regions_changes_nothing(parts: dict[str, xg.Dataset], oracle: xg.Model) -> None:
    data = parts["test"].limit(40)
    whole, texts = encoded(oracle, data.images), encoded(oracle, data.texts)
    thrice = xg.TokenFeatures.from_sets([v.repeat(3, 1) for v in whole.vectors], whole.ids, "image", "image")
    expected = xg.score(texts, whole)
    composed = xg.score(texts, thrice, "pooled(weights=ratio, base=first)")
    assert composed.numpy() == pytest.approx(expected.numpy(), **EXACT)


def test_twins_tie_for_a_bag_of_parts(oracle: xg.Model) -> None:
    data = task("twins")
    regions, captions = sets(oracle, data.images, "regions"), sets(oracle, data.texts, "captions")
    for by, query, gallery, scorer in (
        ("parts", captions, regions, MAX),
        ("whole", encoded(oracle, data.texts), encoded(oracle, data.images), "cosine"),
    ):
        scores = xg.score(query, gallery, scorer).double().numpy()
        blocks = np.stack([scores[k : k + 2, k : k + 2] for k in range(0, len(scores), 2)])
        assert np.ptp(blocks, axis=(1, 2)).max() < 1e-6, by
        assert xg.metrics.winoground(blocks.round(6)).to_numpy().sum() == 0


def test_a_size_swap_is_seen_where_sizes_are(oracle: xg.Model) -> None:
    data = task("swaps")
    seeing = xg.load_model("oracle(size=0.5)")
    for model, share in ((oracle, 0), (seeing, 1)):
        regions, captions = sets(model, data.images, "regions"), sets(model, data.texts, "captions")
        scores = xg.score(captions, regions, MAX).double().numpy().round(6)
        blocks = np.stack([scores[k : k + 2, k : k + 2] for k in range(0, len(scores), 2)])
        assert xg.metrics.winoground(blocks)["group"].mean() == share


def test_replaced_things_are_all_found_out(oracle: xg.Model) -> None:
    data = task("objects")
    scores = xg.score(encoded(oracle, data.texts), encoded(oracle, data.images)).double().numpy().round(6)
    blocks = np.stack([scores[k : k + 2, k : k + 2] for k in range(0, len(scores), 2)])
    assert xg.metrics.winoground(blocks).mean().tolist() == [1, 1, 1]


def test_a_part_replaced_by_a_text_retrieves_the_edited_scene(oracle: xg.Model) -> None:
    data = task("composed")
    regions, words = sets(oracle, data.images, "regions"), sets(oracle, data.texts, "names")
    table = data.images.parts_of("regions").table()
    edited, references = [], []
    for item in words.ids:
        references.append(data.labels["reference"][item])
        own = table[table["owner"] == references[-1]]
        kept = torch.tensor((own["concept"] != data.labels["removed"][item]).to_numpy())
        edited.append(torch.cat([regions.tokens_of(references[-1])[kept], words.tokens_of(item)[:1]]))
    query = xg.TokenFeatures.from_sets(edited, references, "image", "image")
    found = xg.retrieval(query, regions, data, scorer=MAX)
    assert found["hit_at_1"].mean() == 1
    assert found["n_relevant"].eq(4).all()
    whole = encoded(oracle, data.images)
    alone = whole.select(references)
    text = encoded(oracle, data.texts)
    fused = xg.Features(alone.vectors + 0 * text.vectors, references, "image", "image")
    assert xg.retrieval(fused, whole, data)["ap"].tolist() == xg.retrieval(alone, whole, data)["ap"].tolist()


def test_a_reference_is_never_ranked(oracle: xg.Model) -> None:
    data = task("composed")
    whole = encoded(oracle, data.images)
    references = [data.labels["reference"][i] for i in data.texts.ids]
    relevance = xg.Relevance.from_qrels({r: {r: 1} for r in references})
    with pytest.raises(XgapError, match="none of the 200 queries has a relevant item in the gallery"):
        xg.retrieval(whole.select(references), whole, relevance)
    as_text = xg.Features(whole.select(references).vectors, data.texts.ids, "text", "text")  # each is its reference
    bound = data.relevance().bind(as_text.ids, whole.ids)
    rows, columns = bound.left_out(0, len(as_text))
    assert [whole.ids[c] for c in columns.tolist()] == [references[r] for r in rows.tolist()]
    assert len(rows) == len(as_text)


def test_the_length_of_a_mean_of_sections_falls_with_the_gap() -> None:
    data = task("documents-50", "seen")
    document = data.items["document"]
    mixed = [i for i in document.ids if len({type(s) for s in document.opener(i)}) == 2]
    assert len(mixed) > 50
    for g in (0.0, 0.7):
        model = xg.load_model(f"oracle(g={g}, artist=0)")
        images, texts = (encoded(model, document.parts[name].items) for name in ("images", "texts"))
        item = next(i for i in mixed if len(document.opener(i)) == 2)
        picture, said = (document.parts[name].of([item]).items.ids[0] for name in ("images", "texts"))
        a, b = images.select([picture]).vectors[0], texts.select([said]).vectors[0]
        assert float(a @ b) == pytest.approx(0, **EXACT)  # no concept is in both, and the modalities are apart
        assert float(((a + b) / 2).norm() ** 2) == pytest.approx(0.5, **EXACT)
