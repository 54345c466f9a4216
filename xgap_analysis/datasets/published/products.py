"""The sets of metric learning: birds (CUB-200-2011) and products (Stanford Online Products); every image is a query."""

from pathlib import Path

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.assemble import assemble
from xgap_analysis.datasets.dataset import Dataset, in_splits
from xgap_analysis.datasets.published.files import listed_images, read_rows
from xgap_analysis.datasets.published.protocols import Protocol


def load_cub(name: str, protocol: Protocol, folder: Path) -> Dataset:
    """CUB-200-2011: test (all images), train, and the published test images ("held-out").

    Raises:
        XgapError: lists that do not fit each other, or images that are not there.
    """
    paths = _column(folder / "images.txt")
    class_of = _column(folder / "image_class_labels.txt")
    is_training = _column(folder / "train_test_split.txt")
    names = {number: words.partition(".")[2] or words for number, words in _column(folder / "classes.txt").items()}
    for listed, file in ((class_of, "image_class_labels.txt"), (is_training, "train_test_split.txt")):
        if listed.keys() != paths.keys():
            raise XgapError(f"{folder / file} does not list the same images as {folder / 'images.txt'}")
    unknown = next((number for number in class_of.values() if number not in names), None)
    if unknown is not None:
        raise XgapError(f"{folder / 'classes.txt'} does not name class {unknown}, which images have")
    every = listed_images(folder / "images", {path: path for path in paths.values()}, str(folder / "images.txt"))
    words = {class_name: class_name.replace("_", " ") for class_name in names.values()}
    label_of = {path: names[class_of[number]] for number, path in paths.items()}

    def part(split: str, kept: tuple[str, ...]) -> Dataset:
        images = every.select(path for number, path in paths.items() if is_training[number] in kept)
        classes = {"class": words}
        return assemble(name, split, images, labels={"class": label_of}, classes=classes, prompt=protocol.prompt)

    return in_splits(
        {
            "test": lambda: part("all", ("0", "1")),
            "train": lambda: part("train", ("1",)),
            "held-out": lambda: part("held-out", ("0",)),
        }
    )


def load_sop(name: str, protocol: Protocol, folder: Path) -> Dataset:
    """Stanford Online Products: test and train, whose products are apart; the categories are the same twelve.

    Raises:
        XgapError: a damaged list, or images that are not there.
    """
    labels: dict[str, dict[str, str]] = {"product": {}, "category": {}}
    listed: dict[str, tuple[str, ...]] = {}
    for split in ("test", "train"):
        file = folder / f"Ebay_{split}.txt"
        header, *rows = read_rows(file, 4)
        if header != ["image_id", "class_id", "super_class_id", "path"]:
            raise XgapError(f"{file} should begin with the line 'image_id class_id super_class_id path'")
        listed[split] = tuple(row[3] for row in rows)
        labels["product"] |= {path: f"product-{number}" for _, number, _, path in rows}
        labels["category"] |= {path: path.split("/")[0].removesuffix("_final") for *_, path in rows}
    files = {path: path for paths in listed.values() for path in paths}
    every = listed_images(folder, files, f"{folder / 'Ebay_test.txt'} or Ebay_train.txt")
    words = {category: category.replace("_", " ") for category in sorted(set(labels["category"].values()))}

    def part(split: str) -> Dataset:
        images = every.select(listed[split])
        return assemble(name, split, images, labels=labels, classes={"category": words}, prompt=protocol.prompt)

    return in_splits({"test": lambda: part("test"), "train": lambda: part("train")})


def _column(file: Path) -> dict[str, str]:
    """A list of numbers and values, one a line."""
    rows = read_rows(file, 2)
    values = dict(rows)
    if len(values) < len(rows):
        raise XgapError(f"{file} lists a number twice")
    return values
