"""A folder of pictures: one folder a class, under folders of splits or not; or pictures alone."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from PIL import Image

from xgap_analysis.datasets.assemble import Record, assemble, split_named
from xgap_analysis.datasets.contents import of_file
from xgap_analysis.datasets.pictures import SUFFIXES, is_picture, open_picture
from xgap_analysis.datasets.records import Dataset
from xgap_analysis.errors import XgapError


def load_folder(path: Path | str, *, train_share: float = 0.0) -> Dataset:
    """Pictures under a folder; ids are their paths in it.

    `cats/1.jpg` is of class `cats`, and so is `cats/indoors/2.jpg`; where every folder at the top is named like a
    split, as in `train/cats/1.jpg` (training, val, validation, dev, test, ...), the classes are a level below.
    Pictures without a folder have no label. Names are read as words: `golden_retriever` is "golden retriever".

    Args:
        path: the folder.
        train_share: see `assemble`, which also says what the splits and the texts are.

    Raises:
        XgapError: no such folder, or no picture in it.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise XgapError(f"there is no folder {root}")
    files = sorted(_pictures(root))
    if not files:
        raise XgapError(f"there is no picture in {root}: looked for {', '.join(sorted(SUFFIXES))}")
    tops = {file.split("/")[0] for file in files}
    has_splits = all("/" in file for file in files) and all(split_named(top) for top in tops)
    records = []
    for file in files:
        *folders, _ = file.split("/")
        split = split_named(folders.pop(0)) if has_splits else None
        records.append(Record(file, label=folders[0] if folders else None, split=split))
    name, content = root.resolve().name, partial(_content, root)
    return assemble(name, records, partial(_open, root), content, train_share=train_share)


def _pictures(root: Path) -> Iterator[str]:
    """Paths under the root, links to folders followed once; what a system hides there is left out."""
    seen = set()
    for folder, below, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not name.startswith((".", "__MACOSX")))
        for name in files:
            if is_picture(name) and not name.startswith("."):
                yield (Path(folder) / name).relative_to(root).as_posix()


def _open(root: Path, item: str) -> Image.Image:
    return open_picture(root / item)


def _content(root: Path, item: str) -> str:
    return of_file(root / item)
