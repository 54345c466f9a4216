"""Features of several modalities as one set: rows, shares, and whose self-matches are left out."""

from dataclasses import replace

import numpy as np
import pytest

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.mixed import kinds_of, shares_of, with_shares


def sets() -> tuple[xg.Features, xg.Features]:
    rng = np.random.default_rng(0)
    images = xg.Features(rng.normal(size=(3, 5)), ["a", "b", "c"], "image", "image")
    return images, xg.Features(rng.normal(size=(2, 5)), ["d", "e"], "text", "text")


def test_rows_stand_one_behind_the_other_and_say_their_modality() -> None:
    images, texts = sets()
    both = xg.mixed(images, texts)
    assert both.ids == ("a", "b", "c", "d", "e")
    np.testing.assert_array_equal(np.asarray(both), np.concatenate([images, texts]))
    assert (both.space, both.origin) == ("image+text", "image+text")
    some = both.select(["e", "a"])
    assert {m: s.tolist() for m, s in shares_of(some).items()} == {"image": [0, 1], "text": [1, 0]}
    assert kinds_of(xg.mixed(both.select(["b", "d"]), texts.select(["e"]))) == {"b": "image", "d": "text", "e": "text"}


def test_a_document_is_of_the_modalities_that_it_has_a_share_of() -> None:
    images, _ = sets()
    documents = with_shares(images, {"image": {"a": 1.0, "b": 0.25}, "text": {"b": 0.75, "c": 1.0}})
    assert kinds_of(documents) == {"a": "image", "b": "image+text", "c": "text"}
    assert shares_of(documents)["text"].tolist() == [0, 0.75, 1]
    assert shares_of(xg.TokenFeatures.from_features(documents))["image"].tolist() == [1, 0.25, 0]


def test_an_item_of_either_modality_is_left_out_of_its_own_ranking() -> None:
    images, texts = sets()
    both = xg.mixed(images, texts)
    for query in (images, texts, both):
        assert query.has_items_of(both)
        assert both.has_items_of(query)
        assert xg.TokenFeatures.from_features(query).has_items_of(both)
    assert not images.has_items_of(texts)
    sounds = replace(images, origin="audio")
    assert not sounds.has_items_of(both)
    labels = dict(zip("abcde", "xxyxy", strict=True))
    ranked = xg.retrieval(images, both, xg.Relevance.from_labels(labels, labels))
    assert ranked["n_relevant"].tolist() == [2, 2, 1]


def test_mistakes_are_one_sentence() -> None:
    images, texts = sets()
    with pytest.raises(XgapError, match=r"id 'a' stands for two items of a mixed gallery \(image and text\)"):
        xg.mixed(images, replace(texts, ids=["a", "e"]))
    with pytest.raises(XgapError, match="have 2 and 5 dimensions"):
        xg.mixed(images, replace(texts, vectors=texts.vectors[:, :2]))
    with pytest.raises(XgapError, match="known by their numbers"):
        xg.mixed(images, xg.as_features(np.eye(5), "text"))
    with pytest.raises(XgapError, match="name different sets of items"):
        xg.mixed(images, replace(texts, items="others"))
    with pytest.raises(XgapError, match="one set of features or more"):
        xg.mixed()
