"""Spoken names: whole files, honest splits by concept and by voice, sheets that are those of the files."""

import hashlib
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.paths import data_root
from xgap_analysis.core.tags import tags_of
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.embedded import spoken

ROOT = data_root() / "spoken"
CONCEPTS = json.loads((data_root() / "emoji" / "concepts.json").read_text("utf-8"))
INDEX = json.loads((ROOT / "index.json").read_text("utf-8"))
TRAINED, HELD_OUT = {"gb-m3", "us-f2", "scot-m7", "slt"}, {"carib-f4", "rms"}
DATA = xg.load_dataset("emoji-spoken")
PARTS = {name: DATA.split(name) for name in ("train", "val", "test", "seen")}


def concepts_of(data: Dataset) -> set[str]:
    """What the ids of spoken names say, not the labels."""
    return {i.split("/")[1] for i in data.items_of("audio").ids}


def voices_of(data: Dataset) -> set[str]:
    return {i.split("/")[0] for i in data.items_of("audio").ids}


# Files


def test_every_file_is_the_recorded_one_and_none_is_left_out() -> None:
    recorded = dict(line.split()[::-1] for line in (ROOT / "SHA256SUMS").read_text().splitlines())
    there = [ROOT / "index.json", *ROOT.glob("sheets/*")]
    assert {f.relative_to(ROOT).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in there} == recorded
    assert sum(f.stat().st_size for f in there) < 4.2e6


@pytest.fixture
def own_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT, tmp_path / "spoken")
    (tmp_path / "emoji").symlink_to(data_root() / "emoji")
    monkeypatch.setattr(spoken, "data_root", lambda: tmp_path)
    return tmp_path / "spoken"


@pytest.mark.parametrize("damage", ["change", "remove"])
def test_a_damaged_index_is_named(damage: str, own_copy: Path) -> None:
    file = own_copy / "index.json"
    if damage == "change":
        file.write_text(file.read_text("utf-8").replace("43", "44", 1), "utf-8")
    else:
        file.unlink()
    with pytest.raises(XgapError, match=r"index\.json is not the file that SHA256SUMS records; restore it"):
        xg.load_dataset("emoji-spoken")


def test_a_damaged_sheet_is_named_when_a_name_is_opened_and_the_others_still_open(own_copy: Path) -> None:
    sheet = own_copy / "sheets" / "rms.webp"
    sheet.write_bytes(sheet.read_bytes()[:-10] + bytes(10))
    audio = xg.load_dataset("emoji-spoken").items_of("audio")
    with pytest.raises(XgapError, match=r"rms\.webp is not the file that SHA256SUMS records"):
        audio.opener("rms/1f43b")
    assert audio.opener("slt/1f43b").shape[1] == 40


def test_missing_sums_are_named(own_copy: Path) -> None:
    (own_copy / "SHA256SUMS").unlink()
    with pytest.raises(XgapError, match=r"SHA256SUMS is missing; restore it from the repository"):
        xg.load_dataset("emoji-spoken")


# Sheets


def test_every_name_opens_as_a_sheet_of_its_length_and_is_not_silent() -> None:
    audio = DATA.items_of("audio")
    lengths = {f"{v}/{c}": n for v, of in INDEX["voices"].items() for c, n in zip(CONCEPTS, of["frames"], strict=True)}
    assert list(CONCEPTS) == INDEX["concepts"]
    assert set(audio.ids) == set(lengths)
    for item in audio.ids:
        sheet = audio.opener(item)
        assert (sheet.dtype, sheet.shape) == (np.float32, (lengths[item], 40)), item
        assert -8 <= sheet.min() < 0 < sheet.max() <= 8, item
    assert max(lengths.values()) == 128
    cut = {item for voice, of in INDEX["voices"].items() for item in (f"{voice}/{c}" for c in of["cut"])}
    assert cut <= {item for item, n in lengths.items() if n == 128}
    assert len(cut) < 0.01 * len(lengths)


@pytest.mark.parametrize("voice", ["gb-m3", "rms"])
def test_a_name_is_its_part_of_the_sheet_low_frequencies_first(voice: str) -> None:
    with Image.open(ROOT / "sheets" / f"{voice}.webp") as file:
        pixels = np.asarray(file.convert("L")).astype(np.float64)
    row, column = 0, 0
    for place, frames in enumerate(INDEX["voices"][voice]["frames"]):
        if column + frames > pixels.shape[1]:
            row, column = row + 1, 0
        if place in (0, 1, 200, len(CONCEPTS) - 1):
            sheet = DATA.items_of("audio").opener(f"{voice}/{INDEX['concepts'][place]}")
            for band in (0, 17, 39):
                expected = pixels[row * 40 + 39 - band, column : column + frames] * 16 / 255 - 8
                np.testing.assert_allclose(sheet[:, band], expected, atol=1e-5)
        column += frames
    assert (row + 1) * 40 == len(pixels)


