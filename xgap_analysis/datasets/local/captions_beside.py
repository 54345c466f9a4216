"""Captions in text files beside images: `1.txt` beside `1.jpg`, as unpacked shards and downloads of pairs have them."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from xgap_analysis.core.errors import notice
from xgap_analysis.core.table_values import clean_text
from xgap_analysis.datasets.local.encodings import decoded, readable

MAX_BYTES = 1 << 20  # of a text that may be captions
NUMBER = re.compile(r"[-+]?[\d.,]+e[-+]?\d+", re.IGNORECASE)  # with a letter in it, as 1e-05


def captions_beside(root: Path, images: Sequence[str], texts: Sequence[str]) -> dict[str, list[str]]:
    """The captions of each image, one a line, as in shards; a warning says that they are taken for captions.

    Nothing where an image has no such text, one that cannot be read, or one without words (boxes of a detector are
    numbers): then the texts are not captions, or not of all images, and the caller says that they were left out.

    Args:
        root: the folder.
        images, texts: paths in it, with `/`.
    """
    by_stem = {str(PurePosixPath(text).with_suffix("")): text for text in texts}
    of = {image: by_stem.get(str(PurePosixPath(image).with_suffix(""))) for image in images}
    captions: dict[str, list[str]] = {}
    unclear: set[str] = set()
    for image, text in of.items():
        content = None if text is None else _content(root / text)
        if text is None or content is None:
            return {}
        words, clean = decoded(content)
        captions[image] = [clean_text(line.strip()) for line in words.split("\n") if line.strip()]
        if not any(map(_is_word, words.split())):
            return {}
        if not clean:
            unclear.add(text)
    if captions:
        used = len(set(of.values()))
        notice(f"the {used} texts beside images of {root} are taken for their captions, one a line")
    if unclear:
        what = f"{len(unclear)} of them are not UTF-8 and were read as Windows-1252"
        notice(f"{what} (the first is {readable(min(unclear))}); save them as UTF-8 if they look wrong")
    return captions


def _content(file: Path) -> bytes | None:
    """The bytes of a text; None of one that cannot be read, as behind a broken link, or is too large."""
    try:
        return file.read_bytes() if file.stat().st_size <= MAX_BYTES else None
    except OSError:
        return None


def _is_word(word: str) -> bool:
    return any(map(str.isalpha, word)) and not NUMBER.fullmatch(word)
