"""Region features and captions in the published layout: one row per image, or one per caption."""

from pathlib import Path

import numpy as np
import pytest

import xgap_analysis as xg
from xgap_analysis.datasets.published.regions import load_regions
from xgap_analysis.metrics import caption_protocol


def written(folder: Path, n: int = 3, *, repeated: bool = False, boxes: bool = True) -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(n, 4, 6)).astype(np.float32)
    rows[1, 2:] = 0  # an image with fewer regions
    again = np.repeat(rows, 5, axis=0) if repeated else rows
    np.save(folder / "test_ims.npy", again)
    if boxes:
        own = np.arange(n * 16).reshape(n, 4, 4)
        np.save(folder / "test_boxes.npy", np.repeat(own, 5, axis=0) if repeated else own)
    (folder / "test_caps.txt").write_text("".join(f"caption {k} of {i}\n" for i in range(n) for k in range(5)))
    return rows


@pytest.mark.parametrize("repeated", [False, True])
def test_regions_captions_and_boxes_are_read(tmp_path: Path, repeated: bool) -> None:
    rows = written(tmp_path, repeated=repeated)
    found = load_regions(tmp_path)
    assert found.images.lengths.tolist() == [4, 2, 4]
    flat = np.concatenate([rows[0], rows[1, :2], rows[2]])
    norms = np.linalg.norm(flat, axis=1)
    np.testing.assert_allclose(found.images.norms, norms, rtol=1e-6)
    np.testing.assert_allclose(found.images.vectors.numpy() * norms[:, None], flat, rtol=1e-4, atol=1e-6)
    assert (len(found.texts), found.texts.ids[6], found.texts[6]) == (15, "image-1#1", "caption 1 of 1")
    assert found.boxes is not None
    assert found.boxes[:, 0].tolist() == [0, 4, 8, 12, 16, 20, 32, 36, 40, 44]


def test_the_protocol_and_scan_run_on_them(tmp_path: Path) -> None:
    rows = written(tmp_path, boxes=False)
    found = load_regions(tmp_path)
    assert found.boxes is None
    sets = [rows[k // 5][:2] for k in range(15)]  # the words of a caption are two regions of its image
    words = xg.TokenFeatures.from_sets(sets, found.texts.ids, "text", "text")
    table = caption_protocol(found.images, words, found.relevance, scorer="pooled(weights=scan(20), outer=lme(6))")
    assert (table["rsum"].item(), table["n_texts"].item()) == (600, 15)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "test_ims.npy").unlink(), "there is no file"),
        (lambda f: (f / "test_caps.txt").unlink(), "cannot be read"),
        (lambda f: (f / "test_ims.npy").write_bytes(b"\x93NUMPY nothing"), "is damaged"),
        (lambda f: np.save(f / "test_ims.npy", np.array([{}]), allow_pickle=True), "is damaged"),
        (lambda f: np.save(f / "test_ims.npy", np.ones((3, 4))), r"must be \[images, regions, d\]"),
        (lambda f: np.save(f / "test_boxes.npy", np.ones((3, 4))), r"must be \[3, 4, 4\], not \[3, 4\]"),
        (lambda f: (f / "test_caps.txt").write_text("one\n" * 14), "3 rows and test_caps.txt 14 captions"),
        (lambda f: np.save(f / "test_ims.npy", np.zeros((3, 4, 6))), "image 0 of .* has no region"),
    ],
)
def test_a_damaged_folder_is_one_sentence(tmp_path: Path, damage, message: str) -> None:
    written(tmp_path)
    damage(tmp_path)
    with pytest.raises(xg.XgapError, match=message):
        load_regions(tmp_path)


def test_no_captions_an_image_are_refused(tmp_path: Path) -> None:
    written(tmp_path)
    with pytest.raises(xg.XgapError, match="there are 0 captions an image"):
        load_regions(tmp_path, captions=0)


def test_repeated_rows_that_differ_are_refused(tmp_path: Path) -> None:
    written(tmp_path, repeated=True, boxes=False)
    rows = np.load(tmp_path / "test_ims.npy")
    rows[7] += 1
    np.save(tmp_path / "test_ims.npy", rows)
    with pytest.raises(xg.XgapError, match="repeats each image 5 times, but those rows of image 1 differ"):
        load_regions(tmp_path)
