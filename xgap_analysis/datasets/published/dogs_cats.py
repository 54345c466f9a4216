"""Dogs vs. Cats: the other images of its animal are relevant to an image (for the study's filtered test)."""

import os
from pathlib import Path

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.assemble import assemble
from xgap_analysis.datasets.dataset import Dataset, in_splits
from xgap_analysis.datasets.published.files import first_folder, listed_images
from xgap_analysis.datasets.published.protocols import Protocol

LABEL_SET = "animal"
ANIMALS = ("cat", "dog")


def load_dogs_cats(name: str, protocol: Protocol, folder: Path) -> Dataset:
    """All labelled images as the split test (there is no other): `train/cat.0.jpg` or `PetImages/Cat/0.jpg`.

    Raises:
        XgapError: neither layout, or one without cats or dogs.
    """
    base = first_folder(folder, ("train", "PetImages"))
    assert base is not None  # the protocol needs one of them
    if base.name == "train":
        names = [e.name for e in os.scandir(base) if e.name.endswith(".jpg")]
        found = {name: name.split(".")[0] for name in names if name.split(".")[0] in ANIMALS}
    else:
        found = {}
        for animal in ANIMALS:
            own = base / animal.capitalize()
            names = [e.name for e in os.scandir(own) if e.name.endswith(".jpg")] if own.is_dir() else []
            found |= {f"{animal.capitalize()}/{name}": animal for name in names}
    if set(found.values()) != set(ANIMALS):
        raise XgapError(f"expected cat.0.jpg, dog.0.jpg, ... in {base} (or Cat/0.jpg, Dog/0.jpg, ...)")
    ordered = sorted(found, key=lambda path: (found[path], len(path), path))
    images = listed_images(base, {path: path for path in ordered}, str(base))
    classes = {LABEL_SET: {animal: animal for animal in ANIMALS}}
    data = assemble(name, "all", images, labels={LABEL_SET: found}, classes=classes, prompt=protocol.prompt)
    return in_splits({"test": lambda: data})
