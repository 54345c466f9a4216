"""Encoding: the model's own features, whatever the batch, kept, found again and resumed."""

import copy
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.testing import assert_close

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.datasets.images import open_image
from xgap_analysis.datasets.items import Images, Texts
from xgap_analysis.models import Model
from xgap_analysis.store import Store
from xgap_analysis.views import batches
from xgap_analysis.views.encode import encode, provenance_of
from xgap_analysis.views.inversion.invert import invert

ENCODING = importlib.import_module("xgap_analysis.views.encode")  # the room gives the function under this name
WORDS = ("red", "cat", "dog", "old", "house", "two", "by", "sea", "sky", "moon")


def drawing(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((40 + seed % 20, 40), Image.Resampling.NEAREST)


def some_images(n: int, digest: str = "d") -> Images:
    return Images([f"image-{i}" for i in range(n)], lambda item: drawing(int(item.split("-")[1])), digest)


def some_texts(n: int) -> Texts:
    captions = [" ".join(WORDS[int(d)] for d in str(1000 + 7 * i)) for i in range(n)]
    return Texts([f"text-{i}" for i in range(n)], captions)


def unit(rows: Tensor) -> Tensor:
    return rows.double() / rows.double().norm(dim=1, keepdim=True)


class Counting:
    """A tower that counts what goes through it."""

    def __init__(self, tower: Any) -> None:
        self._tower, self.batches = tower, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tower, name)

    def encode(self, batch: Tensor, project: bool = True) -> Tensor:
        self.batches.append(len(batch))
        return self._tower.encode(batch, project=project)


@pytest.fixture
def counted(model: Model) -> Model:
    return count(replace(model, towers={m: Counting(tower) for m, tower in model.towers.items()}))


def count(model: Model) -> Model:
    """Counting from now on: a model's fingerprint is features of probes, once."""
    assert model.fingerprint
    for tower in (model.image, model.text):
        getattr(tower, "batches", []).clear()
    return model


def changed(model: Model, modality: str, **attributes: Any) -> Model:
    """The model with a tower of which some attributes are others."""
    tower = copy.copy(model.tower(modality))
    vars(tower).update(attributes)
    return replace(model, towers={**model.towers, modality: tower})


# The numbers


@pytest.mark.parametrize("project", [True, False])
def test_images_are_the_models_own_features_one_by_one(model: Model, project: bool) -> None:
    images = some_images(70)
    features = encode(model, images, project=project, progress=False)
    with torch.no_grad():
        alone = [model.image.encode(model.preprocess(images[i])[None], project=project) for i in range(70)]
    assert (features.vectors - unit(torch.cat(alone))).abs().max() < 1e-6
    assert (features.ids, features.space, features.origin) == (tuple(images.ids), "image", "image")
    assert features.dim == (16 if project else 32)


@pytest.mark.parametrize("project", [True, False])
def test_texts_are_the_models_own_features_one_by_one(model: Model, project: bool) -> None:
    texts = some_texts(70)
    features = encode(model, texts, project=project, progress=False)
    with torch.no_grad():
        alone = [model.text.encode(model.tokenize([caption]), project=project) for caption in texts]
    assert (features.vectors - unit(torch.cat(alone))).abs().max() < 1e-6
    assert (features.ids, features.space, features.origin) == (tuple(texts.ids), "text", "text")


def test_the_order_is_that_of_the_items(model: Model) -> None:
    for items in (some_images(10), some_texts(10)):
        forwards = encode(model, items, progress=False)
        backwards = encode(model, items.select(items.ids[::-1]), progress=False)
        assert backwards.ids == forwards.ids[::-1]
        assert (backwards.vectors.flip(0) - forwards.vectors).abs().max() < 1e-6


