"""WebDataset shards: `.tar` files in which a sample's image, caption and label share a stem."""

import glob
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from xgap_analysis.core.errors import XgapError, notice
from xgap_analysis.core.table_values import caption_texts, clean_text, is_missing, label_text
from xgap_analysis.datasets.contents import of_part
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.images import PREFERRED, UNREAD, head_of, is_hidden, is_image_file, stand_in
from xgap_analysis.datasets.local.columns import USUAL
from xgap_analysis.datasets.local.encodings import decoded, one_form, readable
from xgap_analysis.datasets.local.records import Record, dataset_of, split_in
from xgap_analysis.datasets.stored import stored_images

TEXTS = ("txt", "caption", "json", "cls")  # with images, all that is read; pickles and the like are passed over
MAX_TEXT = 1 << 20  # bytes
PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")
Place = tuple[Path, int, int]  # shard, offset, size


class Member(NamedTuple):
    """A member of a shard that is read: its sample, what part of it it is (`jpg`, `depth.png`), and its place."""

    stem: str
    part: str
    offset: int
    size: int

    @property
    def kind(self) -> str:
        """The last suffix, in small letters."""
        return self.part.rpartition(".")[2].lower()


@dataclass
class _LeftOut:
    """What is left out of shards, by kind, and an example of each."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, what: str, example: str, n: int = 1) -> None:
        """Count one, or n."""
        self.counts[what] += n
        self.first.setdefault(what, example)

    def __str__(self) -> str:
        return "; ".join(f"{n} {what} (the first is {self.first[what]})" for what, n in self.counts.items())


def load_shards(path: Path | str, *, train_share: float = 0.0) -> Dataset:
    """The samples of `.tar` shards; nothing is unpacked, and images are read from their place when they are opened.

    Of a sample, `.jpg` (or another image), `.txt` (a caption per line), `.cls` (its class) and `.json` (`caption`,
    `label`; where the others do not say it) are read. A number in `.cls` is a line, from 0, of a file
    `classnames.txt` beside the shards or above them. Splits are what folders and shards are named for
    (`train/0.tar`, `val-000.tar`). Ids are `<shard>/<stem>`.

    The stem is what stands before the first dot of a member's name, as WebDataset has it, unless that makes one sample
    of several whose names hold dots (`2021.05.01.jpg`): then it is what stands before the last. Of several images in a
    sample, the one without a further name is read (`0.jpg` beside `0.depth.png`), and a photograph's format before
    others (`0.jpg` beside `0.png`). Of members of one name, the last is read, as when a tar file is unpacked. Texts
    that are not UTF-8 are read as Windows-1252. What a system adds (`._a.jpg`, `__MACOSX`) is passed over, and whatever
    else is left out is counted in a warning.

    Args:
        path: a shard, a pattern (`shards/{00000..00099}.tar`, `shards/*.tar`), or a folder of shards or of splits.
        train_share: see `dataset_of`.

    Raises:
        XgapError: no shards, one that is missing, compressed or damaged, or no sample in them.
    """
    left_out = _LeftOut()
    shards, root = _shards(str(Path(path).expanduser()), left_out)
    names = _class_names(shards)
    records, places = [], {}
    for shard in shards:
        place = shard.relative_to(root).with_suffix("")
        split = split_in(shard.relative_to(root))
        with shard.open("rb") as file:
            for stem, parts in _samples(shard, left_out).items():
                item = f"{readable(place.as_posix())}/{stem}"
                image = _image(parts, f"{stem} in {shard}", left_out)
                about = _texts(file, parts, f"{stem} in {shard}", left_out)
                captions, label = _described(about, names, f"{stem} in {shard}", left_out)
                if image is not None:
                    places[item] = (shard, image.offset, image.size)
                if image is not None or captions:
                    records.append(Record(item, captions, label, split, has_image=image is not None))
    if not records:
        raise XgapError(f"no sample in {path} has an image or a caption" + (f": {left_out}" if left_out.counts else ""))
    if left_out.counts:
        notice(f"in the shards of {path}: {left_out}")
    name = root.resolve().name if len(shards) > 1 else shards[0].stem
    images = stored_images(places, partial(_stored, places), partial(_content, places))
    return dataset_of(name, records, images, train_share=train_share)


def _stored(places: Mapping[str, Place], item: str) -> bytes:
    shard, offset, size = places[item]
    with shard.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def _content(places: Mapping[str, Place], item: str) -> str:
    return of_part(*places[item])


def _shards(pattern: str, left_out: _LeftOut) -> tuple[list[Path], Path]:
    """The shards, and the folder to which their ids are relative."""
    if Path(pattern).is_dir():
        root = Path(pattern)
        inside = [p for p in sorted(root.rglob("*")) if not any(map(is_hidden, p.relative_to(root).parts))]
        found = [p for p in inside if p.name.endswith(".tar")]
        for other in inside:
            if other.name.lower().endswith(PACKED):
                left_out.add("packed files are not read, unpack them to .tar or to images", str(other))
    else:
        found = []
        for name in _expanded(pattern):
            is_pattern = re.search(r"[*?\[]", name) and not Path(name).exists()
            found += sorted(map(Path, glob.glob(name))) if is_pattern else [Path(name)]  # noqa: PTH207
        root = Path(re.split(r"[{*?\[]", pattern)[0] + "x").parent if len(found) != 1 else found[0].parent
    found = list(dict.fromkeys(found))
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


def _samples(shard: Path, left_out: _LeftOut) -> dict[str, dict[str, Member]]:
    """Stem to the parts of each sample."""
    status = shard.stat()
    members, passed = _members(shard, status.st_size, status.st_mtime_ns)
    for what, example, n in passed:
        left_out.add(what, f"{example} in {shard}", n)
    groups: dict[str, list[Member]] = {}
    for member in members:
        groups.setdefault(member.stem, []).append(member)
    seen_in = Counter(middle for group in groups.values() for middle in {_middle(m) for m in group})
    dotted = any(_could_be_several(group) and _are_several(group, seen_in) for group in groups.values())
    samples: dict[str, dict[str, Member]] = {}
    for group in groups.values():
        for member in _by_last_dot(group) if dotted and _could_be_several(group) else group:
            parts = samples.setdefault(member.stem, {})
            if member.part in parts:
                what = "members have the name of a later one, which is read in their place; give each its own"
                left_out.add(what, f"{member.stem}.{member.part} in {shard}")
            parts[member.part] = member
    return samples


def _middle(member: Member) -> str:
    """What stands between the first and the last dot of a name: empty in `0.jpg`, `depth` in `0.depth.png`."""
    return member.part.rpartition(".")[0]


def _could_be_several(group: Sequence[Member]) -> bool:
    """Whether the members of one stem by the first dot may be samples whose names hold dots, and not parts of one.

    They are parts where one of them has no more than its suffix (`0.txt` beside `0.left.jpg`), and where a text belongs
    to none of the images alone (`0.caption.txt` beside `0.left.jpg` and `0.right.jpg`).
    """
    of_images = {_middle(m) for m in group if m.kind not in TEXTS}
    of_texts = {_middle(m) for m in group if m.kind in TEXTS}
    return "" not in of_images | of_texts and (not of_images or of_texts <= of_images)


def _are_several(group: Sequence[Member], seen_in: Mapping[str, int]) -> bool:
    """Whether they are: some kind of part is there twice, and images alone do not bear words that other samples of the
    shard bear too (`0.left.jpg` and `0.right.jpg`, `1.left.jpg` and `1.right.jpg`).
    """
    middles = {_middle(m) for m in group}
    if max(Counter("image" if m.kind not in TEXTS else m.kind for m in group).values()) < 2 or len(middles) < 2:
        return False
    words = all(re.fullmatch(r"[^\W\d]\w*", middle) and seen_in[middle] > 1 for middle in middles)
    return not words or any(m.kind in TEXTS for m in group)


def _by_last_dot(group: Iterable[Member]) -> list[Member]:
    return [m._replace(stem=f"{m.stem}.{_middle(m)}", part=m.part.rpartition(".")[2]) for m in group]


@lru_cache(maxsize=4096)
def _members(shard: Path, size: int, changed: int) -> tuple[tuple[Member, ...], tuple[tuple[str, str, int], ...]]:
    """The members that are read, plain files of an allow-list of kinds, and what was passed over; read once a shard."""
    found, passed = [], _LeftOut()
    try:
        with tarfile.open(shard, "r:", encoding="utf-8") as tar:
            for member in tar:
                name = readable(member.name).removeprefix("./")
                folder, slash, file = name.rpartition("/")
                if member.isdir() or is_hidden(file) or any(map(is_hidden, folder.split("/"))):
                    continue
                stem, _, part = file.partition(".")
                suffix = "." + part.rpartition(".")[2].lower()
                if suffix in UNREAD:
                    passed.add(f"images are of a format that is not read ({suffix}), convert them to JPEG or PNG", name)
                elif not is_image_file(file) and suffix[1:] not in TEXTS:
                    continue
                elif not member.isreg() or member.issparse():
                    passed.add("members are links or devices, which are not followed", name)
                else:
                    found.append(Member(folder + slash + stem, part, member.offset_data, member.size))
    except (tarfile.TarError, OSError, EOFError) as error:
        what = f"shard {shard} cannot be read as an uncompressed tar file ({stand_in(head_of(shard)) or error})"
        raise XgapError(f"{what}; unpack .gz, and fetch or write a damaged one again") from error
    last = max((member.offset + member.size for member in found), default=0)
    if last > size:
        raise XgapError(f"shard {shard} is cut off: {size} bytes are there and {last} are needed; fetch it again")
    return tuple(found), tuple((what, passed.first[what], n) for what, n in passed.counts.items())


def _image(parts: Mapping[str, Member], where: str, left_out: _LeftOut) -> Member | None:
    """The image of a sample: the one without a further name, of a photograph's format, the first in the shard."""
    images = [m for m in parts.values() if m.kind not in TEXTS]
    if not images:
        return None
    ranks = {suffix[1:]: k for k, suffix in enumerate(PREFERRED)}
    chosen = min(images, key=lambda m: ("." in m.part, ranks[m.kind]))
    for other in images:
        if other is not chosen:
            what = "further images of samples are not read, each sample has one"
            left_out.add(what, f".{other.part} beside .{chosen.part} of {where}")
    return chosen


