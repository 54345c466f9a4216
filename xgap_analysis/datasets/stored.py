"""Images that are stored in files or inside them: whichever reader found them, opened and digested here."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from PIL import Image

from xgap_analysis.datasets.contents import of_file
from xgap_analysis.datasets.images import open_image
from xgap_analysis.datasets.items import Images

PLAIN = "plain"  # the way that a digest names, of images that are opened as the published evaluations open theirs


def stored_images(
    ids: Iterable[str], source: Callable[[str], Path | bytes], content: Callable[[str], str], plain: bool = False
) -> Images:
    """Images by where their files, or the content of these, are.

    Args:
        ids: of the images.
        source: the image file of an id, or its content.
        content: its digest (see `contents`).
        plain: see `open_image`.
    """
    return Images(tuple(ids), partial(_opened, source, plain), content)


def image_files(base: Path, paths: Mapping[str, str | Path], plain: bool = False) -> Images:
    """Images that are files.

    Args:
        base: a folder.
        paths: id to path under it, or to one that is absolute.
        plain: see `open_image`.
    """
    return stored_images(
        paths, partial(_file, base, paths), partial(_digest, base, paths, PLAIN if plain else ""), plain
    )


def _opened(source: Callable[[str], Path | bytes], plain: bool, item: str) -> Image.Image:
    return open_image(source(item), plain)


def _file(base: Path, paths: Mapping[str, str | Path], item: str) -> Path:
    return base / paths[item]


def _digest(base: Path, paths: Mapping[str, str | Path], way: str, item: str) -> str:
    return of_file(base / paths[item], way)
