"""A folder of images: one folder per class, with or without split folders; images alone; images with metadata."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xgap_analysis.core.errors import XgapError, notice
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.images import (
    SUFFIXES,
    UNREAD,
    head_of,
    is_hidden,
    is_image_file,
    looks_like_image,
)
from xgap_analysis.datasets.local.captions_beside import captions_beside
from xgap_analysis.datasets.local.columns import find_columns
from xgap_analysis.datasets.local.encodings import one_form, readable
from xgap_analysis.datasets.local.records import Record, dataset_of, split_named
from xgap_analysis.datasets.local.results import is_results_folder
from xgap_analysis.datasets.local.rows import to_records
from xgap_analysis.datasets.local.tables import columns_of, read_rows
from xgap_analysis.datasets.stored import image_files

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # as Hugging Face's imagefolder names them
FILE_NAME = "file_name"
# What a folder of a split is called besides its plain name: train2017, test_images, training_set.
SPLIT_FOLDER = re.compile(r"([a-z]+)[-_. ]?(\d{1,4}|set|images|imgs|data|split)", re.IGNORECASE)
TABLES = frozenset((".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".arrow"))
PACKED = frozenset((".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar"))
# What may lie beside images and is none: its content is not looked at.
BESIDE = frozenset(
    (
        *(".txt", ".md", ".rst", ".html", ".htm", ".pdf", ".xml", ".json", ".yaml", ".yml", ".toml", ".ini", ".cfg"),
        *(".py", ".sh", ".bat", ".ipynb", ".m", ".log", ".db", ".lnk", ".url", ".npy", ".npz", ".mat", ".pkl", ".pt"),
        *(".pth", ".safetensors", ".h5", ".hdf5", ".mp4", ".mov", ".avi", ".mkv", ".webm", ".wav", ".mp3", ".flac"),
    )
)


@dataclass
class _Found:
    """What lies under a folder.

    Args:
        images: paths of images, with `/`.
        metadata: paths of the tables that describe them.
        texts: paths of texts that bear the name of an image.
        left_out: what was passed over, by kind: paths.
    """

    images: list[str] = field(default_factory=list)
    metadata: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def leave_out(self, what: str, *names: str) -> None:
        """Note files under a reason."""
        if names:
            self.left_out.setdefault(what, []).extend(names)

    def __str__(self) -> str:
        """The number of each kind, and its first."""
        listed = (f"{len(names)} {what} (the first is {readable(min(names))})" for what, names in self.left_out.items())
        return "; ".join(listed)


def load_folder(path: Path | str, *, train_share: float = 0.0) -> Dataset:
    """Images under a folder; ids are their paths in it.

    `cats/1.jpg` is of class `cats`, and so is `cats/indoors/2.jpg`; where the folders at the top are named like splits,
    as in `train/cats/1.jpg` (training, val, validation, dev, test, ...), the classes are a level below, and so they
    are where all folders lie in one (`Images/cats/1.jpg`), which a warning says. Images without a folder have no label;
    beside folders of classes or of splits they are left out. Names are read as words: `golden_retriever` is "golden
    retriever".

    Captions are the lines of `1.txt` beside `1.jpg`, if every image has such a text; or those of `metadata.csv`,
    `metadata.jsonl` or `metadata.parquet` in the folder or in those below it, as
    Hugging Face's imagefolder has them: a column `file_name` (a path from the metadata's own folder, inside it), and
    columns of captions, labels or splits. With metadata, folders are no classes, and images that they do not name are
    left out.

    What is left out is counted in a warning: images in formats that are not read, archives, other tables, this tool's
    own results. A link to a folder or an image is followed wherever it leads, since whoever made it can write to the
    folder.

    Args:
        path: the folder.
        train_share: see `dataset_of`, which also says what the splits and the texts are.

    Raises:
        XgapError: no such folder, no image in it, or folders that can be read in two ways.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise XgapError(f"there is no folder {root}")
    found = look_into(root)
    tables = _metadata(root, found)
    before = dict(found.left_out)
    records = _described(root, found, tables)
    if tables and not any(record.captions or record.label is not None for record in records):
        found.left_out = before
        found.leave_out("tables of metadata without captions or labels of images that are there", *tables)
        tables = {}
    if not tables:
        records = _captioned(root, _by_folders(root, found), found)
    else:
        found.leave_out("texts that bear the name of an image, since metadata is read instead", *found.texts)
    if not records:
        why = f"; left out: {found}" if found.left_out else ""
        raise XgapError(f"there is no image in {root}: looked for {', '.join(sorted(SUFFIXES))}{why}")
    if found.left_out:
        notice(f"of the folder {root}, these were left out: {found}")
    _tell_alike(root, {record.label for record in records if record.label is not None})
    files = {readable(record.id): record.id for record in records}
    if len(files) < len(records):
        raise XgapError(f"two files of {root} have one name in two encodings; rename one of them")
    records = [replace(record, id=readable(record.id)) for record in records]
    name = readable(root.resolve().name)
    return dataset_of(name, records, image_files(root, files), train_share=train_share)


