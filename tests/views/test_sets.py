"""Sets of vectors as views: patches, words, and the parts that items say they consist of."""

import pytest
import torch
from PIL import Image

import xgap_analysis as xg
from tests.conftest import random_model
from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets import Dataset, Images, Items, Parts, Texts
from xgap_analysis.models import Model


@pytest.fixture(scope="module")
def model() -> Model:
    return random_model()


def painted(item: str) -> Image.Image:
    shade = int(item[1:]) * 20
    image = Image.new("RGB", (32, 32), (shade, 255 - shade, 90))
    image.paste((255 - shade, shade, 30), (0, 0, 16, 8 + shade % 16))
    return image


FRAMES = Images([f"f{i}" for i in range(6)], painted, "1")
CLIPS = Items(["a", "b", "c"], str, "1", "video", {"frames": Parts(FRAMES, ["a", "a", "a", "b", "b", "c"])})
TEXTS = Texts(["ta", "tb", "tc"], ["a red bear", "a kite", "cup"])
DATA = Dataset(
    "clips",
    "test",
    texts=TEXTS,
    items={"video": CLIPS},
    labels={"clip": {i: i[-1] for i in ("a", "b", "c", *TEXTS.ids)}},
)


def test_each_part_is_encoded_by_itself(model: Model) -> None:
    frames = xg.tokens(model, CLIPS.select(["b", "a"]), "frames")
    assert frames.ids == ("b", "a")
    assert frames.lengths.tolist() == [2, 3]
    assert (frames.space, frames.origin) == ("image", "video")
    alone = xg.encode(model, FRAMES)
    torch.testing.assert_close(frames.tokens_of("a"), alone.vectors[:3])


def test_own_tokens_of_a_list_know_their_list(model: Model) -> None:
    one, two = xg.tokens(model, ["a red bear", "kite"]), xg.tokens(model, ["cup", "dog"])
    assert one.lengths.tolist() == [3, 1]
    assert one.ids == two.ids
    assert not one.has_items_of(two)
    assert one.has_items_of(xg.tokens(model, ["a red bear", "kite"]))
    native = xg.encode(model, ["a red bear", "kite"])
    assert one.has_items_of(native)


def test_views_of_sets_stand_in_a_study(model: Model) -> None:
    study = xg.Study(
        [model], [DATA], ["text-frames", "words-frames"], scorers=["late_interaction(inner=max, outer=mean)"]
    )
    table = study.run()
    main = table[table["main"]].set_index("comparison")
    assert list(main.index) == ["text-frames", "words-frames"]
    assert not main["note"].any()
    assert set(main["n_gallery"]) == {3}
    assert set(main["n_queries"]) == {3}
    by_hand = xg.retrieval(xg.encode(model, TEXTS), xg.tokens(model, CLIPS, "frames"), DATA, scorer="late_interaction")
    assert main.loc["text-frames", "value"] == pytest.approx(by_hand["ap"].mean())


def test_a_parts_view_of_ones_own(model: Model) -> None:
    pages = Items(["p"], str, "1", "page", {"lines": Parts(Texts(["l0", "l1"], ["a bear", "a kite"]), ["p", "p"])})
    xg.register_parts("lines", modality="page", space="text")
    made = xg.view("lines")(model, pages)
    assert made.space == "text"
    assert made.lengths.tolist() == [2]


def test_what_cannot_be_done_is_one_sentence(model: Model) -> None:
    with pytest.raises(XgapError, match="unknown parts of image items: 'regions'"):
        xg.tokens(model, FRAMES, "regions")
    with pytest.raises(XgapError, match="item '1'"):
        xg.tokens(model, ["bear", ""])
    with pytest.raises(XgapError, match="nothing to encode"):
        xg.tokens(model, [])
    with pytest.raises(XgapError, match="1 items have no parts here, the first is 'd'"):
        xg.tokens(model, Items(["a", "d"], str, "1", "video", CLIPS.parts), "frames")
    with pytest.raises(XgapError, match="fuse takes views of one vector per item, and patches gives a set"):
        xg.view("fuse(image, patches)")(model, FRAMES)


def test_corrections_map_each_vector_of_a_set(model: Model) -> None:
    fitted = xg.correction("center").fit(
        xg.Calibration({"image": xg.encode(model, FRAMES), "text": xg.encode(model, TEXTS)}, "train")
    )
    frames = xg.tokens(model, CLIPS, "frames")
    moved = fitted(frames)
    torch.testing.assert_close(moved.vectors, fitted(xg.encode(model, FRAMES)).vectors)
    assert moved.offsets.tolist() == frames.offsets.tolist()
    assert moved.provenance["correction"] == "center"
    sharp = xg.correction("inverted-softmax").fit(xg.Calibration({"text": xg.encode(model, TEXTS)}, "train"))
    with pytest.raises(XgapError, match="compares scores with those of whole items"):
        sharp.apply(xg.encode(model, TEXTS), frames)
