"""Parquet tables and Hugging Face datasets on disk, in the layouts that `datasets` writes."""

import io
import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets import load_dataset

Plain = Callable[[int], Image.Image]
Shade = Callable[[Image.Image], int]
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
FEATURES = {
    "image": {"_type": "Image"},
    "label": {"names": ["black", "white"], "_type": "ClassLabel"},
    "caption": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"},
}


def png(image: Image.Image) -> bytes:
    held = io.BytesIO()
    image.save(held, "PNG")
    return held.getvalue()


def table(plain: Plain, shades: list[int]) -> pa.Table:
    """Rows as the Image, ClassLabel and List features of `datasets` keep them."""
    made = pa.table(
        {
            "image": pa.array([{"bytes": png(plain(s)), "path": f"{s}.png"} for s in shades], IMAGE),
            "label": pa.array([int(s > 100) for s in shades], pa.int64()),
            "caption": pa.array([[f"shade {s}", f"tone {s}"] for s in shades]),
        }
    )
    return made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": FEATURES}})})


def saved(folder: Path, made: pa.Table, split: str | None, files: int = 1) -> None:
    """What `Dataset.save_to_disk` writes: Arrow streams, state.json, dataset_info.json."""
    folder.mkdir(parents=True)
    step = -(-len(made) // files)
    names = [f"data-{k:05d}-of-{files:05d}.arrow" for k in range(files)]
    for k, name in enumerate(names):
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, made.schema) as stream:
            stream.write_table(made.slice(k * step, step), max_chunksize=2)
    state: dict[str, Any] = {"_data_files": [{"filename": name} for name in names], "_split": split}
    (folder / "state.json").write_text(json.dumps(state | {"_fingerprint": "0", "_format_type": None}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))


def check(data: Any, shade: Shade, shades: list[int]) -> None:
    assert [shade(data.images[k]) for k in range(len(shades))] == shades
    assert [data.labels_of()[i] for i in data.images.ids] == ["white" if s > 100 else "black" for s in shades]
    assert data.texts.captions == tuple(f"{word} {s}" for s in shades for word in ("shade", "tone"))


def test_a_saved_dataset(tmp_path: Path, plain: Plain, shade: Shade) -> None:
    shades = [0, 120, 40, 200, 240]
    saved(tmp_path / "one", table(plain, shades), "train", files=2)
    data = load_dataset(str(tmp_path / "one"))
    check(data, shade, shades)
    assert list(data.splits) == ["test", "all"]  # its only split is what is judged
    assert data.images.ids == ("0", "1", "2", "3", "4")


