"""ComCLIP equals its formula on ragged input and gives the card's known answers."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.stacked import stacked
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.scoring.score import score

from .conftest import RAGGED, Matrix, sets_of, some, turned_round


def by_formula(t: Matrix, v: Matrix) -> float:
    image = v[0]
    if len(t) > 1 and len(v) > 1:
        chosen = [v[1:][(v[1:] @ word).argmax()] for word in t[1:]]
        s = np.array([word @ part for word, part in zip(t[1:], chosen, strict=True)])
        bad = s.sum() <= 0 or np.abs(s).sum() / s.sum() > 10
        w = np.full(len(s), 1 / len(s)) if bad else s / s.sum()
        image = image + w @ np.array(chosen)
    return float(t[0] @ image / np.linalg.norm(image))


@settings(max_examples=25)
@given(q=RAGGED, g=RAGGED, seed=st.integers(0, 999))
def test_it_equals_its_formula(q: list[int], g: list[int], seed: int) -> None:
    query, gallery = some(q, seed), some(g, seed + 1)
    sets = [sets_of(side) for side in (query, gallery)]
    expected = [[by_formula(t, v) for v in sets[1]] for t in sets[0]]
    np.testing.assert_allclose(score(query, gallery, "comclip"), expected, atol=3e-6)


def test_without_words_or_sub_images_it_is_the_cosine_of_the_wholes() -> None:
    texts, images = (Features(torch.randn(n, 8), map(str, range(n)), "i", "i") for n in (3, 4))
    words, parts = some([2, 3, 1], 0), some([3, 1, 2, 2], 1)
    plain = score(texts, images)
    assert torch.allclose(score(texts, images, "comclip"), plain, atol=1e-6)
    assert torch.allclose(score(stacked(texts, words), images, "comclip"), plain, atol=1e-6)
    assert torch.allclose(score(texts, stacked(images, parts), "comclip"), plain, atol=1e-6)
    same = stacked(images, images, images)
    found = score(stacked(texts, words), same, "comclip")
    assert torch.allclose(found, plain, atol=1e-6), "all sub-images are the image"


def test_weights_of_one_and_zero_add_one_sub_image() -> None:
    axes = torch.eye(5)
    text = TokenFeatures(axes[[0, 1, 4]], [0, 3], ["t"], "text", "text")  # its second word resembles no sub-image
    image = TokenFeatures(torch.stack([axes[0] + axes[2], axes[1], axes[3]]), [0, 3], ["v"], "image", "image")
    v = image.vectors
    assert score(text, image, "comclip").item() == pytest.approx(float((v[0] + v[1])[0] / (v[0] + v[1]).norm()))


def test_the_order_of_words_and_parts_and_the_other_items_change_nothing() -> None:
    query, gallery = some([3, 1, 4], 0), some([4, 2, 3], 1)
    found = score(query, gallery, "comclip")
    assert torch.allclose(score(turned_round(query, 1), turned_round(gallery, 1), "comclip"), found, atol=1e-6)
    assert torch.allclose(score(query, gallery.select(["2", "0"]), "comclip"), found[:, [2, 0]], atol=1e-6)
    assert torch.allclose(score(query, gallery, "comclip", block=1), found, atol=1e-6)


def test_an_image_that_its_part_cancels_out_is_named() -> None:
    v = torch.randn(1, 8)
    image = TokenFeatures.from_sets([torch.randn(2, 8), torch.cat([v, -v])], "ab", "image", "image")
    with pytest.raises(XgapError, match="item 'b' and its sub-images cancel out"):
        score(some([2, 2], 0), image, "comclip")


def test_on_scenes_of_the_oracle_it_adds_the_sub_image_that_a_caption_speaks_of(oracle: Any, scenes: Any) -> None:
    """A caption of one thing of a scene: cos(t, v0) rises to cos(t, v0 + v1), by the codes' closed form."""
    images, texts = scenes
    whole = xg.encode(oracle, images, progress=False)
    regions = xg.tokens(oracle, images, "regions", progress=False)
    names = xg.tokens(oracle, texts, "names", progress=False)
    first = Features(torch.stack([names.tokens_of(i)[0] for i in names.ids]), names.ids, "text", "text")
    text = stacked(first, first)  # of one word, which is all of it
    found = score(text, stacked(whole, regions), "comclip").diagonal()
    plain = score(first, whole).diagonal()
    added = torch.nn.functional.normalize(
        whole.vectors + torch.stack([regions.tokens_of(i)[0] for i in regions.ids]), dim=1
    )
    assert torch.allclose(found, (first.vectors * added).sum(1), atol=1e-5)
    assert (found > plain + 0.05).all()
