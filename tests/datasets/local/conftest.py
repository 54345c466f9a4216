"""What tests of own data share: pictures that can be told apart."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def gray(shade: int) -> Image.Image:
    """A picture of one shade, kept exactly by PNG and nearly by JPEG and WebP."""
    return Image.new("RGB", (12, 10), (shade, shade, shade))


@pytest.fixture
def plain() -> Callable[[int], Image.Image]:
    """Makes a picture of one shade of gray."""
    return gray


@pytest.fixture
def shade() -> Callable[[Image.Image], int]:
    """Reads the shade of such a picture, to the nearest ten."""

    def read(image: Image.Image) -> int:
        assert image.mode == "RGB"
        return round(float(np.asarray(image).mean()) / 10) * 10

    return read


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """Three classes of two pictures each, in three formats, among files that are none; shades 10, 30, ... 110."""
    root = tmp_path / "animals"
    names = (
        "cat/a.jpg",
        "cat/b.png",
        "golden_retriever/a.webp",
        "golden_retriever/b.jpg",
        "owl/a.png",
        "owl/deep/b.JPEG",
    )
    for k, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        gray(10 + 20 * k).save(root / name)
    (root / "owl" / "notes.txt").write_text("no picture")
    (root / ".hidden").mkdir()
    gray(0).save(root / ".hidden" / "x.png")
    gray(0).save(root / "owl" / "._a.png", format="PNG")
    return root
