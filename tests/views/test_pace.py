"""Batches and readers: faster or slower, and never other features."""

import dataclasses
import io
import itertools
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.progress import watched
from xgap_analysis.datasets.items import Images
from xgap_analysis.datasets.reading import readers
from xgap_analysis.datasets.reading.opened import opened
from xgap_analysis.datasets.stored import image_files
from xgap_analysis.models import Model
from xgap_analysis.models.memory import MOST, Fitting, batch_that_fits
from xgap_analysis.store import Store
from xgap_analysis.views import waiting
from xgap_analysis.views.encode import encode
from xgap_analysis.views.inversion.invert import invert
from xgap_analysis.views.pace import Pace, paced

CPU = torch.device("cpu")


class Counted:
    """A tower that counts its batches, and has memory for `most` items."""

    def __init__(self, tower: Any, most: int = 10**6) -> None:
        self._tower, self._most, self.batches = tower, most, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tower, name)

    def encode(self, batch: Tensor, project: bool = True) -> Tensor:
        if len(batch) > self._most:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 3 GiB")
        self.batches.append(len(batch))
        return self._tower.encode(batch, project=project)


def counting(model: Model, most: int = 10**6) -> Model:
    made = dataclasses.replace(model, towers={m: Counted(tower, most) for m, tower in model.towers.items()})
    assert made.fingerprint
    made.image.batches.clear()
    made.text.batches.clear()
    return made


@pytest.fixture
def files(tmp_path: Path) -> Images:
    for i in range(30):
        noise = np.random.default_rng(i).integers(0, 256, (20 + i, 30, 3), dtype=np.uint8)
        exif = Image.Exif()
        exif[0x0112] = 1 + i % 8
        Image.fromarray(noise).save(tmp_path / f"{i}.jpg", exif=exif)
    (tmp_path / "7.jpg").write_bytes((tmp_path / "7.jpg").read_bytes()[:400])
    return image_files(tmp_path, {f"image-{i}": f"{i}.jpg" for i in range(30)})


@pytest.mark.slow
def test_processes_give_the_features_of_threads(model: Model, files: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "PATIENCE", 120.0)
    made = {}
    for n in (0, 2):
        with pytest.warns(UserWarning, match="^1 unreadable images were skipped, the first is 'image-7'"):
            made[n] = encode(model, files, on_error="skip", num_workers=n, batch_size=8, store=None, progress=False)
    assert made[0].ids == made[2].ids == tuple(i for i in files.ids if i != "image-7")
    assert torch.equal(made[0].vectors, made[2].vectors)
    assert made[0].provenance == made[2].provenance


