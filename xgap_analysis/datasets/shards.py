"""WebDataset shards: `.tar` files in which a sample's picture, caption and label share a stem."""

import glob
import json
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from xgap_analysis.datasets.assemble import Record, assemble, split_named
from xgap_analysis.datasets.contents import of_part
from xgap_analysis.datasets.pairs import USUAL
from xgap_analysis.datasets.pictures import is_picture, open_picture
from xgap_analysis.datasets.records import Dataset
from xgap_analysis.errors import XgapError

TEXTS = ("txt", "caption", "json", "cls")  # with pictures, all that is read; pickles and the like are passed over
MAX_TEXT = 1 << 20  # bytes
Place = tuple[Path, int, int]  # shard, offset, size


def load_shards(path: Path | str, *, train_share: float = 0.0) -> Dataset:
    """The samples of `.tar` shards; nothing is unpacked, and pictures are read from their place when they are opened.

    Of a sample, `.jpg` (or another picture), `.txt` (a caption a line), `.cls` (its class) and `.json` (`caption`,
    `label`; where the others do not say it) are read. A number in `.cls` is a line, from 0, of a file
    `classnames.txt` beside the shards or above them. Splits are what folders and shards are named for
    (`train/0.tar`, `val-000.tar`). Ids are `<shard>/<stem>`.

    Args:
        path: a shard, a pattern (`shards/{00000..00099}.tar`, `shards/*.tar`), or a folder of shards or of splits.
        train_share: see `assemble`.

    Raises:
        XgapError: no shards, one that is missing, compressed or damaged, or no sample in them.
    """
    shards, root = _shards(str(Path(path).expanduser()))
    names = _class_names(shards)
    records, places = [], {}
    for shard in shards:
        told = shard.relative_to(root).with_suffix("")
        split = next((s for part in told.parts for w in re.split(r"[-_.]", part) if (s := split_named(w))), None)
        with shard.open("rb") as file:
            for stem, parts in _samples(shard).items():
                item = f"{told.as_posix()}/{stem}"
                picture = next((parts[kind] for kind in parts if kind not in TEXTS), None)
                about = {kind: _text(file, parts[kind], f"{stem}.{kind} in {shard}") for kind in TEXTS if kind in parts}
                captions, label = _told(about, names)
                if picture is not None:
                    places[item] = (shard, *picture)
                if picture is not None or captions:
                    records.append(Record(item, captions, label, split, has_image=picture is not None))
    if not records:
        raise XgapError(f"no sample in {path} has a picture or a caption")
    name = root.resolve().name if len(shards) > 1 else shards[0].stem
    return assemble(name, records, partial(_open, places), partial(_content, places), train_share=train_share)


def _open(places: Mapping[str, Place], item: str) -> Image.Image:
    shard, offset, size = places[item]
    with shard.open("rb") as file:
        file.seek(offset)
        return open_picture(file.read(size))


def _content(places: Mapping[str, Place], item: str) -> str:
    return of_part(*places[item])


def _shards(pattern: str) -> tuple[list[Path], Path]:
    """The shards, and the folder that their ids are told from."""
    if Path(pattern).is_dir():
        root = Path(pattern)
        found = sorted(root.rglob("*.tar"))
    else:
        found = []
        for name in _expanded(pattern):
            here = sorted(map(Path, glob.glob(name))) if re.search(r"[*?\[]", name) else [Path(name)]  # noqa: PTH207
            found += here
        root = Path(re.split(r"[{*?\[]", pattern)[0] + "x").parent
    missing = next((shard for shard in found if not shard.is_file()), None)
    if missing is not None or not found:
        raise XgapError(f"there is no shard {missing or pattern}")
    return found, root


def _expanded(pattern: str) -> Iterator[str]:
    """`a{0..2}b` and `a{x,y}b`, as a shell expands them."""
    found = re.search(r"\{([^{}]*)\}", pattern)
    if not found:
        yield pattern
        return
    inside = found.group(1)
    ends = re.fullmatch(r"(\d+)\.\.(\d+)", inside)
    choices: Any = inside.split(",")
    if ends:
        low, high = ends.groups()
        width = len(low) if low.startswith("0") or len(low) == len(high) else 0
        choices = (str(k).zfill(width) for k in range(int(low), int(high) + 1))
    for choice in choices:
        yield from _expanded(pattern[: found.start()] + choice + pattern[found.end() :])


def _samples(shard: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """Stem to kind of member to its place in the shard."""
    status = shard.stat()
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    for name, offset, size in _members(shard, status.st_size, status.st_mtime_ns):
        folder, slash, file = name.removeprefix("./").rpartition("/")
        stem, _, kind = file.partition(".")
        samples.setdefault(folder + slash + stem, {})[kind.lower()] = (offset, size)
    return samples


@lru_cache(maxsize=4096)
def _members(shard: Path, size: int, changed: int) -> tuple[tuple[str, int, int], ...]:
    """Name, offset and size of the members that are read: plain files of an allow-list of kinds; read once a shard."""
    found = []
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                kind = member.name.rpartition(".")[2].lower()
                if member.isreg() and not member.issparse() and (is_picture(member.name) or kind in TEXTS):
                    found.append((member.name, member.offset_data, member.size))
    except (tarfile.TarError, OSError) as error:
        what = f"shard {shard} cannot be read as an uncompressed tar file ({error})"
        raise XgapError(f"{what}; unpack .gz, and fetch or write a damaged one again") from error
    last = max((offset + length for _, offset, length in found), default=0)
    if last > size:
        raise XgapError(f"shard {shard} is cut off: {size} bytes are there and {last} are needed; fetch it again")
    return tuple(found)


def _text(file: BinaryIO, place: tuple[int, int], where: str) -> str:
    offset, size = place
    if size > MAX_TEXT:
        raise XgapError(f"{where} is of {size} bytes, more than a caption or its facts can need")
    file.seek(offset)
    return file.read(size).decode("utf-8", errors="replace").strip()


def _told(about: Mapping[str, str], names: Sequence[str]) -> tuple[list[str], str | None]:
    """Captions and label of a sample."""
    text = about.get("txt") or about.get("caption") or ""
    captions = [line.strip() for line in text.split("\n") if line.strip()]
    label: Any = about.get("cls") or None
    facts: Any = {}
    if "json" in about:
        try:
            facts = json.loads(about["json"])
        except ValueError:  # facts are an extra: the picture and its caption are there without them
            facts = {}
    if isinstance(facts, dict):
        found: Any = next((facts[k] for k in USUAL["caption"] if facts.get(k)), None)
        if not captions and found is not None:
            captions = [str(caption) for caption in (found if isinstance(found, list) else [found])]
        if label is None:
            label = next((facts[k] for k in USUAL["label"] if facts.get(k) is not None), None)
    if label is not None and str(label).isdigit() and int(label) < len(names):
        label = names[int(label)]
    return captions, None if label is None else str(label)


def _class_names(shards: Sequence[Path]) -> list[str]:
    for folder in (shards[0].parent, shards[0].parent.parent):
        if (folder / "classnames.txt").is_file():
            return [line.strip() for line in (folder / "classnames.txt").read_text("utf-8").splitlines()]
    return []
