"""The figure of token pairs says what the numbers say."""

from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image

mpl.use("agg")

import matplotlib.pyplot as plt

from xgap_analysis import plots
from xgap_analysis.core.errors import XgapError
from xgap_analysis.scoring import TokenPairs
from xgap_analysis.views import DescribedItem


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


def pairs(t: int, s: int) -> TokenPairs:
    draw = torch.Generator().manual_seed(0)
    similar = torch.rand(t, s, generator=draw) - 0.3
    return TokenPairs(similar, similar / (t * s))


def written(figure: object) -> list[str]:
    figure.canvas.draw()  # type: ignore[attr-defined]
    return [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_text()]  # type: ignore[attr-defined]


def test_a_dot_for_each_pair_that_adds_and_a_ring_for_one_that_takes_away() -> None:
    found = pairs(2, 3)
    figure = plots.token_pairs(found, title="by")
    dots, rings = (len(of.get_offsets()) for of in figure.findobj(mpl.collections.PathCollection))
    assert dots == int((found.contributions > 0).sum())
    assert rings == int((found.contributions < 0).sum()) > 0
    words = written(figure)
    assert f"by   score {found.score:.3f}" in words
    assert {f"{value:.2f}" for value in found.similarities.flatten().tolist()} <= set(words)
    assert any(word.startswith(f"{float(found.contributions.sum(dim=1)[0]):+.2f}") for word in words)


def test_names_images_boxes_and_frames() -> None:
    image = Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8))
    places = [(x / 4, y / 4, (x + 1) / 4, (y + 1) / 4) for y in range(4) for x in range(4)]
    patches = DescribedItem("i$1", [f"p{i}" for i in range(16)], image, places)
    frames = DescribedItem("v", ["time 0", "time 1"], images=[image, image])
    figure = plots.token_pairs(pairs(16, 2), patches, frames)
    words = written(figure)
    assert {"p0", "p15", "time 0", "time 1"} <= set(words)
    assert len(figure.findobj(mpl.image.AxesImage)) >= 1 + 1 + 2  # the image, the matrix, two frames
    captions = DescribedItem("t", ["a $bear$", "<b>kite</b>"])
    assert any("a $bear$" in word for word in written(plots.token_pairs(pairs(2, 2), captions, frames)))


def test_many_tokens_leave_names_out() -> None:
    found = pairs(90, 3)
    words = written(plots.token_pairs(found))
    assert "token 4" in words
    assert "token 5" not in words, "every third stands at the axis"
    most = int(found.contributions.sum(dim=1).abs().argmax())
    listed = [word for word in words if word[0] in "+-" and "token" in word]
    assert len(listed) == 40 + 3, "those that add most, of the query and all of the gallery item"
    assert any(word.endswith(f"  token {most + 1}") for word in listed)


def test_names_of_other_tokens_are_refused() -> None:
    with pytest.raises(XgapError, match="the query has 2 tokens and 1 names"):
        plots.token_pairs(pairs(2, 2), DescribedItem("a", ["one"]))
