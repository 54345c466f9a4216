"""Token features in files: what is written is read again, other tools' layouts are read, and no layout is guessed."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.core.tokens_io import load_tokens, save_tokens

SUFFIXES = (".npz", ".safetensors", ".parquet")


def some(ids: tuple[str, ...] = ("a", "b", "c"), weights: bool = True) -> TokenFeatures:
    generator = torch.Generator().manual_seed(0)
    sets = [3 * torch.randn(n + 1, 5, generator=generator) for n in range(len(ids))]
    beside = [torch.rand(len(one), generator=generator) for one in sets] if weights else None
    return TokenFeatures.from_sets(sets, ids, "image", "audio", {"model": "m", "n": 3}, "digest", weights=beside)


def same(a: TokenFeatures, b: TokenFeatures) -> None:
    assert torch.equal(a.vectors, b.vectors)
    assert torch.equal(a.offsets, b.offsets)
    assert (a.ids, a.space, a.origin, a.items, a.provenance) == (b.ids, b.space, b.origin, b.items, b.provenance)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("ids", [("a", "b", "c"), ("only",), ("", " ü/\n", "vectors", "offsets")])
@pytest.mark.parametrize("weights", [True, False])
def test_a_round_trip_keeps_every_bit(tmp_path: Path, suffix: str, ids: tuple[str, ...], weights: bool) -> None:
    made = some(ids, weights)
    read = load_tokens(save_tokens(made, tmp_path / "deep" / f"x{suffix}"))
    same(made, read)
    assert torch.equal(made.norms, read.norms)
    assert (read.weights is None) == (not weights)
    assert not weights or torch.equal(made.weights, read.weights)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == [f"x{suffix}"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_empty_collection_is_kept(tmp_path: Path, suffix: str) -> None:
    none = TokenFeatures(torch.zeros(0, 5), [0], [], "image", "image")
    read = load_tokens(save_tokens(none, tmp_path / f"x{suffix}"))
    assert len(read) == 0


def test_one_tensor_per_document_is_read_by_its_id(tmp_path: Path) -> None:
    made = some()
    sets = {item: made.tokens_of(item).clone() for item in made.ids}
    safetensors.torch.save_file(sets, tmp_path / "x.safetensors")
    np.savez(tmp_path / "x.npz", **{item: one.numpy() for item, one in sets.items()})
    safetensors.torch.save_file({k: v.bfloat16() for k, v in sets.items()}, tmp_path / "half.safetensors")
    for name, tolerance in (("x.safetensors", 0), ("x.npz", 0), ("half.safetensors", 1e-2)):
        read = load_tokens(tmp_path / name, space="image")
        assert sorted(read.ids) == ["a", "b", "c"]
        assert (read.space, read.origin) == ("image", "image")
        assert torch.allclose(read.select(made.ids).vectors, made.vectors, atol=tolerance)


@pytest.mark.parametrize("mask", ["mask", "attention_mask"])
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_padded_array_is_read_by_its_mask_alone(tmp_path: Path, mask: str, suffix: str) -> None:
    made = some()
    vectors, there = made.padded()
    vectors[~there] = 7.0  # whatever stands in padding
    path = tmp_path / f"x{suffix}"
    if suffix == ".npz":
        np.savez(path, embeddings=vectors.numpy(), **{mask: there.numpy()}, ids=np.array(made.ids))
    else:
        safetensors.torch.save_file({"embeddings": vectors, mask: there.long()}, path)
    read = load_tokens(path, space="image", ids=made.ids)
    assert torch.equal(read.vectors, made.vectors)
    assert torch.equal(read.offsets, made.offsets)


def test_a_table_of_lists_of_lists_is_read(tmp_path: Path) -> None:
    made = some()
    rows = [made.tokens_of(item).tolist() for item in made.ids]
    types = [
        pa.list_(pa.list_(pa.float32())),
        pa.large_list(pa.large_list(pa.float64())),
        pa.list_(pa.list_(pa.float32(), 5)),
    ]
    for i, kind in enumerate(types):
        table = pa.table({"id": [1, 2, 3], "patches": pa.array(rows, kind)})
        pq.write_table(table, tmp_path / f"{i}.parquet", row_group_size=2)
        read = load_tokens(tmp_path / f"{i}.parquet", space="image", key="patches")
        assert read.ids == ("1", "2", "3")
        assert torch.equal(read.vectors, made.vectors)
        assert read.lengths.tolist() == [1, 2, 3]


def npz(path: Path, **arrays: object) -> Path:
    np.savez(path / "x.npz", **{name: np.asarray(array) for name, array in arrays.items()})
    return path / "x.npz"


def table(path: Path, column: pa.Array, **more: object) -> Path:
    pq.write_table(pa.table({"id": ["a", "b"], "vectors": column, **more}), path / "x.parquet")
    return path / "x.parquet"


LISTS = pa.list_(pa.list_(pa.float32()))


def test_a_layout_that_could_be_two_is_refused(tmp_path: Path) -> None:
    two = np.ones((2, 3, 4), np.float32)
    two[1, 2] = 0
    with pytest.raises(XgapError, match="may be padding; add a mask"):
        load_tokens(npz(tmp_path, vectors=two), space="image", ids="ab")
    with pytest.raises(XgapError, match="tokens of one item or one vector per item"):
        load_tokens(npz(tmp_path, vectors=np.eye(3)), space="image")
    with pytest.raises(XgapError, match="several arrays"):
        load_tokens(npz(tmp_path, a=np.ones((2, 3, 4)), b=np.ones((2, 3, 4))), space="image", ids="ab")
    with pytest.raises(XgapError, match="two masks"):
        load_tokens(npz(tmp_path, a=two, mask=np.ones((2, 3)), attention_mask=np.ones((2, 3))), space="image", ids="ab")


def test_files_that_do_not_fit_are_refused_in_one_sentence(tmp_path: Path) -> None:
    full = np.ones((2, 3, 4))
    cases = [
        (npz, {"vectors": full, "mask": np.ones((2, 2))}, "zeros and ones, one per token"),
        (npz, {"vectors": full, "mask": np.full((2, 3), 0.5)}, "zeros and ones"),
        (npz, {"vectors": full, "mask": [[1, 1, 1], [0, 0, 0]]}, "item 'b' has no tokens"),
        (npz, {"vectors": full, "weights": np.ones(6)}, r"its weights \(6,\) must be one per token, \(2, 3\)"),
        (npz, {"a": np.eye(2), "b": np.eye(3)}, "differ in width: 2, 3"),
        (npz, {"a": np.eye(2), "b": np.ones(2)}, "are no tokens"),
        (npz, {"a": np.array(["x"])}, "not numbers"),
    ]
    for write, arrays, sentence in cases:
        with pytest.raises(XgapError, match=sentence):
            load_tokens(write(tmp_path, **arrays), space="image", ids="ab")
    columns = [
        (pa.array([[[1.0, 2]], None], LISTS), "null where an item's vectors"),
        (pa.array([[[1.0, 2]], [None]], LISTS), "null where a token"),
        (pa.array([[[1.0, 2]], [[None, 1.0]]], LISTS), "null where a number"),
        (pa.array([[[1.0, 2]], []], LISTS), "item 'b' has no tokens"),
        (pa.array([[[1.0, 2]], [[1.0]]], LISTS), "differ in width: 1, 2"),
        (pa.array([[1.0, 2], [1.0, 3]]), "must hold a token as a list"),
        (pa.array([["x"], ["y"]]), "must hold a token as a list"),
        (pa.array([[["x"]], [["y"]]]), "not numbers"),
    ]
    for column, sentence in columns:
        with pytest.raises(XgapError, match=sentence):
            load_tokens(table(tmp_path, column), space="image")
    right = pa.array([[[1.0, 2]], [[1.0, 2]]], LISTS)
    with pytest.raises(XgapError, match="one number per token"):
        load_tokens(table(tmp_path, right, weights=[[1.0], [1.0, 2]]), space="image")
    with pytest.raises(XgapError, match="no column 'x'"):
        load_tokens(table(tmp_path, right), space="image", key="x")
    with pytest.raises(XgapError, match="which space"):
        load_tokens(table(tmp_path, right))


def test_pickled_objects_and_unknown_files_are_never_read(tmp_path: Path) -> None:
    with pytest.raises(XgapError, match="pickled Python objects, which are never read"):
        load_tokens(npz(tmp_path, vectors=np.array([np.eye(2), np.eye(3)], dtype=object)), space="image")
    with pytest.raises(XgapError, match="safetensors"):
        load_tokens(tmp_path / "x.pt")
    with pytest.raises(XgapError, match="there is no file"):
        load_tokens(tmp_path / "no.npz")
    (tmp_path / "broken.safetensors").write_bytes(b"not a file")
    with pytest.raises(XgapError, match="cannot be read as token features"):
        load_tokens(tmp_path / "broken.safetensors", space="image")
