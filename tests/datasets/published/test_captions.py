"""COCO, Flickr30k and nocaps: the first caption asks for the other captions of its image."""

import json
import shutil
from pathlib import Path

import pytest

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets import load_dataset
from xgap_analysis.models import Model

from .conftest import drawing, karpathy


@pytest.fixture
def root(tmp_path: Path) -> Path:
    karpathy(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "judged", "splits"),
    [
        ("coco", "test", {"test": 2, "train": 4, "val": 2}),
        ("flickr30k", "val", {"test": 2, "karpathy-test": 2, "train": 2, "val": 2}),
    ],
)
def test_the_first_caption_is_the_query_for_the_others_of_its_image(
    name: str, judged: str, splits: dict[str, int], root: Path
) -> None:
    data = load_dataset(name, root)
    assert {split: len(data.split(split).images) for split in data.splits} == splits
    assert data.split_name == data.split("test").split_name == judged  # tables say which of Karpathy's splits it is
    for image in data.images.ids:
        asking, *others = [i for i in data.texts.ids if i.startswith(f"{image}#")]
        assert asking == f"{image}#0"
        assert asking in data.queries("text")
        assert len(others) == 4
        grades = data.relevance().bind([asking], data.gallery("text")).grades(0, 1)[0]
        assert [i for i, g in zip(data.gallery("text"), grades, strict=True) if g] == others
        assert data.relevance().bind([image], [asking]).grades(0, 1).item() == 1
    said = dict(zip(data.texts.ids, data.texts.captions, strict=True))
    number = int(data.images.ids[0].split("_")[-1].split(".")[0]) % 1000
    assert said[f"{data.images.ids[0]}#0"] == f"first words on {judged} {number}"
    assert said[f"{data.images.ids[0]}#3"] == f"caption 3 of a {judged} picture number {number} ."
    assert data.images[1].size == (24, 20)


def test_karpathys_test_split_of_flickr_is_there_under_its_own_name(root: Path) -> None:
    data = load_dataset("flickr30k", root)
    assert data.split("karpathy-test").texts.captions[0].startswith("first words on test")
    assert data.split("val").images.ids == data.images.ids


def test_restval_counts_as_train(root: Path) -> None:
    captions = load_dataset("coco", root).split("train").texts.captions
    assert {c.split()[-2] for c in captions if c.startswith("first")} == {"train", "restval"}


@pytest.mark.parametrize(("name", "images"), [("coco", "val2014"), ("flickr30k", "flickr30k-images")])
def test_captions_alone_are_enough_for_text_retrieval(name: str, images: str, root: Path, model: Model) -> None:
    shutil.rmtree(root / name / images)
    data = load_dataset(name, root)
    assert len(data.images) == 0
    assert len(data.texts) == 10
    table = xg.Study([model], [data], ["T-T", "I-I"], progress=False).run()
    main = table[table["main"]].set_index("comparison")
    assert 0 < main.loc["T-T", "value"] <= 1
    assert f"dataset '{name}'" in main.loc["I-I", "note"]
    assert "has no images" in main.loc["I-I", "note"]


def test_images_may_lie_in_a_folder_of_their_own(root: Path) -> None:
    before = load_dataset("coco", root)
    content = before.images.digest  # read while it is there
    (root / "coco" / "images").mkdir()
    shutil.move(root / "coco" / "val2014", root / "coco" / "images" / "val2014")
    shutil.move(root / "coco", root / "COCO2014")
    after = load_dataset("coco", root)
    assert after.images.digest == content
    assert after.texts.digest == before.texts.digest


def test_a_missing_image_is_named(root: Path) -> None:
    (root / "flickr30k" / "flickr30k-images" / "1002.jpg").unlink()
    with pytest.raises(XgapError, match=r"1 of 2 images that .*dataset_flickr30k\.json lists are missing: .*1002\.jpg"):
        load_dataset("flickr30k", root)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}", "has no list 'images' with captions and splits"),
        ('{"images": [{"filename": "a.jpg", "split": "val"}]}', "lacks 'sentences'"),
        ('{"images": [{"filename": 3, "split": "val", "sentences": []}]}', "lacks text where 3 stands"),
        ('{"images": [{"filename": "a.jpg", "split": "dev", "sentences": []}]}', "no image is in its split 'val'"),
        ('{"images": ["a.jpg"]}', "is damaged: an image lacks"),
        ('{"images": [', "is not valid JSON"),
        (json.dumps({"images": [{"filename": "a", "split": "val", "sentences": []}] * 2}), "lists 'a' twice"),
    ],
)
def test_a_damaged_json(content: str, said: str, root: Path) -> None:
    (root / "flickr30k" / "dataset_flickr30k.json").write_text(content)
    with pytest.raises(XgapError, match=said):
        load_dataset("flickr30k", root)


def test_nocaps(tmp_path: Path) -> None:
    images = [{"id": n, "file_name": f"00{n}.jpg", "open_images_id": f"00{n}", "domain": "near-domain"} for n in (0, 1)]
    rows = [{"id": 10 * n + k, "image_id": n, "caption": f"caption {k} of {n} "} for k in range(3) for n in (0, 1)]
    file = tmp_path / "nocaps" / "nocaps_val_4500_captions.json"
    for image in images:
        drawing(tmp_path / "nocaps" / "val" / str(image["file_name"]))
    file.write_text(json.dumps({"images": images, "annotations": rows}))
    data = load_dataset("nocaps", tmp_path)
    assert (tuple(data.splits), data.split_name) == (("test",), "val")
    assert data.queries("text") == ("000.jpg#0", "001.jpg#0")
    assert data.gallery("text") == ("000.jpg#1", "000.jpg#2", "001.jpg#1", "001.jpg#2")
    assert data.texts.select(["001.jpg#2"]).captions == ("caption 2 of 1",)
    assert len(data.images) == 2
    file.write_text(json.dumps({"images": images, "annotations": [{**rows[0], "image_id": 7}]}))
    with pytest.raises(XgapError, match="is damaged: it lacks 7"):
        load_dataset("nocaps", tmp_path)
