"""Features that stay on disk: the same rows and numbers as in memory, and never all of them at once."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import xgap_analysis as xg
from xgap_analysis import metrics
from xgap_analysis.core import mapped
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features, as_features
from xgap_analysis.core.mapped import MappedFeatures
from xgap_analysis.metrics import ranks
from xgap_analysis.scoring import blocks

N, DIM = 1300, 24


@pytest.fixture(params=["npy", "half", "shards", "safetensors"])
def source(request, tmp_path, monkeypatch):
    """A file or a folder, and its rows."""
    monkeypatch.setattr(mapped, "ROWS", 100)
    rows = np.random.default_rng(0).normal(size=(N, DIM)) * np.linspace(0.5, 2, N)[:, None]
    rows[7] = rows[3]
    rows = rows.astype(np.float16 if request.param == "half" else np.float32)
    if request.param in ("npy", "half"):
        np.save(tmp_path / "all.npy", rows)
        return tmp_path / "all.npy", rows
    folder = tmp_path / "shards"
    folder.mkdir()
    (folder / "notes.txt").write_text("no shard")
    for i, part in enumerate(np.split(rows, [100, 350, 360, 360])):  # 10 comes after 9; one shard is empty
        if request.param == "shards":
            np.save(folder / f"part_{i + 8}.npy", part)
        else:
            save_file(
                {"vectors": torch.from_numpy(part), "ids": torch.arange(len(part))}, folder / f"{i + 8}.safetensors"
            )
    return folder, rows


def test_rows_are_those_of_features_in_memory_bit_for_bit(source):
    path, rows = source
    features, held = xg.open_features(path, space="image"), as_features(rows, space="image")
    assert (len(features), features.dim, features.ids, features.items) == (N, DIM, held.ids, held.items)
    assert torch.equal(features.vectors, held.vectors)
    assert torch.equal(features.block(95, 370), held.vectors[95:370])
    index = torch.tensor([1299, 0, 355, 99, 100, 0])
    assert torch.equal(features.rows(index), held.vectors[index])
    assert features.has_items_of(held)
    picked = features.select(["5", "1200", "360"])
    assert isinstance(picked, MappedFeatures)
    assert torch.equal(picked.block(1, 3), held.vectors[[1200, 360]])
    assert torch.equal(picked.select(["360", "5"]).rows(torch.tensor([1])), held.vectors[[5]])
    assert torch.equal(replace(features, ids=[f"i{i}" for i in range(N)]).block(3, 9), held.vectors[3:9])
    assert torch.equal(features.to("cpu").vectors, held.vectors)
    assert features.numbered
    assert not picked.numbered


class Whole(Exception):
    """All vectors were read at once."""


@pytest.fixture
def never_whole(monkeypatch):
    """Refuses a read of more than 400 rows; chunks are small."""
    block = MappedFeatures.block

    def some(self, start, stop):
        if stop - start > 400:
            raise Whole
        return block(self, start, stop)

    monkeypatch.setattr(MappedFeatures, "block", some)
    monkeypatch.setattr(ranks, "BUDGET", 8 * 512 * 300)
    monkeypatch.setattr(blocks, "CHUNK", 256)
    monkeypatch.setattr(metrics.spread, "ROWS", 1200)
    monkeypatch.setattr(metrics.spread, "COLUMNS", 300)


@pytest.mark.parametrize("source", ["half", "safetensors"], indirect=True)
@pytest.mark.parametrize(("labels", "itself"), [(2, True), (130, False)])
def test_metrics_read_blocks_and_give_the_same_numbers(source, labels, itself, never_whole):
    path, rows = source
    features, held = xg.open_features(path, space="image"), as_features(rows, space="image")
    gallery = [i % labels for i in range(N)]
    query = held.select(held.ids[:50]) if itself else as_features(rows[:50] + 1, space="image")
    relevance = xg.Relevance.from_labels([i % labels for i in range(50)], gallery)
    for measure in (xg.retrieval, xg.misalignment, metrics.cutoffs):
        assert measure(query, features, relevance).equals(measure(query, held, relevance))
    assert xg.retrieval(query, features, relevance, block=9).equals(xg.retrieval(query, held, relevance))
    pooled = metrics.pooled_misalignment
    assert pooled(query, features, relevance) == pooled(query, held, relevance)
    assert torch.equal(metrics.k_occurrence(query, features, 5), metrics.k_occurrence(query, held, 5))


@pytest.mark.parametrize("source", ["half", "shards"], indirect=True)
def test_the_gap_reads_blocks_and_gives_the_same_numbers(source, never_whole):
    path, rows = source
    features, held = xg.open_features(path, space="image"), as_features(rows, space="image")
    other = as_features(rows[:, ::-1].copy(), space="text")
    both = xg.open_features(np.ascontiguousarray(rows[:, ::-1]), space="text")
    for measure in (metrics.modality_gap, metrics.relative_modality_gap, metrics.alignment, metrics.cross_cosine):
        assert measure(features, both) == pytest.approx(measure(held, other), rel=1e-12)
    assert metrics.uniformity(features, block=99) == pytest.approx(metrics.uniformity(held), rel=1e-9)
    for measure in (metrics.cone, metrics.effective_rank):
        assert measure(features) == pytest.approx(measure(held), rel=1e-9)


def test_an_array_of_a_file_stays_there(tmp_path, never_whole):
    rows = np.random.default_rng(0).normal(size=(N, DIM)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    there = np.load(tmp_path / "rows.npy", mmap_mode="r")
    labels = [i % 20 for i in range(N)]
    found = xg.retrieval(rows[:40], there, (labels[:40], labels))
    assert found.equals(xg.retrieval(rows[:40], rows, (labels[:40], labels)))
    assert isinstance(as_features(there), MappedFeatures)
    # The same content is the same set of items: no query finds itself.
    assert as_features(there).has_items_of(as_features(rows))


def test_users_mistakes(tmp_path):
    with pytest.raises(XgapError, match="there is no file"):
        xg.open_features(tmp_path / "none.npy")
    with pytest.raises(XgapError, match="holds no shards"):
        xg.open_features(tmp_path)
    (tmp_path / "x.parquet").write_text("")
    with pytest.raises(XgapError, match=r"save its vectors as \.npy"):
        xg.open_features(tmp_path / "x.parquet")
    np.save(tmp_path / "words.npy", np.array([["a"]]))
    with pytest.raises(XgapError, match="must hold numbers"):
        xg.open_features(tmp_path / "words.npy")
    (tmp_path / "broken.npy").write_text("?")
    with pytest.raises(XgapError, match="cannot be read as a matrix"):
        xg.open_features(tmp_path / "broken.npy")
    (tmp_path / "broken.safetensors").write_text("?")
    with pytest.raises(XgapError, match="cannot be read as safetensors"):
        xg.open_features(tmp_path / "broken.safetensors")
    save_file({"a": torch.eye(2), "b": torch.eye(2)}, tmp_path / "two.safetensors")
    with pytest.raises(XgapError, match="must hold one matrix"):
        xg.open_features(tmp_path / "two.safetensors")
    with pytest.raises(XgapError, match="as many dimensions"):
        xg.open_features([np.eye(2), np.eye(3)])
    with pytest.raises(XgapError, match="'1' is zero"):
        xg.open_features(np.array([[1.0, 0.0], [0.0, 0.0]]))
    with pytest.raises(XgapError, match="'b' holds a NaN"):
        xg.open_features(np.array([[1.0, 0.0], [np.nan, 0.0]]), ids=["a", "b"])
    with pytest.raises(XgapError, match="2 ids were given for 3"):
        xg.open_features(np.eye(3), ids=["a", "b"])
    with pytest.raises(XgapError, match="1 ids have no vector"):
        xg.open_features(np.eye(3)).select(["x"])
    with pytest.raises(XgapError, match="'0' stands for more than one vector"):
        xg.open_features(np.eye(3)).select(["0", "0"])
    for wrong in (5, pd.DataFrame(np.eye(3))):
        with pytest.raises(XgapError, match="a file, a folder of shards or an array"):
            xg.open_features(wrong)
    for kind in (torch.complex64, torch.bool):
        with pytest.raises(XgapError, match="must be real numbers"):
            xg.open_features(torch.eye(3).to(kind))


TYPES = ["f8", ">f4", ">f8", "f2", "i8", "u2", "longdouble"]


@pytest.mark.parametrize("kind", [*TYPES, torch.float64, torch.int64, torch.bfloat16])
def test_every_type_of_numbers_is_read_as_in_memory(kind, tmp_path):
    rows = np.random.default_rng(0).normal(size=(40, 6)) * (1e3 if kind == "f2" else 1e9)  # above 2^24
    if isinstance(kind, str):
        held = rows.astype(kind) if kind[0] != "u" else (np.abs(rows) % 1000).astype(kind)
        np.save(tmp_path / "rows.npy", held)
        features = xg.open_features(tmp_path / "rows.npy")
    else:
        held = torch.from_numpy(rows).to(kind)
        save_file({"vectors": held}, tmp_path / "rows.safetensors")
        features = xg.open_features(tmp_path / "rows.safetensors")
        assert torch.equal(xg.open_features(held.float().requires_grad_()).vectors, as_features(held.float()).vectors)
        assert torch.equal(xg.open_features(held).vectors, as_features(held).vectors)
    expected = as_features(held)
    assert torch.equal(features.vectors, expected.vectors)
    assert torch.equal(features.rows(torch.tensor([39, 0, 7])), expected.vectors[[39, 0, 7]])
    assert features.items == expected.items


@pytest.mark.parametrize("kind", ["npy", "safetensors"])
def test_a_file_that_was_written_to_is_refused_and_one_in_its_place_is_not_read(kind, tmp_path):
    path, rows = tmp_path / f"rows.{kind}", np.random.default_rng(0).normal(size=(40, 6))
    write = np.save if kind == "npy" else lambda to, of: save_file({"vectors": torch.from_numpy(of)}, to)
    write(path, rows)
    features = xg.open_features(path)
    write(tmp_path / f"new.{kind}", rows[::-1].copy())
    (tmp_path / f"new.{kind}").replace(path)
    assert torch.equal(features.vectors, as_features(rows).vectors)
    features = xg.open_features(path)
    held = path.read_bytes()
    with path.open("r+b") as file:
        file.write(held[:-48])
        file.truncate()
    for read in (lambda: features.vectors, lambda: features.rows(torch.tensor([3]))):
        with pytest.raises(XgapError, match="has changed since it was opened; open it again"):
            read()


def test_ids_are_text_and_numbers_are_no_names_as_in_memory():
    for ids in ([7.0, 8.0, 9], [b"a", b"b", b"c"], ["0", "1", "2"], None):
        for items in ("", "a set"):
            of = {} if ids is None else {"ids": ids}
            features = xg.open_features(np.eye(3), space="image", items=items, **of)
            known = ["0", "1", "2"] if ids is None else ids
            held = Features(np.eye(3), known, "image", "image", items=items or features.items)
            assert features.ids == held.ids
            assert features.numbered == held.numbered
            for some in (held.ids[:2], held.ids[1:]):
                assert features.select(some).numbered == held.select(some).numbered


def test_features_on_disk_are_features():
    features = xg.open_features(np.eye(3), space="image", ids=["a", "b", "c"])
    assert isinstance(features, Features)
    assert repr(features) == "MappedFeatures([3, 3], space='image', origin='image', on disk)"
    assert str(features) == str(Features(np.eye(3), ["a", "b", "c"], "image", "image"))
    assert np.asarray(features).shape == (3, 3)
