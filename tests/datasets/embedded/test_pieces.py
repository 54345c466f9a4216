"""Pieces: names one after the other and the strip of their drawings, which are the same only part by part."""

import numpy as np
import pytest

import xgap_analysis as xg
from xgap_analysis.core.tags import tags_of

DATA = xg.load_dataset("emoji-pieces")
SPLITS = {name: DATA.split(name) for name in ("train", "test", "seen")}


@pytest.mark.parametrize("name", [*SPLITS])
def test_counts_parts_and_labels(name: str) -> None:
    data = SPLITS[name]
    audio, images = data.items_of("audio"), data.images
    assert len(audio) == len(images) == 100
    assert data.default_label_set == "piece"
    names, regions = audio.parts_of("names"), images.parts_of("regions")
    assert len(names) == len(regions) == 1000
    assert names.columns["concept"] == regions.columns["concept"]
    assert regions.columns["left"][:11] == (0, 64, 128, 192, 256, 320, 384, 448, 512, 576, 0)
    for part, concept in zip((*names.items.ids, *regions.items.ids), names.columns["concept"] * 2, strict=True):
        assert data.labels["concept"][part] == concept
    for at in range(0, 1000, 10):
        assert len({*names.columns["concept"][at : at + 10]}) == 10


def test_held_out_voices_artists_and_concepts_stay_out_of_training() -> None:
    of = {name: {key: {*own.values()} for key, own in data.labels.items()} for name, data in SPLITS.items()}
    assert of["train"]["voice"] <= {"gb-m3", "us-f2", "scot-m7", "slt"}
    assert of["seen"]["voice"] == {"carib-f4", "rms"}
    assert not of["train"]["artist"] & {"emojione", "openmoji"}
    assert of["seen"]["artist"] == {"emojione", "openmoji"}
    assert not of["train"]["concept"] & of["test"]["concept"]


def test_an_item_is_its_parts_in_order() -> None:
    data = SPLITS["seen"]
    audio, images = data.items_of("audio"), data.images
    piece = "seen-7"
    names, regions = (
        items.parts_of(p).of([f"{piece}/{m}"]).items
        for items, p, m in ((audio, "names", "audio"), (images, "regions", "image"))
    )
    sound, strip = audio.opener(f"{piece}/audio"), images.opener(f"{piece}/image")
    np.testing.assert_array_equal(sound, np.concatenate([names[k] for k in range(10)]))
    assert strip.size == (640, 64)
    for k in range(10):
        np.testing.assert_array_equal(np.asarray(strip)[:, 64 * k : 64 * k + 64], np.asarray(regions[k]))
    said = [name for kind, name in tags_of(sound) if kind == "concept"]
    assert said == [name for kind, name in tags_of(strip) if kind == "concept"]
    assert said == [tags_of(names[k])[0][1] for k in range(10)]
    assert [kind for kind, _ in tags_of(sound)].count("voice") == 1


def test_the_oracle_retrieves_every_piece_first_by_its_parts() -> None:
    """Each part is as close to its counterpart as a name to its drawing: 1 / (1.09 + g^2), and so is the mean."""
    data, model = SPLITS["seen"], xg.load_model("oracle(g=0.7)")
    names = xg.tokens(model, data.items_of("audio"), "names", store=None, progress=False)
    regions = xg.tokens(model, data.images, "regions", store=None, progress=False)
    assert xg.retrieval(names, regions, data, scorer="late_interaction")["ap"].min() == 1
    own = xg.score(names.select(["seen-0/audio"]), regions.select(["seen-0/image"]), "late_interaction")
    assert float(np.asarray(own).squeeze()) == pytest.approx(1 / 1.58, abs=1e-6)


def test_the_oracle_on_whole_pieces_has_the_closed_form_of_ten_equal_shares() -> None:
    data, model = SPLITS["seen"], xg.load_model("oracle")
    audio, images = (
        xg.encode(model, data.items_of(m).select([f"seen-0/{m}"]), store=None, progress=False)
        for m in ("audio", "image")
    )
    assert float((audio.vectors * images.vectors).sum()) == pytest.approx(0.1 / (0.1 + 0.09 + 0.49), abs=1e-6)
