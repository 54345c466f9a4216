"""What tokens are: places of patches on the image that the model sees, pieces of words, parts by their columns."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

import xgap_analysis as xg
from tests.conftest import tokenize
from xgap_analysis.datasets.parts import Parts
from xgap_analysis.models.captions import pieces
from xgap_analysis.views import described


def halves(item: str) -> Image.Image:
    """64 x 32 pixels, red on the left and blue on the right."""
    image = Image.new("RGB", (64, 32), "red")
    image.paste("blue", (32, 0, 64, 32))
    return image


def test_patches_lie_on_the_image_that_the_model_sees(model: Any) -> None:
    made = described(model, xg.Images(["a"], halves, "1"), "a", "patches", 16)
    assert list(made.names[:5]) == ["row 1, column 1", *(f"row 1, column {c}" for c in (2, 3, 4)), "row 2, column 1"]
    assert made.boxes[6] == (0.5, 0.25, 0.75, 0.5)
    assert made.image is not None
    assert made.image.size == (32, 32), "cropped in the middle, as the tower's preparation does it"
    pixels = np.asarray(made.image)
    assert pixels[16, 4].tolist() == [255, 0, 0], "normalisation is undone"
    assert pixels[16, 28].tolist() == [0, 0, 255]


def test_words_are_pieces_of_the_tokenizer_or_words() -> None:
    tiny = xg.load_model("tiny-untrained", device="cpu")
    texts = xg.Texts(["a"], ["an upside-down face"])
    tokens = xg.tokens(tiny, texts)
    made = described(tiny, texts, "a", "words", int(tokens.lengths[0]))
    assert "".join(made.names) == "anupside-downface"
    assert pieces(tokenize, "a red bear") == [], "a function without names for its ids"


def test_words_of_a_tokenizer_without_names(model: Any) -> None:
    texts = xg.Texts(["a"], ["a red bear"])
    assert list(described(model, texts, "a", "words", 3).names) == ["a", "red", "bear"]
    assert list(described(model, texts, "a", "words", 2).names) == ["token 1", "token 2"]
    assert list(described(model, texts, "a", "text", 1).names) == ["a red bear"]


def test_pieces_of_clips_own_tokenizer() -> None:
    from open_clip.tokenizer import SimpleTokenizer

    assert pieces(SimpleTokenizer(context_length=16), "a red bear") == ["a", "red", "bear"]


def test_parts_by_their_columns(model: Any) -> None:
    regions = Parts(
        xg.Images(["a/0", "a/1"], halves, "1"),
        ["a", "a"],
        {"box": [(0, 0, 32, 32), (32, 0, 64, 16)], "name": ["x", "y"]},
    )
    frames = Parts(xg.Images(["v/0", "v/1"], halves, "1"), ["v", "v"], {"time": [0, 5]})
    captions = Parts(xg.Texts(["t/0"], ["a bear"]), ["t"])
    made = described(model, xg.Images(["a"], halves, "1", parts={"regions": regions}), "a", "regions", 2)
    assert list(made.names) == ["x", "y"]
    assert list(made.boxes) == [(0, 0, 0.5, 1), (0.5, 0, 1, 0.5)]
    videos = xg.Items(["v"], lambda item: [], "1", "video", parts={"frames": frames})
    made = described(model, videos, "v", "frames", 2)
    assert list(made.names) == ["time 0", "time 5"]
    assert len(made.images) == 2
    texts = xg.Texts(["t"], ["a bear and a kite"], {"captions": captions})
    assert list(described(model, texts, "t", "captions", 1).names) == ["a bear"]
    merged = described(model, videos, "v", "frames", 3)
    assert list(merged.names) == ["token 1", "token 2", "token 3"]
    assert merged.images == ()


def test_a_tower_that_takes_no_pixels_has_no_places() -> None:
    oracle = xg.load_model("oracle", device="cpu")
    data = xg.load_dataset("emoji-scenes").split("test").limit(1)
    made = described(oracle, data.images, data.images.ids[0], "patches", 4)
    assert list(made.names) == ["token 1", "token 2", "token 3", "token 4"]
    assert made.boxes == ()


def test_an_id_that_is_not_there(model: Any) -> None:
    with pytest.raises(xg.XgapError, match="no caption here, the first is 'b'"):
        described(model, xg.Texts(["a"], ["a bear"]), "b", "words", 1)
