"""CoOp's sets: who asks, what is searched, how classes are named, and what is said of a damaged tree."""

import json
import shutil
from pathlib import Path

import pytest

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets import load_dataset
from xgap_analysis.datasets.published.protocols import PROTOCOLS

from .conftest import BREEDS, drawing, zhou

COOP = {name: p for name, p in PROTOCOLS.items() if p.family == "coop"}
# CoOp's hand-crafted prompts for a class "x y", written out here once more.
SAID = {
    "caltech101": "a photo of a x y.",
    "dtd": "x y texture.",
    "eurosat": "a centered satellite photo of x y.",
    "fgvc-aircraft": "a photo of a x y, a type of aircraft.",
    "food101": "a photo of x y, a type of food.",
    "flowers102": "a photo of a x y, a type of flower.",
    "oxford-pets": "a photo of a x y, a type of pet.",
    "stanford-cars": "a photo of a x y.",
    "sun397": "a photo of a x y.",
    "ucf101": "a photo of a person doing x y.",
    "imagenet": "a photo of a x y.",
}


@pytest.mark.parametrize("name", COOP)
@pytest.mark.parametrize("where", ["", "CoOp/"])
def test_test_images_ask_and_train_images_are_searched(name: str, where: str, tmp_path: Path) -> None:
    reads = COOP[name].reads
    zhou(tmp_path / where / COOP[name].folders[0], reads["split"], reads["images"], ("x_y", "z"))
    data = load_dataset(name, tmp_path)
    assert (data.name, data.split_name) == (name, "test")
    assert data.queries("image") == tuple(f"{c}/test_{i}.jpg" for c in ("x_y", "z") for i in range(2))
    assert data.gallery("image") == tuple(f"{c}/train_{i}.jpg" for c in ("x_y", "z") for i in range(2))
    assert data.labels_of("class")["x_y/test_0.jpg"] == data.labels_of("class")["x_y/train_1.jpg"] == "x_y"
    assert data.words_of()["x_y"] == data.texts.captions[0] == SAID[name]
    grades = data.relevance().bind(["z/test_0.jpg"], data.gallery("image")).grades(0, 1)
    assert grades.tolist() == [[0, 0, 1, 1]]
    assert data.images[0].size == (24, 20)
    assert data.images[0].mode == "RGB"


def test_the_other_splits_hold_their_own_images_and_no_test_item(pets: Path) -> None:
    data = load_dataset("oxford-pets", pets)
    assert set(data.splits) == {"test", "train", "val"}
    assert data.split("test").images.ids == data.images.ids
    for split in ("train", "val"):
        part = data.split(split)
        assert part.split_name == split
        assert part.queries("image") == tuple(f"{b}/{split}_{i}.jpg" for b in BREEDS for i in range(2))
        assert not set(part.images.ids) & set(data.queries("image"))
        assert part.texts.captions[1] == "a photo of a basset hound, a type of pet."
    with pytest.raises(XgapError, match="'oxford-pets' has no split 'dev'; it has: test, train, val"):
        data.split("dev")


def test_aircraft_is_read_from_its_own_lists(tmp_path: Path) -> None:
    folder = tmp_path / "fgvc_aircraft"
    variants = {"train": ["707-320", "Boeing 717"], "val": ["707-320"], "test": ["Boeing 717"]}
    number = 0
    for split, of in variants.items():
        lines = []
        for variant in of:
            drawing(folder / "images" / f"{number:07}.jpg")
            lines.append(f"{number:07} {variant}\n")
            number += 1
        (folder / f"images_variant_{split}.txt").write_text("".join(lines))
    (folder / "variants.txt").write_text("707-320\nBoeing 717\n")
    data = load_dataset("fgvc-aircraft", tmp_path)
    assert data.queries("image") == ("0000003.jpg",)
    assert data.gallery("image") == ("0000000.jpg", "0000001.jpg")
    assert data.labels_of()["0000003.jpg"] == "Boeing 717"
    assert data.words_of()["Boeing 717"] == SAID["fgvc-aircraft"].replace("x y", "Boeing 717")
    (folder / "variants.txt").write_text("707-320\n")
    with pytest.raises(XgapError, match=r"train\.txt names the variant 'Boeing 717', which .*variants\.txt does not"):
        load_dataset("fgvc-aircraft", tmp_path)
    (folder / "variants.txt").write_text("707-320\nBoeing 717\n")
    (folder / "images_variant_val.txt").write_text("0000002\n")
    with pytest.raises(XgapError, match=r"images_variant_val\.txt, line 1: expected 2 fields, found '0000002'"):
        load_dataset("fgvc-aircraft", tmp_path)


