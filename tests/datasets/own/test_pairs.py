"""Tables of images and captions: CSV, TSV, JSON lines."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import xgap_analysis as xg
from xgap_analysis.datasets import load_dataset
from xgap_analysis.errors import XgapError

Shade = Callable[[Image.Image], int]


@pytest.fixture
def folder(tmp_path: Path, plain: Callable[[int], Image.Image]) -> Path:
    (tmp_path / "img").mkdir()
    for k in range(4):
        plain(50 * k).save(tmp_path / "img" / f"{k}.png")
    return tmp_path


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text, "utf-8")
    return str(folder / name)


def test_several_captions_of_an_image_one_a_row(folder: Path, shade: Shade) -> None:
    table = 'image,caption\nimg/0.png,black\nimg/1.png,dark\nimg/0.png,"night, or coal"\nimg/1.png,dusk\n'
    data = load_dataset(write(folder, "pairs.csv", table))
    assert (data.name, data.images.ids) == ("pairs", ("img/0.png", "img/1.png"))
    assert [shade(data.images[k]) for k in (0, 1)] == [0, 50]
    assert dict(zip(data.texts.ids, data.texts, strict=True)) == {
        "img/0.png#0": "black",
        "img/0.png#1": "night, or coal",
        "img/1.png#0": "dark",
        "img/1.png#1": "dusk",
    }
    assert data.default_level == "pair"
    assert data.queries("text") == ("img/0.png#0", "img/1.png#0")  # the first asks, the others are searched
    assert data.gallery("text") == ("img/0.png#1", "img/1.png#1")
    grades = data.relevance().bind(data.images.ids, data.texts.ids).grades(0, 2)
    assert grades.tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]


def test_labels_splits_and_ids_from_columns_in_every_format(folder: Path) -> None:
    rows = [
        {"filepath": f"img/{k}.png", "title": f"picture {k}", "Category": "odd" if k % 2 else "even", "key": f"p{k}"}
        | {"split": "train" if k < 2 else "validation"}
        for k in range(4)
    ]
    lines = "\n".join(json.dumps(row) for row in rows)
    csv = "\n".join([";".join(rows[0]), *(";".join(row.values()) for row in rows)])
    tables = {"a.jsonl": lines + "\n", "a.json": json.dumps(rows), "a.csv": csv, "a.tsv": csv.replace(";", "\t")}
    for name, text in tables.items():
        data = load_dataset(write(folder, name, text))
        assert data.images.ids == ("p0", "p1", "p2", "p3"), name
        assert list(data.labels) == ["class", "pair"]
        assert data.labels_of()["p1"] == data.labels_of()["p1#0"] == "odd"
        assert data.split("train").images.ids == ("p0", "p1")
        assert data.split("test").images.ids == ("p2", "p3")
        assert data.texts.captions[3] == "picture 3"
        assert not data.has_queries("text")


def test_an_id_of_each_caption_does_not_tear_an_image_apart(folder: Path) -> None:
    data = load_dataset(write(folder, "a.csv", "id,image,caption\n1,img/0.png,a\n2,img/0.png,b\n"))
    assert data.images.ids == ("img/0.png",)
    assert data.texts.captions == ("a", "b")


def test_a_list_of_captions_in_one_cell(folder: Path) -> None:
    line = json.dumps({"image": "img/0.png", "captions": ["a", "b\u2028c", ""]}, ensure_ascii=False)
    assert load_dataset(write(folder, "a.jsonl", line)).texts.captions == ("a", "b\u2028c")
    cell = 'image|raw\nimg/0.png|["a", "b"]\nimg/1.png|[sic] a\n'
    assert load_dataset(write(folder, "a.csv", cell)).texts.captions == ("a", "b", "[sic] a")


def test_columns_of_other_names_are_given(folder: Path) -> None:
    path = write(folder, "a.csv", "bild,text,titel\nimg/0.png,nein,ja\n")
    data = load_dataset(path, image="bild", caption="titel")
    assert data.texts.captions == ("ja",)
    with pytest.raises(XgapError, match=r"no column 'titre' \(caption\); it has: bild, text, titel"):
        load_dataset(path, caption="titre")
    with pytest.raises(XgapError, match=r"no column of .* looks like images or captions .*it has: a, b"):
        load_dataset(write(folder, "b.csv", "a,b\n1,2\n"))


def test_labels_without_captions_are_prompts_and_texts_without_images_are_texts(folder: Path) -> None:
    data = load_dataset(write(folder, "a.csv", "\ufeffimage,label\nimg/0.png,night sky\nimg/1.png,night sky\n"))
    assert data.texts.captions == ("a photo of night sky",)
    data = load_dataset(write(folder, "b.csv", "text,label\na good one,pos\na bad one,neg\nfine,pos\n"))
    assert len(data.images) == 0
    assert data.labels_of() == {"0#0": "pos", "1#0": "neg", "2#0": "pos"}


def test_missing_images_are_told_at_once_where_all_are_and_later_where_some_are(folder: Path) -> None:
    with pytest.raises(XgapError, match=r"none of the 1 images .* looked for at .*x/0.png"):
        load_dataset(write(folder, "a.csv", "image,caption\nx/0.png,a\n"))
    data = load_dataset(write(folder, "b.csv", "image,caption\nx/0.png,a\nimg/1.png,b\n"))
    with pytest.raises(OSError, match=r"x/0.png"):
        data.images[0]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "image,caption\nimg/0.png,one, two\n", "line 2 of .* has more cells"),
        ("a.csv", "image,caption\n", "has no rows"),
        ("a.jsonl", '{"image": "img/0.png"}\n{"image": \n', "line 2 of .* is not JSON"),
        ("a.jsonl", "[1]\n", "one object of columns for each row"),
        ("a.csv", "image,caption,label\nimg/0.png,a,x\nimg/0.png,b,y\n", "'img/0.png' more than one label: x, y"),
        ("a.csv", "image,caption\nimg/0.png,a\n,b\n", "row 2 of .* names no image"),
    ],
)
def test_a_table_that_cannot_be_read_says_where(folder: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(XgapError, match=message):
        load_dataset(write(folder, name, text))


def test_a_table_in_another_encoding_is_refused(folder: Path) -> None:
    (folder / "a.csv").write_bytes("image,caption\nimg/0.png,caf\xe9\n".encode("latin-1"))
    with pytest.raises(XgapError, match="not UTF-8"):
        load_dataset(str(folder / "a.csv"))


def test_a_gap_report_pairs_each_image_with_its_own_caption(folder: Path, model: Any) -> None:
    rows = "".join(f"img/{k}.png,word{k} of this,kind {k // 2}\n" for k in range(4))
    path = write(folder, "a.csv", "image,caption,label\n" + rows)
    study = xg.Study([model], [path], ["I-I", "I-T"], progress=False)
    data = load_dataset(path)
    images, texts = (xg.encode(model, items, progress=False) for items in (data.images, data.texts))
    report = study.gaps().iloc[0]
    distances = (images.vectors - texts.vectors).square().sum(1)  # one caption an image, in the order of the table
    assert report["alignment"] == pytest.approx(distances.mean().item(), rel=1e-5)
    assert set(study.run()["level"]) == {"class"}
    by_pair = xg.main_rows(xg.Study([model], [path], ["I-T"], level="pair", progress=False).run())
    cosine = images.vectors @ texts.vectors.T
    rank = (cosine >= cosine.diagonal()[:, None]).sum(1)
    assert by_pair["value"].item() == pytest.approx(float((1 / rank).mean()), abs=1e-6)