def _texts(file: BinaryIO, parts: Mapping[str, Member], where: str, left_out: _LeftOut) -> dict[str, str]:
    """Kind to text of a sample: of several of one kind, the one without a further name, or the first."""
    about: dict[str, str] = {}
    for kind in TEXTS:
        own = sorted((m for m in parts.values() if m.kind == kind), key=lambda m: "." in m.part)
        for other in own[1:]:
            left_out.add("further texts of samples are not read", f".{other.part} beside .{own[0].part} of {where}")
        if own:
            about[kind] = _text(file, own[0], where, left_out)
    return about


def _text(file: BinaryIO, member: Member, where: str, left_out: _LeftOut) -> str:
    what = f"{member.part} of {where}"
    if member.size > MAX_TEXT:
        raise XgapError(f"{what} is of {member.size} bytes, more than a caption or its facts can need")
    file.seek(member.offset)
    text, clean = decoded(file.read(member.size))
    if not clean:
        left_out.add("texts are not UTF-8 and were read as Windows-1252, save them as UTF-8 if they look wrong", what)
    return text.strip()


def _described(
    about: Mapping[str, str], names: Sequence[str], where: str, left_out: _LeftOut
) -> tuple[list[str], str | None]:
    """Captions and label of a sample."""
    text = about.get("txt") or about.get("caption") or ""
    captions = [line.strip() for line in text.split("\n") if line.strip()]
    facts: Any = {}
    if "json" in about:
        try:
            facts = json.loads(about["json"])
        except (ValueError, RecursionError):  # facts are an extra: the image and its caption do not need them
            left_out.add("parts .json cannot be read", where)
    facts = facts if isinstance(facts, dict) else {}
    caption: Any = next((facts[k] for k in USUAL["caption"] if not is_missing(facts.get(k))), None)
    if not captions:
        try:
            captions = caption_texts(caption)
        except XgapError as error:
            left_out.add("captions cannot be read", f"that of {where}: {error}")
    clean = [clean_text(caption) for caption in captions]
    if clean != captions:
        left_out.add("captions hold half of a character, for which U+FFFD stands", where)
    label = next((v for v in (about.get("cls"), *(facts.get(k) for k in USUAL["label"])) if not is_missing(v)), None)
    try:
        return clean, _label(label, names, where, left_out)
    except XgapError as error:
        left_out.add("labels cannot be read", f"that of {where}: {error}")
        return clean, None


def _label(label: Any, names: Sequence[str], where: str, left_out: _LeftOut) -> str | None:
    if isinstance(label, str) and label.strip().isdecimal() and names:  # a number is a line of the names
        label = int(label)
    word = label_text(label, names)
    if word is None:
        if label is not None:
            left_out.add("labels are missing (-1)", where)
        return None
    if names and isinstance(label, int) and label >= len(names):
        left_out.add(f"labels are numbers beyond the {len(names)} lines of classnames.txt", f"{label} of {where}")
    return one_form(word)


def _class_names(shards: Sequence[Path]) -> list[str]:
    for folder in (shards[0].parent, shards[0].parent.parent):
        if (folder / "classnames.txt").is_file():
            text, _ = decoded((folder / "classnames.txt").read_bytes())
            return [line.strip() for line in text.splitlines()]
    return []