def test_a_saved_dictionary_of_splits(tmp_path: Path, plain: Plain, shade: Shade) -> None:
    root = tmp_path / "two"
    saved(root / "train", table(plain, [0, 120]), "train")
    saved(root / "validation", table(plain, [40, 200, 60]), "validation")
    (root / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    data = load_dataset(f"hf:{root}")
    check(data.split("train"), shade, [0, 120])
    check(data.split("test"), shade, [40, 200, 60])
    assert data.split("test").images.ids == ("val/0", "val/1", "val/2")


def test_parquet_shards_as_the_hub_has_them(tmp_path: Path, plain: Plain, shade: Shade) -> None:
    folder = tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    for k, shades in enumerate(([0, 120, 40], [200, 60])):
        pq.write_table(table(plain, shades), folder / f"train-{k:05d}-of-00002.parquet", row_group_size=2)
    pq.write_table(table(plain, [240]), folder / "test-00000-of-00001-0f2a.parquet")
    data = load_dataset(str(tmp_path / "set"))
    train = data.split("train")
    check(train, shade, [0, 120, 40, 200, 60])
    check(data.split("test"), shade, [240])
    with ThreadPoolExecutor(8) as pool:  # as encoding opens them
        found = list(pool.map(lambda k: shade(train.images[k % 5]), range(100)))
    assert found == [0, 120, 40, 200, 60] * 20


def test_one_parquet_file_with_paths_or_plain_bytes(tmp_path: Path, plain: Plain, shade: Shade) -> None:
    plain(70).save(tmp_path / "a.png")
    plain(90).save(tmp_path / "b.png")
    rows = {"path": ["a.png", "b.png", "a.png"], "text": ["x", "y", "z"], "split": ["dev", "train", "dev"]}
    pq.write_table(pa.table(rows), tmp_path / "paths.parquet")
    data = load_dataset(f"pairs:{tmp_path / 'paths.parquet'}")
    assert data.images.ids == ("a.png", "b.png")
    assert [shade(data.images[k]) for k in (0, 1)] == [70, 90]
    assert data.split("test").texts.captions == ("x", "z")
    held = {"key": ["p", "q"], "jpg": [png(plain(70)), None], "txt": ["x", "y"]}
    pq.write_table(pa.table(held), tmp_path / "bytes.parquet")
    with pytest.warns(UserWarning, match="1 of 2 rows of .*bytes.parquet hold no image, and are left out"):
        data = load_dataset(str(tmp_path / "bytes.parquet"), image="jpg")
    assert data.images.ids == ("p",)
    assert shade(data.images[0]) == 70


def test_an_image_kept_as_a_path_beside_its_file(tmp_path: Path, plain: Plain, shade: Shade) -> None:
    plain(70).save(tmp_path / "a.png")
    column = pa.array([{"bytes": None, "path": "a.png"}], IMAGE)
    pq.write_table(pa.table({"image": column, "label": [1]}), tmp_path / "a.parquet")
    data = load_dataset(str(tmp_path / "a.parquet"))
    assert shade(data.images[0]) == 70
    assert data.labels_of()["a.png"] == "1"


def test_no_file_outside_the_folder_is_read(tmp_path: Path, plain: Plain) -> None:
    saved(tmp_path / "one", table(plain, [0]), None)
    (tmp_path / "one" / "data-00000-of-00001.arrow").rename(tmp_path / "elsewhere.arrow")
    (tmp_path / "one" / "state.json").write_text('{"_data_files": [{"filename": "../elsewhere.arrow"}]}')
    with pytest.raises(XgapError, match=r"one.elsewhere.arrow cannot be read"):
        load_dataset(str(tmp_path / "one"))


def test_damage_and_other_columns_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(XgapError, match=r"bad.parquet cannot be read"):
        load_dataset(str(tmp_path / "bad.parquet"))
    pq.write_table(pa.table({"image": [1, 2], "text": ["a", "b"]}), tmp_path / "numbers.parquet")
    with pytest.raises(XgapError, match=r"column 'image' of .* holds int64, not paths or images"):
        load_dataset(str(tmp_path / "numbers.parquet"))
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "none.parquet")
    with pytest.raises(XgapError, match="has no rows"):
        load_dataset(str(tmp_path / "none.parquet"))


def test_images_alone_and_a_first_row_without_one(tmp_path: Path, plain: Plain, shade: Shade) -> None:
    pq.write_table(pa.table({"image": [png(plain(70)), png(plain(90))]}), tmp_path / "alone.parquet")
    data = load_dataset(str(tmp_path / "alone.parquet"))
    assert [shade(data.images[k]) for k in range(2)] == [70, 90]
    content = data.images.digest
    moved = (tmp_path / "elsewhere") / "alone.parquet"
    moved.parent.mkdir()
    (tmp_path / "alone.parquet").rename(moved)
    assert load_dataset(str(moved)).images.digest == content  # a folder may move
    pq.write_table(pa.table({"path": [None, "a.png"], "text": ["x", "y"]}), tmp_path / "hole.parquet")
    with pytest.raises(XgapError, match=r"row 1 of .*hole.parquet has no image"):
        load_dataset(str(tmp_path / "hole.parquet"))


def test_rows_of_one_image_give_it_several_captions(tmp_path: Path, plain: Plain, shade: Shade) -> None:
    shades = [50, 50, 90, 90, 90, 130]
    rows = {"image": [png(plain(s)) for s in shades], "caption": [f"c{k}" for k in range(6)]}
    named = rows | {"image_id": [7, 7, 8, 8, 8, 9]}
    paired = {**rows, "image": pa.array([{"bytes": png(plain(s)), "path": f"{s}.png"} for s in shades], IMAGE)}
    cases = {
        "ids of images": (named, ("7", "8", "9")),
        "ids of captions": (rows | {"id": list("abcdef")}, ("0", "2", "5")),
        "no ids": (rows, ("0", "2", "5")),
        "pairs of bytes and path": (paired, ("0", "2", "5")),
    }
    for name, (held, ids) in cases.items():
        pq.write_table(pa.table(held), tmp_path / "a.parquet", row_group_size=2)
        data = load_dataset(str(tmp_path / "a.parquet"))
        assert data.images.ids == ids, name
        assert [shade(data.images[k]) for k in range(3)] == [50, 90, 130], name
        assert data.texts.captions == tuple(f"c{k}" for k in range(6)), name
        assert [data.labels["pair"][i] for i in data.texts.ids] == [ids[k] for k in (0, 0, 1, 1, 1, 2)], name


