"""Own data and own vectors from the command line: one command from the files to the table."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import xgap_analysis as xg
from xgap_analysis import cli
from xgap_analysis.datasets import load_dataset
from xgap_analysis.experiments.tables import main_rows


@pytest.fixture
def xgap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The command in this process, in an empty folder: exit code, output and notes as one text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XGAP_DEBUG", raising=False)

    def run(*args: str) -> str:
        capsys.readouterr()
        code = cli.main(args)
        said = capsys.readouterr()
        return f"{code}\n{said.out}\n{said.err}"

    return run


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Two classes of ordinary pictures, as cameras, phones and web pages write them; one is cut off."""
    turned = Image.Exif()
    turned[0x0112] = 6
    data = load_dataset("emoji").split("val").limit(2)
    root = tmp_path / "photographs"
    for label in sorted(set(data.labels_of().values())):
        folder = root / f"kind_{label}"
        folder.mkdir(parents=True)
        drawn = [data.images[k] for k, i in enumerate(data.images.ids) if data.labels_of()[i] == label]
        drawings = [image.resize((90, 70)) for image in drawn]
        first, last = drawings[0], drawings[-1]
        first.save(folder / "camera.jpg")
        first.save(folder / "page.webp")
        last.convert("L").save(folder / "gray.jpg")
        last.convert("CMYK").save(folder / "print.jpg")
        last.convert("RGBA").save(folder / "layer.png")
        last.rotate(90, expand=True).save(folder / "phone.jpg", exif=turned)
    held = io.BytesIO()
    first.save(held, "JPEG")
    (folder / "cut.jpg").write_bytes(held.getvalue()[: len(held.getvalue()) // 2])
    return root


@pytest.mark.filterwarnings("always:.*unreadable images")
def test_a_folder_of_ordinary_photographs(xgap: Callable[..., str], photographs: Path) -> None:
    command = [
        "study",
        "--models",
        "tiny",
        "--datasets",
        str(photographs),
        "--comparisons",
        "I-I",
        "OTI-I",
        "zero-shot",
    ]
    command += ["--steps", "5", "--out", "made.parquet"]
    said = xgap(*command)
    cut = next(photographs.rglob("cut.jpg")).relative_to(photographs).as_posix()
    assert said.startswith("2\n")
    assert f"image '{cut}' cannot be read" in said
    assert not Path("made.parquet").exists()
    said = xgap(*command, "--on-error", "skip")
    assert said.startswith("0\n")
    assert f"1 unreadable images were skipped, the first is '{cut}'" in said
    table = main_rows(pd.read_parquet("made.parquet"))
    assert table["comparison"].tolist() == ["I-I", "OTI-I", "zero-shot"]
    assert table["n_queries"].tolist() == [12, 12, 12]
    assert table["note"].eq("").all()
    assert table.loc[0, "value"] > 0.5  # of each picture, four others show the same drawing
    # The phone's picture lies on its side in the file; upright it is the picture beside it.
    data = load_dataset(str(photographs))
    of = dict(zip(data.images.ids, range(len(data.images)), strict=True))
    folder = cut.split("/")[0]
    phone, layer = (np.asarray(data.images[of[f"{folder}/{n}"]], float) for n in ("phone.jpg", "layer.png"))
    assert phone.shape == layer.shape
    assert abs(phone - layer).mean() < 8


def test_two_files_of_vectors(xgap: Callable[..., str]) -> None:
    draw = np.random.default_rng(0)
    kinds = np.repeat(np.arange(8), 6)
    centre = draw.normal(size=(8, 12))
    for name in ("audio", "video"):
        np.save(f"{name}.npy", centre[kinds] + draw.normal(size=(48, 12)))
    Path("labels.csv").write_text(
        "label,split\n" + "".join(f"{k},{'train' if i % 2 else 'test'}\n" for i, k in enumerate(kinds))
    )
    said = xgap(
        "study", "--features", "audio.npy", "video.npy", "--labels", "labels.csv", "--corrections", "none", "center"
    )
    assert said.startswith("0\n")
    assert "modality_gap" in said
    assert "misalignment_audio" in said
    table = main_rows(pd.read_parquet("results/study.parquet"))
    assert set(table["comparison"]) == {"audio-audio", "video-video", "audio-video", "video-audio"}
    assert set(table["dataset"]) == {"audio+video"}
    assert set(table["split"]) == {"test"}
    assert table["value"].between(0.3, 1).all()
    assert "leave --table, --models, --datasets out" in xgap(
        "study", "--features", "a.npy", "b.npy", "--models", "tiny"
    )
    without = xgap("study", "--features", "audio.npy", "video.npy")
    assert "misalignment" not in without
    assert "modality_gap" in without
    assert "two files or more, one for each modality; one alone is given" in xgap("study", "--features", "audio.npy")
    assert "2 files of features have 2 spaces, or none, not 1" in xgap(
        "study", "--features", "audio.npy", "video.npy", "--spaces", "audio"
    )
    assert "there is no file a.npy" in xgap("study", "--features", "a.npy", "b.npy")
    assert "--labels, --spaces and --keys belong to --features" in xgap("study", "--labels", "labels.csv")


def test_three_files_of_vectors_have_a_gap_for_each_pair(xgap: Callable[..., str]) -> None:
    draw = np.random.default_rng(0)
    shared = draw.normal(size=(30, 8))
    for place, name in enumerate(("image", "text", "audio")):
        np.save(f"{name}.npy", shared + draw.normal(size=(30, 8)) + place)
    files = ["image.npy", "text.npy", "audio.npy"]
    said = xgap("gaps", "--features", *files, "--out", "gaps.parquet")
    assert said.startswith("0\n")
    for shown in ("image-text", "text-audio", "rank correlation of each measure with ap"):
        assert shown in said
    table = pd.read_parquet("gaps.parquet").set_index(["x", "y", "measure"])
    row = table.loc[("image", "audio", "modality_gap")]
    assert row["value"] == pytest.approx(xg.metrics.modality_gap(np.load("image.npy"), np.load("audio.npy")))
    assert f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" in said
    assert "image-audio" in xgap("study", "--features", *files, "--comparisons", "I-T")
    assert "rank correlation" not in xgap("gaps", "--features", *files[:2])
    assert "--labels, --spaces and --keys belong to --features" in xgap("gaps", "--labels", "labels.csv")
    assert "leave --label-set, --limit out" in xgap("gaps", "--features", *files, "--label-set", "x", "--limit", "5")
    assert "every row is written as .parquet or .csv" in xgap("gaps", "--out", "gaps.md")
    assert "gaps.parquet exists" in xgap("gaps", "--features", *files, "--out", "gaps.parquet")


def test_vectors_in_a_column_of_another_name(xgap: Callable[..., str]) -> None:
    table = pa.table({"id": ["0", "1", "2"], "embedding": np.eye(3).tolist()})
    pq.write_table(table, "e.parquet")
    np.save("y.npy", np.eye(3))
    said = xgap("study", "--features", "e.parquet", "y.npy")
    assert said.startswith("2\n")
    assert "no column 'vector', but: embedding, id" in said
    assert "--keys in xgap study" in said
    for keys in (["embedding"], ["embedding", "any"]):  # a .npy file has no names
        assert xgap("study", "--features", "e.parquet", "y.npy", "--keys", *keys).startswith("0\n")
    table = table.rename_columns(["id", "emb"])
    pq.write_table(table, "f.parquet")
    assert xgap("study", "--features", "e.parquet", "f.parquet", "--keys", "embedding", "emb").startswith("0\n")
    assert "2 files have one key or 2, not 3" in xgap(
        "study", "--features", "e.parquet", "f.parquet", "--keys", "a", "b", "c"
    )


def test_two_files_of_rows_that_are_not_equally_many(xgap: Callable[..., str]) -> None:
    draw = np.random.default_rng(0)
    for name, n in (("a", 30), ("b", 29)):
        np.save(f"{name}.npy", draw.normal(size=(n, 8)))
    said = xgap("study", "--features", "a.npy", "b.npy")
    assert said.startswith("2\n")
    assert "a has 30 rows and b 29, and rows without ids are paired by their number" in said


def test_a_named_table(xgap: Callable[..., str], photographs: Path) -> None:
    next(photographs.rglob("cut.jpg")).unlink()
    said = xgap(
        "study", "--table", "slip", "--models", "tiny-untrained", "--datasets", str(photographs), "--steps", "2"
    )
    assert said.startswith("0\n")
    written = pd.read_parquet("results/study.parquet")
    assert main_rows(written)["comparison"].tolist() == ["I-I", "OTI-I"]
    assert written["published"].isna().all()
    assert "source" not in said  # an empty column of figures is not printed


def test_doctor_compares_two_files(xgap: Callable[..., str]) -> None:
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(20, 6)).astype(np.float32)
    np.save("a.npy", vectors)
    np.save("b.npy", (2 * vectors).astype(np.float16))
    said = xgap("doctor", "--compare", "a.npy", "b.npy")
    assert said.startswith("0\n")
    assert "same up to scale: b is 2 times a" in said
    assert "10 nearest neighbours in common" in said
    np.save("c.npy", vectors + draw.normal(size=(20, 6)))
    assert xgap("doctor", "--compare", "a.npy", "c.npy").startswith("1\n")
    np.savez("d.npz", emb=vectors[::-1], ids=[f"i{k}" for k in range(19, -1, -1)])
    np.savez("e.npz", vectors=vectors, ids=[f"i{k}" for k in range(20)])
    said = xgap("doctor", "--compare", "d.npz", "e.npz", "--keys", "emb", "vectors", "--json")
    assert said.startswith("0\n")
    assert '"same vectors"' in said
    np.save("wide.npy", np.pad(vectors, ((0, 0), (0, 2))))
    said = xgap("doctor", "--compare", "a.npy", "wide.npy")
    assert "same up to rotation: a has 6 dimensions and b 8" in said
    assert "cosine of a row" not in said
    assert "--compare names two files" in xgap("doctor", "--compare", "a.npy")
    assert "there is no file nothing.npy" in xgap("doctor", "--compare", "a.npy", "nothing.npy")
    assert "--keys belongs to --compare" in xgap("doctor", "--keys", "emb")
