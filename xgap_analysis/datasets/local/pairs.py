"""A table of images and captions, one row per pair: CSV, TSV, JSON lines."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.local.columns import find_columns, tell_unread_images
from xgap_analysis.datasets.local.records import dataset_of
from xgap_analysis.datasets.local.rows import to_records, without_several_labels
from xgap_analysis.datasets.local.tables import columns_of, read_rows
from xgap_analysis.datasets.stored import image_files


def load_pairs(
    path: Path | str,
    *,
    image: str | None = None,
    caption: str | None = None,
    label: str | None = None,
    split: str | None = None,
    id: str | None = None,
    images: Path | str | None = None,
    train_share: float = 0.0,
) -> Dataset:
    """Image-caption pairs in a `.csv`, `.tsv`, `.jsonl` or `.json` table (`.parquet`: see `load_arrow`).

    Rows of one image give it several captions, and so does a list of captions in one cell (as JSON, or as Python
    prints it) or an object that holds them (`{"raw": "a dog"}`). A table without images is a dataset of texts. What the
    splits and label sets are, `dataset_of` says.

    Paths of images are relative to the table's folder and stay inside it, unless `images` names another one: a table
    from elsewhere then cannot have other files of yours read. A link inside the folder is followed wherever it points,
    since whoever put it there can write to the folder.

    Cells are missing where they are empty, null, NaN or a word for these (`MISSING_WORDS`), and so is the label -1;
    items without a label, a caption or a split are counted in a warning.

    Args:
        path: the table; its first row names the columns.
        image, caption, label, split, id: names of the columns, where they are not the usual ones (`USUAL`);
            `"sentences.raw"` is a part of the objects in a column. Ids are the paths of the images, or what the column
            `id` says where its values are distinct.
        images: the folder of the images, where it is not the table's; paths are relative to it.
        train_share: see `dataset_of`.

    Raises:
        XgapError: no such file, a row that cannot be read, no column of images or captions, a column name that is there
            twice, a path that leaves the folder, or none of the images.
    """
    path = Path(path).expanduser()
    rows = read_rows(path)
    names = columns_of(rows)
    columns = find_columns(names, path, image=image, caption=caption, label=label, split=split, id=id)
    tell_unread_images(rows, names, columns, path)
    columns = without_several_labels(rows, columns, path, label)
    records, files = to_records(rows, columns, path)
    places = places_of(files, path, images, base=path.parent, inside=path.parent)
    check_any_there(places, path)
    return dataset_of(path.stem, records, image_files(Path(), places), train_share=train_share)


def places_of(
    files: Mapping[str, str], table: Path, images: Path | str | None = None, *, base: Path, inside: Path
) -> dict[str, Path]:
    """Id to the file of its image.

    Args:
        files: id to path, as the table has it.
        table: for messages.
        images: the folder that the user names for the images; paths are relative to it, and stay inside it.
        base: what paths are relative to, where there is no such folder.
        inside: the folder that they stay inside then.

    Raises:
        XgapError: no such folder, an address in the web, or a path that leaves the folder.
    """
    root = inside if images is None else Path(images).expanduser()
    if not root.is_dir():
        raise XgapError(f"there is no folder {root} (images)")
    roots = (base,) if images is None else (root, base)  # base too, for `../img/1.jpg` where images names that folder
    start = os.path.normpath(root.absolute()).rstrip(os.sep) + os.sep
    places = {}
    for item, file in files.items():
        if re.match(r"[a-z]+://", file):
            raise XgapError(f"{table} names images by addresses in the web ({file}); fetch them and name their files")
        # Without `..`, also in what is opened later: behind a link, `..` leads elsewhere than it says.
        tried = (os.path.normpath(from_.absolute() / file) for from_ in roots)
        place = next((Path(place) for place in tried if place.startswith(start)), None)
        if place is None:
            what = f"{table} names the image {file!r}, which is outside the folder {root}"
            raise XgapError(
                f"{what}; where that is meant, name the folder that holds all images, as in load_dataset(path, "
                "images='/my/images'), or move the table there"
            )
        places[item] = place
    return places


def check_any_there(places: Mapping[str, Path], table: Path) -> None:
    """Refuse a table none of whose images is there: its paths are meant from another folder."""
    if places and not any(place.is_file() for place in places.values()):
        first = next(iter(places.values()))
        raise XgapError(
            f"none of the {len(places)} images that {table} names is there; the first is looked for at {first}"
        )