def has_images(root: Path) -> bool:
    """Whether some image lies under a folder (this tool's own results are none)."""
    return any(is_image_file(name) for _, names in _walk(root, []) for name in names)


def look_into(root: Path) -> _Found:
    """The images under a folder, their metadata, and what is passed over."""
    found = _Found()
    refused: list[str] = []
    for folder, names in _walk(root, refused, found):
        inside = Path(folder).relative_to(root)
        stems = {Path(name).stem for name in names if is_image_file(name)}
        for name in sorted(names):
            place, suffix = (inside / name).as_posix(), Path(name).suffix.lower()
            if is_image_file(name):
                found.images.append(place)
            elif name in METADATA:
                found.metadata.append(place)
            elif suffix in UNREAD:
                found.leave_out(f"images of a format that is not read ({suffix}), convert them to JPEG or PNG", place)
            elif suffix in PACKED:
                found.leave_out("archives, unpack them if they hold images", place)
            elif suffix in TABLES:
                found.leave_out("tables, load one by its own path if it names images and captions", place)
            elif suffix == ".txt" and Path(name).stem in stems:
                found.texts.append(place)
            elif suffix not in BESIDE and looks_like_image(head_of(Path(folder) / name)):
                found.leave_out("images whose names do not end as an image's, rename them", place)
    found.leave_out("folders that cannot be read", *refused)
    found.images.sort()
    return found


def _walk(root: Path, refused: list[str], found: _Found | None = None) -> Iterable[tuple[str, list[str]]]:
    """Folders under the root and the names of their files; links are followed once, what a system hides is not seen."""
    seen = set()

    def refuse(error: OSError) -> None:
        refused.append(os.path.relpath(str(error.filename), root))

    for folder, below, names in os.walk(root, followlinks=True, onerror=refuse):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        if folder != str(root) and is_results_folder(Path(folder), names):
            below.clear()
            if found is not None:
                inside = Path(folder).relative_to(root)
                images = [(inside / name).as_posix() for name in look_into(Path(folder)).images]
                found.leave_out("images among this tool's own results", *images)
            continue
        below[:] = sorted(name for name in below if not is_hidden(name))
        yield folder, [name for name in names if not is_hidden(name)]


def _by_folders(root: Path, found: _Found) -> list[Record]:
    """The images as records: their folders say their classes and splits."""
    files, depth = found.images, 0
    alone = [file for file in files if "/" not in file]
    inside = [file for file in files if "/" in file]
    if alone and not inside:
        return [Record(file) for file in files]
    if len(alone) > len(inside):
        what = f"{root} holds {len(alone)} images beside folders with {len(inside)} ({', '.join(_tops(inside))})"
        raise XgapError(f"{what}: they are either one set or classes; move one of the two away")
    found.leave_out("images beside the folders, which have no class", *alone)
    wrapped = _wrappers(inside)
    if wrapped:
        where = "/".join(wrapped)
        notice(f"all images of {root} lie in folders in {where}, so that these are the classes; load {root / where}")
        depth = len(wrapped)
    tops = _tops(inside, depth)
    has_splits = all(_split(top) for top in tops)
    if has_splits:
        _check_one_each(root, tops)
    else:
        _check_no_splits(root, inside, tops, depth)
        _tell_the_same_below(root, inside, tops, depth)
    records = []
    for file in inside:
        *folders, _ = file.split("/")[depth:]
        split = _split(folders.pop(0)) if has_splits else None
        records.append(Record(file, label=one_form(readable(folders[0])) if folders else None, split=split))
    return _without_strays(records, found)


def _captioned(root: Path, records: list[Record], found: _Found) -> list[Record]:
    """The records with the captions in texts beside their images, if all have one."""
    captions = captions_beside(root, [record.id for record in records], found.texts)
    if not captions:
        hint = "if they are captions, give every image one, or put them in a metadata.csv (file_name,text)"
        found.leave_out(f"texts that bear the name of an image ({hint})", *found.texts)
    return [replace(record, captions=captions.get(record.id, ())) for record in records]


def _split(folder: str) -> str | None:
    """The split that a folder is named for: `Train`, `val2017`, `test_images`."""
    found = SPLIT_FOLDER.fullmatch(folder)
    return split_named(folder) or (split_named(found.group(1)) if found else None)


def _check_one_each(root: Path, tops: Sequence[str]) -> None:
    """Refuse several folders of one split, as `test1` and `test2` may be classes."""
    for split in {_split(top) for top in tops}:
        same = [top for top in tops if _split(top) == split]
        if len(same) > 1 and not all(map(split_named, same)):
            what = f"{root} has several folders named like the split {split} ({_some(same)})"
            raise XgapError(f"{what}, which may be splits or classes; rename them, or load one of them by itself")


def _tell_the_same_below(root: Path, files: Sequence[str], tops: Sequence[str], depth: int) -> None:
    """Say where the folders at the top hold folders of the same names, which may be the classes."""
    if len(tops) < 2 or any(file.count("/") < depth + 2 for file in files):
        return
    below = [{f.split("/")[depth + 1] for f in files if _lies_in(f, top, depth)} for top in tops]
    same = sorted(set.intersection(*below))
    if same:
        what = f"the folders {_some(tops)} of {root} are taken for classes, though folders of the same names"
        place = root.joinpath(*files[0].split("/")[: depth + 1])
        notice(f"{what} ({_some(same)}) lie in each; if these are the classes, load {place}")


