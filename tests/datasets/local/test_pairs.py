"""Tables of images and captions: CSV, TSV, JSON lines."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets import load_dataset
from xgap_analysis.datasets.local.labels import read_labels

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
    assert data.default_label_set == "pair"
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
    data = load_dataset(write(folder, "a.csv", "id,image,caption\n1,img/0.png,a\n2,./img/0.png,b\n"))
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


def test_missing_images_are_reported_at_once_where_all_are_and_later_where_some_are(folder: Path) -> None:
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
        ("a.csv", "image,caption\nimg/0.png,a\n,b\n", r"row 2 of .* has no image \(1 such of 2 rows\)"),
        ("a.csv", 'image,caption\nimg/0.png,"a, b\n', "line 2 of .* opens a quotation mark that is not closed"),
        ("a.csv", 'image,caption\nimg/0.png,"a, "b", c\n', "line 2 of .* opens a quotation mark that is not closed"),
        ("a.csv", "image,caption,caption\nimg/0.png,a,b\n", "more than one column 'caption'"),
        ("a.jsonl", '{"image": "img/0.png", "caption": "a", "caption": "b"}', "line 1 of .* gives 'caption' twice"),
        ("a.jsonl", '{"image": 42, "caption": "a"}', "row 1 of .* path of its file, not by 42"),
        ("a.jsonl", '{"image": ["img/0.png", "img/1.png"]}', "row 1 of .* path of its file, not by"),
        ("a.jsonl", '{"image": {"data": "00"}, "caption": "a"}', "row 1 of .* path of its file, not by"),
        ("a.jsonl", '{"image": "img/0.png", "caption": [["a"], ["b"]]}', r"row 1 of .* not the list \['a'\]"),
        ("a.jsonl", '{"image": "img/0.png", "caption": {"en": "a", "de": "b"}}', "row 1 of .* an object with en, de"),
        ("a.csv", "image,caption\nimg/0.png,{'raw': 'x'}\n", "row 1 of .* is how Python prints an object"),
        ("a.csv", "image,caption\nhttps://x/0.png,a\n", "addresses in the web"),
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
    assert set(study.run()["label_set"]) == {"class"}
    by_pair = xg.main_rows(xg.Study([model], [path], ["I-T"], label_set="pair", progress=False).run())
    cosine = images.vectors @ texts.vectors.T
    rank = (cosine >= cosine.diagonal()[:, None]).sum(1)
    assert by_pair["value"].item() == pytest.approx(float((1 / rank).mean()), abs=1e-6)


def test_a_quotation_mark_that_is_not_closed_swallows_no_row(folder: Path) -> None:
    rows = 'image\tcaption\nimg/0.png\ta dog\nimg/1.png\t"Untitled\nimg/2.png\ta "big" ox\nimg/3.png\t"a" cat\n'
    with pytest.warns(UserWarning, match=r"does not enclose its cell on 2 of its lines \(the first is line 3\)"):
        data = load_dataset(write(folder, "a.tsv", rows))
    assert data.texts.captions == ("a dog", '"Untitled', 'a "big" ox', '"a" cat')
    assert len(data.images) == 4


def test_a_cell_in_quotation_marks_may_have_lines_and_says_where_they_could_be_rows(folder: Path) -> None:
    rows = 'image,caption\nimg/0.png,"two\nlines"\nimg/1.png,"an ""odd"" one" \n'
    assert load_dataset(write(folder, "a.csv", rows)).texts.captions == ("two\nlines", 'an "odd" one')
    rows = 'image,caption\nimg/0.png,"Untitled\nimg/1.png,a cat"\nimg/2.png,b\n'
    with pytest.warns(UserWarning, match=r"could be rows of their own: 1 in .*from line 2"):
        assert load_dataset(write(folder, "b.csv", rows)).texts.captions[1] == "b"


def test_a_missing_cell_is_no_value_and_is_counted(folder: Path) -> None:
    rows = [
        {"image": "img/0.png", "caption": "a", "label": math.nan, "split": "train"},
        {"image": "img/1.png", "caption": None, "label": "owl", "split": "test"},
        {"image": "img/2.png", "caption": "c", "label": None, "split": None},
        {"image": "img/3.png", "caption": "d", "label": -1, "split": "test"},
    ]
    lines = write(folder, "a.jsonl", "\n".join(map(json.dumps, rows)))
    words = "image,caption,label,split\nimg/0.png,a,nan,train\nimg/1.png,null,owl,test\nimg/2.png,c,,\n"
    words += "img/3.png,d,-1,test\n"
    for path in (lines, write(folder, "a.csv", words)):
        with pytest.warns(UserWarning, match="have no") as said:
            data = load_dataset(path)
        found = [str(warning.message) for warning in said]
        for part in (
            "3 of 4 items .* have no label",
            "1 of 4 items .* have no split",
            "1 of 4 items .* have no caption",
        ):
            assert sum(bool(re.search(part, text)) for text in found) == 1, part
        assert list(data.class_names["class"]) == ["owl"]
        assert data.texts.captions == ("a", "c", "d")
        assert data.split("test").images.ids == ("img/1.png", "img/3.png")
        assert data.split("train").images.ids == ("img/0.png",)
        assert len(data.images) == 4


def test_numbers_with_a_hole_are_the_same_labels_as_whole_ones(folder: Path) -> None:
    rows = [{"image": f"img/{k}.png", "label": label} for k, label in enumerate((1.0, 1, 2.0))]
    data = load_dataset(write(folder, "a.jsonl", "\n".join(map(json.dumps, rows))))
    assert list(data.labels_of().values())[:3] == ["1", "1", "2"]


def test_captions_in_lists_and_objects_are_their_texts(folder: Path) -> None:
    cells = [
        "\"['a dog', 'a puppy']\"",
        "\"['a dog'\n 'it''s']\"".replace("''", "\\'"),
        "(left) a",
        '"{""raw"": ""x""}"',
    ]
    table = "image,caption\n" + "".join(f"img/{k}.png,{cell}\n" for k, cell in enumerate(cells))
    assert load_dataset(write(folder, "a.csv", table)).texts.captions == (
        "a dog",
        "a puppy",
        "a dog",
        "it's",
        "(left) a",
        "x",
    )
    sentences = [{"raw": "x", "tokens": ["x"], "sentid": 0}, {"raw": "y", "tokens": ["y"], "sentid": 1}]
    row = {"image": {"path": "img/0.png"}, "sentences": sentences, "alt": {"en": "a", "de": "b"}}
    path = write(folder, "a.jsonl", json.dumps(row))
    assert load_dataset(path).texts.captions == ("x", "y")
    assert load_dataset(path, caption="alt.de").texts.captions == ("b",)
    assert load_dataset(path).images.ids == ("img/0.png",)


def test_several_labels_of_an_item_are_no_class(folder: Path) -> None:
    path = write(folder, "a.csv", 'image,labels\nimg/0.png,"[0, 1]"\nimg/1.png,[1]\n')
    with pytest.warns(UserWarning, match=r"column 'labels' .* is left out.*\[0, 1\] are several labels"):
        assert not load_dataset(path).class_names
    with pytest.raises(XgapError, match=r"row 1 of .*\[0, 1\] are several labels, and an item has one"):
        load_dataset(path, label="labels")
    one = load_dataset(write(folder, "b.csv", "image,labels\nimg/0.png,[1]\nimg/1.png,['owl']\n"))
    assert list(one.class_names["class"]) == ["1", "owl"]


def test_half_a_character_is_replaced_and_counted(folder: Path) -> None:
    rows = '{"image": "img/0.png", "caption": "smile \\ud83d"}\n{"image": "img/1.png", "caption": "\\ud83d\\ude00"}\n'
    with pytest.warns(UserWarning, match="1 of 2 captions .* hold half of a character"):
        data = load_dataset(write(folder, "a.jsonl", rows))
    assert data.texts.captions == ("smile \ufffd", "\U0001f600")
    assert data.texts.digest


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_table_with_a_mark_of_its_encoding(folder: Path, encoding: str) -> None:
    (folder / "a.tsv").write_bytes("image\tcaption\r\nimg/0.png\tcaf\xe9\r\n".encode(encoding))
    assert load_dataset(str(folder / "a.tsv")).texts.captions == ("caf\xe9",)


def test_a_column_that_the_first_row_lacks_is_read(folder: Path) -> None:
    rows = '{"image": "img/0.png", "caption": "a"}\n{"image": "img/1.png", "caption": "b", "label": "x"}\n'
    with pytest.warns(UserWarning, match="1 of 2 items .* have no label"):
        data = load_dataset(write(folder, "a.jsonl", rows))
    assert data.labels["class"]["img/1.png"] == "x"


def test_a_choice_between_columns_is_said(folder: Path) -> None:
    path = write(folder, "a.csv", "image,text,Caption\nimg/0.png,a,b\n")
    with pytest.warns(
        UserWarning, match=r"look like a caption \(Caption, text\); 'Caption' is read, and caption=\.\.\."
    ):
        assert load_dataset(path).texts.captions == ("b",)
    assert load_dataset(path, caption="text").texts.captions == ("a",)
    path = write(folder, "b.csv", "photo,caption\nimg/0.png,a\n")
    with pytest.warns(UserWarning, match="texts alone, and its column 'photo' holds names of image files"):
        assert len(load_dataset(path).images) == 0
    with pytest.warns(UserWarning, match="'image' .* names no image in any row"):
        assert len(load_dataset(write(folder, "c.csv", "image,caption\n,a\n,b\n")).images) == 0


def test_no_image_outside_the_folder_is_read_unless_it_is_named(folder: Path, shade: Shade) -> None:
    (folder / "lists").mkdir()
    (folder / "lists" / "deep").symlink_to(folder / "img")
    for cell in ("../img/1.png", str(folder / "img" / "1.png"), "deep/../../img/1.png"):
        path = write(folder, "lists/a.csv", f"image,caption\n{cell},a\n")
        with pytest.raises(XgapError, match=r"is outside the folder .*lists; .*load_dataset\(path, images="):
            load_dataset(path)
        assert shade(load_dataset(path, images=folder).images[0]) == 50
        with pytest.raises(XgapError, match=r"is outside the folder .*deep"):
            load_dataset(path, images=folder / "lists" / "deep")
    path = write(folder, "lists/b.csv", "image,caption\n1.png,a\n")
    assert shade(load_dataset(path, images=folder / "img").images[0]) == 50
    with pytest.raises(XgapError, match=r"there is no folder .*nowhere"):
        load_dataset(path, images=folder / "nowhere")


def test_a_link_in_the_folder_is_followed_and_dots_behind_it_are_not(folder: Path, shade: Shade) -> None:
    (folder / "lists").mkdir()
    (folder / "lists" / "deep").symlink_to(folder / "img")
    assert shade(load_dataset(write(folder, "lists/a.csv", "image,caption\ndeep/2.png,a\n")).images[0]) == 100
    (folder / "secret.png").write_bytes((folder / "img" / "3.png").read_bytes())
    with pytest.raises(XgapError, match=r"none of the 1 images .* looked for at .*lists/secret\.png"):
        load_dataset(write(folder, "lists/b.csv", "image,caption\ndeep/../secret.png,a\n"))


def test_labels_of_vectors_leave_out_what_is_missing(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"2 of 3 rows .* have no label \(such as 'nan'"):
        assert read_labels(Path(write(tmp_path, "a.csv", "id,label\na,nan\nb,-1\nc,x\n"))) == ({"c": "x"}, {})
    lines = '{"id": 1, "label": 2.0}\n{"id": 2.0, "label": ["y"]}\n'
    assert read_labels(Path(write(tmp_path, "a.jsonl", lines))) == ({"1": "2", "2": "y"}, {})
    pq.write_table(pa.table({"id": [b"a"], "label": [["x", "y"]]}), tmp_path / "a.parquet")
    with pytest.raises(XgapError, match=r"row 1 of .*a.parquet: \['x', 'y'\] are several labels"):
        read_labels(tmp_path / "a.parquet")
    with pytest.raises(XgapError, match=r"row 1 of .*: an id is a word or a number"):
        read_labels(Path(write(tmp_path, "b.csv", "id,label\n,x\nb,y\n")))