def test_a_rerun_gives_the_same_bits_in_batches_of_the_same_sizes(counted: Model) -> None:
    for items, tower in ((some_images(150), counted.image), (some_texts(150), counted.text)):
        first = encode(counted, items, store=None, progress=False)
        second = encode(counted, items, store=None, progress=False)
        assert torch.equal(first.vectors, second.vectors)
        assert tower.batches == [64, 64, 22] * 2


def test_provenance_says_what_made_the_features(model: Model) -> None:
    about = encode(model, some_images(3), progress=False).provenance
    assert (about["model"], about["weights"], about["view"]) == (model.name, model.weights_digest, "image")
    assert (about["precision"], about["activation"], about["projected"]) == ("fp32", "gelu", True)
    assert dict(provenance_of(encode(model, ["a cat"], progress=False))) == {
        "model": model.name,
        "weights": model.weights_digest,
        "precision": "fp32",
        "activation": "gelu",
        "view": "text",
    }


# What may be given


def test_captions_images_and_paths_may_be_plain_lists(model: Model, tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for i, path in enumerate(paths):
        drawing(i).save(path)
    expected = encode(model, some_images(3), progress=False)
    by_path, by_image = (encode(model, x, progress=False) for x in (paths, [drawing(i) for i in range(3)]))
    assert torch.equal(by_path.vectors, expected.vectors)
    assert torch.equal(by_image.vectors, expected.vectors)
    assert by_path.ids == tuple(map(str, paths))
    assert by_image.ids == ("0", "1", "2")
    captions = list(some_texts(3).captions)
    by_caption = encode(model, captions, progress=False)
    assert torch.equal(by_caption.vectors, encode(model, some_texts(3), progress=False).vectors)
    assert by_caption.ids == ("0", "1", "2")


def test_the_places_in_two_lists_are_no_self_matches_of_each_other(model: Model) -> None:
    captions = ["a cat", "a dog", "an owl"]
    gallery = encode(model, captions, store=None)
    again, other = encode(model, captions, store=None), encode(model, captions[::-1], store=None)
    assert again.has_items_of(gallery)
    assert not other.has_items_of(gallery)
    oti = invert(model, gallery, steps=1, store=None, progress=False)
    assert oti.features.has_items_of(again)  # an inversion is of the same item
    named = some_texts(3)  # ids of a dataset are names, in all of it or in a part
    assert encode(model, named.select(named.ids[:2]), store=None).has_items_of(encode(model, named, store=None))


def test_one_item_stands_for_a_list_of_one(model: Model, tmp_path: Path) -> None:
    drawing(0).save(tmp_path / "0.png")
    for one in ("a red cat", drawing(0), tmp_path / "0.png"):
        assert torch.equal(encode(model, one, progress=False).vectors, encode(model, [one], progress=False).vectors)
        assert len(encode(model, one, progress=False)) == 1


def test_images_of_other_modes_are_seen_as_rgb(model: Model) -> None:
    grey = drawing(1).convert("L")
    for mode in ("L", "RGBA", "CMYK"):
        made = encode(model, [grey.convert(mode)], progress=False)
        assert (made.vectors - encode(model, [grey.convert("RGB")], progress=False).vectors).abs().max() < 1e-6


@pytest.mark.parametrize("nothing", [[], Images((), lambda item: drawing(0)), Texts((), ())])
def test_nothing_to_encode_is_an_error(model: Model, nothing: Any) -> None:
    with pytest.raises(XgapError, match="there is nothing to encode: the split or list is empty"):
        encode(model, nothing, progress=False)


def test_a_mixed_list_an_id_given_twice_and_an_unknown_way_with_errors_are_refused(model: Model) -> None:
    with pytest.raises(XgapError, match=r"a list of captions \(str\), of PIL images, or of paths \(Path\)"):
        encode(model, ["a cat", Path("cat.png")], progress=False)
    with pytest.raises(XgapError, match="id 'a' stands for more than one item"):
        encode(model, Texts(("a", "b", "a"), ("x", "y", "z")), progress=False)
    with pytest.raises(XgapError, match='on_error is "raise" or "skip", not \'ignore\''):
        encode(model, ["a"], on_error="ignore", progress=False)


# Images that cannot be read


def opener_with(bad: set[str], error: Callable[[], Exception]) -> Callable[[str], Image.Image]:
    def opener(item: str) -> Image.Image:
        if item in bad:
            raise error()
        return drawing(int(item.split("-")[1]))

    return opener


@pytest.mark.parametrize(
    "error", [OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError, Image.UnidentifiedImageError]
)
def test_an_unreadable_image_is_named_or_skipped_and_counted(model: Model, error: type[Exception]) -> None:
    images = replace(some_images(6), opener=opener_with({"image-2", "image-5"}, lambda: error("broken bits")))
    with pytest.raises(XgapError, match=r"image 'image-2' cannot be read \(broken bits\); .*on_error=\"skip\""):
        encode(model, images, progress=False)
    with pytest.warns(UserWarning, match="2 unreadable images were skipped, the first is 'image-2'"):
        found = encode(model, images, on_error="skip", progress=False)
    assert found.ids == ("image-0", "image-1", "image-3", "image-4")
    good = encode(model, some_images(6), store=None, progress=False).select(found.ids)
    assert (found.vectors - good.vectors).abs().max() < 1e-6


def test_what_one_run_skipped_another_does_not_pass_over_in_silence(model: Model) -> None:
    images = replace(some_images(4), opener=opener_with({"image-1"}, OSError))
    for _ in range(2):
        with pytest.warns(UserWarning, match="1 unreadable images were skipped, the first is 'image-1'"):
            encode(model, images, on_error="skip", progress=False)
    with pytest.raises(XgapError, match="'image-1'"):
        encode(model, images, progress=False)


def test_images_of_which_none_can_be_read_are_an_error(model: Model) -> None:
    images = replace(some_images(70), opener=opener_with(set(some_images(70).ids), OSError))
    with pytest.raises(XgapError, match="none of the 70 images could be read"):
        encode(model, images, on_error="skip", progress=False)


def test_files_that_are_missing_or_no_images_are_named(model: Model, tmp_path: Path) -> None:
    good, cut, text, missing = (tmp_path / name for name in ("good.png", "cut.png", "text.png", "missing.png"))
    drawing(0).save(good)
    cut.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    text.write_text("<html></html>")
    for bad in (cut, text, missing):
        with pytest.raises(XgapError, match=f"{bad.name}' cannot be read"):
            encode(model, [good, bad], progress=False)
    with pytest.warns(UserWarning, match="3 unreadable images were skipped"):
        assert encode(model, [good, cut, text, missing], on_error="skip", progress=False).ids == (str(good),)


class Broken(Counting):
    """A tower whose third feature is no number."""

    def encode(self, batch: Tensor, project: bool = True) -> Tensor:
        made = super().encode(batch, project).clone()
        made[2:3] = torch.nan
        return made


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_model_that_gives_nan_is_not_taken_for_an_unreadable_image(model: Model, on_error: str) -> None:
    broken = replace(model, towers={m: Broken(tower) for m, tower in model.towers.items()})
    with pytest.raises(XgapError, match="the vector of item 'image-2' holds a NaN"):
        encode(broken, some_images(4), on_error=on_error, store=None, progress=False)
    with pytest.raises(XgapError, match="the vector of item 'text-2' holds a NaN"):
        encode(broken, some_texts(4), store=None, progress=False)


# Kept and found again


def test_what_is_kept_is_found_again_with_the_same_bits(counted: Model, xgap_home: Path) -> None:
    for items, tower in ((some_images(5), counted.image), (some_texts(5), counted.text)):
        first = encode(counted, items, progress=False)
        second = encode(counted, items, progress=False)
        assert tower.batches == [5]
        assert torch.equal(first.vectors, second.vectors)
        assert first.provenance == second.provenance
    assert len(Store(xgap_home).entries()) == 2
    encode(counted, some_texts(5), store=Store(xgap_home / "elsewhere"), progress=False)
    assert counted.text.batches == [5, 5]


def key_changes(model: Model, other: Model) -> Iterator[tuple[str, Model, Images | Texts, dict]]:
    yield "weights", other, some_images(4), {}
    yield "weights of the text tower", other, some_texts(4), {}
    yield "the projection", model, some_images(4), {"project": False}
    yield "precision", replace(model, precision="bf16"), some_images(4), {}
    yield "preprocess", changed(model, "image", preprocess=lambda x: 1 - model.preprocess(x)), some_images(4), {}
    yield (
        "tokenizer",
        changed(model, "text", tokenize=lambda x: model.tokenize([f"the {c}" for c in x])),
        some_texts(4),
        {},
    )


def test_whatever_changes_the_numbers_has_a_key_of_its_own(model: Model, other_model: Model, xgap_home: Path) -> None:
    seen = {encode(model, items, progress=False).provenance["digest"] for items in (some_images(4), some_texts(4))}
    for what, other, items, options in key_changes(model, other_model):
        before = len(Store(xgap_home).entries())
        made = encode(other, items, progress=False, **options)
        assert len(Store(xgap_home).entries()) == before + 1, what
        assert made.provenance["digest"] not in seen, what
        seen.add(made.provenance["digest"])


def test_a_preprocess_given_as_a_function_is_known_by_what_it_does(model: Model, xgap_home: Path) -> None:
    for _ in range(2):  # two functions, one effect: their places in memory differ
        encode(changed(model, "image", preprocess=lambda x: model.preprocess(x)), some_images(4), progress=False)
    assert len(Store(xgap_home).entries()) == 1


def test_another_name_is_no_other_model(counted: Model, xgap_home: Path) -> None:
    for named in (counted, replace(counted, name="/another/path")):
        for items in (some_images(4), some_texts(4)):
            assert encode(count(named), items, progress=False).provenance["model"] == named.name
    assert (counted.image.batches, counted.text.batches) == ([], [])
    assert len(Store(xgap_home).entries()) == 2


# Items are found by their content


def files(folder: Path, n: int, first: int = 0) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i}.png" for i in range(first, first + n)]
    for i, path in enumerate(paths, first):
        drawing(i).save(path)
    return paths


