"""Captions in text files beside images: `1.txt` beside `1.jpg`, as unpacked shards and downloads of pairs have them."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from xgap_analysis.core.errors import notice
from xgap_analysis.core.table_values import clean_text
from xgap_analysis.datasets.local.encodings import decoded

MAX_BYTES = 1 << 20  # of a text that may be captions


def captions_beside(root: Path, images: Sequence[str], texts: Sequence[str]) -> dict[str, list[str]]:
    """The captions of each image, one a line, as in shards; a warning says that they are taken for captions.

    Nothing where an image has no such text, or one without words (boxes of a detector are numbers): then the texts are
    not captions, or not of all images, and the caller says that they were left out.

    Args:
        root: the folder.
        images, texts: paths in it, with `/`.
    """
    by_stem = {str(PurePosixPath(text).with_suffix("")): text for text in texts}
    of = {image: by_stem.get(str(PurePosixPath(image).with_suffix(""))) for image in images}
    captions: dict[str, list[str]] = {}
    for image, text in of.items():
        if text is None or (root / text).stat().st_size > MAX_BYTES:
            return {}
        lines = decoded((root / text).read_bytes())[0].splitlines()
        captions[image] = [clean_text(line.strip()) for line in lines if any(map(str.isalpha, line))]
        if not captions[image]:
            return {}
    if captions:
        notice(f"the {len(texts)} texts beside images of {root} are taken for their captions, one a line")
    return captions
