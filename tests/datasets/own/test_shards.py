"""WebDataset shards, as img2dataset and clip_benchmark write them."""

import io
import json
import pickle
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from PIL import Image

from xgap_analysis.datasets import load_dataset, shards
from xgap_analysis.errors import XgapError

Plain = Callable[[int], Image.Image]
Shade = Callable[[Image.Image], int]


def shard(path: Path, members: Mapping[str, bytes | Image.Image | str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            if isinstance(content, Image.Image):
                held = io.BytesIO()
                content.save(held, "PNG")
                content = held.getvalue()
            content = content.encode() if isinstance(content, str) else content
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return path


def test_shards_of_captions_by_a_pattern(tmp_path: Path, plain: Plain, shade: Shade) -> None:
    for k in range(3):
        facts = json.dumps({"caption": "not this one", "key": f"00{k}", "label": k % 2})
        members = {f"{k:03d}.png": plain(20 * k), f"{k:03d}.txt": f"tone {k}\nshade {k}\n", f"{k:03d}.json": facts}
        shard(tmp_path / "set" / f"{k:05d}.tar", members)
    data = load_dataset(f"{tmp_path}/set/{{00000..00001}}.tar")
    assert data.images.ids == ("00000/000", "00001/001")
    data = load_dataset(f"wds:{tmp_path}/set/{{00000,00002}}.tar")
    assert data.images.ids == ("00000/000", "00002/002")
    for path in (f"{tmp_path}/set/*.tar", f"{tmp_path}/set"):
        data = load_dataset(path)
        assert data.name == "set"
        assert [shade(data.images[k]) for k in range(3)] == [0, 20, 40]
        assert data.texts.captions[:2] == ("tone 0", "shade 0")
        assert data.labels_of()["00001/001#0"] == "1"
    with pytest.raises(XgapError, match=r"there is no shard .*00003.tar"):
        load_dataset(f"{tmp_path}/set/{{00000..00003}}.tar")


def test_classes_and_splits_as_clip_benchmark_has_them(tmp_path: Path, plain: Plain, shade: Shade) -> None:
    root = tmp_path / "wds_pets"
    for split, shades in (("train", [10, 30]), ("test", [50, 70, 90])):
        members: dict[str, Image.Image | str] = {}
        for k, tone in enumerate(shades):
            members |= {f"s{k}.webp": plain(tone), f"s{k}.cls": str(k % 2)}
        shard(root / split / "0.tar", members)
        (root / split / "nshards.txt").write_text("1")
    (root / "classnames.txt").write_text("abyssinian\nbasset hound\n")
    data = load_dataset(str(root))
    judged = data.split("test")
    assert judged.images.ids == ("test/0/s0", "test/0/s1", "test/0/s2")
    assert [shade(judged.images[k]) for k in range(3)] == [50, 70, 90]
    assert [judged.labels_of()[i] for i in judged.images.ids] == ["abyssinian", "basset hound", "abyssinian"]
    assert list(judged.texts) == ["a photo of abyssinian", "a photo of basset hound"]
    assert len(data.split("train").images) == 2


class Exploding:
    """A pickle that would be noticed if it were ever read."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return (exec, ("raise SystemExit('a pickle was read')",))


def test_only_allowed_members_are_read(tmp_path: Path, plain: Plain) -> None:
    bad = pickle.dumps(Exploding())
    members: dict[str, bytes | Image.Image] = {"a.png": plain(50), "a.pyd": bad, "a.pkl": bad, "a.cls.pyd": bad}
    path = shard(tmp_path / "x.tar", members | {"a.pth": bad, "a.npy": bad, "../../b.txt": b"outside"})
    with tarfile.open(path, "a") as tar:
        for kind, name in ((tarfile.SYMTYPE, "c.png"), (tarfile.LNKTYPE, "d.png"), (tarfile.CHRTYPE, "e.png")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "/etc/hostname"
            tar.addfile(link)
    data = load_dataset(str(path))
    assert data.images.ids == ("x/a",)
    assert data.texts.captions == ("outside",)  # a name is a name; nothing is written anywhere
    assert [p.name for p in tmp_path.iterdir()] == ["x.tar"]


def test_the_index_is_made_once(tmp_path: Path, plain: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shard(tmp_path / "x.tar", {"a.png": plain(50)})
    first = load_dataset(str(path))
    monkeypatch.setattr(shards.tarfile, "open", None)
    again = load_dataset(str(path))
    assert again.images.digest == first.images.digest
    assert again.images[0].size == (12, 10)


def test_damaged_shards_are_named(tmp_path: Path, plain: Plain) -> None:
    path = shard(tmp_path / "x.tar", {"a.png": plain(50), "b.png": Image.effect_noise((64, 64), 50)})
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"b.png") + 1024])
    with pytest.raises(XgapError, match=r"shard .*x.tar (cannot be read|is cut off)"):
        load_dataset(str(path))
    with tarfile.open(tmp_path / "y.tar", "w:gz") as tar:
        tar.add(path, "a.png")
    with pytest.raises(XgapError, match=r"y.tar cannot be read as an uncompressed tar"):
        load_dataset(str(tmp_path / "y.tar"))
    shard(tmp_path / "z.tar", {"a.bin": b"1"})
    with pytest.raises(XgapError, match=r"no sample in .* has a picture or a caption"):
        load_dataset(str(tmp_path / "z.tar"))