def test_an_id_of_different_images_joins_none(tmp_path: Path, plain: Plain) -> None:
    held = {"image": [png(plain(s)) for s in (50, 90)], "caption": ["a", "b"], "id": [1, 1]}
    pq.write_table(pa.table(held), tmp_path / "a.parquet")
    with pytest.warns(UserWarning, match=r"ids of the column 'id' .* are not distinct in each split"):
        assert load_dataset(str(tmp_path / "a.parquet")).images.ids == ("0", "1")
    held = {"image": [png(plain(50))] * 2, "caption": ["a", "b"], "id": [1, 1], "label": ["x", "y"]}
    pq.write_table(pa.table(held), tmp_path / "b.parquet")
    with pytest.raises(XgapError, match=r"gives '1' more than one label: x, y"):
        load_dataset(str(tmp_path / "b.parquet"))


def test_captions_in_structs_are_their_texts(tmp_path: Path, plain: Plain) -> None:
    sentences = [{"tokens": ["a"], "raw": "one", "imgid": 1}, {"tokens": ["b"], "raw": "two", "imgid": 1}]
    image = [png(plain(50))]
    for cell, captions in (
        (sentences[0], ("one",)),
        (sentences, ("one", "two")),
        ({"raw": ["one", "two"], "sentid": [1, 2]}, ("one", "two")),
        (b"one", ("one",)),
    ):
        pq.write_table(pa.Table.from_pylist([{"image": image[0], "sentences": cell}]), tmp_path / "a.parquet")
        assert load_dataset(str(tmp_path / "a.parquet")).texts.captions == captions
    pq.write_table(pa.table({"image": image, "alt": [{"en": "x", "de": "y"}]}), tmp_path / "b.parquet")
    assert load_dataset(str(tmp_path / "b.parquet"), caption="alt.de").texts.captions == ("y",)
    pq.write_table(pa.table({"image": image, "caption": [{"en": "x", "de": "y"}]}), tmp_path / "c.parquet")
    with pytest.raises(XgapError, match=r"row 1 of .*: an object with (en, de|de, en) has no text under any"):
        load_dataset(str(tmp_path / "c.parquet"))


def test_missing_and_numbered_labels(tmp_path: Path, plain: Plain) -> None:
    image = [png(plain(s)) for s in (50, 90, 130)]
    labels = [
        pa.array([math.nan, 1.0, 1.0]),
        pa.array([None, 1, 1]),
        pa.array([-1, 1, 1]),
        pa.array([None, "1", "1"]).dictionary_encode(),
    ]
    for label in labels:
        pq.write_table(pa.table({"image": image, "label": label}), tmp_path / "a.parquet")
        with pytest.warns(UserWarning, match="1 of 3 items .* have no label"):
            data = load_dataset(str(tmp_path / "a.parquet"))
        assert data.labels_of() == {"1": "1", "2": "1", "class/1": "1"}
        assert len(data.images) == 3
    meta = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
    for split, of in (("train", [0, 1, 0]), ("test", [-1, -1, -1])):
        made = pa.table({"image": image, "label": of}).replace_schema_metadata(meta)
        (tmp_path / "h").mkdir(exist_ok=True)
        pq.write_table(made, tmp_path / "h" / f"{split}-00000-of-00001.parquet")
    with pytest.warns(UserWarning, match=r"3 of 6 items .* have no label \(such as -1"):
        data = load_dataset(str(tmp_path / "h"))
    assert set(data.class_names["class"]) == {"black", "white"}
    pq.write_table(pa.table({"image": image, "label": [[0, 1], [1], [1]]}), tmp_path / "b.parquet")
    with pytest.warns(UserWarning, match=r"column 'label' .* is left out.*\[0, 1\] are several labels"):
        assert not load_dataset(str(tmp_path / "b.parquet")).class_names


