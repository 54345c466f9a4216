"""CUB, SOP and Dogs-vs-Cats: every image asks for the others of its class."""

from pathlib import Path

import pytest

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets import Dataset, load_dataset
from xgap_analysis.models import Model

from .conftest import drawing


def answers(data: Dataset, item: str, label_set: str | None = None) -> list[str]:
    """What answers an item, itself left out."""
    bound = data.relevance(label_set).bind([item], data.gallery("image"))
    hits = (bound.grades(0, 1) > 0) & ~bound.ignored(0, 1)
    return [i for i, hit in zip(data.gallery("image"), hits[0], strict=True) if hit]


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    folder = tmp_path / "CUB_200_2011"
    names = ["001.Black_footed_Albatross", "002.Laysan_Albatross"]
    images, labels, training = [], [], []
    for c, name in enumerate(names, 1):
        for i in range(3):
            path = f"{name}/{name[4:]}_{i:04}_{100 * c + i}.jpg"
            drawing(folder / "images" / path)
            number = len(images) + 1
            images.append(f"{number} {path}")
            labels.append(f"{number} {c}")
            training.append(f"{number} {int(i < 2)}")
    for file, lines in (
        ("images.txt", images),
        ("image_class_labels.txt", labels),
        ("train_test_split.txt", training),
        ("classes.txt", [f"{c} {name}" for c, name in enumerate(names, 1)]),
    ):
        (folder / file).write_text("\n".join(lines) + "\n")
    return folder


def test_birds(birds: Path) -> None:
    data = load_dataset("cub-200-2011", birds.parent)
    assert data.split_name == "all"
    assert data.queries("image") == data.gallery("image") == tuple(data.images.ids)
    first = "001.Black_footed_Albatross/Black_footed_Albatross_0000_100.jpg"
    assert answers(data, first) == list(data.images.ids[1:3])
    assert data.words_of()["Black_footed_Albatross"] == "a photo of Black footed Albatross"
    assert [len(data.split(s).images) for s in ("train", "held-out")] == [4, 2]
    assert not set(data.split("train").images.ids) & set(data.split("held-out").images.ids)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("image_class_labels.txt", "1 1\n", r"image_class_labels\.txt does not list the same images as .*images\.txt"),
        ("train_test_split.txt", "1 1\n", r"train_test_split\.txt does not list the same images"),
        ("classes.txt", "1 001.Black_footed_Albatross\n", r"classes\.txt does not name class 2"),
        ("classes.txt", "1 a\n1 b\n", r"classes\.txt lists a number twice"),
        ("classes.txt", "", r"classes\.txt is empty"),
        ("images.txt", "1\n", r"images\.txt, line 1: expected 2 fields, found '1'"),
    ],
)
def test_damaged_lists_of_birds(birds: Path, file: str, content: str, said: str) -> None:
    (birds / file).write_text(content)
    with pytest.raises(XgapError, match=said):
        load_dataset("cub-200-2011", birds.parent)


def test_products(tmp_path: Path) -> None:
    folder = tmp_path / "Stanford_Online_Products"
    number = 0
    for split, first in (("train", 1), ("test", 3)):
        lines = ["image_id class_id super_class_id path"]
        for product in (first, first + 1):
            kind = ("bicycle", "coffee_maker")[product % 2]
            for i in range(3):
                number += 1
                path = f"{kind}_final/{100 + product}_{i}.JPG"
                drawing(folder / path.replace(".JPG", ".jpg"))
                (folder / path.replace(".JPG", ".jpg")).rename(folder / path)
                lines.append(f"{number} {product} {1 + product % 2} {path}")
        (folder / f"Ebay_{split}.txt").write_text("\n".join(lines) + "\n")
    data = load_dataset("sop", tmp_path)
    assert (data.split_name, tuple(data.splits), len(data.images)) == ("test", ("test", "train"), 6)
    one = "coffee_maker_final/103_0.JPG"
    assert answers(data, one) == ["coffee_maker_final/103_1.JPG", "coffee_maker_final/103_2.JPG"]
    assert data.default_label_set == "product"
    assert data.words_of("category") == {"bicycle": "a photo of bicycle", "coffee_maker": "a photo of coffee maker"}
    products = {data.split(s).labels_of()[i] for s in data.splits for i in data.split(s).images.ids}
    assert len(products) == 4  # train and test have none in common
    text = (folder / "Ebay_test.txt").read_text()
    (folder / "Ebay_test.txt").write_text(text.split("\n", 1)[1])
    with pytest.raises(XgapError, match="should begin with the line 'image_id class_id super_class_id path'"):
        load_dataset("sop", tmp_path)


@pytest.mark.parametrize("layout", ["train/{0}.{1}.jpg", "PetImages/{2}/{1}.jpg"])
def test_dogs_and_cats_in_both_layouts(layout: str, tmp_path: Path, model: Model) -> None:
    for animal in ("cat", "dog"):
        for i in (0, 1, 2, 10):
            drawing(tmp_path / "dogs-vs-cats" / layout.format(animal, i, animal.capitalize()))
    data = load_dataset("dogs-vs-cats", tmp_path)
    assert len(data.images) == 8
    assert [data.labels_of()[i] for i in data.images.ids] == ["cat"] * 4 + ["dog"] * 4
    assert "10" in data.images.ids[3]  # in the order of their numbers
    assert answers(data, data.images.ids[0]) == list(data.images.ids[1:4])
    assert data.words_of() == {"cat": "a photo of a cat", "dog": "a photo of a dog"}
    table = xg.Study([model], [data], ["I-I"], only="zero-shot-correct", progress=False).run()
    assert set(table["split"]) == {"all, zero-shot-correct"}
    right = xg.zero_shot(
        xg.encode(model, data.images, progress=False),
        xg.encode(model, xg.Texts(("cat", "dog"), tuple(data.words_of().values())), progress=False),
        data.labels_of(),
    )["correct_at_1"]
    assert table["n_gallery"].iloc[0] == right.sum()


def test_a_folder_without_dogs(tmp_path: Path) -> None:
    drawing(tmp_path / "dogs-vs-cats" / "train" / "cat.0.jpg")
    with pytest.raises(XgapError, match=r"expected cat\.0\.jpg, dog\.0\.jpg, \.\.\. in .*train"):
        load_dataset("dogs-vs-cats", tmp_path)
