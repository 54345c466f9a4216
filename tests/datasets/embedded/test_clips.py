"""`emoji-clips`: whole files, honest splits, drawings that move, and the closed forms that the oracle must give."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.paths import data_root
from xgap_analysis.core.tags import tags_of
from xgap_analysis.datasets import load_dataset
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.embedded import clips, emoji

ROOT, EMOJI = data_root() / "clips", data_root() / "emoji"
RECIPES = json.loads((ROOT / "clips.json").read_text())
CONCEPTS = json.loads((EMOJI / "concepts.json").read_text())
DRAWN = json.loads((EMOJI / "pictures.json").read_text())
SIZES = {"train": 800, "val": 150, "seen": 500, "test": 400}
HELD_OUT = {"emojione", "openmoji"}
OTHERS = {"noto", "noto-v1", "fluent-emoji-flat", "twemoji", "fxemoji"}
ARTISTS = {"train": OTHERS, "val": OTHERS | HELD_OUT, "seen": HELD_OUT, "test": OTHERS | HELD_OUT}
OF_CONCEPTS = {"train": "train", "val": "val", "seen": "train", "test": "test"}
DATA = load_dataset("emoji-clips")
PARTS = {name: DATA.split(name) for name in SIZES}
TEST = PARTS["test"]


def recipes(split: str) -> Iterator[tuple[str, list[tuple[str, str, int, int]]]]:
    """Artist and events (concept, motion, stop, offset) of the clips of a split, as they lie in the file."""
    for artist, events in RECIPES[split]:
        yield RECIPES["artists"][artist], [(c, RECIPES["motions"][m], stop, off) for c, m, stop, off in events]


def frames_of(data: Dataset) -> Any:
    return data.items["video"].parts_of("frames").table()


def links_of(data: Dataset) -> Any:
    return data.items["chain"].parts_of("captions").table()


# Files


def test_the_recipes_are_the_recorded_ones_and_small() -> None:
    recorded = dict(line.split()[::-1] for line in (ROOT / "SHA256SUMS").read_text().splitlines())
    assert recorded == {"clips.json": hashlib.sha256((ROOT / "clips.json").read_bytes()).hexdigest()}
    shipped = [f for f in ROOT.rglob("*") if f.is_file() and "__pycache__" not in f.parts]
    assert sum(f.stat().st_size for f in shipped) < 300e3


def test_the_recipes_are_regenerated_to_the_same_bytes(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "build.py"), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for file in ("clips.json", "SHA256SUMS"):
        assert (tmp_path / file).read_bytes() == (ROOT / file).read_bytes(), file


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the data folder that the loaders read from then on."""
    for name in ("clips", "emoji"):
        shutil.copytree(data_root() / name, tmp_path / name, ignore=shutil.ignore_patterns(".cache", "__pycache__"))
    for module in (clips, emoji):
        monkeypatch.setattr(module, "data_root", lambda: tmp_path)
    return tmp_path


def test_a_damaged_or_missing_file_is_named(copied: Path) -> None:
    assert len(load_dataset("emoji-clips").texts) == len(DATA.texts)
    file = copied / "clips" / "clips.json"
    file.write_text(file.read_text().replace("12", "11", 1))
    with pytest.raises(XgapError, match=r"clips\.json is not the file that SHA256SUMS records; restore it"):
        load_dataset("emoji-clips")
    file.unlink()
    with pytest.raises(XgapError, match=r"clips\.json is not the file"):
        load_dataset("emoji-clips")
    (copied / "clips" / "SHA256SUMS").unlink()
    with pytest.raises(XgapError, match=r"clips.SHA256SUMS is missing; restore it"):
        load_dataset("emoji-clips")


def test_a_damaged_sheet_is_named_when_a_clip_is_opened(copied: Path) -> None:
    sheet = copied / "emoji" / "sprites" / "openmoji.webp"
    sheet.unlink()
    video = load_dataset("emoji-clips").split("seen").items["video"]
    artist = load_dataset("emoji-clips").labels["artist"]
    lost, there = (next(i for i in video.ids if artist[i] == name) for name in ("openmoji", "emojione"))
    with pytest.raises(XgapError, match=r"openmoji\.webp is not the file that SHA256SUMS records"):
        video.select([lost])[0]
    assert len(video.select([there])[0]) == 12


