"""WebDataset shards, as img2dataset and clip_benchmark write them."""

import io
import json
import pickle
import tarfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from PIL import Image

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets import load_dataset
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.images import open_image
from xgap_analysis.datasets.local import shards

Plain = Callable[[int], Image.Image]
Shade = Callable[[Image.Image], int]


Content = bytes | Image.Image | str


def shard(path: Path, members: Mapping[str, Content] | Sequence[tuple[str, Content]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", encoding="utf-8", errors="surrogateescape") as tar:
        for name, content in members.items() if isinstance(members, Mapping) else members:
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
    with pytest.warns(UserWarning, match=r"3 members are links or devices.*the first is c.png"):
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
    with pytest.raises(XgapError, match=r"no sample in .* has an image or a caption"):
        load_dataset(str(tmp_path / "z.tar"))


def quietly(path: Path) -> Dataset:
    """The data, which is read without a word of warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_dataset(str(path))


@pytest.mark.parametrize(
    "stems",
    [
        ["2021.05.01", "2021.05.02", "2022.05.01"],
        ["cat.0", "cat.1", "dog.0"],
        ["v1.5/0001", "v1.5/0002", "v2/0001"],
        ["a.b.c", "a.b.d", "x"],
    ],
)
@pytest.mark.parametrize("captioned", [True, False])
def test_names_with_dots_are_samples_of_their_own(
    stems: list[str], captioned: bool, tmp_path: Path, plain: Plain, shade: Shade
) -> None:
    members: dict[str, Content] = {f"{stem}.png": plain(20 * k) for k, stem in enumerate(stems)}
    if captioned:
        members |= {f"{stem}.txt": f"tone {k}" for k, stem in enumerate(stems)}
    data = quietly(shard(tmp_path / "s.tar", members))
    assert sorted(data.images.ids) == [f"s/{stem}" for stem in stems]
    at = {item: k for k, item in enumerate(data.images.ids)}
    assert [shade(data.images[at[f"s/{stem}"]]) for stem in stems] == [0, 20, 40]
    if captioned:
        assert dict(zip(data.texts.ids, data.texts, strict=True)) == {
            f"s/{stem}#0": f"tone {k}" for k, stem in enumerate(stems)
        }


def test_parts_of_one_sample_are_no_samples_of_their_own(tmp_path: Path, plain: Plain, shade: Shade) -> None:
    named = {f"{k}.{part}": content for k in range(2) for part, content in (("image.png", plain(50)), ("cap.txt", "x"))}
    data = quietly(shard(tmp_path / "a.tar", named))
    assert (data.images.ids, data.texts.ids) == (("a/0", "a/1"), ("a/0#0", "a/1#0"))
    for name, texts in (("b", {"txt": "x"}), ("c", {"caption.txt": "x"}), ("d", {})):
        members: dict[str, Content] = {}
        for k in range(2):
            members |= {f"{k}.left.png": plain(50), f"{k}.right.png": plain(100)}
            members |= {f"{k}.{part}": text for part, text in texts.items()}
        with pytest.warns(UserWarning, match=r"2 further images of samples are not read.*\.right.png beside .left.png"):
            data = load_dataset(str(shard(tmp_path / f"{name}.tar", members)))
        assert data.images.ids == (f"{name}/0", f"{name}/1")
        assert [shade(image) for image in (data.images[0], data.images[1])] == [50, 50]
        assert len(data.texts) == (2 if texts else 0)


@pytest.mark.parametrize("other", ["depth.png", "png", "seg.mask.jpg"])
def test_of_several_images_of_a_sample_the_photograph_is_read_and_the_others_are_counted(
    other: str, tmp_path: Path, plain: Plain, shade: Shade
) -> None:
    held = io.BytesIO()
    plain(100).save(held, "JPEG")
    members = {f"0.{other}": plain(0), "0.info.json": "{}", "0.json": '{"label": "x"}', "0.jpg": held.getvalue()}
    with pytest.warns(UserWarning, match=rf"1 further images of samples.*\.{other} beside \.jpg.*1 further texts"):
        data = load_dataset(str(shard(tmp_path / "s.tar", members)))
    assert shade(data.images[0]) == 100
    assert data.labels_of()["s/0"] == "x"


def test_a_name_that_is_there_twice_is_counted_and_the_last_is_read(tmp_path: Path, plain: Plain, shade: Shade) -> None:
    path = shard(tmp_path / "s.tar", [("a.png", plain(0)), ("a.txt", "x"), ("a.png", plain(50)), ("b.png", plain(90))])
    with pytest.warns(UserWarning, match=r"1 members have the name of a later one.*the first is a.png"):
        data = load_dataset(str(path))
    assert [shade(data.images[k]) for k in range(2)] == [50, 90]


def test_what_a_system_puts_into_archives_is_no_sample(tmp_path: Path, plain: Plain) -> None:
    members: dict[str, Content] = {"._a.png": b"\0\5\x16\7", "./._b.jpg": b"\0\5\x16\7", "__MACOSX/._a.txt": "x"}
    members |= {".DS_Store": b"", "x/@eaDir/a.png": b"", ".hidden/a.png": b"", "./a.png": plain(50), "a.txt": "x"}
    assert quietly(shard(tmp_path / "s.tar", members)).images.ids == ("s/a",)
    shard(tmp_path / "set" / "0.tar", {"a.png": plain(50)})
    (tmp_path / "set" / "._0.tar").write_bytes(b"\0\5\x16\7")
    assert quietly(tmp_path / "set").images.ids == ("0/a",)


def test_texts_and_names_that_are_not_utf8_are_read_as_windows_has_them_and_counted(
    tmp_path: Path, plain: Plain
) -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    members: list[tuple[str, Content]] = [(f"{name}.png", plain(50)), (f"{name}.txt", "“café”".encode("cp1252"))]
    members += [("b.png", plain(50)), ("b.txt", "café".encode("utf-16")), ("b.json", b"\xef\xbb\xbf{}")]
    with pytest.warns(UserWarning, match=r"1 texts are not UTF-8 and were read as Windows-1252.*txt of café in "):
        data = load_dataset(str(shard(tmp_path / "s.tar", members)))
    assert data.images.ids == ("s/café", "s/b")
    assert list(data.texts) == ["“café”", "café"]


def test_facts_that_are_missing_broken_or_no_text_are_no_values(tmp_path: Path, plain: Plain) -> None:
    facts = {
        "null": '{"caption": null, "label": null}',
        "nan": '{"caption": NaN, "label": NaN}',
        "minus": '{"caption": "x", "label": -1}',
        "cut": '{"caption": "smile \\ud83d", "label": "y"}',
        "list": '{"caption": ["a", null, "b"], "label": ["y"]}',
        "object": '{"caption": {"left": {}, "right": 1}, "label": ["y", "z"]}',
        "broken": '{"caption": ',
        "far": '{"label": 7}',
        "near": '{"label": 1}',
    }
    members: dict[str, Content] = {f"{k}.png": plain(50) for k in facts} | {f"{k}.json": v for k, v in facts.items()}
    shard(tmp_path / "0.tar", members)
    (tmp_path / "classnames.txt").write_bytes("zero\ncaf\u0065\u0301\n".encode())
    with pytest.warns(UserWarning, match="in the shards of") as caught:
        data = load_dataset(f"wds:{tmp_path}")
    (said,) = [str(w.message) for w in caught]
    for words in (
        "1 labels are missing",
        "1 captions hold half",
        "1 captions cannot",
        "1 labels cannot",
        "1 parts .json",
    ):
        assert words in said
    assert "1 labels are numbers beyond the 2 lines" in said
    assert list(data.texts) == ["x", "smile \ufffd", "a", "b"]
    labels = data.labels_of()
    assert {i: labels[i] for i in data.images.ids if i in labels} == {
        "0/cut": "y",
        "0/list": "y",
        "0/far": "7",
        "0/near": "café",
    }


def test_images_that_are_not_read_and_packed_shards_are_counted(tmp_path: Path, plain: Plain) -> None:
    shard(tmp_path / "set" / "0.tar", {"a.png": plain(50), "b.heic": b"x", "c.HEIC": b"x", "c.txt": "c"})
    (tmp_path / "set" / "1.tar.gz").write_bytes(b"x")
    with pytest.warns(UserWarning, match=r"1 packed files are not read.*2 images are of a format.*\(.heic\), convert"):
        data = load_dataset(str(tmp_path / "set"))
    assert data.images.ids == ("0/a",)
    shard(tmp_path / "x.tar", {"b.heic": b"x"})
    with pytest.raises(XgapError, match=r"no sample in .* has an image or a caption: 1 images are of a format"):
        load_dataset(str(tmp_path / "x.tar"))
    (tmp_path / "y.tar").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(XgapError, match=r"y.tar cannot be read.*Git LFS pointer.*run git lfs pull"):
        load_dataset(str(tmp_path / "y.tar"))


def test_a_folder_with_brackets_in_its_name_is_a_folder(tmp_path: Path, plain: Plain) -> None:
    path = shard(tmp_path / "set [v1]" / "0.tar", {"a.png": plain(50)})
    assert quietly(path).images.ids == ("0/a",)


def test_every_way_into_a_shard_keeps_the_one_policy(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, image, how in (
        ("turned", Image.linear_gradient("L").resize((16, 8)), {"format": "PNG", "exif": exif}),
        ("clear", Image.new("RGBA", (16, 8), (255, 0, 0, 0)), {"format": "PNG"}),
        ("deep", Image.new("I;16", (16, 8), 30000), {"format": "TIFF"}),
    ):
        image.save(tmp_path / name, **how)
        data = load_dataset(str(shard(tmp_path / f"{name}.tar", {"0.png": (tmp_path / name).read_bytes()})))
        assert data.images[0].tobytes() == open_image(tmp_path / name).tobytes()
        assert data.images[0].size == ((8, 16) if name == "turned" else (16, 8))