def test_a_column_of_images_is_known_by_what_it_holds(tmp_path: Path, plain: Plain, shade: Shade) -> None:
    def loaded(columns: dict[str, Any], **options: str) -> Any:
        pq.write_table(pa.table(columns), tmp_path / "a.parquet")
        return load_dataset(str(tmp_path / "a.parquet"), **options)

    one, text = [png(plain(70))], ["a"]
    pair = pa.array([{"bytes": one[0], "path": None}], IMAGE)
    assert shade(loaded({"key": ["0"], "jpg": one, "caption": text, "status": ["success"]}).images[0]) == 70
    assert shade(loaded({"thumbnail": pair, "text": text}).images[0]) == 70
    with pytest.raises(XgapError, match=r"several columns of images \(left, right\)"):
        loaded({"left": one, "right": pair, "text": text})
    assert shade(loaded({"left": one, "right": [png(plain(90))], "text": text}, image="right").images[0]) == 90
    plain(90).save(tmp_path / "b.png")
    with pytest.warns(UserWarning, match="images in its column 'content' and may name them in 'file_name'"):
        assert shade(loaded({"file_name": ["b.png"], "content": one, "text": text}).images[0]) == 70
    sound = pa.array([{"bytes": b"RIFF\0\0\0\0WAVE", "path": "a.wav"}], IMAGE)
    with pytest.warns(UserWarning, match="'audio' .* holds bytes that no image begins with; it is not read"):
        assert len(loaded({"audio": sound, "text": text}).images) == 0
    with pytest.warns(UserWarning, match="'images' .* holds several images per row; it is not read"):
        assert (
            len(loaded({"images": pa.array([[{"bytes": one[0], "path": None}]], pa.list_(IMAGE)), "text": text}).images)
            == 0
        )


def test_paths_in_categories_and_pairs_are_paths(tmp_path: Path, plain: Plain, shade: Shade) -> None:
    for k in range(2):
        plain(70 + 20 * k).save(tmp_path / f"{k}.png")
    paths = pa.array(["0.png", "1.png", "0.png"])
    pairs = pa.array([{"bytes": None, "path": path} for path in paths.to_pylist()], IMAGE)
    for column in (
        paths.dictionary_encode(),
        paths.cast(pa.large_string()),
        pairs,
        pa.array([[p] for p in paths.to_pylist()]),
    ):
        pq.write_table(pa.table({"image": column, "caption": list("abc")}), tmp_path / "a.parquet")
        data = load_dataset(str(tmp_path / "a.parquet"))
        assert data.images.ids == ("0.png", "1.png")
        assert [shade(data.images[k]) for k in range(2)] == [70, 90]
        assert data.texts.captions == ("a", "c", "b")


def test_no_image_outside_the_folder_of_the_table_is_read(tmp_path: Path, plain: Plain, shade: Shade) -> None:
    plain(70).save(tmp_path / "a.png")
    (tmp_path / "t").mkdir()
    table = tmp_path / "t" / "a.parquet"
    for cell in ("../a.png", str(tmp_path / "a.png")):
        for column in (pa.array([cell]), pa.array([{"bytes": None, "path": cell}], IMAGE)):
            pq.write_table(pa.table({"image": column, "caption": ["x"]}), table)
            with pytest.raises(XgapError, match=r"is outside the folder .*images="):
                load_dataset(str(table))
            assert shade(load_dataset(str(table), images=tmp_path).images[0]) == 70
        mixed = pa.array([{"bytes": None, "path": cell}, {"bytes": png(plain(90)), "path": None}], IMAGE)
        pq.write_table(pa.table({"image": mixed}), table)
        data = load_dataset(str(table))
        assert shade(data.images[1]) == 90
        with pytest.raises(XgapError, match="is outside the folder"):
            data.images[0]


def test_two_columns_of_one_name_and_files_of_different_columns_are_reported(tmp_path: Path, plain: Plain) -> None:
    twice = pa.table([pa.array(["0.png"]), pa.array(["a"]), pa.array(["b"])], names=["image", "caption", "caption"])
    pq.write_table(twice, tmp_path / "a.parquet")
    with pytest.raises(XgapError, match="more than one column 'caption'"):
        load_dataset(str(tmp_path / "a.parquet"))
    (tmp_path / "d").mkdir()
    pq.write_table(pa.table({"image": [png(plain(70))], "caption": ["a"]}), tmp_path / "d" / "0.parquet")
    pq.write_table(pa.table({"image": [png(plain(70))], "text": ["a"]}), tmp_path / "d" / "1.parquet")
    with pytest.raises(XgapError, match=r"different columns \(caption: 'caption' and 'text'\)"):
        load_dataset(str(tmp_path / "d"))
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "d" / "1.parquet")
    (tmp_path / "d" / "0.parquet").rename(tmp_path / "d" / "2.parquet")
    pq.write_table(pa.table({"image": [png(plain(70))], "text": ["a"]}), tmp_path / "d" / "2.parquet")
    with pytest.raises(XgapError, match=r"some files of .* hold images, and others"):
        load_dataset(str(tmp_path / "d"))