def test_a_longer_list_encodes_what_is_new_and_another_order_nothing(counted: Model, tmp_path: Path) -> None:
    paths = files(tmp_path, 8)
    encode(counted, paths[:3], progress=False)
    whole = encode(counted, paths[:6], progress=False)
    assert counted.image.batches == [3, 3]
    for some in (paths[5::-1], paths[2:4]):
        found = encode(counted, some, progress=False)
        assert torch.equal(found.vectors, whole.select(map(str, some)).vectors)
    assert counted.image.batches == [3, 3]
    texts = some_texts(9)
    encode(counted, texts.select(texts.ids[:4]), progress=False)
    encode(counted, texts.select(texts.ids[::-1]), progress=False)
    assert counted.text.batches == [4, 5]


def test_what_was_there_already_changes_no_feature_beyond_rounding(model: Model, tmp_path: Path) -> None:
    paths = files(tmp_path, 30)
    alone = encode(model, paths, store=None, progress=False)
    for some in ([paths[7]], paths[20:], paths):
        found = encode(model, some, progress=False)
    assert (found.vectors - alone.vectors).abs().max() < 1e-6


def test_one_image_under_two_ids_is_encoded_once(counted: Model, tmp_path: Path) -> None:
    (first,) = files(tmp_path / "a", 1)
    (tmp_path / "b").mkdir()
    second = tmp_path / "b" / "other.png"
    second.write_bytes(first.read_bytes())
    found = encode(counted, [first, second], progress=False)
    assert counted.image.batches == [1]
    assert torch.equal(found.vectors[0], found.vectors[1])
    assert found.ids == (str(first), str(second))
    encode(counted, Texts(("x", "y"), ("a cat", "a cat")), progress=False)
    assert counted.text.batches == [1]


