"""The one way an image is opened: upright, as RGB, within a limit of pixels, by an allow-list of decoders.

Published sets alone are opened `plain`, as the published evaluations open theirs: neither turned nor laid on white.
"""

import contextlib
import io
import struct
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# Of a photograph first: where one item has several images, the first of these is the image (see `shards`).
PREFERRED = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".avif", ".jp2", ".j2c", ".j2k", ".jpf", ".jpx"),
    *(".png", ".apng", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm", ".pnm", ".pbm"),
)
SUFFIXES = frozenset(PREFERRED)
# Images that are not read: they are counted where they lie among others, and never passed over without a word.
UNREAD = frozenset(
    (
        *(".heic", ".heif", ".hif", ".jxl", ".svg", ".svgz", ".psd", ".xcf", ".ai", ".eps", ".tga", ".ico", ".icns"),
        *(".exr", ".hdr", ".pfm", ".pcx", ".dds", ".dib", ".sgi", ".xbm", ".xpm", ".wmf", ".emf", ".jxr", ".qoi"),
        *(".raw", ".dng", ".cr2", ".cr3", ".crw", ".nef", ".arw", ".orf", ".raf", ".rw2", ".pef", ".srw", ".dcm"),
    )
)
# An allow-list: others of Pillow's formats start programs (EPS) or are no photographs.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 178_956_970  # half a gigabyte as RGB; a small file may claim more, and fill the memory

HEAD = 64  # bytes that identify the format of a file
BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  \r\n")
BRIEF = (b"BM", b"P5", b"P6")  # BMP and PPM: too short to know any file by
AVIF = (b"ftypavif", b"ftypavis")
HEIF = tuple(b"ftyp" + brand for brand in (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"))

# What decoders of damaged files raise (an UnidentifiedImageError is an OSError).
UNREADABLE = (OSError, EOFError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)

_SMALLEST = ContextVar("the edge down to which JPEGs are decoded at a smaller size; 0 for full size", default=0)


@contextlib.contextmanager
def drafted(edge: int) -> Iterator[None]:
    """Within, in this thread, JPEGs are decoded at a half, a quarter or an eighth of their size.

    The decoder then computes fewer frequencies of each block (Pillow's `draft`). Pixels differ from those of a full
    image that is resized; see `encode`.

    Args:
        edge: pixels that the shorter edge keeps at least; 0 decodes in full.
    """
    before = _SMALLEST.set(edge)
    try:
        yield
    finally:
        _SMALLEST.reset(before)


def open_image(source: str | Path | bytes, plain: bool = False) -> Image.Image:
    """An image as RGB, turned the way its EXIF tag says, transparent parts on white, deeper values scaled to 8 bits.

    Of an animation, the first frame.

    Args:
        source: a file, or the content of one.
        plain: as the published evaluations open theirs: converted to RGB, and nothing else.

    Raises:
        OSError, ...: one of `UNREADABLE`: no such file, a truncated one, another format, values of no known range (see
            `as_rgb`), or more than `MAX_PIXELS`.
    """
    Image.init()  # Pillow's list of decoders; an older one may lack a format
    known = [name for name in FORMATS if name in Image.OPEN]
    try:
        opened = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=known)
    except UnidentifiedImageError as error:
        found = stand_in(source[:HEAD] if isinstance(source, bytes) else head_of(source))
        if found is None:
            raise
        raise OSError(found) from error
    with opened as image:
        if _SMALLEST.get() and image.format == "JPEG":
            _check_size(image)  # of the file, as without a draft
            image.draft(None, (_SMALLEST.get(), _SMALLEST.get()))  # None keeps the mode
        if not plain:
            return as_rgb(image)
        _check_size(image)
        rgb = image.convert("RGB")
        rgb.info = {}  # an image that is handed on is as it is: no EXIF tag turns it, should it be opened again
        return rgb


def is_image_file(name: str) -> bool:
    """Whether a file's name ends like an image's."""
    return Path(name).suffix.lower() in SUFFIXES


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is a system's own (`._a.jpg`, `.DS_Store`, `__MACOSX`, `@eaDir`)."""
    return (name.startswith(".") and name not in (".", "..")) or name in ("__MACOSX", "@eaDir", "$RECYCLE.BIN")


def head_of(path: str | Path) -> bytes:
    """The first bytes of a file, by which `stand_in` and `looks_like_image` know it; none where it cannot be read."""
    path = Path(path)
    try:
        if not path.is_file():  # a pipe would wait for ever
            return b""
        with path.open("rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""


def looks_like_image(head: bytes, brief: bool = False) -> bool:
    """Whether content begins as an image does, whatever it is called.

    Args:
        head: its first bytes.
        brief: whether the two letters of BMP and PPM are enough, where images are what one expects.
    """
    is_webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return head.startswith(BEGINNINGS + BRIEF * brief) or head[4:12] in HEIF + AVIF or is_webp


def stand_in(head: bytes) -> str | None:
    """What a file is that lies in the place of an image or of an archive, by its first bytes, and what to do about it.

    None where that is not known.
    """
    begin = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if begin.startswith(b"version https://git-lfs.github.com/spec/"):
        return "it is a Git LFS pointer, which stands for a file that was not fetched; run git lfs pull"
    if head[4:12] in HEIF:
        return "it is a HEIC image, which is not read; convert it to JPEG or PNG"
    if begin.startswith((b"<!doctype html", b"<html")):
        return "it is a web page and no image, as failed downloads are; fetch it again"
    if begin.startswith((b"<svg", b"<?xml")):
        return "it is an SVG drawing or another XML text, which is not read; convert it to PNG"
    if not head:
        return "it is empty; fetch it again"
    return None


def as_rgb(image: Image.Image) -> Image.Image:
    """A Pillow image as `open_image` gives it, whichever way it came in.

    Gray of 16 bits is scaled by 257. Other gray of more than 8 bits does not say its range: floating-point values from
    0 to 1 are scaled to it, and values up to 255 are taken as they are, with whole numbers up to 65535 as 16 bits.

    Raises:
        OSError, ...: one of `UNREADABLE`: a damaged file, more than `MAX_PIXELS`, or values of no known range.
    """
    _check_size(image)
    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):  # Pillow would cut everything above 255 off
        return _gray(image, sixteen).convert("RGB")
    if image.mode == "La":  # Pillow has no direct way from it
        image = image.convert("LA")
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        ground.alpha_composite(layer)
        return ground.convert("RGB")
    return image.convert("RGB")


def _check_size(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        what = f"{image.width} x {image.height} pixels are more than the {MAX_PIXELS} that are opened"
        raise Image.DecompressionBombError(what)


def _gray(image: Image.Image, sixteen: bool) -> Image.Image:
    """Gray of more than 8 bits as gray of 8."""
    values = np.asarray(image).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if image.mode == "F" and low >= 0 and high <= 1:
        scaled = values * 255
    elif not sixteen and low >= 0 and high <= 255 and (image.mode != "F" or high > 2):  # just above 1 says neither
        scaled = values
    elif sixteen or (image.mode != "F" and low >= 0 and high <= 65535):
        scaled = values.clip(0, 65535) / 257
    else:
        what = "0 to 1 or to 255 (floating point)" if image.mode == "F" else "0 to 255 or to 65535 (whole numbers)"
        raise OSError(f"its values run from {low:g} to {high:g}, and gray is read from {what}; save it as 8 or 16 bits")
    gray = scaled.round().astype(np.uint8)
    see_through = image.info.get("transparency")
    if isinstance(see_through, int):  # one shade, as PNG names it
        gray[values == see_through] = 255
    return Image.fromarray(gray)
