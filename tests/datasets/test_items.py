"""Images and texts: items with stable ids, chosen from by id."""

import pytest
from PIL import Image

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.items import NO_IMAGES, NO_TEXTS, Images, Texts


def test_images_open_by_place_and_keep_their_content_when_chosen_from() -> None:
    opened = []

    def opener(item: str) -> Image.Image:
        opened.append(item)
        return Image.new("RGB", (2, 2), (int(item), 0, 0))

    images = Images(("1", "2", "3"), opener, "digest")
    chosen = images.select(["3", "1"])
    assert opened == []
    assert (len(chosen), chosen.ids) == (2, ("3", "1"))
    assert [chosen.digest_of(item) for item in chosen.ids] == [images.digest_of(item) for item in ("3", "1")]
    assert len({images.digest_of(item) for item in images.ids}) == 3
    assert chosen.digest not in ("", images.digest)
    assert (Images(("1",), opener).digest_of("1"), Images(("1",), opener).digest) == ("", "")
    assert chosen[0].getpixel((0, 0)) == (3, 0, 0)
    assert opened == ["3"]


def test_texts_are_a_sequence_of_captions() -> None:
    texts = Texts(("a", "b", "c"), ("one", "two", "three"))
    assert (len(texts), texts[1], list(texts)) == (3, "two", ["one", "two", "three"])
    assert texts.select(["c", "a"]) == Texts(("c", "a"), ("three", "one"))


def test_the_digest_of_texts_knows_ids_captions_and_order() -> None:
    texts = Texts(("a", "b"), ("one", "two"))
    assert texts.digest == Texts(["a", "b"], ["one", "two"]).digest
    others = [
        Texts(("a", "c"), ("one", "two")),
        Texts(("a", "b"), ("one", "2")),
        Texts(("b", "a"), ("two", "one")),
        Texts(("a",), ("one",)),
    ]
    assert len({texts.digest, *(other.digest for other in others)}) == 5


def test_ids_and_captions_that_do_not_fit() -> None:
    with pytest.raises(XgapError, match="2 ids were given for 1 captions"):
        Texts(("a", "b"), ("one",))


def test_choosing_an_item_that_is_not_there_names_it() -> None:
    with pytest.raises(XgapError, match="'x'"):
        Texts(("a",), ("one",)).select(["x"])
    with pytest.raises(XgapError, match="'x'"):
        Images(("a",), lambda item: Image.new("RGB", (1, 1))).select(["a", "x"])


def test_there_is_no_image_in_a_dataset_of_texts() -> None:
    assert len(NO_IMAGES) == len(NO_TEXTS) == 0
    with pytest.raises(XgapError, match="there is no image 'x': this dataset has texts alone"):
        NO_IMAGES.opener("x")