def test_files_of_the_same_names_sizes_and_times_are_distinguished(counted: Model, tmp_path: Path) -> None:
    made = []
    for seed in (1, 2):
        path = tmp_path / str(seed) / "a.bmp"
        path.parent.mkdir()
        drawing(20 * seed).save(path)
        os.utime(path, (315532800, 315532800))
        made.append(encode(counted, [path], progress=False).vectors)
    assert not torch.equal(*made)
    assert counted.image.batches == [1, 1]


def test_images_in_memory_are_known_by_their_pixels(counted: Model, xgap_home: Path) -> None:
    first = encode(counted, [drawing(0)], progress=False)
    second = encode(counted, [drawing(1)], progress=False)
    assert not torch.equal(first.vectors, second.vectors)
    assert torch.equal(
        encode(counted, [drawing(1), drawing(0).convert("RGBA")], progress=False).vectors[1:], first.vectors
    )
    assert counted.image.batches == [1, 1]


def test_images_that_nothing_identifies_are_never_kept(model: Model, xgap_home: Path) -> None:
    made = encode(model, some_images(3, ""), progress=False)
    assert Store(xgap_home).entries() == []
    assert not {"entry", "digest"} & made.provenance.keys()


def test_a_file_that_changed_is_encoded_again(counted: Model, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    drawing(0).save(path)
    first = encode(counted, [path], progress=False)
    assert torch.equal(encode(counted, [path], progress=False).vectors, first.vectors)
    assert counted.image.batches == [1]
    drawing(1).save(path)
    assert not torch.equal(encode(counted, [path], progress=False).vectors, first.vectors)
    assert counted.image.batches == [1, 1]


def test_a_bad_image_is_kept_with_its_reason_and_a_missing_one_is_looked_for_again(
    counted: Model, tmp_path: Path, xgap_home: Path
) -> None:
    good, missing = files(tmp_path, 2)
    bad = tmp_path / "bad.png"
    bad.write_text("<html></html>")
    missing.rename(tmp_path / "away")
    for _ in range(2):
        with pytest.warns(UserWarning, match="2 unreadable images were skipped"):
            encode(counted, [good, bad, missing], on_error="skip", progress=False)
    (entry,) = Store(xgap_home).entries()
    assert (entry.n_items, entry.n_failed) == (1, 1)
    assert counted.image.batches == [2]
    (tmp_path / "away").rename(missing)
    with pytest.raises(XgapError, match=r"1 images cannot be read, the first is '.*bad.png' \(it is a web page"):
        encode(counted, [good, bad, missing], progress=False)
    assert counted.image.batches == [2, 1]


# A killed run

KILLED = """
import sys, time
from dataclasses import replace
from xgap_analysis.datasets import load_dataset
from xgap_analysis.models import load_model

class Slow:
    def __init__(self, tower): self._tower = tower
    def __getattr__(self, name): return getattr(self._tower, name)
    def encode(self, batch, project=True):
        time.sleep(0.3)
        return self._tower.encode(batch, project=project)

from xgap_analysis.views import batches, encode
sys.modules["xgap_analysis.views.encode"].SHARD, batches.BATCH = 32, 16
model = load_model("tiny-untrained", device="cpu")
images = load_dataset("emoji").split("test").images
model = replace(model, towers={**model.towers, "image": Slow(model.image)})
encode(model, images.select(images.ids[:200]), progress=False)
"""


@pytest.mark.slow
def test_a_run_killed_in_the_middle_resumes_to_the_same_bits(xgap_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from xgap_analysis.datasets import load_dataset
    from xgap_analysis.models import load_model

    run = subprocess.Popen([sys.executable, "-c", KILLED], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while len(list(xgap_home.glob("store/*/*/*.safetensors"))) < 2:
        assert run.poll() is None, run.stderr.read() if run.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert run.returncode == -signal.SIGKILL
    (entry,) = Store(xgap_home).entries()
    assert 64 <= entry.n_items < 200

    monkeypatch.setattr(ENCODING, "SHARD", 32)
    monkeypatch.setattr(batches, "BATCH", 16)
    model = load_model("tiny-untrained", device="cpu")
    images = load_dataset("emoji").split("test").images
    images = images.select(images.ids[:200])
    counting = count(replace(model, towers={**model.towers, "image": Counting(model.image)}))
    resumed = encode(counting, images, progress=False)
    assert sum(counting.image.batches) == 200 - entry.n_items
    assert torch.equal(resumed.vectors, encode(model, images, store=None, progress=False).vectors)
    assert [e.n_items for e in Store(xgap_home).entries()] == [200]


def test_what_was_done_before_an_unreadable_image_is_kept(counted: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ENCODING, "SHARD", 4)
    bad = {"image-9"}
    images = replace(some_images(10), opener=opener_with(bad, OSError))
    with pytest.raises(XgapError, match="'image-9'"):
        encode(counted, images, progress=False)
    bad.clear()
    made = encode(counted, images, progress=False)
    assert counted.image.batches == [4, 4, 2]
    assert isinstance(made, Features)
    assert len(made) == 10


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    drawing(1).save(path, exif=exif, quality=95)


def see_through(path: Path) -> None:
    layer = drawing(2).convert("RGBA")
    layer.putalpha(Image.linear_gradient("L").resize(layer.size))
    layer.save(path)


def deep(path: Path) -> None:
    Image.fromarray(np.asarray(drawing(3).convert("L")).astype(np.uint16) * 257).save(path)


def floating(path: Path) -> None:
    Image.fromarray(np.asarray(drawing(4).convert("L")).astype(np.float32) / 255).save(path)


@pytest.mark.parametrize(
    ("name", "write"), [("a.jpg", turned), ("a.png", see_through), ("a.png", deep), ("a.tif", floating)]
)
def test_an_opened_image_gives_the_features_of_its_file(
    name: str, write: Callable[[Path], None], model: Model, tmp_path: Path
) -> None:
    write(tmp_path / name)
    by_path = encode(model, tmp_path / name, store=None)
    with Image.open(tmp_path / name) as opened:
        assert_close(encode(model, [opened, opened], store=None).vectors, by_path.vectors.repeat(2, 1))
    assert_close(encode(model, open_image(tmp_path / name), store=None).vectors, by_path.vectors)


def test_strings_that_name_image_files_are_no_captions(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    drawing(1).save(tmp_path / "a.png")
    (tmp_path / "b.HEIC").write_bytes(b"")
    for strings in ("a.png", ["a cat", "a.png"], [str(tmp_path / "a.png")], ["b.HEIC"]):
        with pytest.raises(XgapError, match=r"is a file of an image, and a string is read as a caption; give paths as"):
            encode(model, strings, store=None)
    with pytest.warns(UserWarning, match=r"2 strings that end like files of images, such as 'c.jpg', are encoded as"):
        assert encode(model, ["c.jpg", "/data/d.jpeg"], store=None).space == "text"
    assert len(encode(model, ["c.jpg", "a cat", "x" * 5000], store=None)) == 3  # a file name may be an honest caption
    with pytest.raises(XgapError, match="all of one kind; this list holds: PosixPath, str"):
        encode(model, [Path("a.png"), "a.png"], store=None)  # type: ignore[list-item]


def test_a_git_lfs_pointer_is_named_as_one(model: Model, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n")
    with pytest.raises(XgapError, match=r"a.jpg. cannot be read .it is a Git LFS pointer.*run git lfs pull"):
        encode(model, tmp_path / "a.jpg", store=None)
