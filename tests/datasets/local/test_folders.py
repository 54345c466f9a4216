"""A folder of class folders, with splits or without, or of pictures alone."""

import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets import load_dataset
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.experiments.table_files import save_table

Shade = Callable[[Image.Image], int]


def test_a_folder_a_class(animals: Path, shade: Shade) -> None:
    data = load_dataset(str(animals))
    assert (data.name, data.split_name) == ("animals", "all")
    names = ["cat/a.jpg", "cat/b.png", "golden_retriever/a.webp", "golden_retriever/b.jpg", "owl/a.png"]
    assert list(data.images.ids) == [*names, "owl/deep/b.JPEG"]
    assert [shade(data.images[i]) for i in range(6)] == [10, 30, 50, 70, 90, 110]
    assert data.default_label_set == "class"
    assert [data.labels_of()[i] for i in data.images.ids] == ["cat"] * 2 + ["golden_retriever"] * 2 + ["owl"] * 2
    assert data.class_names["class"]["golden_retriever"] == "golden retriever"
    assert list(data.texts) == ["a photo of cat", "a photo of golden retriever", "a photo of owl"]
    assert [data.labels_of()[i] for i in data.texts.ids] == ["cat", "golden_retriever", "owl"]


def test_a_path_object_is_a_path_wherever_it_leads(animals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = load_dataset(str(animals))
    monkeypatch.chdir(animals.parent)
    assert load_dataset(Path(animals.name)).images.ids == load_dataset(animals).images.ids == named.images.ids


@pytest.mark.parametrize("name", [None, "", " ", 3])
def test_what_is_neither_a_name_nor_a_path_is_refused(name: Any) -> None:
    with pytest.raises(XgapError, match=f"a dataset is loaded by its name or its path, and {name!r} is neither"):
        load_dataset(name)


def test_without_splits_all_is_evaluated_and_nothing_is_for_training(animals: Path) -> None:
    data = load_dataset(f"folder:{animals}")
    assert list(data.splits) == ["test", "all"]
    assert data.split("test").images.ids == data.images.ids
    with pytest.raises(
        XgapError, match=r"no split 'train'; it has: test, all; '/path/to/data\(train_share=0.5\)' makes"
    ):
        data.split("train")


def test_options_may_stand_in_the_path(animals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (f"{animals}(train_share=0.5)", f"folder:{animals}(train_share=0.5)"):
        data = load_dataset(name)
        assert set(data.splits) == {"train", "test", "all"}
        assert data.images.ids == load_dataset(str(animals)).images.ids
        assert data.split("test").name == "animals(train_share=0.5)"
    monkeypatch.chdir(animals.parent)
    assert "train" in load_dataset("animals(train_share=0.5)").splits
    animals.rename(animals.with_name("animals(a=1)"))
    assert load_dataset("animals(a=1)").name == "animals(a=1)"
    with pytest.raises(
        XgapError, match="unknown option of data read as folder: 'train_shar'; nearest names: train_share"
    ):
        load_dataset("animals(a=1)(train_shar=0.5)")
    with pytest.raises(XgapError, match="at least 0 and below 1, not 'half'"):
        load_dataset("animals(a=1)(train_share='half')")


def test_the_name_has_the_option_that_counts(animals: Path) -> None:
    assert load_dataset(f"{animals}(train_share=0.5)", train_share=0.25).name == "animals(train_share=0.25)"


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


def test_a_folder_of_images_alone_has_no_labels_and_says_so(animals: Path) -> None:
    data = load_dataset(str(animals / "cat"))
    assert list(data.images.ids) == ["a.jpg", "b.png"]
    assert not len(data.texts)
    with pytest.raises(
        XgapError, match=r"'cat' has no labels, so nothing defines .* put images into a folder per class"
    ):
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
    with pytest.raises(XgapError, match=r"there is no image in .*empty: looked for .*jpg"):
        load_dataset(str(tmp_path / "empty"))
    with pytest.raises(XgapError, match="unknown option of data read as folder: 'caption'"):
        load_dataset(str(animals), caption="x")
    with pytest.raises(XgapError, match="unknown option of emoji 'train_share'; nearest names: language"):
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


Plain = Callable[[int], Image.Image]


def tree(root: Path, plain: Plain, *names: str) -> Path:
    """Images of these names under a folder, of shades 10, 30, ..."""
    for k, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        plain(10 + 20 * k % 200).save(root / name, format="PNG")
    return root


def quietly(path: Path) -> Dataset:
    """The data, which is read without a word of warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_dataset(str(path))


SPLIT = ("train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dog/1.png")


def test_an_image_beside_the_splits_changes_nothing_and_is_counted(tmp_path: Path, plain: Plain) -> None:
    tree(tmp_path, plain, *SPLIT, "preview.png", "train/stray.png")
    with pytest.warns(UserWarning, match=r"1 images beside the folders.*preview.png.*1 images beside.*train/stray.png"):
        data = load_dataset(str(tmp_path))
    assert set(data.class_names["class"]) == {"cat", "dog"}
    assert set(data.images.ids) == set(SPLIT)


def test_an_image_beside_class_folders_is_counted(animals: Path, plain: Plain) -> None:
    plain(0).save(animals / "preview.png")
    with pytest.warns(UserWarning, match=r"1 images beside the folders, which have no class .*preview.png"):
        data = load_dataset(str(animals))
    assert set(data.labels_of().values()) == {"cat", "golden_retriever", "owl"}
    assert set(data.labels_of()) >= set(data.images.ids)


def test_folders_that_fit_two_readings_are_refused(tmp_path: Path, plain: Plain) -> None:
    mixed = tree(tmp_path / "mixed", plain, *SPLIT, "extra/1.png")
    with pytest.raises(XgapError, match=r"splits \(test, train\) and others \(extra\).*'test' may be a split"):
        load_dataset(str(mixed))
    beside = tree(tmp_path / "beside", plain, *(f"{k}.png" for k in range(5)), "thumbs/0.png")
    with pytest.raises(XgapError, match=r"5 images beside folders with 1 \(thumbs\).*move one of the two away"):
        load_dataset(str(beside))


def test_a_class_that_is_called_train_is_a_class_and_said(tmp_path: Path, plain: Plain) -> None:
    tree(tmp_path, plain, "train/1.png", "car/1.png", "bus/1.png")
    with pytest.warns(UserWarning, match=r"'train' of .* is taken for a class like those .*\(bus, car, train\)"):
        data = load_dataset(str(tmp_path))
    assert set(data.labels_of().values()) == {"train", "car", "bus"}


@pytest.mark.parametrize(
    ("names", "labels", "splits", "said"),
    [
        (("Images/beagle/1.png", "Images/pug/1.png"), {"beagle", "pug"}, {"test", "all"}, "Images"),
        (("a/b/beagle/1.png", "a/b/pug/1.png"), {"beagle", "pug"}, {"test", "all"}, "a/b"),
        (tuple(f"set/{name}" for name in SPLIT), {"cat", "dog"}, {"train", "test", "all"}, "set"),
    ],
)
def test_a_folder_around_the_classes_is_no_class(
    names: tuple[str, ...], labels: set[str], splits: set[str], said: str, tmp_path: Path, plain: Plain
) -> None:
    tree(tmp_path, plain, *names)
    with pytest.warns(UserWarning, match=rf"lie in folders in {said}, so that these are the classes"):
        data = load_dataset(str(tmp_path))
    assert set(data.labels_of().values()) == labels
    assert set(data.splits) == splits
    assert set(data.images.ids) == set(names)
    assert set(quietly(tmp_path / said).labels_of().values()) == labels


def test_images_that_are_not_read_archives_tables_and_odd_names_are_counted(animals: Path, plain: Plain) -> None:
    (animals / "fox").mkdir()
    for k in range(3):
        (animals / "fox" / f"IMG_{k}.HEIC").write_bytes(b"x")
    for name in ("all.zip", "owl/more.tar.gz", "labels.csv", "cat/a.txt", "owl/raw.CR2"):
        (animals / name).write_bytes(b"x")
    plain(30).save(animals / "owl" / "0001", format="PNG")
    (animals / "owl" / "README").write_text("no image")
    with pytest.warns(UserWarning, match="these were left out") as caught:
        assert len(load_dataset(str(animals)).images) == 6
    (said,) = [str(w.message) for w in caught]
    for words in (
        "3 images of a format that is not read (.heic), convert them to JPEG or PNG (the first is fox/IMG_0.HEIC)",
        "1 images of a format that is not read (.cr2)",
        "2 archives, unpack them if they hold images (the first is all.zip)",
        "1 tables, load one by its own path",
        "1 texts that bear the name of an image",
        "1 images whose names do not end as an image's, rename them (the first is owl/0001)",
    ):
        assert words in said
    assert "README" not in said
    with pytest.raises(XgapError, match=r"there is no image in .*left out: 3 images of a format.*\(.heic\)"):
        load_dataset(str(animals / "fox"))


def test_texts_beside_all_images_are_their_captions(animals: Path) -> None:
    for file in load_dataset(str(animals)).images.ids:
        (animals / file).with_suffix(".txt").write_text(f"This is {file}.\n\nIt is gray.\n", encoding="utf-8")
    with pytest.warns(UserWarning, match=r"the 6 texts beside images of .* are taken for their captions, one a line"):
        data = load_dataset(str(animals))
    texts = dict(zip(data.texts.ids, data.texts, strict=True))
    assert [texts[f"owl/a.png#{k}"] for k in range(2)] == ["This is owl/a.png.", "It is gray."]
    assert data.labels_of("pair")["owl/a.png#1"] == "owl/a.png"
    assert data.default_label_set == "class"
    assert data.labels_of("class")["owl/a.png"] == "owl"


@pytest.mark.filterwarnings("ignore:of the folder")
@pytest.mark.filterwarnings("ignore:6 of them are not UTF-8")
def test_each_line_is_a_caption_and_another_encoding_is_told(animals: Path) -> None:
    for file in load_dataset(str(animals)).images.ids:
        (animals / file).with_suffix(".TXT").write_bytes("café\r\n2 × 2\n".encode("cp1252"))
    Image.new("RGB", (9, 9)).save(animals / "beside.png")  # is left out, and so its text is not counted
    (animals / "beside.txt").write_text("a caption", encoding="utf-8")
    (animals / "README.txt").write_text("what this is", encoding="utf-8")
    with pytest.warns(UserWarning, match="texts beside images") as told:
        data = load_dataset(str(animals))
    assert list(data.texts)[:2] == ["café", "2 × 2"]
    assert len(data.texts) == 12
    said = [str(warning.message) for warning in told]
    assert said[0].startswith("the 6 texts beside images")
    assert said[1].startswith("6 of them are not UTF-8 and were read as Windows-1252 (the first is cat/a.TXT)")


def test_texts_beside_images_that_metadata_describes_are_left_out(animals: Path) -> None:
    ids = load_dataset(str(animals)).images.ids
    for file in ids:
        (animals / file).with_suffix(".txt").write_text("a caption", encoding="utf-8")
    pd.DataFrame({"file_name": ids, "label": "grey"}).to_csv(animals / "metadata.csv", index=False)
    with pytest.warns(UserWarning, match="left out: 6 texts that bear the name of an image, since metadata is read"):
        assert list(load_dataset(str(animals)).texts) == ["a photo of grey"]


def test_a_text_that_cannot_be_read_is_no_caption(animals: Path) -> None:
    for file in load_dataset(str(animals)).images.ids:
        (animals / file).with_suffix(".txt").write_text("a caption", encoding="utf-8")
    (animals / "owl" / "a.txt").unlink()
    (animals / "owl" / "a.txt").symlink_to(animals / "nowhere.txt")
    with pytest.warns(UserWarning, match="left out: 6 texts that bear the name of an image"):
        load_dataset(str(animals))


@pytest.mark.parametrize("content", [None, "0 0.5 0.5 0.1 0.1\n", "0 1e-05 0.5 -2E-3 0.1\n", ""])
def test_texts_that_are_not_captions_of_all_images_are_left_out(animals: Path, content: str | None) -> None:
    for file in load_dataset(str(animals)).images.ids:
        (animals / file).with_suffix(".txt").write_text("a caption", encoding="utf-8")
    last = animals / "owl" / "a.txt"
    last.unlink() if content is None else last.write_text(content, encoding="utf-8")
    with pytest.warns(UserWarning, match=r"left out: [56] texts that bear the name of an image \(if they are captions"):
        data = load_dataset(str(animals))
    assert list(data.texts) == ["a photo of cat", "a photo of golden retriever", "a photo of owl"]


def test_what_this_tool_wrote_is_no_data(
    animals: Path, plain: Plain, monkeypatch: pytest.MonkeyPatch, xgap_home: Path
) -> None:
    monkeypatch.chdir(animals)
    table = pd.DataFrame({name: ["x"] for name in ("model", "dataset", "comparison", "metric", "value")})
    assert save_table(table, "study.parquet") == Path("results/study.parquet")
    save_table(table, animals / "elsewhere" / "mine.parquet")
    table.to_parquet(animals / "at_the_top.parquet")
    with pytest.warns(UserWarning, match=r"1 tables.*at_the_top.parquet") as caught:
        assert len(load_dataset(".").images) == 6
    assert len(caught) == 1
    plain(0).save(animals / "results" / "figure.png")
    with pytest.warns(UserWarning, match=r"1 images among this tool's own results \(the first is results/figure.png\)"):
        assert set(load_dataset(".").labels_of().values()) == {"cat", "golden_retriever", "owl"}


def test_images_beside_shards_or_tables_are_never_guessed(animals: Path) -> None:
    pd.DataFrame({"caption": ["x"]}).to_parquet(animals / "captions.parquet")
    with pytest.raises(
        XgapError, match=r"holds images and 1 .parquet files \(captions.parquet\); say which.*folder:.*hf:"
    ):
        load_dataset(str(animals))
    (animals / "images.tar").write_bytes(b"")
    with pytest.raises(XgapError, match=r"holds images and 1 .tar files \(images.tar\); say which.*folder:.*wds:"):
        load_dataset(str(animals))
    with pytest.warns(UserWarning, match=r"1 tables.*1 archives"):
        assert len(load_dataset(f"folder:{animals}").images) == 6


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_metadata_give_captions_as_hugging_face_has_them(form: str, tmp_path: Path, plain: Plain, shade: Shade) -> None:
    root = tree(tmp_path / "set", plain, *(f"img/{k}.png" for k in range(4)))
    table = pd.DataFrame({"file_name": [f"img/{k}.png" for k in (0, 1, 1, 7)], "text": ["a", "b", "c", "d"]})
    write = {
        "csv": lambda path: table.to_csv(path, index=False),
        "jsonl": lambda path: table.to_json(path, orient="records", lines=True),
        "parquet": table.to_parquet,
    }
    write[form](root / f"metadata.{form}")
    with pytest.warns(UserWarning, match=r"1 images that metadata.* not there .*img/7.png.*2 images that the met"):
        data = load_dataset(str(root))
    assert data.images.ids == ("img/0.png", "img/1.png")
    assert [shade(data.images[k]) for k in range(2)] == [10, 30]
    assert list(data.texts) == ["a", "b", "c"]
    assert data.default_label_set == "pair"  # the folder img is no class


def test_metadata_of_each_split_and_their_labels_are_read(tmp_path: Path, plain: Plain) -> None:
    tree(tmp_path, plain, "train/0.png", "train/1.png", "test/cafe\u0301.png")
    (tmp_path / "train" / "metadata.csv").write_text("file_name,text,label\n0.png,a ball,toy\n1.png,a dog,pet\n")
    (tmp_path / "test" / "metadata.csv").write_text("file_name,text,label\ncaf\u00e9.png,a cup,toy\n")
    data = quietly(tmp_path)
    assert set(data.splits) == {"train", "test", "all"}
    assert list(data.split("train").texts) == ["a ball", "a dog"]
    assert data.split("test").images.ids == ("test/cafe\u0301.png",)
    assert data.split("test").images[0].size == (12, 10)
    assert set(data.labels_of("class").values()) == {"toy", "pet"}


def test_metadata_without_captions_or_labels_leave_the_folders_as_they_are(animals: Path) -> None:
    (animals / "metadata.csv").write_text("file_name,width\ncat/a.jpg,12\n")
    with pytest.warns(UserWarning, match=r"1 tables of metadata without captions or labels"):
        assert len(load_dataset(str(animals)).images) == 6
    (animals / "metadata.csv").write_text("image_id,caption\n1,a cat\n")
    with pytest.warns(UserWarning, match=r"1 tables named as metadata, without a column file_name"):
        assert set(load_dataset(str(animals)).labels_of().values()) == {"cat", "golden_retriever", "owl"}


@pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png", "a/../../secret.png"])
def test_metadata_name_nothing_outside_their_folder(name: str, tmp_path: Path, plain: Plain) -> None:
    tree(tmp_path, plain, "secret.png", "set/1.png")
    (tmp_path / "set" / "metadata.csv").write_text(f"file_name,text\n1.png,x\n{name},y\n")
    with pytest.raises(XgapError, match=r"which is outside its folder; name images inside it"):
        load_dataset(str(tmp_path / "set"))


def test_one_class_in_two_forms_of_unicode_is_one_class(tmp_path: Path, plain: Plain) -> None:
    tree(tmp_path, plain, "train/cafe\u0301/1.png", "test/caf\u00e9/1.png", "train/tea/1.png", "test/tea/1.png")
    data = quietly(tmp_path)
    assert set(data.class_names["class"]) == {"caf\u00e9", "tea"}
    assert len(data.images) == len(data.images.ids) == 4
    assert [data.images[k].size for k in range(4)] == [(12, 10)] * 4


def test_names_that_are_not_utf8_are_read_and_can_be_printed(tmp_path: Path, plain: Plain) -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    tree(tmp_path, plain, f"{name}/{name}.png", "tea/1.png")
    data = quietly(tmp_path)
    assert data.images.ids == ("café/café.png", "tea/1.png")
    assert list(data.texts) == ["a photo of café", "a photo of tea"]
    assert data.images[0].size == (12, 10)
    assert data.texts.digest


def test_classes_that_differ_in_capitals_or_underscores_are_said(tmp_path: Path, plain: Plain) -> None:
    tree(tmp_path, plain, "train/Golden_Retriever/1.png", "test/golden retriever/1.png", "test/pug/1.png")
    with pytest.warns(UserWarning, match=r"'Golden_Retriever' and 'golden retriever' are different classes"):
        load_dataset(str(tmp_path))


def test_folders_of_a_system_are_no_classes(animals: Path, plain: Plain) -> None:
    tree(animals, plain, "@eaDir/cat/a.png", "__MACOSX/cat/a.png", "owl/.AppleDouble/b.png")
    assert len(quietly(animals).images) == 6


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser reads every folder")
def test_a_folder_that_cannot_be_read_is_counted(animals: Path) -> None:
    (animals / "cat").chmod(0)
    try:
        with pytest.warns(UserWarning, match=r"1 folders that cannot be read \(the first is cat\)"):
            load_dataset(str(animals))
    finally:
        (animals / "cat").chmod(0o755)


@pytest.mark.parametrize("names", [("train2017", "val2017"), ("training_set", "test_set"), ("Train-images", "dev1")])
def test_folders_named_for_a_split_and_more_are_splits(names: tuple[str, str], tmp_path: Path, plain: Plain) -> None:
    tree(tmp_path, plain, *(f"{name}/{label}/1.png" for name in names for label in ("cat", "dog")))
    data = quietly(tmp_path)
    assert set(data.class_names["class"]) == {"cat", "dog"}
    assert len(data.split("train").images) == len(data.split("test").images) == 2


def test_several_folders_of_one_split_are_refused(tmp_path: Path, plain: Plain) -> None:
    tree(tmp_path, plain, "test1/1.png", "test2/1.png", "train/1.png")
    with pytest.raises(XgapError, match=r"several folders named like the split test \(test1, test2\), which may be"):
        load_dataset(str(tmp_path))


def test_folders_of_the_same_names_in_every_folder_are_said(tmp_path: Path, plain: Plain) -> None:
    tree(tmp_path, plain, "art/cat/1.png", "art/dog/1.png", "photo/cat/1.png", "photo/dog/1.png")
    with pytest.warns(UserWarning, match=r"art, photo .* are taken for classes, though .*\(cat, dog\).*load .*art$"):
        data = load_dataset(str(tmp_path))
    assert set(data.labels_of().values()) == {"art", "photo"}