def test_clips_of_an_artist_who_is_left_out_of_emoji_are_left_out(copied: Path) -> None:
    """`openmoji` is share-alike; a redistribution may go without it."""
    folder = copied / "emoji"
    drawn = {artist: order for artist, order in DRAWN.items() if artist != "openmoji"}
    (folder / "pictures.json").write_text(json.dumps(drawn))
    digest = hashlib.sha256((folder / "pictures.json").read_bytes()).hexdigest()
    sums = [line for line in (folder / "SHA256SUMS").read_text().splitlines() if "openmoji" not in line]
    sums = [f"{digest}  pictures.json" if line.endswith("pictures.json") else line for line in sums]
    (folder / "SHA256SUMS").write_text("\n".join(sums) + "\n")
    data = load_dataset("emoji-clips").split("seen")
    assert set(data.labels["artist"].values()) == {"emojione"}
    whole = PARTS["seen"].labels["artist"]
    assert list(data.items["video"].ids) == [i for i in PARTS["seen"].items["video"].ids if whole[i] == "emojione"]


# Counts and splits


@pytest.mark.parametrize("split", SIZES)
def test_a_quarter_of_the_clips_has_one_event_a_quarter_three_and_half_two(split: str) -> None:
    data = PARTS[split]
    n = SIZES[split]
    assert len(data.items["video"]) == len(data.items["chain"]) == n
    assert len(data.items["video"].parts_of("frames")) == 12 * n
    counts = Counter(data.labels["n_events"][i] for i in data.items["video"].ids)
    assert counts["2"] == n // 2
    assert {counts["1"], counts["3"]} <= {n // 4, n // 4 + 1}
    assert (
        len(data.texts) == len(data.items["chain"].parts_of("captions")) == sum(int(k) * x for k, x in counts.items())
    )


def test_the_whole_is_its_splits() -> None:
    for modality in ("video", "text", "chain"):
        assert list(DATA.items[modality].ids) == [i for part in PARTS.values() for i in part.items[modality].ids]
    assert PARTS["test"].split("train").texts.ids == PARTS["train"].texts.ids


@pytest.mark.parametrize("split", SIZES)
def test_no_concept_or_artist_leaks_between_splits(split: str) -> None:
    used = {c for _, events in recipes(split) for c, *_ in events}
    assert {CONCEPTS[c]["split"] for c in used} == {OF_CONCEPTS[split]}
    assert {artist for artist, _ in recipes(split)} == ARTISTS[split]
    assert set(PARTS[split].labels["concept"].values()) == used
    assert set(PARTS[split].labels["artist"].values()) == ARTISTS[split]
    for other in SIZES:
        if OF_CONCEPTS[other] != OF_CONCEPTS[split]:
            theirs = {c for _, events in recipes(other) for c, *_ in events}
            assert {CONCEPTS[c]["unit"] for c in used} & {CONCEPTS[c]["unit"] for c in theirs} == set()


@pytest.mark.parametrize("split", SIZES)
def test_events_fill_the_clip_are_apart_and_are_drawn_by_its_artist(split: str) -> None:
    offsets: set[int] = set()
    for artist, events in recipes(split):
        stops = [stop for *_, stop, _ in events]
        assert stops[-1] == 12
        assert min(np.diff([0, *stops])) >= 3
        for label_set in ("subgroup", "unit"):
            assert len({CONCEPTS[c][label_set] for c, *_ in events}) == len(events)
        assert {c for c, *_ in events} <= set(DRAWN[artist])
        offsets |= {offset for *_, offset in events}
    assert offsets == set(range(-3, 4))


@pytest.mark.parametrize("split", SIZES)
def test_a_caption_occurs_once_and_names_one_thing_and_one_motion(split: str) -> None:
    data = PARTS[split]
    assert len(set(data.texts)) == len(data.texts)
    events = [event for _, own in recipes(split) for event in own]
    for caption, (concept, motion, *_) in zip(data.texts, events, strict=True):
        verb, *rest = motion.split()
        name = re.escape(CONCEPTS[concept]["name"])
        assert re.fullmatch(rf"((a|an) )?{name} {verb[:-1]}s?{''.join(f' {word}' for word in rest)}", caption), caption


def test_ids_are_distinct_and_labels_fit_items_and_parts() -> None:
    for data in PARTS.values():
        video, chain = data.items["video"], data.items["chain"]
        groups = (video.ids, chain.ids, data.texts.ids, frames_of(data).index, links_of(data).index)
        ids = [i for own in groups for i in own]
        assert len(set(ids)) == len(ids)
        assert set(data.labels["clip"]) == set(data.labels["n_events"]) == set(ids)
        assert {data.labels["clip"][i] for i in video.ids} == set(video.ids)
        assert set(data.labels["event"]) == {*data.texts.ids, *frames_of(data).index, *links_of(data).index}
        for column in ("event", "concept", "motion"):
            for table in (frames_of(data), links_of(data)):
                assert table[column].to_dict() == {i: data.labels[column][i] for i in table.index}
    assert DATA.default_label_set == "clip"


# Relevance


def test_a_caption_has_one_clip_and_a_clip_its_captions_and_an_event_its_frames() -> None:
    texts, video, frames = TEST.texts.ids, TEST.items["video"].ids, tuple(frames_of(TEST).index)
    relevance = TEST.relevance()
    assert (relevance.bind(texts, video).n_relevant == 1).all()
    n_events = [int(TEST.labels["n_events"][i]) for i in video]
    assert relevance.bind(video, texts).n_relevant.tolist() == n_events
    assert (relevance.bind(TEST.items["chain"].ids, video).n_relevant == 1).all()
    own = links_of(TEST)
    n_frames = (own["stop"] - own["start"]).tolist()
    assert TEST.relevance("event").bind(texts, frames).n_relevant.tolist() == n_frames
    assert sum(n_frames) == 12 * 400


def test_times_are_frames_two_digits_and_a_noisy_middle() -> None:
    frames, links = frames_of(TEST), links_of(TEST)
    for _, own in frames.groupby("owner"):
        assert own["time"].tolist() == list(range(12))
        assert own["cut"].tolist() == [False, *(own["event"].values[1:] != own["event"].values[:-1])]
    times = frames.groupby("event")["time"]
    events = [event for _, own in recipes("test") for event in own]
    for link, (*_, stop, offset) in zip(links.to_dict("records"), events, strict=True):
        of = times.get_group(link["event"])
        assert (link["start"], link["stop"]) == (of.min(), of.max() + 1) == (stop - len(of), stop)
        assert (link["begins"], link["ends"]) == tuple(f"{min(round(100 * t / 12), 99):02d}" for t in (of.min(), stop))
        assert link["offset"] == offset
        assert link["noisy"] == of.mean() + offset
    assert clips.two_digits(30, 30) == "99"
    assert clips.two_digits(0, 30) == "00"
    assert clips.two_digits(2, 30) == "07"


def test_a_chain_is_its_captions_with_then_between() -> None:
    chain, links = TEST.items["chain"], TEST.items["chain"].parts_of("captions")
    caption = dict(zip(TEST.texts.ids, TEST.texts, strict=True))
    assert list(links.items) == [caption[event] for event in links.columns["event"]]
    for item, text in zip(chain.ids, chain, strict=True):
        assert text.split(", then ") == list(chain.select([item]).parts_of("captions").items)


# Frames


def test_a_clip_opens_as_twelve_frames_that_are_its_parts() -> None:
    video = TEST.items["video"].select(TEST.items["video"].ids[::80])
    frames = video.parts_of("frames").items
    opened = [frame for i in range(len(video)) for frame in video[i]]
    assert len(opened) == len(frames) == 12 * len(video)
    artist, labels = TEST.labels["artist"], TEST.labels
    for place, (item, frame) in enumerate(zip(frames.ids, opened, strict=True)):
        assert (frame.mode, frame.size) == ("RGB", (64, 64))
        assert np.array_equal(np.asarray(frame), np.asarray(frames[place]))
        assert any(high - low > 16 for low, high in frame.getextrema()), f"{item} is blank"
        tags = {("concept", labels["concept"][item]), ("motion", labels["motion"][item]), ("artist", artist[item])}
        assert set(tags_of(frame)) == set(tags_of(frames[place])) == tags


def test_what_moves_right_is_farther_right_in_each_frame_and_so_on() -> None:
    axis = {"moves right": (1, 1), "moves left": (1, -1), "rises": (0, -1), "falls": (0, 1)}
    table = frames_of(TEST)
    opened = TEST.items["video"].parts_of("frames").items
    for motion, (along, sign) in axis.items():
        events = table[table["motion"] == motion].groupby("event", sort=False).head(12)
        chosen = events["event"].unique()[:5]
        assert len(chosen) == 5, motion
        for event in chosen:
            frames = opened.select(table.index[table["event"] == event])
            ink = [255.0 - np.asarray(frames[i], dtype=float).mean(axis=2) for i in range(len(frames))]
            centre = [float((x.sum(axis=1 - along) @ np.arange(64)) / x.sum()) for x in ink]
            steps = sign * np.diff(centre)
            assert (steps > 0).all(), (event, motion)
            assert sum(steps) == pytest.approx(20, abs=0.5)


def test_equal_recipes_have_equal_digests_and_others_others() -> None:
    video = TEST.items["video"]
    frames = video.parts_of("frames").items
    assert len({video.digest_of(i) for i in video.ids}) == len(video)
    assert len({frames.digest_of(i) for i in frames.ids}) == len(frames)
    assert DATA.items["video"].digest_of(video.ids[3]) == video.digest_of(video.ids[3])
    assert load_dataset("emoji-clips").split("test").items["video"].digest == video.digest != ""


def test_another_sheet_is_another_clip(copied: Path) -> None:
    sums = copied / "emoji" / "SHA256SUMS"
    sums.write_text(re.sub(r"\w+(?=  sprites/noto\.webp)", "0" * 64, sums.read_text()))
    video = load_dataset("emoji-clips").split("test").items["video"]
    changed = {i for i in video.ids if video.digest_of(i) != TEST.items["video"].digest_of(i)}
    assert changed == {i for i in video.ids if TEST.labels["artist"][i] == "noto"}


# A smaller task, and the data card


def test_a_limit_keeps_whole_clips() -> None:
    small = TEST.limit(20)
    assert len(small.items["video"]) == len(small.items["chain"]) == 20
    clip = TEST.labels["clip"]
    kept = set(small.items["video"].ids)
    assert list(small.texts.ids) == [i for i in TEST.texts.ids if clip[i] in kept]
    assert len(small.items["video"].parts_of("frames")) == 240


def test_the_data_card_has_the_counts_of_the_files() -> None:
    card = (ROOT / "README.md").read_text().replace(",", "")
    for split, n in SIZES.items():
        row = re.search(rf"^\| {split} \|(.*)\|$", card, re.M)
        assert row, split
        events = [event for _, own in recipes(split) for event in own]
        concepts = len({c for c, *_ in events})
        assert [int(x) for x in re.findall(r"\d+", row[1])] == [n, len(events), concepts, len(ARTISTS[split])]


# Controls


def test_shuffled_clips_are_retrieved_by_chance() -> None:
    oracle = xg.load_model("oracle")
    frames = xg.tokens(oracle, TEST.items["video"], "frames", store=None, progress=False)
    texts = xg.encode(oracle, TEST.texts, store=None, progress=False)
    n = len(TEST.texts)
    control = TEST.shuffled()
    assert control.control
    scores = xg.retrieval(texts, frames, control, ks=(5, 40), scorer="late_interaction(inner=max, outer=mean)")
    for k in (5, 40):
        chance = k / 400
        assert scores[f"hit_at_{k}"].mean() == pytest.approx(chance, abs=4 * (chance * (1 - chance) / n) ** 0.5)
