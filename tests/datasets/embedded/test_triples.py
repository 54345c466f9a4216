"""Triples of text, sound and drawing: nothing but all of a triple's text and sound together says what is drawn."""

from collections import Counter

import pytest

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.tags import tags_of
from xgap_analysis.datasets.embedded.triples import load_triples

DATA = xg.load_dataset("emoji-m3")
SPLITS = {name: DATA.split(name) for name in ("train", "test")}


def test_counts_and_ids() -> None:
    for name, n in (("train", 1000), ("test", 300)):
        data = SPLITS[name]
        assert {m: len(items) for m, items in data.items.items()} == {"image": n, "text": n, "audio": n}
        assert data.default_label_set == "triple"
        assert Counter(data.labels["triple"].values()) == Counter({f"{name}-{k}": 3 for k in range(n)})


def test_the_language_of_the_sound_picks_one_word_and_it_is_drawn() -> None:
    for data in SPLITS.values():
        audio = data.items_of("audio")
        for number in range(0, len(data.texts), 7):
            name = data.texts.ids[number].removesuffix("/text")
            tags = tags_of(data.texts[number])
            concepts = [c for kind, c in tags if kind == "concept"]
            languages = [one for kind, one in tags if kind == "language"]
            assert len(set(concepts)) == len(set(languages)) == 5
            said = dict(tags_of(audio.opener(f"{name}/audio")))
            drawn = dict(tags_of(data.images.opener(f"{name}/image")))
            assert (
                drawn["concept"]
                == concepts[languages.index(said["language"])]
                == data.labels["concept"][f"{name}/image"]
            )
            assert said["concept"] != drawn["concept"]
            assert said["concept"] == data.labels["spoken"][f"{name}/audio"]
            assert said["language"] == data.labels["language"][f"{name}/audio"]
            assert data.images.opener(f"{name}/image").size == (64, 64)


def test_no_word_and_no_artist_of_the_test_is_trained_on() -> None:
    concepts = {
        name: {c for t in data.texts for kind, c in tags_of(t) if kind == "concept"} for name, data in SPLITS.items()
    }
    assert (len(concepts["train"]), len(concepts["test"])) == (40, 20)
    assert not concepts["train"] & concepts["test"]
    artists = {dict(tags_of(SPLITS["train"].images.opener(i)))["artist"] for i in SPLITS["train"].images.ids[:200]}
    assert not artists & {"emojione", "openmoji"}


def test_no_place_and_no_language_is_drawn_more_often_than_chance() -> None:
    """Binomial, n = 1,000, p = 1/5: four standard deviations are 51."""
    data = SPLITS["train"]
    assert all(
        149 <= n <= 251 for n in Counter(data.labels["language"][i] for i in data.items_of("audio").ids).values()
    )
    places = Counter()
    for number, item in enumerate(data.texts.ids):
        concepts = [c for kind, c in tags_of(data.texts[number]) if kind == "concept"]
        places[concepts.index(data.labels["concept"][item])] += 1
    assert len(places) == 5
    assert all(149 <= n <= 251 for n in places.values())


def test_one_word_needs_no_sound_and_too_many_are_refused() -> None:
    single = xg.load_dataset("emoji-m3:1").split("test")
    assert single.name == "emoji-m3:1"
    assert all("," not in text for text in single.texts)
    assert all(
        dict(tags_of(t))["concept"] == single.labels["concept"][i]
        for i, t in zip(single.texts.ids, single.texts, strict=True)
    )
    for wrong in (0, 6, "six", 2.5):
        with pytest.raises(XgapError, match=r"a triple has from 1 to 5 words \(en, de, fr, es, ru\), not"):
            load_triples(wrong)


def test_the_oracle_reads_the_text_alone_right_one_time_in_w() -> None:
    """All words of a text are equally close to their drawings, by one artist, so only chance says which is drawn."""
    for words in (1, 2, 5):
        data, model = load_triples(words).split("test"), xg.load_model("oracle(artist=0)")
        texts = xg.encode(model, data.texts, store=None, progress=False)
        emoji = xg.load_dataset("emoji").split("test")
        images = xg.encode(
            model, emoji.images.select(i for i in emoji.images.ids if i.startswith("noto/")), store=None, progress=False
        )
        scores = texts.vectors @ images.vectors.T
        best = scores >= scores.max(1, keepdim=True).values - 1e-6
        assert (best.sum(1) == words).all()
        column = {i.split("/")[1]: k for k, i in enumerate(images.ids)}
        assert all(best[k, column[data.labels["concept"][i]]] for k, i in enumerate(texts.ids))