@pytest.mark.parametrize("modality", ["image", "text"])
def test_a_batch_size_changes_features_by_rounding_only_and_is_no_part_of_a_key(
    model: Model, files: Images, modality: str, xgap_home: Path
) -> None:
    counted = counting(model)
    images = files.select(i for i in files.ids if i != "image-7")
    items: Any = images if modality == "image" else [f"caption {i} of some words" for i in range(29)]
    batches = counted.tower(modality).batches
    whole = encode(counted, items, progress=False)
    (n,) = batches  # two of the captions may be one by their tokens
    for size in (1, 7):
        batches.clear()
        made = encode(counted, items, batch_size=size, store=None, progress=False)
        assert batches == [size] * (n // size) + [n % size] * bool(n % size)
        assert float((made.vectors - whole.vectors).abs().max()) < 1e-5
    batches.clear()
    again = encode(counted, items, batch_size=3, num_workers=1, progress=False)
    assert batches == []  # of the store
    assert torch.equal(again.vectors, whole.vectors)
    assert len(Store(xgap_home).entries()) == 1


def test_a_batch_that_does_not_fit_goes_in_halves_with_one_warning(model: Model, files: Images) -> None:
    images = files.select(i for i in files.ids if i != "image-7")
    expected = encode(model, images, store=None, progress=False)
    tight = counting(model, most=5)
    with pytest.warns(UserWarning, match=r"^a batch of 16 items does not fit the memory of cpu; 8 at a time") as said:
        made = encode(tight, images, batch_size=16, store=None, progress=False)
    assert [str(w.message)[:16] for w in said] == ["a batch of 16 it", "a batch of 8 ite"]
    assert tight.image.batches == [4, 4, 4, 4, 4, 4, 4, 1]  # and no later batch is tried whole
    assert float((made.vectors - expected.vectors).abs().max()) < 1e-5
    none = counting(model, most=10**6)
    none.image._most = 0
    message = "one item does not fit the memory of cpu .CUDA out of memory.*batch_size"
    with pytest.warns(UserWarning, match="does not fit"), pytest.raises(XgapError, match=message):
        encode(none, images, store=None, progress=False)


def test_what_is_no_tensor_cannot_be_halved() -> None:
    def through(batch: Any, n: int) -> Tensor:
        raise torch.OutOfMemoryError("out")

    with pytest.raises(XgapError, match="a batch of 3 items does not fit the memory of cpu"):
        Fitting().run(through, [1, 2, 3], 3, CPU)


def test_the_batch_of_a_gpu_follows_from_free_memory() -> None:
    class Tower:
        length, width = 50, 768

    item = 64 * 50 * 768
    sizes = [batch_that_fits(Tower(), CPU, free) for free in (0, 2 * item, 7 * item, 8 * item, 300 * item, 10**12)]
    assert sizes == [1, 1, 2, 4, 128, MOST]
    assert batch_that_fits(Tower(), CPU) is None
    assert batch_that_fits(object(), CPU, 10**12) is None


def test_a_study_sets_the_pace_of_all_that_it_encodes(model: Model) -> None:
    @xg.register_view("plain-plugin", modality="image")
    def plain(of: Any, items: Any) -> Any:
        """Image features, without a word of batches."""
        return encode(of, items, store=None, progress=False)

    data = xg.load_dataset("emoji").split("val").limit(3)
    counted = counting(model)
    study = xg.Study([counted], [data], [("plain-plugin", "plain-plugin")], batch_size=5, num_workers=0, progress=False)
    assert "batch_size=5" in repr(study)
    study.run()
    assert max(counted.image.batches) == 5
    for wrong in ({"batch_size": 0}, {"num_workers": -1}):
        with pytest.raises(XgapError, match=f"{next(iter(wrong))} is a number of"):
            xg.Study(["tiny"], ["emoji"], **wrong)
        with pytest.raises(XgapError, match=f"{next(iter(wrong))} is a number of"):
            encode(model, ["a cat"], **wrong)


def test_what_is_given_stands_before_the_pace() -> None:
    assert Pace().filled() == Pace()
    with paced(Pace(8, 2)):
        assert Pace().filled() == Pace(8, 2)
        assert Pace(3, 0).filled() == Pace(3, 0)
        with paced(Pace(num_workers=1)):
            assert Pace().filled() == Pace(8, 1)
    assert Pace().filled() == Pace()


def test_one_word_of_precision_is_for_model_and_inversion(model: Model) -> None:
    rough = xg.load_model("tiny-untrained", device="cpu", precision="bf16")
    images = xg.load_dataset("emoji").split("val").limit(1).images
    native = encode(rough, images, store=None, progress=False)
    assert native.provenance["precision"] == "bf16"
    made = invert(rough, native, steps=1, store=None, progress=False).features
    assert (made.provenance["precision"], made.provenance["loop_precision"]) == ("bf16", "bf16")
    with pytest.raises(XgapError, match="computes in bf16, and the passes of its inversion with it: leave precision"):
        invert(rough, native, steps=1, precision="fp32", store=None, progress=False)


# A fast decoder


def photographs(folder: Path, n: int) -> Images:
    """Noise whose spectrum falls like that of photographs, as JPEGs of 400 x 300."""
    rng = np.random.default_rng(0)
    falls = np.sqrt(np.fft.fftfreq(300)[:, None] ** 2 + np.fft.rfftfreq(400) ** 2)
    falls[0, 0] = 1
    for i in range(n):
        noise = rng.standard_normal((3, *falls.shape)) + 1j * rng.standard_normal((3, *falls.shape))
        waves = np.fft.irfft2(noise / falls, s=(300, 400))
        pixels = (waves / waves.std() * 50 + 128).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels.transpose(1, 2, 0)).save(folder / f"{i}.jpg", quality=90)
    return image_files(folder, {f"photograph-{i}": f"{i}.jpg" for i in range(n)})


def test_a_draft_of_large_jpegs_changes_features_little_and_is_part_of_the_key(
    model: Model, tmp_path: Path, xgap_home: Path
) -> None:
    images = photographs(tmp_path, 6)
    full, draft = (encode(model, images, decoder=decoder, progress=False) for decoder in ("full", "draft"))
    cosine = (full.vectors * draft.vectors).sum(1)
    assert float(cosine.min()) > 0.999
    assert not torch.allclose(full.vectors, draft.vectors, atol=1e-6)
    assert (draft.provenance["decoder"], "decoder" in full.provenance) == ("draft", False)
    assert len(Store(xgap_home).entries()) == 2
    again = xg.view("image(decoder=draft)")(model, images, store=None, progress=False)
    assert torch.equal(again.vectors, draft.vectors)
    small, full_small = (opened(images, np.shape, [0], edge) for edge in (64, 0))
    assert (small, full_small) == ([(75, 100, 3)], [(300, 400, 3)])  # the shorter edge keeps 64 pixels or more
    assert opened(images, np.shape, [0], 151) == [(300, 400, 3)]
    with pytest.raises(XgapError, match='decoder is "full" or "draft", not \'fast\''):
        encode(model, images, decoder="fast")
    with pytest.raises(XgapError, match="the decoder 'draft' is of images, and these items are texts"):
        encode(model, ["a cat"], decoder="draft")


# How long the model waits


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[itertools.count]:
    seconds = itertools.count()
    monkeypatch.setattr(waiting.time, "perf_counter", lambda: float(next(seconds)))
    return seconds


@pytest.mark.usefixtures("clock")
def test_the_share_of_waiting_is_what_is_not_in_the_model() -> None:
    own = waiting.Waiting()
    assert own.share == 0
    with own.whole():  # from 0 to 5
        for _ in range(2):  # from 1 to 2, and from 3 to 4
            with own.passing(CPU):
                pass
    assert (own.seconds, own.in_model, own.share) == (5, 2, 0.6)


def test_one_sentence_says_how_long_the_model_waited(
    model: Model, files: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(**options: Any) -> str:
        with redirect_stderr(io.StringIO()) as text:
            encode(model, files.select(files.ids[:5]), store=None, **options)
        return text.getvalue()

    assert "waited" not in said()  # not worth a line
    monkeypatch.setattr(waiting, "LONG", 0.0)
    assert "encode images with random-0: the model waited for" in said(num_workers=0)
    assert "waited" not in said(progress=False)
    with watched(lambda *_: None):
        assert "waited" not in said()