def test_imagenet_is_read_from_class_folders(tmp_path: Path) -> None:
    folder = tmp_path / "imagenet"
    for part, n in (("train", 3), ("val", 2)):
        for wnid in ("n01440764", "n01443537"):
            for i in range(n):
                drawing(folder / "images" / part / wnid / f"{wnid}_{part}_{i}.JPEG")
    (folder / "classnames.txt").write_text("n01440764 tench\nn01443537 crane\nn02012849 crane\n")
    data = load_dataset("imagenet", tmp_path)
    assert set(data.splits) == {"test", "train"}  # as CoOp: the validation images are the test
    assert len(data.queries("image")) == 4
    assert len(data.gallery("image")) == 6
    assert data.queries("image")[0] == "val/n01440764/n01440764_val_0.JPEG"
    assert data.words_of()["n01440764"] == "a photo of a tench."
    assert data.words_of()["n01443537"] == data.words_of()["n02012849"]  # two classes may share a name
    drawing(folder / "images" / "train" / "n99999999" / "x.JPEG")
    with pytest.raises(XgapError, match=r"classnames\.txt does not name the class of the folder .*n99999999"):
        load_dataset("imagenet", tmp_path)


def test_the_digest_is_of_the_files_and_stays_when_the_root_moves(pets: Path, tmp_path: Path) -> None:
    before = load_dataset("oxford-pets", pets)
    content = before.images.digest
    assert before.split("val").images.content is before.images.content  # what one split encodes serves the others
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.move(pets / "oxford_pets", moved / "oxford_pets")
    after = load_dataset("oxford-pets", moved)
    assert after.images.digest == content
    drawing(moved / "oxford_pets" / "images" / BREEDS[0] / "test_0.jpg", (40, 30))
    assert load_dataset("oxford-pets", moved).images.digest != content


def test_no_root_and_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XGAP_DATA", raising=False)
    with pytest.raises(XgapError, match=r"is read from disk: name the folder .* as root, or in .*XGAP_DATA"):
        load_dataset("oxford-pets")
    with pytest.raises(XgapError, match=r"looked for in .*nowhere, which is no folder"):
        load_dataset("oxford-pets", tmp_path / "nowhere")
    monkeypatch.setenv("XGAP_DATA", str(tmp_path))
    with pytest.raises(XgapError) as told:
        load_dataset("oxford-pets")
    for path in ("oxford_pets/split_zhou_OxfordPets.json (CoOp's split file)", "oxford_pets/images (the images)"):
        assert f"{tmp_path}/{path}" in str(told.value)
    with pytest.raises(XgapError, match=r"unknown dataset 'oxford_pets'; nearest names: oxford-pets"):
        load_dataset("oxford_pets")


def test_a_whole_folder_is_preferred_to_one_that_lacks_something(pets: Path) -> None:
    (pets / "CoOp").mkdir()
    shutil.move(pets / "oxford_pets", pets / "CoOp" / "oxford_pets")
    (pets / "oxford_pets").mkdir()
    assert len(load_dataset("oxford-pets", pets).images) == 12


def test_missing_images_are_counted_and_the_first_is_named(pets: Path) -> None:
    for i in range(2):
        (pets / "oxford_pets" / "images" / BREEDS[1] / f"val_{i}.jpg").unlink()
    with pytest.raises(XgapError, match=rf"2 of 18 images .* are missing: put there .*images/{BREEDS[1]}/val_0\.jpg"):
        load_dataset("oxford-pets", pets)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda rows: rows.pop("val"), r"has no list 'val' of \[path, label, class name\]"),
        (lambda rows: rows["train"].append(["a.jpg", "0", "x"]), r"train holds \['a\.jpg', '0', 'x'\], not \[path"),
        (lambda rows: rows["test"][0].__setitem__(2, "beagle"), "label 0 is both 'abyssinian' and 'beagle'"),
        (lambda rows: rows["test"].append(["new.jpg", 3, BREEDS[0]]), "two labels share a class name"),
        (lambda rows: rows["test"].append(rows["train"][0]), "list an image in two splits"),
        (lambda rows: rows["test"].append(["../../passwd.jpg", 0, BREEDS[0]]), "which is not a path under"),
        (lambda rows: rows["test"].append(["/etc/passwd.jpg", 0, BREEDS[0]]), "which is not a path under"),
    ],
)
def test_a_damaged_split_file(pets: Path, damage: object, said: str) -> None:
    file = pets / "oxford_pets" / "split_zhou_OxfordPets.json"
    rows = json.loads(file.read_text())
    damage(rows)  # type: ignore[operator]
    file.write_text(json.dumps(rows))
    with pytest.raises(XgapError, match=said):
        load_dataset("oxford-pets", pets)


@pytest.mark.parametrize("content", [b"", b'{"train": [', b"\xff\xfe\x00", b"[]", b"[" * 100_000])
def test_a_split_file_that_is_no_json(pets: Path, content: bytes) -> None:
    (pets / "oxford_pets" / "split_zhou_OxfordPets.json").write_bytes(content)
    with pytest.raises(XgapError, match=r"split_zhou_OxfordPets\.json is damaged"):
        load_dataset("oxford-pets", pets)
