"""Parquet tables and Hugging Face data sets on disk, in the layouts that `datasets` writes."""

import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from xgap_analysis.datasets import load_dataset
from xgap_analysis.errors import XgapError

Plain = Callable[[int], Image.Image]
Shade = Callable[[Image.Image], int]
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
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
            "image": pa.array([{"bytes": png(plain(s)), "path": f"{s}.png"} for s in shades], PICTURE),
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


def test_a_saved_data_set(tmp_path: Path, plain: Plain, shade: Shade) -> None:
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


def test_a_picture_kept_as_a_path_beside_its_file(tmp_path: Path, plain: Plain, shade: Shade) -> None:
    plain(70).save(tmp_path / "a.png")
    column = pa.array([{"bytes": None, "path": "a.png"}], PICTURE)
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
    with pytest.raises(XgapError, match=r"column 'image' of .* holds int64, not paths or pictures"):
        load_dataset(str(tmp_path / "numbers.parquet"))
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "none.parquet")
    with pytest.raises(XgapError, match="has no rows"):
        load_dataset(str(tmp_path / "none.parquet"))


def test_pictures_alone_and_a_first_row_without_one(tmp_path: Path, plain: Plain, shade: Shade) -> None:
    pq.write_table(pa.table({"image": [png(plain(70)), png(plain(90))]}), tmp_path / "alone.parquet")
    data = load_dataset(str(tmp_path / "alone.parquet"))
    assert [shade(data.images[k]) for k in range(2)] == [70, 90]
    moved = (tmp_path / "elsewhere") / "alone.parquet"
    moved.parent.mkdir()
    (tmp_path / "alone.parquet").rename(moved)
    assert load_dataset(str(moved)).images.digest == data.images.digest  # a folder may move
    pq.write_table(pa.table({"path": [None, "a.png"], "text": ["x", "y"]}), tmp_path / "hole.parquet")
    with pytest.raises(XgapError, match=r"row 1 of .*hole.parquet names no image"):
        load_dataset(str(tmp_path / "hole.parquet"))
