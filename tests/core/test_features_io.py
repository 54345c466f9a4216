"""Features survive a file bit by bit, whatever their ids; what is no such file is refused in one sentence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.features_io import load_features, save_features
from xgap_analysis.datasets import Relevance
from xgap_analysis.metrics import k_occurrence, misalignment, nearest_items, retrieval

SUFFIXES = [".npz", ".parquet", ".safetensors"]
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    ids=st.lists(NAMES, min_size=1, max_size=6, unique=True),
    space=NAMES,
    origin=NAMES,
    items=NAMES | st.just(""),
    provenance=st.dictionaries(NAMES, st.none() | st.integers() | NAMES | st.lists(st.booleans(), max_size=2)),
    dim=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
def test_a_round_trip_keeps_everything(
    suffix: str,
    tmp_path: Path,
    ids: list[str],
    space: str,
    origin: str,
    items: str,
    provenance: dict[str, Any],
    dim: int,
    seed: int,
) -> None:
    vectors = torch.randn(len(ids), dim, generator=torch.Generator().manual_seed(seed)) + 1e-3
    features = Features(vectors, ids, space, origin, provenance, items)
    loaded = load_features(save_features(features, tmp_path / f"f{suffix}"))
    assert torch.equal(loaded.vectors, features.vectors)
    assert loaded.vectors.dtype == torch.float32
    assert (loaded.ids, loaded.space, loaded.origin, loaded.items) == (features.ids, space, origin, items)
    assert loaded.provenance == provenance
    assert [file.name for file in tmp_path.iterdir()] == [f"f{suffix}"]


def two(**more: Any) -> Features:
    return Features(torch.eye(2), ["a", "b"], "text", "image", more)


def test_other_tools_read_the_files(tmp_path: Path) -> None:
    arrays = np.load(save_features(two(), tmp_path / "f.npz"), allow_pickle=False)
    assert arrays["ids"].dtype.kind == "U"
    assert arrays["vectors"].tolist() == [[1, 0], [0, 1]]
    table = pq.read_table(save_features(two(), tmp_path / "f.parquet"))
    assert table.to_pylist() == [{"id": "a", "vector": [1, 0]}, {"id": "b", "vector": [0, 1]}]
    with safe_open(save_features(two(), tmp_path / "f.safetensors"), "np") as file:
        assert file.get_tensor("vectors").shape == (2, 2)
        assert json.loads(file.metadata()["features"])["ids"] == ["a", "b"]


def test_equal_features_make_equal_safetensors(tmp_path: Path) -> None:
    files = [save_features(two(x=1, y=[2]), tmp_path / f"{name}.safetensors") for name in "abc"]
    assert len({file.read_bytes() for file in files}) == 1


def test_files_of_other_tools_are_read_and_scaled(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", vectors=np.array([[3, 4], [0, 2]]), ids=np.array([7, 8]))
    pq.write_table(pa.table({"id": ["7", "8"], "vector": [[3.0, 4.0], [0.0, 2.0]]}), tmp_path / "f.parquet")
    for name in ("f.npz", "f.parquet"):
        loaded = load_features(tmp_path / name, space="audio")
        assert (loaded.ids, loaded.space, loaded.origin) == (("7", "8"), "audio", "audio")
        assert torch.allclose(loaded.vectors, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))
    assert load_features(save_features(two(), tmp_path / "g.npz"), space="x", origin="y").origin == "y"


def _parquet(**columns: Any) -> Callable[[Path], Any]:
    return lambda path: pq.write_table(pa.table(columns), path)


def _npz(**arrays: Any) -> Callable[[Path], Any]:
    return lambda path: np.savez(path, **arrays)


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("f.npz", None, "there is no file"),
        ("f.txt", None, ".npz, .parquet, .safetensors"),
        ("f.npz", lambda path: path.write_bytes(b"junk"), "not a .npz archive"),
        ("f.parquet", lambda path: path.write_bytes(b"junk"), "cannot be read"),
        ("f.safetensors", lambda path: path.write_bytes(b"junk"), "cannot be read"),
        ("f.npz", _npz(ids=np.array(["a"])), "no array 'vectors', but: ids"),
        ("f.npz", _npz(vectors=np.eye(1)), "has no ids"),
        ("f.npz", _npz(vectors=np.eye(1), ids=np.array(["a", "b"])), "2 ids were given for 1 vectors"),
        ("f.npz", _npz(vectors=np.eye(1), ids=np.array([["a"], {}], dtype=object)), "pickled"),
        ("f.npz", _npz(vectors=np.array(["x"]), ids=np.array(["a"])), "not numbers"),
        ("f.npz", _npz(vectors=np.array([[np.nan]]), ids=np.array(["a"])), "'a' holds a NaN"),
        ("f.parquet", _parquet(id=["a"]), "no column 'vector', but: id"),
        ("f.parquet", _parquet(id=["a", "b"], vector=[[1.0], [1.0, 2.0]]), "differ in length: 1, 2"),
        ("f.parquet", _parquet(id=["a", None], vector=[[1.0], [2.0]]), "every row needs an id"),
        ("f.parquet", _parquet(id=["a"], vector=[1.0]), "a list of numbers"),
        ("f.parquet", _parquet(id=["a"], vector=[{"x": 1.0}]), "a list of numbers, which is of type struct<x: double>"),
        ("f.parquet", _parquet(id=["a"], vector=[{"v": [1.0]}]), "which is of type struct<v: list<"),
        ("f.parquet", _parquet(id=["a"], vector=pa.array([[("x", 1.0)]], pa.map_(pa.string(), pa.float64()))), "map<"),
        ("f.parquet", _parquet(id=["a"], vector=[["1.0"]]), "not numbers"),
        ("f.parquet", _parquet(id=["a"], vector=[[[1.0]]]), "not numbers"),
        ("f.parquet", _parquet(vector=[[1.0]]), "has no ids"),
        (
            "f.safetensors",
            lambda path: safetensors.numpy.save_file({"vectors": np.eye(1)}, path, metadata={"features": "[1]"}),
            "cannot be read",
        ),
    ],
)
def test_what_is_no_file_of_features_is_refused(
    tmp_path: Path, name: str, write: Callable[[Path], Any] | None, said: str
) -> None:
    if write is not None:
        write(tmp_path / name)
    with pytest.raises(XgapError, match=said.replace(".", r"\.")) as caught:
        load_features(tmp_path / name, space="image")
    assert "\n" not in str(caught.value)


def test_a_file_without_a_space_asks_for_one(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", vectors=np.eye(1), ids=np.array(["a"]))
    with pytest.raises(XgapError, match='pass space="image"'):
        load_features(tmp_path / "f.npz")


def test_what_cannot_be_kept_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    with pytest.raises(XgapError, match="cannot be written"):
        save_features(two(), in_the_way / "f.npz")
    with pytest.raises(XgapError, match="provenance"):
        save_features(two(model=object()), tmp_path / "f.npz")
    with pytest.raises(XgapError, match="NUL"):
        save_features(Features(torch.eye(1), ["a\0"], "text", "text"), tmp_path / "f.npz")
    with pytest.raises(XgapError, match="ids"):
        save_features(Features(torch.eye(1), ["a\ud800"], "text", "text"), tmp_path / "f.parquet")
    assert list(tmp_path.iterdir()) == [in_the_way]


def test_two_plain_arrays_are_paired_row_by_row(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[3, 4], [0, 2]], dtype=np.float16))
    loaded = load_features(tmp_path / "a.npy", space="audio")
    assert loaded.ids == ("0", "1")
    assert torch.allclose(loaded.vectors, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))
    assert load_features(tmp_path / "a.npy", space="audio", ids=["p", "q"]).ids == ("p", "q")
    with pytest.raises(XgapError, match="1 ids were given for 2 vectors"):
        load_features(tmp_path / "a.npy", space="audio", ids=["p"])
    np.save(tmp_path / "b.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    with pytest.raises(XgapError, match="holds pickled Python objects, which are never read"):
        load_features(tmp_path / "b.npy", space="audio")
    (tmp_path / "c.npy").write_bytes(b"junk")
    with pytest.raises(XgapError, match="cannot be read as features"):
        load_features(tmp_path / "c.npy", space="audio")


def test_rows_of_two_files_are_no_self_matches_of_each_other(tmp_path: Path) -> None:
    """The right gallery item of each query has its number; another file numbers other items."""
    draw = np.random.default_rng(0)
    images = draw.normal(size=(100, 16))
    for name, vectors in (("a", images), ("b", images + 0.01 * draw.normal(size=images.shape)), ("c", images)):
        np.save(tmp_path / f"{name}.npy", vectors)
    a, b, c = (load_features(tmp_path / f"{name}.npy", space="image") for name in "abc")
    own = Relevance.from_labels(range(100), range(100))
    assert retrieval(a, b, own)["hit_at_1"].mean() == 1
    assert misalignment(a, b, own)["misalignment"].mean() == 0
    assert int(k_occurrence(a, b, k=1).sum()) == 100
    assert k_occurrence(a, b, k=1).tolist() == [1] * 100
    assert nearest_items(a, b, "7", Relevance.from_qrels({"7": {"7": 1}}), k=1)["item"].tolist() == ["7"]
    for same in (a, c):  # the file itself, or a copy of it
        with pytest.raises(XgapError, match="none of the 100 queries has a relevant item"):
            retrieval(a, same, own)
    told = load_features(tmp_path / "b.npy", space="text", origin="image", items=a.items)  # of the same images
    with pytest.raises(XgapError, match="none of the 100 queries has a relevant item"):
        retrieval(told, a, own)
    part = a.select(a.ids[:9])
    with pytest.raises(XgapError, match="none of the 9 queries has a relevant item"):
        retrieval(part, a, Relevance.from_labels(range(9), range(100)))


def test_vectors_under_another_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", embeddings=np.eye(2))
    pq.write_table(pa.table({"id": ["7", "8"], "emb": [[3.0, 4.0], [0.0, 2.0]]}), tmp_path / "f.parquet")
    safetensors.numpy.save_file({"emb": np.eye(2)}, tmp_path / "f.safetensors")
    assert load_features(tmp_path / "f.npz", space="x", key="embeddings", ids=range(2)).ids == ("0", "1")
    assert load_features(tmp_path / "f.parquet", space="x", key="emb").ids == ("7", "8")
    assert load_features(tmp_path / "f.safetensors", space="x", key="emb", ids="ab").vectors.tolist() == [
        [1, 0],
        [0, 1],
    ]
    with pytest.raises(XgapError, match=r"no array 'vectors', but: embeddings \(say which holds the vectors"):
        load_features(tmp_path / "f.npz", space="x")


def test_the_folders_of_clip_retrieval(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    everything = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float16)
    for side in ("img_emb", "text_emb"):
        (tmp_path / side).mkdir()
        for k in range(12):  # of one row each: 10 comes after 9
            np.save(tmp_path / side / f"{side}_{k}.npy", everything[[k]])
    loaded = load_features(tmp_path / "img_emb")
    assert (loaded.space, loaded.ids) == ("image", tuple(str(k) for k in range(12)))
    expected = everything.astype(float) / np.linalg.norm(everything.astype(float), axis=1, keepdims=True)
    assert np.allclose(loaded.vectors.numpy(), expected, atol=1e-6)
    assert load_features(tmp_path / "text_emb").space == "text"
    for k in range(12):
        pq.write_table(
            pa.table({"image_path": [f"{k}.jpg"], "caption": ["x"]}), tmp_path / "metadata" / f"metadata_{k}.parquet"
        )
    assert load_features(tmp_path / "img_emb").ids[10] == "10.jpg"
    pq.write_table(pa.table({"image_path": []}), tmp_path / "metadata" / "metadata_3.parquet")
    with pytest.raises(XgapError, match="do not have a row for each vector"):
        load_features(tmp_path / "img_emb")
    with pytest.raises(XgapError, match=r"name .*img_emb or .*text_emb"):
        load_features(tmp_path)


def test_ids_of_bytes_are_the_words_that_they_spell(tmp_path: Path) -> None:
    np.savez(tmp_path / "b.npz", vectors=np.eye(2, dtype=np.float32), ids=np.array(["a", "b"], dtype="S1"))
    assert load_features(tmp_path / "b.npz", space="image").ids == ("a", "b")
    pq.write_table(pa.table({"id": [b"a", b"b"], "vector": [[1.0, 0.0], [0.0, 1.0]]}), tmp_path / "b.parquet")
    assert load_features(tmp_path / "b.parquet", space="image").ids == ("a", "b")
