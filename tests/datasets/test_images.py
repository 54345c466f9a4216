"""Opening pictures: whatever a camera or a web page wrote comes out upright and as RGB."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xgap_analysis.datasets import images as drawings
from xgap_analysis.datasets.images import UNREADABLE, as_rgb, is_image_file, looks_like_image, open_image
from xgap_analysis.datasets.published.files import listed_images

LEFT_RED = Image.new("RGB", (16, 8), "blue")
LEFT_RED.paste("red", (0, 0, 8, 8))


def colours(image: Image.Image) -> tuple[str, str]:
    """What the first and the last pixel are nearest to."""
    assert image.mode == "RGB"
    names = {"red": (255, 0, 0), "blue": (0, 0, 255), "white": (255, 255, 255), "gray": (128, 128, 128)}
    pixels = np.asarray(image).astype(int)
    ends = (pixels[0, 0], pixels[-1, -1])
    near = [min(names, key=lambda name: abs(np.array(names[name]) - pixel).sum()) for pixel in ends]
    return near[0], near[1]


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.bmp", "a.gif", "a.tiff"])
def test_every_format_gives_the_same_image(name: str, tmp_path: Path) -> None:
    LEFT_RED.save(tmp_path / name)
    assert is_image_file(name)
    assert colours(open_image(tmp_path / name)) == ("red", "blue")
    assert colours(open_image((tmp_path / name).read_bytes())) == ("red", "blue")


def test_a_cmyk_photograph_keeps_its_colours(tmp_path: Path) -> None:
    LEFT_RED.convert("CMYK").save(tmp_path / "a.jpg")
    assert colours(open_image(tmp_path / "a.jpg")) == ("red", "blue")


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_turned_photograph_stands_upright(turn: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    LEFT_RED.save(tmp_path / "a.png", exif=exif)
    opened = open_image(tmp_path / "a.png")
    # Rows and columns of the EXIF standard: from 5 on, rows become columns; 2, 3, 7 and 8 begin at the other end.
    assert opened.size == ((8, 16) if turn > 4 else (16, 8))
    assert colours(opened) == (("blue", "red") if turn in (2, 3, 7, 8) else ("red", "blue"))


def test_published_sets_are_opened_as_the_published_evaluations_do(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    LEFT_RED.save(tmp_path / "a.png", exif=exif)
    assert open_image(tmp_path / "a.png").size == (8, 16)
    files = listed_images(tmp_path, {"a": "a.png"}, "a list")
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(files.opener("a")), np.asarray(image.convert("RGB")))
    Image.new("L", (1, 1)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with pytest.raises(UNREADABLE):  # but no decoder that starts programs, whatever the file is called
        files.opener("a")


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    LEFT_RED.convert("RGBA").save(tmp_path / "opaque.png")
    assert colours(open_image(tmp_path / "opaque.png")) == ("red", "blue")
    hidden = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    hidden.save(tmp_path / "hidden.png")
    assert colours(open_image(tmp_path / "hidden.png")) == ("white", "white")
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 255] * 256)
    palette.save(tmp_path / "palette.png", transparency=0)
    assert colours(open_image(tmp_path / "palette.png")) == ("white", "white")


def test_gray_of_sixteen_bits_is_scaled_and_not_cut_off(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 128 * 257, dtype=np.uint16)).save(tmp_path / "deep.png")
    assert np.asarray(open_image(tmp_path / "deep.png")).tolist() == [[[128] * 3] * 4] * 4
    Image.new("L", (4, 4), 128).save(tmp_path / "gray.jpg")
    assert colours(open_image(tmp_path / "gray.jpg")) == ("gray", "gray")


def test_damaged_files_raise_what_encoding_knows_how_to_skip(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    for bad in (
        content[: len(content) // 2],
        b"",
        b"not a picture",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    ):
        with pytest.raises(UNREADABLE):
            open_image(bad)
    with pytest.raises(UNREADABLE):
        open_image(tmp_path / "missing.jpg")


def test_a_small_file_that_claims_a_huge_image_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as other libraries do
    with pytest.raises(Image.DecompressionBombError, match="60000 x 60000"):
        open_image(bomb)
    assert drawings.MAX_PIXELS < 60_000**2


def ramp(top: float, kind: type) -> Image.Image:
    """Gray from 0 to a highest value."""
    return Image.fromarray(np.linspace(0, top, 64).reshape(8, 8).astype(kind))


@pytest.mark.parametrize(
    ("top", "kind"), [(1, np.float32), (255, np.float32), (65535, np.uint16), (255, np.int32), (65535, np.int32)]
)
def test_deep_gray_is_read_in_the_range_that_its_values_have(top: float, kind: type, tmp_path: Path) -> None:
    ramp(top, kind).save(tmp_path / "deep.tif")
    seen = np.asarray(open_image(tmp_path / "deep.tif"))[..., 0].astype(float)
    np.testing.assert_allclose(seen, np.linspace(0, 255, 64).reshape(8, 8), atol=1)


@pytest.mark.parametrize(("low", "high"), [(-3, 3), (0, 1.5), (0, 1000), (0, np.nan)])
def test_gray_of_no_known_range_is_refused_and_not_shown_black(low: float, high: float, tmp_path: Path) -> None:
    Image.fromarray(np.array([[low, high]] * 4, dtype=np.float32)).save(tmp_path / "odd.tif")
    with pytest.raises(OSError, match=r"its values run from .* save it as 8 or 16 bits"):
        open_image(tmp_path / "odd.tif")


def test_one_see_through_shade_of_sixteen_bits_is_white() -> None:
    image = Image.fromarray(np.array([[1000, 257 * 128]], dtype=np.uint16))
    image.info["transparency"] = 1000
    assert np.asarray(as_rgb(image)).tolist() == [[[255] * 3, [128] * 3]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "RGBa", "LA", "La", "PA", "CMYK", "I", "F", "I;16"])
def test_an_opened_image_is_its_file_in_every_mode_and_again_the_same(mode: str, tmp_path: Path) -> None:
    given = as_rgb(Image.new(mode, (4, 4)))
    assert given.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(as_rgb(given)), np.asarray(given))


@pytest.mark.parametrize("plain", [False, True])
def test_an_image_that_was_opened_is_not_turned_twice(plain: bool, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    LEFT_RED.save(tmp_path / "a.jpg", exif=exif)
    once = open_image(tmp_path / "a.jpg", plain=plain)
    assert as_rgb(once).size == once.size == ((16, 8) if plain else (8, 16))


def test_what_lies_in_the_place_of_an_image_is_named(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    for content, words in (
        (pointer, "a Git LFS pointer.*run git lfs pull"),
        (heic, "a HEIC image, which is not read; convert it"),
        (b"\n<!DOCTYPE html><p>404", "a web page and no image"),
        (b"<svg xmlns='x'/>", "an SVG drawing"),
        (b"", "it is empty"),
    ):
        (tmp_path / "a.jpg").write_bytes(content)
        for source in (tmp_path / "a.jpg", content):
            with pytest.raises(OSError, match=words):
                open_image(source)


def test_an_image_of_too_many_pixels_is_refused_also_when_it_was_opened_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drawings, "MAX_PIXELS", 15)
    with pytest.raises(UNREADABLE, match="4 x 4 pixels are more than the 15"):
        as_rgb(Image.new("L", (4, 4)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP"])
def test_an_image_is_known_by_how_it_begins(kind: str, tmp_path: Path) -> None:
    LEFT_RED.save(tmp_path / "a", kind)
    begin = (tmp_path / "a").read_bytes()[:64]
    assert looks_like_image(begin, brief=True)
    assert looks_like_image(begin) is (kind != "BMP")  # two letters are too few where any file may lie
