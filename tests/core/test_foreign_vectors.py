"""Vectors as other tools leave them: each layout as its tool writes it, and damaged in each way that was thought of."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError

TEXTS = ["a bear", "a fox", "an owl"]
VECTORS = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A task in a cache of MTEB: raw rows, of which there are more than items; the index is not in their order."""
    folder = tmp_path / "cache" / "NanoArguAnaRetrieval"
    folder.mkdir(parents=True)
    rows = np.memmap(folder / "vectors.npy", dtype="float32", mode="w+", shape=(10, 4))
    rows[:3] = VECTORS
    rows.flush()
    index = {digest(TEXTS[k]): k for k in (2, 0, 1)}
    (folder / "index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
    (folder / "dimension").write_text("4")
    return folder


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_a_task_in_the_cache_of_mteb(cache: Path) -> None:
    features = xg.load_features(cache, space="text")
    assert len(features) == 3
    np.testing.assert_allclose(np.asarray(features.select(map(digest, TEXTS))), unit(VECTORS), atol=1e-6)
    assert features.provenance["task"] == "NanoArguAnaRetrieval"
    assert not features.numbered
    assert xg.compare_vectors(features, xg.load_features(cache, space="text")).verdict == "same vectors"


def test_a_hole_in_the_cache_is_left_out_and_said(cache: Path) -> None:
    index = json.loads((cache / "index.json").read_text())
    (cache / "index.json").write_text(json.dumps({**index, digest("not yet"): 3}))
    with pytest.warns(UserWarning, match="1 of 4 items of .* are zero, not yet written, and left out"):
        assert len(xg.load_features(cache, space="text")) == 3


def cut(cache: Path) -> None:
    (cache / "vectors.npy").write_bytes((cache / "vectors.npy").read_bytes()[:-3])


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (cut, "157 bytes, which are not whole rows of 4 numbers"),
        (lambda c: (c / "dimension").write_text("many"), "'many', not a number of dimensions"),
        (lambda c: (c / "dimension").unlink(), "without its file dimension"),
        (lambda c: (c / "vectors.npy").unlink(), "without its file vectors.npy"),
        (lambda c: (c / "index.json").write_text("[1, 2"), "index.json is not a JSON object"),
        (lambda c: (c / "index.json").write_text("[1, 2]"), "index.json is not a JSON object"),
        *(
            (lambda c, row=row: (c / "index.json").write_text(f'{{"x": {row}}}'), "index.json is not a JSON object")
            for row in ("Infinity", "1.7", "true", "[" * 100_000)
        ),
        (lambda c: (c / "index.json").write_text("{}"), "index.json names no item"),
        (lambda c: (c / "index.json").write_text('{"x": 10}'), "names row 10, and vectors.npy has 10"),
    ],
)
def test_a_damaged_cache_is_one_sentence(cache: Path, damage: Callable[[Path], object], sentence: str) -> None:
    damage(cache)
    with pytest.raises(XgapError, match=sentence) as raised:
        xg.load_features(cache, space="text")
    assert "\n" not in str(raised.value)


def test_the_folder_above_and_the_file_inside_name_the_cache(cache: Path) -> None:
    with pytest.raises(XgapError, match=r"name .*NanoArguAnaRetrieval"):
        xg.load_features(cache.parent, space="text")
    with pytest.raises(XgapError, match=r"belongs to a cache of MTEB, which is a folder; name .*NanoArguAnaRetrieval"):
        xg.load_features(cache / "vectors.npy", space="text")
    with pytest.raises(XgapError, match="does not say which space"):
        xg.load_features(cache)


@pytest.mark.parametrize(
    "held",
    [
        torch.from_numpy(VECTORS),
        torch.from_numpy(VECTORS).bfloat16().float(),
        list(torch.from_numpy(VECTORS)),  # of `encode` without conversion
        {"vectors": torch.from_numpy(VECTORS)},
    ],
)
def test_tensors_of_sentence_transformers(tmp_path: Path, held: object) -> None:
    torch.save(held, tmp_path / "e.pt")
    features = xg.load_features(tmp_path / "e.pt", space="text")
    np.testing.assert_allclose(np.asarray(features), unit(VECTORS), atol=1e-2)
    assert features.numbered


def test_tensors_with_ids_and_under_another_name(tmp_path: Path) -> None:
    torch.save({"embeddings": torch.from_numpy(VECTORS), "ids": TEXTS}, tmp_path / "e.pt")
    features = xg.load_features(tmp_path / "e.pt", space="text", key="embeddings")
    assert (features.ids, features.numbered) == (tuple(TEXTS), False)
    with pytest.raises(XgapError, match="no tensor 'vectors', but: embeddings, ids"):
        xg.load_features(tmp_path / "e.pt", space="text")


@pytest.mark.parametrize("ids", [(7, 8, 9), torch.tensor([7, 8, 9])])
def test_ids_of_torch_may_be_a_tuple_or_a_tensor(tmp_path: Path, ids: object) -> None:
    torch.save({"vectors": torch.from_numpy(VECTORS), "ids": ids}, tmp_path / "e.pt")
    assert xg.load_features(tmp_path / "e.pt", space="text").ids == ("7", "8", "9")


def test_a_sparse_tensor_is_one_sentence(tmp_path: Path) -> None:
    torch.save(torch.eye(3).to_sparse(), tmp_path / "e.pt")
    with pytest.raises(XgapError, match="sparse or quantised"):
        xg.load_features(tmp_path / "e.pt", space="text")


@pytest.mark.filterwarnings("ignore")
def test_no_damaged_byte_of_torch_is_a_traceback(tmp_path: Path) -> None:
    """The older format of torch is one pickle behind another, and fails in the ways of pickles."""
    torch.save({"vectors": torch.eye(3)}, tmp_path / "e.pt", _use_new_zipfile_serialization=False)
    whole, random = (tmp_path / "e.pt").read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        wrong = bytearray(whole)
        for place in random.integers(len(wrong), size=3):
            wrong[place] = random.integers(256)
        (tmp_path / "wrong.pt").write_bytes(bytes(wrong))
        try:
            xg.load_features(tmp_path / "wrong.pt", space="text")
        except XgapError:
            refused += 1
    assert refused > 50


def test_a_damaged_file_of_torch_is_one_sentence(tmp_path: Path) -> None:
    torch.save(torch.from_numpy(VECTORS), tmp_path / "e.pt")
    whole = (tmp_path / "e.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    torch.save({"vectors": Path("x")}, tmp_path / "object.pt")
    torch.save([torch.zeros(3), torch.zeros(4)], tmp_path / "ragged.pt")
    (tmp_path / "text.pt").write_text("no tensor")
    for name, sentence in {
        "cut": "not a complete file of torch.save",
        "object": "something else than tensors, which is never read",
        "ragged": "vectors",
        "text": "something else than tensors",
    }.items():
        with pytest.raises(XgapError, match=sentence) as raised:
            xg.load_features(tmp_path / f"{name}.pt", space="text")
        assert "\n" not in str(raised.value)
    with pytest.raises(XgapError, match=r"features are kept in .npz, .parquet, .safetensors, .npy files"):
        xg.save_features(VECTORS, tmp_path / "out.pt", space="text")


def test_bytes_may_be_packed_bits_and_that_is_said(tmp_path: Path) -> None:
    packed = np.packbits(VECTORS > 0, axis=1)  # precision="ubinary"
    np.save(tmp_path / "e.npy", packed + 1)
    with pytest.warns(UserWarning, match=r"type uint8 and are read as numbers; packed bits .* must be unpacked first"):
        xg.load_features(tmp_path / "e.npy", space="text")
