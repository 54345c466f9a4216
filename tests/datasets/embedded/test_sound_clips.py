"""Clips with sound: each event is named while it lasts, by a voice of the split."""

import numpy as np

import xgap_analysis as xg
from xgap_analysis.core.tags import tags_of
from xgap_analysis.datasets.embedded.clips import load_clips

DATA = xg.load_dataset("emoji-sound-clips")
SPLITS = {name: DATA.split(name) for name in ("train", "val", "seen", "test")}
SILENT = -8.0


def test_a_sound_for_every_clip_and_a_name_for_every_event() -> None:
    for name, data in SPLITS.items():
        clips = load_clips().split(name)
        audio = data.items_of("audio")
        assert [i.removesuffix("/audio") for i in audio.ids] == list(clips.items_of("video").ids)
        assert len(audio.parts_of("names")) == len(clips.texts)
        assert set(data.items) == {*clips.items, "audio"}
        assert all(data.labels["clip"][i] == i.removesuffix("/audio") for i in audio.ids)


def test_held_out_voices_and_concepts_stay_out_of_training() -> None:
    voices = {name: {*data.labels["voice"].values()} for name, data in SPLITS.items()}
    assert voices["train"] == {"gb-m3", "us-f2", "scot-m7", "slt"}
    assert voices["seen"] == {"carib-f4", "rms"}
    said = {name: {*data.items_of("audio").parts_of("names").columns["concept"]} for name, data in SPLITS.items()}
    assert not said["train"] & (said["test"] | said["val"])


def test_a_name_begins_with_its_event_and_the_rest_is_silent() -> None:
    data = SPLITS["seen"]
    audio = data.items_of("audio")
    for item in audio.ids[:40]:
        sound, names = audio.opener(item), audio.parts_of("names").of([item])
        assert sound.shape == (240, 40)
        expected = np.full((240, 40), SILENT, np.float32)
        for k, (start, stop, cut) in enumerate(zip(*(names.columns[c] for c in ("start", "stop", "cut")), strict=True)):
            name = names.items[k][: (stop - start) * 20]
            assert cut == (len(names.items[k]) > len(name))
            expected[start * 20 : start * 20 + len(name)] = name
        np.testing.assert_array_equal(sound, expected)
        assert tags_of(sound)[0] == ("concept", names.columns["concept"][0])


def test_the_oracle_scores_sound_and_caption_of_one_event_as_name_and_text() -> None:
    data, model = SPLITS["test"].limit(40), xg.load_model("oracle")
    names = xg.tokens(model, data.items_of("audio"), "names", store=None, progress=False)
    texts = xg.encode(model, data.texts, store=None, progress=False)
    event = dict(zip(texts.ids, texts.vectors, strict=True))
    parts = data.items_of("audio").parts_of("names")
    for vector, own in zip(names.vectors[:30], parts.columns["event"], strict=False):
        assert abs(float(vector @ event[own]) - 0.651746) < 1e-6