def _tops(files: Iterable[str], depth: int = 0) -> list[str]:
    return sorted({file.split("/")[depth] for file in files})


def _wrappers(files: Sequence[str]) -> list[str]:
    """The folders around all images, as long as they hold nothing but folders: one class of all would say nothing."""
    around: list[str] = []
    while True:
        tops = _tops(files, len(around))
        lies_deeper = all(file.count("/") >= len(around) + 2 for file in files)
        if len(tops) != 1 or _split(tops[0]) or not lies_deeper:
            return around
        around += tops


def _check_no_splits(root: Path, files: Sequence[str], tops: Sequence[str], depth: int) -> None:
    """Refuse folders of which some are named like splits and others are not, unless one is clearly a class."""
    named = [top for top in tops if _split(top)]
    deep = [top for top in named if any(_lies_in(file, top, depth) and file.count("/") > depth + 1 for file in files)]
    if len(named) > 1 or deep:
        others = [top for top in tops if top not in named]
        what = f"{root} has folders named like splits ({', '.join(named)}) and others ({_some(others)})"
        raise XgapError(f"{what}, so that {named[0]!r} may be a split or a class; move the others out, or rename")
    if named:
        notice(f"the folder {named[0]!r} of {root} is taken for a class like those beside it ({_some(tops)})")


def _lies_in(file: str, top: str, depth: int) -> bool:
    return file.split("/")[depth] == top


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(readable, names[:5])) + (", ..." if len(names) > 5 else "")


def _without_strays(records: Sequence[Record], found: _Found) -> list[Record]:
    """The records, less those without a class in a split that holds classes."""
    with_classes = {record.split for record in records if record.label is not None}
    stray = [record.id for record in records if record.label is None and record.split in with_classes]
    found.leave_out("images beside the folders of classes, which have no class", *stray)
    return [record for record in records if record.label is not None or record.split not in with_classes]


def _tell_alike(root: Path, labels: Iterable[str]) -> None:
    """Say where two classes have one name but for capitals, spaces, hyphens and underscores."""
    alike: dict[str, list[str]] = {}
    for label in sorted(labels):
        alike.setdefault(" ".join(label.casefold().replace("_", " ").replace("-", " ").split()), []).append(label)
    twice = next((names for names in alike.values() if len(names) > 1), None)
    if twice:
        what = f"{' and '.join(map(repr, twice))} are different classes of {root}"
        notice(f"{what}; give them one name if they are the same")


def _metadata(root: Path, found: _Found) -> dict[str, Sequence[Mapping[str, Any]]]:
    """The rows of each table of metadata, by its path; one without a column `file_name` is another kind of table."""
    rows: dict[str, Sequence[Mapping[str, Any]]] = {}
    for name in found.metadata:
        own = read_rows(root / name)
        if all(FILE_NAME in row for row in own):
            rows[name] = own
        else:
            found.leave_out(f"tables named as metadata, without a column {FILE_NAME} that names images", name)
    return rows


def _described(root: Path, found: _Found, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Record]:
    """The images that the metadata name, as records."""
    there = {one_form(readable(file)): file for file in found.images}
    records: list[Record] = []
    missing: dict[str, list[str]] = {}
    for name, rows in tables.items():
        table, base = root / name, name.rpartition("/")[0]
        columns = find_columns(columns_of(rows), table, image=FILE_NAME)
        columns.pop("id", None)  # ids are paths in the root, as those of a folder without metadata
        own, files = to_records(rows, columns, table)
        for record in own:
            file = files.get(record.id, "")
            place = os.path.normpath(Path(base) / file).replace(os.sep, "/")
            if Path(file).is_absolute() or not _is_under(place, base):
                raise XgapError(f"{table} names {file!r}, which is outside its folder; name images inside it")
            at = there.get(one_form(place))
            if at is None:
                missing.setdefault(name, []).append(place)
            else:
                records.append(replace(record, id=at))
    if not records:
        return []
    for name, places in missing.items():
        found.leave_out(f"images that {name} names and that are not there", *places)
    named = Counter(record.id for record in records)
    found.leave_out("images that the metadata do not name", *sorted(set(found.images) - set(named)))
    twice = next((item for item, n in named.items() if n > 1), None)
    if twice is not None:
        raise XgapError(f"{root} describes {twice!r} more than once in its metadata ({', '.join(tables)}); keep one")
    depth = len(_wrappers(list(named)))
    tops = {file.split("/")[depth] if file.count("/") > depth else "" for file in named}
    if all(map(_split, tops)):
        records = [replace(r, split=r.split or _split(r.id.split("/")[depth])) for r in records]
    return sorted(records, key=lambda record: record.id)


def _is_under(place: str, base: str) -> bool:
    return place.split("/")[0] != ".." and (not base or place.startswith(f"{base}/"))