def test_a_sheet_carries_what_it_holds_and_is_an_array_like_others() -> None:
    sheet = DATA.items_of("audio").opener("slt/1f43b")
    assert tags_of(sheet) == (("concept", "1f43b"), ("voice", "slt"), ("language", "en"))
    assert np.array_equal(np.array(sheet), sheet)
    assert np.array(sheet).flags.owndata


def test_two_voices_say_a_name_alike_in_length() -> None:
    """Were names and sheets out of step, the lengths of one name by two voices would have nothing in common."""
    lengths = [np.array(of["frames"]) for of in INDEX["voices"].values()]
    mixed = np.random.default_rng(0).permutation(len(CONCEPTS))
    for other in lengths[1:]:
        assert np.corrcoef(lengths[0], other)[0, 1] > 0.8
        assert np.corrcoef(lengths[0], other[mixed])[0, 1] < 0.2


def test_equal_digests_are_of_equal_names_alone() -> None:
    audio = DATA.items_of("audio")
    digests = {item: audio.digest_of(item) for item in audio.ids}
    assert len(set(digests.values())) == len(digests)
    seen = PARTS["seen"].items_of("audio")
    assert all(seen.digest_of(item) == digests[item] for item in seen.ids)


# Splits


def test_no_held_out_concept_or_voice_is_trained_on() -> None:
    assert voices_of(PARTS["train"]) == TRAINED
    assert voices_of(PARTS["seen"]) == HELD_OUT
    assert voices_of(PARTS["test"]) == voices_of(PARTS["val"]) == TRAINED | HELD_OUT
    for name in ("train", "val", "test"):
        assert concepts_of(PARTS[name]) == {c for c, facts in CONCEPTS.items() if facts["split"] == name}
    assert concepts_of(PARTS["seen"]) == concepts_of(PARTS["train"])
    units = {name: {CONCEPTS[c]["unit"] for c in concepts_of(PARTS[name])} for name in ("train", "val", "test")}
    assert not units["train"] & units["test"]
    assert not units["train"] & units["val"]
    assert not units["val"] & units["test"]


@pytest.mark.parametrize("name", [*PARTS])
def test_images_and_names_are_those_of_emoji(name: str) -> None:
    emoji, data = xg.load_dataset("emoji").split(name), PARTS[name]
    assert tuple(data.images.ids) == tuple(emoji.images.ids)
    assert dict(zip(data.texts.ids, data.texts, strict=True)) == {
        f"{c}/name": CONCEPTS[c]["name"] for c in concepts_of(data)
    }


@pytest.mark.parametrize("data", [DATA, *PARTS.values()], ids=["all", *PARTS])
def test_ids_are_distinct_and_every_item_has_its_labels(data: Dataset) -> None:
    audio = data.items_of("audio").ids
    ids = [*data.images.ids, *data.texts.ids, *audio]
    assert len(set(ids)) == len(ids)
    assert data.default_label_set == "concept"
    assert set(data.labels["concept"]) == set(data.labels["subgroup"]) == set(ids)
    for item in audio:
        voice, concept = item.split("/")
        assert data.labels["concept"][item] == concept
        assert data.labels["subgroup"][item] == CONCEPTS[concept]["subgroup"]
        assert data.labels["voice"][item] == voice
        assert data.labels["engine"][item] == ("flite" if voice in ("slt", "rms") else "espeak-ng")
        assert data.labels["language"][item] == "en"
    assert set(data.labels["voice"]) == set(data.labels["engine"]) == set(audio)
    assert data.labels["language"].keys() == {*audio, *data.texts.ids}


def test_a_study_takes_the_modality_by_name() -> None:
    study = xg.Study(["oracle"], ["emoji-spoken"], ["audio-text"])
    assert study.comparison("audio-image").query.modality == "audio"
    with pytest.raises(XgapError, match="unknown dataset 'emoji-spokn'; nearest names: emoji-spoken"):
        xg.load_dataset("emoji-spokn")


def test_a_limit_and_a_shuffle_reach_the_spoken_names() -> None:
    small = PARTS["test"].limit(20)
    assert len(concepts_of(small)) == 20
    assert len(small.items_of("audio")) == 120
    mixed = small.shuffled()
    moved = [i for i in small.items_of("audio").ids if mixed.labels["concept"][i] != small.labels["concept"][i]]
    assert len(moved) > 60


# Known answers: the oracle


