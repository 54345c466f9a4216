"""`emoji:parallel`: the names of a concept in 13 languages are captions of one item."""

import json
from collections import Counter

import numpy as np
import pytest

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.paths import data_root
from xgap_analysis.core.tags import tags_of
from xgap_analysis.datasets import load_dataset

CONCEPTS = json.loads((data_root() / "emoji" / "concepts.json").read_text())
LANGUAGES = ("en", "de", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "sv", "zh")
DATA = load_dataset("emoji:parallel")
PARTS = {split: DATA.split(split) for split in ("train", "val", "test", "seen")}
TEST = PARTS["test"]


@pytest.mark.parametrize("split", PARTS)
def test_each_concept_is_one_text_with_a_name_in_every_language(split: str) -> None:
    data, emoji = PARTS[split], load_dataset("emoji").split(split)
    assert data.name == "emoji:parallel"
    assert data.images.ids == emoji.images.ids
    own = [c for c, facts in CONCEPTS.items() if facts["split"] == {"seen": "train"}.get(split, split)]
    assert list(data.texts.ids) == [f"{c}/name" for c in own]
    assert list(data.texts) == [CONCEPTS[c]["name"] for c in own]
    captions = data.texts.parts_of("captions")
    assert len(captions) == 13 * len(own)
    assert Counter(captions.owners) == dict.fromkeys(data.texts.ids, 13)
    for item, text, language, concept in zip(
        captions.items.ids, captions.items, captions.columns["language"], captions.columns["concept"], strict=True
    ):
        names = CONCEPTS[concept]["names"]
        assert text == (CONCEPTS[concept]["name"] if language == "en" else names[language])
        assert item == f"{concept}/{language}"
        assert data.labels["language"][item] == language
        assert data.labels["concept"][item] == concept
        assert set(tags_of(text)) == {("concept", concept), ("language", language)}
    for label_set in ("subgroup", "group"):
        assert all(data.labels[label_set][f"{c}/{x}"] == CONCEPTS[c][label_set] for c in own for x in LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_the_names_of_one_language_are_those_that_are_loaded_alone(language: str) -> None:
    alone = load_dataset(f"emoji:{language}").split("test")
    captions = TEST.texts.parts_of("captions").items
    ids = [i for i in captions.ids if TEST.labels["language"][i] == language]
    assert ids == list(alone.text_queries)
    assert list(captions.select(ids)) == list(alone.texts.select(ids))


def test_whoever_mistypes_a_language_is_shown_this_one_too() -> None:
    with pytest.raises(XgapError, match=r"unknown language of emoji 'paralel'; nearest names: parallel"):
        load_dataset("emoji:paralel")


def ranks_of(model: xg.Model) -> np.ndarray:
    """The rank of an image's own name among the names of one language, by language `[13, n]`."""
    images = TEST.images.select(i for i in TEST.images.ids if i.startswith("noto/"))
    queries = xg.encode(model, images, store=None, progress=False)
    captions = TEST.texts.parts_of("captions").items
    names = xg.encode(model, captions, store=None, progress=False)
    label = TEST.labels["language"]
    found = []
    for language in LANGUAGES:
        gallery = names.select(i for i in names.ids if label[i] == language)
        found.append(1 / xg.retrieval(queries, gallery, TEST)["ap"].to_numpy())  # one name is relevant
    return np.array(found)


def test_where_every_language_has_the_same_code_ranks_do_not_vary() -> None:
    ranks = ranks_of(xg.load_model("oracle"))
    assert (ranks == 1).all()
    assert ranks.var(axis=0).mean() == 0


def test_where_languages_have_codes_of_their_own_captions_are_as_near_as_the_formula_says() -> None:
    """A name is `u(concept + w language + g text)`: two languages share the concept and the modality."""
    w, g = 0.5, 0.7
    model = xg.load_model(f"oracle(g={g}, language={w})")
    one = TEST.texts.select(TEST.texts.ids[:5])
    tokens = xg.tokens(model, one, "captions", store=None, progress=False)
    for item in tokens.ids:
        vectors = tokens.tokens_of(item).double().numpy()
        expected = (1 + g**2 + w**2 * np.eye(13)) / (1 + g**2 + w**2)
        assert vectors @ vectors.T == pytest.approx(expected, abs=1e-6)
    same = xg.tokens(xg.load_model("oracle"), one, "captions", store=None, progress=False)
    single = xg.encode(xg.load_model("oracle"), one, store=None, progress=False)
    assert np.asarray(same.pooled()) == pytest.approx(np.asarray(single), abs=1e-6)
