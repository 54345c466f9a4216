"""The one way a picture is opened: upright, as RGB, within a limit of pixels, by an allow-list of decoders."""

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SUFFIXES = frozenset(
    (".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
# An allow-list: others of Pillow's formats start programs (EPS) or are no photographs.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 178_956_970  # half a gigabyte as RGB; a small file may claim more, and fill the memory

# What decoders of damaged files raise (an UnidentifiedImageError is an OSError).
UNREADABLE = (OSError, EOFError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)


def open_picture(source: str | Path | bytes, plain: bool = False) -> Image.Image:
    """A picture as RGB, turned the way its EXIF tag says, transparent parts on white, 16-bit gray scaled to 8.

    Of an animation, the first frame.

    Args:
        source: a file, or the content of one.
        plain: as the published evaluations open theirs: converted to RGB, and nothing else.

    Raises:
        OSError, ...: one of `UNREADABLE`: no such file, a truncated one, another format, or more than `MAX_PIXELS`.
    """
    Image.init()  # Pillow's list of decoders; an older one may lack a format
    known = [name for name in FORMATS if name in Image.OPEN]
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=known) as image:
        if image.width * image.height > MAX_PIXELS:
            what = f"{image.width} x {image.height} pixels are more than the {MAX_PIXELS} that are opened"
            raise Image.DecompressionBombError(what)
        image.load()
        return image.convert("RGB") if plain else as_rgb(image)


def is_picture(name: str) -> bool:
    """Whether a file's name ends as a picture's does."""
    return Path(name).suffix.lower() in SUFFIXES


def as_rgb(image: Image.Image) -> Image.Image:
    """A decoded picture as `open_picture` gives it."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # Pillow would cut everything above 255 off
        image = Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        ground.alpha_composite(layer)
        return ground.convert("RGB")
    return image.convert("RGB")
