"""A folder of class folders, with splits or without, or of pictures alone."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from xgap_analysis.datasets import load_dataset
from xgap_analysis.errors import XgapError

Shade = Callable[[Image.Image], int]


def test_a_folder_a_class(animals: Path, shade: Shade) -> None:
    data = load_dataset(str(animals))
    assert (data.name, data.split_name) == ("animals", "all")
    names = ["cat/a.jpg", "cat/b.png", "golden_retriever/a.webp", "golden_retriever/b.jpg", "owl/a.png"]
    assert list(data.images.ids) == [*names, "owl/deep/b.JPEG"]
    assert [shade(data.images[i]) for i in range(6)] == [10, 30, 50, 70, 90, 110]
    assert data.default_level == "class"
    assert [data.labels_of()[i] for i in data.images.ids] == ["cat"] * 2 + ["golden_retriever"] * 2 + ["owl"] * 2
    assert data.class_names["class"]["golden_retriever"] == "golden retriever"
    assert list(data.texts) == ["a photo of cat", "a photo of golden retriever", "a photo of owl"]
    assert [data.labels_of()[i] for i in data.texts.ids] == ["cat", "golden_retriever", "owl"]


def test_without_splits_all_is_judged_and_nothing_is_for_training(animals: Path) -> None:
    data = load_dataset(f"folder:{animals}")
    assert list(data.splits) == ["test", "all"]
    assert data.split("test").images.ids == data.images.ids
    with pytest.raises(XgapError, match="has no split 'train'; it has: test, all"):
        data.split("train")


def test_a_share_for_training_is_cut_off_by_id_and_stays(animals: Path, plain: Callable[[int], Image.Image]) -> None:
    for k in range(200):
        plain(50).save(animals / "cat" / f"{k}.png")
    data = load_dataset(str(animals), train_share=0.3)
    train, test = (set(data.split(name).images.ids) for name in ("train", "test"))
    assert train.isdisjoint(test)
    assert train | test == set(data.images.ids)
    assert 0.2 < len(train) / len(data.images) < 0.4
    for k in range(100):
        (animals / "cat" / f"{k}.png").unlink()
    fewer = load_dataset(str(animals), train_share=0.3)
    assert set(fewer.split("train").images.ids) == train & set(fewer.images.ids)
    with pytest.raises(XgapError, match="at least 0 and below 1, not 1"):
        load_dataset(str(animals), train_share=1)


def test_folders_of_splits_are_splits(animals: Path, tmp_path: Path) -> None:
    root = tmp_path / "whole"
    for split in ("train", "Validation"):
        shutil.copytree(animals, root / split)
    (root / "train" / "owl" / "a.png").unlink()
    data = load_dataset(str(root))
    assert set(data.splits) == {"train", "val", "test", "all"}
    assert len(data.split("train").images) == 5
    judged = data.split("test")  # what ImageNet and many others call val
    assert judged.split_name == "val"
    assert set(judged.labels_of().values()) == {"cat", "golden_retriever", "owl"}
    assert all(i.startswith("Validation/") for i in judged.images.ids)
    assert len(data.images) == 11
    with pytest.raises(XgapError, match="has splits already"):
        load_dataset(str(root), train_share=0.5)


def test_zero_shot_is_among_all_classes_also_those_a_split_lacks(animals: Path, tmp_path: Path) -> None:
    root = tmp_path / "whole"
    shutil.copytree(animals, root / "train")
    shutil.copytree(animals / "cat", root / "test" / "cat")
    judged = load_dataset(str(root)).split("test")
    assert set(judged.class_names["class"]) == {"cat", "golden_retriever", "owl"}
    assert list(judged.texts) == ["a photo of cat"]


def test_a_folder_of_pictures_alone_has_no_labels_and_says_so(animals: Path) -> None:
    data = load_dataset(str(animals / "cat"))
    assert list(data.images.ids) == ["a.jpg", "b.png"]
    assert not len(data.texts)
    with pytest.raises(XgapError, match="'cat' has no labels, so nothing says which items answer each other"):
        data.relevance()


def test_the_fingerprint_follows_the_files(animals: Path, plain: Callable[[int], Image.Image]) -> None:
    before = load_dataset(str(animals)).images.digest
    assert load_dataset(str(animals)).images.digest == before
    plain(200).save(animals / "cat" / "a.jpg")
    assert load_dataset(str(animals)).images.digest != before


def test_links_are_followed_once(animals: Path) -> None:
    (animals / "owl" / "round").symlink_to(animals)
    (animals / "wolf").symlink_to(animals / "cat")
    ids = load_dataset(str(animals)).images.ids
    assert len(ids) == 6  # a folder reached twice is read once, under the first of its names
    assert "cat/a.jpg" in ids


def test_mistakes_are_named(animals: Path, tmp_path: Path) -> None:
    with pytest.raises(XgapError, match=r"there is no file or folder .*nowhere"):
        load_dataset(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(XgapError, match=r"there is no picture in .*empty: looked for .*jpg"):
        load_dataset(str(tmp_path / "empty"))
    with pytest.raises(XgapError, match="unknown option of data read as folder: 'caption'"):
        load_dataset(str(animals), caption="x")
    with pytest.raises(XgapError, match="options \\(train_share\\) are for own data"):
        load_dataset("emoji", train_share=0.5)
    with pytest.raises(XgapError, match="'folder:' names no path"):
        load_dataset("folder:")
    (tmp_path / "x.bin").write_text("")
    with pytest.raises(XgapError, match="none of the forms that are read"):
        load_dataset(str(tmp_path / "x.bin"))


def test_a_known_name_wins_over_a_folder_of_that_name(
    animals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(animals, "emoji")
    assert len(load_dataset("emoji").split("test").images) > 6
    assert len(load_dataset("./emoji").images) == 6
    assert len(load_dataset("animals").images) == 6