def test_the_oracle_has_the_closed_forms_of_three_modalities() -> None:
    g, data, model = 0.7, PARTS["seen"].limit(40), xg.load_model("oracle")
    audio, texts = (xg.encode(model, data.items_of(m), store=None, progress=False) for m in ("audio", "text"))
    images = xg.encode(model, data.images, store=None, progress=False)
    a, b = (1.09 + g**2) ** -0.5, (1 + g**2) ** -0.5
    one, other = audio.select(i for i in audio.ids if i.startswith("rms/")), None
    other = audio.select(i.replace("rms/", "carib-f4/") for i in one.ids)
    names = texts.select(f"{i.split('/')[1]}/name" for i in one.ids)
    np.testing.assert_allclose((one.vectors * names.vectors).sum(1), a * b, atol=1e-6)
    assert a * b == pytest.approx(0.651746, abs=1e-6)
    np.testing.assert_allclose((one.vectors * other.vectors).sum(1), (1 + g**2) * a**2, atol=1e-6)
    same_voice = one.vectors @ one.vectors.T
    np.testing.assert_allclose(same_voice[0, 1:], (0.09 + g**2) * a**2, atol=1e-6)
    drawn = {i.split("/")[1]: i for i in images.ids}
    pairs = [(i, drawn[i.split("/")[1]]) for i in one.ids if i.split("/")[1] in drawn]
    x, y = one.select(p[0] for p in pairs), images.select(p[1] for p in pairs)
    np.testing.assert_allclose((x.vectors * y.vectors).sum(1), a**2, atol=1e-6)
    gap = float((one.vectors.double().mean(0) - names.vectors.double().mean(0)).norm())
    assert gap == pytest.approx(math.sqrt((a - b) ** 2 / 40 + 0.09 * a**2 + g**2 * (a**2 + b**2)), abs=1e-6)
    assert xg.retrieval(one, names, data)["ap"].min() == 1
    assert xg.retrieval(names, audio, data)["ap"].min() == 1


@pytest.mark.parametrize(("g", "rank"), [(0.9, 1), (0.98, 1), (1.0, 41), (1.3, 41)])
def test_in_a_mixed_gallery_speech_is_first_below_the_threshold_and_last_above_it(g: float, rank: int) -> None:
    """The root of x^3 + 1.09 x^2 - x - 1, x = g^2, is g = 0.98894."""
    data, model = PARTS["seen"].limit(41), xg.load_model(f"oracle(g={g})")
    audio, texts = (xg.encode(model, data.items_of(m), store=None, progress=False) for m in ("audio", "text"))
    audio = audio.select(i for i in audio.ids if i.startswith("rms/"))
    for place in (0, 17):
        query = texts.vectors[place].double()
        own = next(k for k, i in enumerate(audio.ids) if i.split("/")[1] == texts.ids[place].split("/")[0])
        others = np.delete((texts.vectors.double() @ query).numpy(), place)
        scores = np.concatenate([(audio.vectors.double() @ query).numpy(), others])
        assert 1 + int((scores > scores[own] + 1e-9).sum()) == rank


def test_equal_banks_change_nothing() -> None:
    """Every name is as close to a bank of all spoken names as any other, so a correction of hubs has nothing to do."""
    study = xg.Study(
        ["oracle"],
        ["emoji-spoken"],
        ["audio-text"],
        ["none", "inverted-softmax"],
        split="seen",
        limit=30,
        progress=False,
    )
    table = study.run()
    assert set(table["correction"]) == {"none", "inverted-softmax"}
    assert table["value"].eq(1).all()


# The data card


def test_the_data_card_has_the_counts_of_the_files() -> None:
    card = (ROOT / "README.md").read_text("utf-8").replace(",", "")
    for name, data in PARTS.items():
        counts = [len(data.items_of(m)) for m in ("audio", "text", "image")]
        assert f"| {name} | {counts[0]} | {counts[1]} | {counts[2]} | {len(concepts_of(data))} |" in card
    for voice, of in INDEX["voices"].items():
        row = next(line for line in card.splitlines() if line.startswith(f"| {voice} | {of['engine']}"))
        assert f"`{of['engine']} -v{'oice' if of['engine'] == 'flite' else ''} {of['voice']}" in row
        assert row.endswith(f"| {of['split']} | 1644 | {np.mean(of['frames']):.1f} | {len(of['cut'])} |")
    assert re.search(r"1,?644 names by each of six voices 9,?864 items of 0\.94 s", card)
    mean = np.mean([n for of in INDEX["voices"].values() for n in of["frames"]])
    assert round((mean - 1) * 0.020 + 0.025, 2) == 0.94
